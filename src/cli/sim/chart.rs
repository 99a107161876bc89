//! Line charts as SVG: named series over one axis, with a band for the range of each point.
//!
//! The text depends on the data alone, needs no other file (white background, only sans-serif as font) and is
//! valid XML for every label. A NaN interrupts its line; an infinite value is drawn as a triangle at the
//! upper edge.

mod scale;

use scale::Scale;
use std::fmt::Write;

/// One point of a curve: the median `y`, and the range of the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A curve; its points are ordered by `x`.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// Label and scale of an axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) log: bool,
}

impl Axis {
    /// Returns a linear axis.
    pub(super) fn linear(label: &str) -> Axis {
        Axis { label: label.to_owned(), log: false }
    }
}

/// A straight reference line, with its name.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    /// Vertical line at this x.
    Vertical(f64, String),
    /// Horizontal line at this y.
    Horizontal(f64, String),
}

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Heading of the legend.
    pub(super) legend: String,
    pub(super) series: Vec<Series>,
    pub(super) marks: Vec<Mark>,
    /// Source of the data, in small print below the chart.
    pub(super) note: String,
}

/// Colours of Okabe and Ito, which colour-blind readers can tell apart.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8c6d1f"];
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 490.0;
const LEFT: f64 = 72.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = HEIGHT - 66.0;
/// Approximate width of a character of 12 px.
const LETTER: f64 = 6.8;
/// A curve with at most this many points is drawn with dots.
const DOTS: usize = 40;
/// See [`Sheet::inset`].
const INSET: f64 = 14.0;

impl Chart {
    /// Returns the chart as an SVG file.
    pub(super) fn svg(&self) -> String {
        let mut sheet = Sheet::new(self);
        sheet.frame();
        for (number, series) in self.series.iter().enumerate() {
            sheet.band(series, colour(number));
        }
        for mark in &self.marks {
            sheet.mark(mark);
        }
        for (number, series) in self.series.iter().enumerate() {
            sheet.line(series, colour(number));
        }
        sheet.legend();
        sheet.text + "</svg>\n"
    }

    /// Returns whether a curve has an infinite value.
    fn has_endless(&self) -> bool {
        self.series.iter().flat_map(|s| &s.points).any(|p| p.y == f64::INFINITY)
    }
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// A chart being drawn.
struct Sheet<'a> {
    chart: &'a Chart,
    x: Scale,
    y: Scale,
    right: f64,
    /// Space between the frame and the first and last dot; 0 if no curve has dots.
    inset: f64,
    text: String,
}

impl Sheet<'_> {
    fn new(chart: &Chart) -> Sheet<'_> {
        let points = || chart.series.iter().flat_map(|s| &s.points);
        let across =
            chart.marks.iter().filter_map(|m| if let Mark::Vertical(x, _) = m { Some(*x) } else { None });
        let along =
            chart.marks.iter().filter_map(|m| if let Mark::Horizontal(y, _) = m { Some(*y) } else { None });
        let x = Scale::tight(points().map(|p| p.x).chain(across), chart.x.log);
        let y = Scale::round(points().flat_map(|p| [p.y, p.low, p.high]).chain(along), chart.y.log);
        let longest =
            chart.series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0) as f64 * LETTER + 54.0;
        // Bold letters are wider.
        let heading = chart.legend.chars().count() as f64 * 1.15 * LETTER + 26.0;
        let right = WIDTH - longest.max(heading).min(320.0);
        let dotted = chart.series.iter().any(|s| s.points.len() <= DOTS);
        let inset = if dotted { INSET } else { 0.0 };
        let mut sheet = Sheet { chart, x, y, right, inset, text: String::new() };
        sheet.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">"
        ));
        sheet.put(format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"));
        sheet
    }

    fn put(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{line}");
    }

    fn words(&mut self, x: f64, y: f64, attributes: &str, words: &str) {
        self.put(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\"{attributes}>{}</text>", escaped(words)));
    }

    fn left_of(&self, x: f64) -> f64 {
        LEFT + self.inset + self.x.place(x) * (self.right - LEFT - 2.0 * self.inset)
    }

    fn top_of(&self, y: f64) -> f64 {
        BOTTOM - self.y.place(y) * (BOTTOM - TOP)
    }

    /// Draws title, grid, ticks and labels, and defines the clip path of the curves.
    fn frame(&mut self) {
        let chart = self.chart;
        let right = self.right;
        // A long title gets a smaller font.
        let size = (WIDTH - 2.0 * 16.0) / (chart.title.chars().count().max(1) as f64 * 0.6);
        self.words(
            16.0,
            28.0,
            &format!(" font-size=\"{:.1}\" font-weight=\"bold\"", size.clamp(7.0, 15.0)),
            &chart.title,
        );
        for (value, label) in self.x.ticks() {
            let x = self.left_of(value);
            self.put(format_args!("<path d=\"M{x:.1} {TOP:.1}V{:.1}\" stroke=\"#e4e4e4\"/>", BOTTOM + 5.0));
            self.words(x, BOTTOM + 19.0, " text-anchor=\"middle\"", &label);
        }
        for (value, label) in self.y.ticks() {
            let y = self.top_of(value);
            self.put(format_args!("<path d=\"M{:.1} {y:.1}H{right:.1}\" stroke=\"#e4e4e4\"/>", LEFT - 5.0));
            self.words(LEFT - 9.0, y + 4.0, " text-anchor=\"end\"", &label);
        }
        let width = right - LEFT;
        let height = BOTTOM - TOP;
        let area = format!("x=\"{LEFT:.1}\" y=\"{TOP:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        self.put(format_args!("<rect {area} fill=\"none\" stroke=\"#888888\"/>"));
        self.put(format_args!("<clipPath id=\"area\"><rect {area}/></clipPath>"));
        self.words(
            (LEFT + right) / 2.0,
            HEIGHT - 22.0,
            " text-anchor=\"middle\" font-size=\"13\"",
            &chart.x.label,
        );
        if !chart.note.is_empty() {
            self.words(LEFT, HEIGHT - 7.0, " font-size=\"10\" fill=\"#888888\"", &chart.note);
        }
        let middle = (TOP + BOTTOM) / 2.0;
        let turned =
            format!(" text-anchor=\"middle\" font-size=\"13\" transform=\"rotate(-90 20 {middle:.1})\"");
        self.words(20.0, middle, &turned, &chart.y.label);
    }

    /// Draws the range around a curve, unless it is empty.
    fn band(&mut self, series: &Series, colour: &str) {
        for run in runs(&series.points, |p| p.low.is_finite() && !p.high.is_nan()) {
            if run.iter().all(|p| p.low == p.high) {
                continue;
            }
            let there = run.iter().map(|p| (p.x, p.high));
            let back = run.iter().rev().map(|p| (p.x, p.low));
            let corners: Vec<String> = there
                .chain(back)
                .map(|(x, y)| format!("{:.1},{:.1}", self.left_of(x), self.top_of(y)))
                .collect();
            let corners = corners.join(" ");
            self.put(format_args!(
                "<polygon points=\"{corners}\" fill=\"{colour}\" fill-opacity=\"0.15\" clip-path=\"url(#area)\"/>"
            ));
        }
    }

    /// Draws a curve, its dots, and triangles for infinite values.
    fn line(&mut self, series: &Series, colour: &str) {
        for run in runs(&series.points, |p| p.y.is_finite()) {
            let corners: Vec<String> =
                run.iter().map(|p| format!("{:.1},{:.1}", self.left_of(p.x), self.top_of(p.y))).collect();
            let corners = corners.join(" ");
            self.put(format_args!(
                "<polyline points=\"{corners}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\" \
                 clip-path=\"url(#area)\"/>"
            ));
        }
        for p in series.points.iter().filter(|_| series.points.len() <= DOTS) {
            let x = self.left_of(p.x);
            if p.y.is_finite() {
                self.put(format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    self.top_of(p.y)
                ));
            } else if p.y == f64::INFINITY {
                self.triangle(x, TOP + 6.0, colour);
            }
        }
    }

    fn triangle(&mut self, x: f64, y: f64, colour: &str) {
        self.put(format_args!(
            "<path d=\"M{x:.1} {:.1}l5 9h-10z\" fill=\"#ffffff\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            y - 5.0
        ));
    }

    fn mark(&mut self, mark: &Mark) {
        let (path, x, y, name) = match mark {
            Mark::Vertical(at, name) => {
                let x = self.left_of(*at);
                (format!("M{x:.1} {TOP:.1}V{BOTTOM:.1}"), x, TOP + 15.0, name)
            }
            Mark::Horizontal(at, name) => {
                let y = self.top_of(*at);
                (format!("M{LEFT:.1} {y:.1}H{:.1}", self.right), self.right, y - 6.0, name)
            }
        };
        self.put(format_args!(
            "<path d=\"{path}\" stroke=\"#555555\" stroke-dasharray=\"6 4\" clip-path=\"url(#area)\"/>"
        ));
        // The name is written on the side with more space.
        let (side, x) = if x > (LEFT + self.right) / 2.0 { ("end", x - 6.0) } else { ("start", x + 6.0) };
        self.words(x, y, &format!(" text-anchor=\"{side}\" fill=\"#555555\""), name);
    }

    fn legend(&mut self) {
        let chart = self.chart;
        let x = self.right + 14.0;
        let mut y = TOP + 8.0;
        if !chart.legend.is_empty() {
            self.words(x, y + 4.0, " font-weight=\"bold\"", &chart.legend);
            y += 22.0;
        }
        for (number, series) in chart.series.iter().enumerate() {
            let colour = colour(number);
            self.put(format_args!("<path d=\"M{x:.1} {y:.1}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>"));
            self.words(x + 24.0, y + 4.0, "", &series.name);
            y += 20.0;
        }
        if chart.has_endless() {
            self.triangle(x + 9.0, y, "#555555");
            self.words(x + 24.0, y + 4.0, "", "never");
        }
    }
}

/// Splits the points into runs in which `good` holds.
fn runs(points: &[Point], good: impl Fn(&Point) -> bool) -> impl Iterator<Item = &[Point]> {
    points.split(move |p| !good(p)).filter(|run| !run.is_empty())
}

/// Escapes a text for XML. Control characters are dropped, because XML cannot hold them.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;

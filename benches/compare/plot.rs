//! Bar chart as SVG: for each work the medians of its leading measure, with a line from the smallest to the
//! greatest value.
//!
//! The text depends on the runs alone, needs no other file (white background, only sans-serif as font) and is
//! valid XML.

use crate::figures::Measure;
use crate::report::{Row, Run, Setting, Spread};
use crate::work::Work;
use std::fmt::Write;

/// Colours of Okabe and Ito, which colour-blind readers can tell apart: rill, the floor, the other clients.
const COLOURS: [&str; 3] = ["#0072b2", "#555555", "#e69f00"];
const WIDTH: f64 = 900.0;
/// Left edge of the bars; the longest bar ends at [`RIGHT`].
const LEFT: f64 = 116.0;
const RIGHT: f64 = WIDTH - 190.0;
const BAR: f64 = 20.0;
const STEP: f64 = 27.0;

/// Returns the SVG file.
pub fn svg(runs: &[Run], works: &[Work], size: u64, setting: &Setting) -> String {
    let mut sheet = Sheet { text: String::new(), y: 28.0 };
    sheet.text_at(16.0, " font-size=\"15\" font-weight=\"bold\"", "Median, and least to most");
    for work in works {
        let Some(measure) = work.columns().first() else { continue };
        let rows = Row::all(runs, *work);
        sheet.y += 34.0;
        sheet.text_at(16.0, " font-weight=\"bold\"", &format!("{}; {}", measure.head(), work.describe(size)));
        sheet.y += 12.0;
        let most = rows.iter().filter_map(|row| Some(row.leading()?.high)).fold(1e-9, f64::max);
        let rill = rows.iter().find(|row| row.client == "rill").and_then(Row::leading);
        for row in &rows {
            sheet.bar(row, *measure, rill, (RIGHT - LEFT) / most);
        }
    }
    for note in [setting.place(), setting.date.clone()] {
        sheet.y += 20.0;
        sheet.text_at(16.0, " font-size=\"10\" fill=\"#888888\"", &note);
    }
    sheet.finish()
}

/// A chart being drawn.
struct Sheet {
    text: String,
    /// Vertical position of the next line.
    y: f64,
}

impl Sheet {
    fn text_at(&mut self, x: f64, attributes: &str, text: &str) {
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{:.1}\"{attributes}>{}</text>",
            self.y,
            escaped(text)
        );
    }

    /// Draws a bar with its name and value; `scale` is pixels per unit of the measure.
    fn bar(&mut self, row: &Row<'_>, measure: Measure, rill: Option<Spread>, scale: f64) {
        let top = self.y;
        self.y += BAR - 5.5;
        self.text_at(LEFT - 8.0, " text-anchor=\"end\"", row.client);
        match row.leading() {
            None => self.text_at(LEFT + 4.0, " fill=\"#888888\"", "failed"),
            Some(all) => {
                let colour =
                    COLOURS[["rill", "floor"].iter().position(|client| *client == row.client).unwrap_or(2)];
                let [low, median, high] = [all.low, all.median, all.high].map(|value| LEFT + value * scale);
                let width = median - LEFT;
                let middle = top + BAR / 2.0;
                let _ = writeln!(
                    self.text,
                    "<rect x=\"{LEFT:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR:.1}\" fill=\"{colour}\"/>\n\
                     <path d=\"M{low:.1} {middle:.1}H{high:.1}m0 -4v8M{low:.1} {:.1}v8\" stroke=\"#222222\" fill=\"none\"/>",
                    middle - 4.0
                );
                let times =
                    rill.map_or(String::new(), |rill| format!("  ({:.2} × rill)", all.median / rill.median));
                self.text_at(high + 8.0, "", &format!("{}{times}", measure.shown(all.median)));
            }
        }
        self.y = top + STEP;
    }

    fn finish(self) -> String {
        let height = self.y + 12.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.text
        )
    }
}

/// Escapes a text for XML.
fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

//! Charts are well-formed and deterministic for all data.

use super::*;

fn series(name: &str, ys: &[f64]) -> Series {
    let point = |(i, y): (usize, &f64)| Point { x: i as f64, y: *y, low: y - 1.0, high: y + 1.0 };
    Series { name: name.to_owned(), points: ys.iter().enumerate().map(point).collect() }
}

fn chart(series: Vec<Series>) -> Chart {
    let marks = vec![Mark::Vertical(2.0, "here".to_owned()), Mark::Horizontal(1.0, "there".to_owned())];
    Chart {
        title: "A title".to_owned(),
        x: Axis::linear("x"),
        y: Axis { label: "y".to_owned(), log: true },
        legend: "all of them".to_owned(),
        series,
        marks,
        note: "a note".to_owned(),
    }
}

/// Asserts that elements are closed in the reverse order of their opening, and that every `&` begins an
/// entity.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for (at, _) in svg.match_indices('<') {
        let tag = &svg[at + 1..at + svg[at..].find('>').expect("a tag ends")];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (false, false) => open.push(name),
            (false, true) => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let entities = ["&amp;", "&lt;", "&gt;", "&quot;"];
    assert!(svg.match_indices('&').all(|(at, _)| entities.iter().any(|e| svg[at..].starts_with(e))), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn a_chart_is_well_formed_and_the_same_every_time() {
    let chart = chart(vec![series("one", &[1.0, 2.0, 5.0]), series("two", &[9.0, 8.0])]);
    let svg = chart.svg();
    assert_well_formed(&svg);
    assert_eq!(svg, chart.clone().svg());
    for part in [
        ">A title<",
        ">one<",
        ">two<",
        ">here<",
        ">there<",
        ">a note<",
        ">all of them<",
        "fill=\"#ffffff\"",
        "sans-serif",
    ] {
        assert!(svg.contains(part), "{part} in\n{svg}");
    }
    assert_eq!(
        (svg.matches("<polyline").count(), svg.matches("<polygon").count(), svg.matches("<circle").count()),
        (2, 2, 5)
    );
}

#[test]
fn a_chart_without_data_is_well_formed() {
    assert_well_formed(&chart(Vec::new()).svg());
    assert_well_formed(&chart(vec![series("nothing", &[])]).svg());
    assert_well_formed(
        &chart(vec![series("no number", &[f64::NAN, f64::NEG_INFINITY]), series("0", &[0.0, -1.0])]).svg(),
    );
    assert_well_formed(&Chart { marks: Vec::new(), ..chart(Vec::new()) }.svg());
}

#[test]
fn labels_are_escaped() {
    let evil = "</text><script>\"&'\u{1b}\u{0}é\u{ffff}";
    let mut chart = chart(vec![series(evil, &[1.0])]);
    chart.title = evil.to_owned();
    chart.x.label = evil.to_owned();
    chart.y.label = evil.to_owned();
    chart.marks.push(Mark::Vertical(0.5, evil.to_owned()));
    let svg = chart.svg();
    assert_well_formed(&svg);
    assert_eq!(svg.matches("&lt;/text&gt;&lt;script&gt;&quot;&amp;'é<").count(), 5, "{svg}");
}

#[test]
fn an_infinite_value_is_a_triangle_with_an_entry_in_the_legend() {
    let svg = chart(vec![series("one", &[1.0, f64::INFINITY, 3.0])]).svg();
    assert_well_formed(&svg);
    assert_eq!(
        (svg.matches("l5 9h-10z").count(), svg.matches("<polyline").count()),
        (2, 2),
        "in the chart and in the legend"
    );
    assert!(svg.contains(">never<"));
}

#[test]
fn a_series_without_range_has_no_band() {
    let mut flat = series("one", &[1.0, 2.0]);
    flat.points.iter_mut().for_each(|p| (p.low, p.high) = (p.y, p.y));
    assert!(!chart(vec![flat]).svg().contains("<polygon"));
}

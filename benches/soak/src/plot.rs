//! Pictures of a run: a panel for each figure, time from left to right.

use std::fmt::Write as _;

const LEFT: f64 = 62.0;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 130.0;
const GAP: f64 = 44.0;
/// Most points of a line. Each is the mean of the samples that it stands for.
const POINTS: usize = 240;
const COLORS: [&str; 2] = ["#1a66c2", "#c2571a"];

/// Figure over time.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// Values of a figure, at equal distances in time.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f64>,
}

/// Returns the panels below each other as an SVG. `seconds` is the time that all of them span.
pub(crate) fn draw(panels: &[Panel], seconds: u64) -> String {
    let (width, height) = (LEFT + WIDTH + 20.0, 20.0 + panels.len() as f64 * (HEIGHT + GAP));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let top = 26.0 + number as f64 * (HEIGHT + GAP);
        draw_panel(&mut svg, panel, top, seconds);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, top: f64, seconds: u64) {
    let lines: Vec<_> = panel.lines.iter().map(|line| means(&line.values)).collect();
    let most = lines.iter().flatten().copied().fold(0.0, f64::max) * 1.05;
    let most = if most > 0.0 { most } else { 1.0 };
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#888\"/>"
    );
    label(svg, (LEFT, top - 8.0), "start", panel.title);
    for share in [0.0, 0.5, 1.0] {
        let y = top + HEIGHT * (1.0 - share) + 4.0;
        label(svg, (LEFT - 6.0, y), "end", &format!("{:.1}", most * share));
        let at = format!("{} min", (seconds as f64 * share / 60.0).round());
        label(svg, (LEFT + WIDTH * share, top + HEIGHT + 14.0), "middle", &at);
    }
    for (number, (line, points)) in panel.lines.iter().zip(&lines).enumerate() {
        let color = COLORS[number % COLORS.len()];
        let step = WIDTH / (points.len().max(2) - 1) as f64;
        let places = points.iter().enumerate().map(|(place, value)| {
            format!("{:.1},{:.1}", LEFT + place as f64 * step, top + HEIGHT * (1.0 - value / most))
        });
        let places: Vec<_> = places.collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.4\"/>",
            places.join(" ")
        );
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{color}\">{}</text>",
            LEFT + WIDTH - 90.0 * number as f64,
            top - 8.0,
            line.name
        );
    }
}

fn label(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn means(values: &[f64]) -> Vec<f64> {
    let each = values.len().div_ceil(POINTS).max(1);
    values.chunks(each).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64).collect()
}

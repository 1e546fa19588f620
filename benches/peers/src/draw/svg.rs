//! Pictures as SVG, by hand: panels of bars and of curves. `plotters` was looked at: it knows neither
//! the width of a text nor where labels collide, draws a bar as a polygon, and its bars and log axes take
//! as much code as this.

use std::fmt::Write;

/// What differs between a light and a dark page.
pub struct Theme {
    pub name: &'static str,
    ink: &'static str,
    faint: &'static str,
    grid: &'static str,
    ours: [&'static str; 2],
    minimum: [&'static str; 2],
    peers: [&'static str; 5],
}

pub const LIGHT: Theme = Theme {
    name: "light",
    ink: "#1f2328",
    faint: "#59636e",
    grid: "#d8dee4",
    ours: ["#0969da", "#54aeff"],
    minimum: ["#6e7781", "#9ea7b0"],
    peers: ["#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700"],
};

pub const DARK: Theme = Theme {
    name: "dark",
    ink: "#e6edf3",
    faint: "#9198a1",
    grid: "#30363d",
    ours: ["#4493f8", "#1f6feb"],
    minimum: ["#9198a1", "#6e7681"],
    peers: ["#f0883e", "#3fb950", "#a371f7", "#db61a2", "#d29922"],
};

/// Whose a bar or a curve is: it has the same colour in all pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hue {
    Ours,
    OursToo,
    Minimum,
    MinimumToo,
    Peer(usize),
}

impl Theme {
    fn colour(&self, hue: Hue) -> &'static str {
        match hue {
            Hue::Ours => self.ours[0],
            Hue::OursToo => self.ours[1],
            Hue::Minimum => self.minimum[0],
            Hue::MinimumToo => self.minimum[1],
            Hue::Peer(index) => self.peers[index % self.peers.len()],
        }
    }
}

pub struct Bar {
    pub label: String,
    pub value: f64,
    /// What stands beside the bar.
    pub told: String,
    pub hue: Hue,
}

pub struct Curve {
    pub label: String,
    pub points: Vec<(f64, f64)>,
    pub hue: Hue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    FromZero,
    Log,
}

pub enum Content {
    Bars(Vec<Bar>, Axis),
    /// Both axes are logarithmic; how a number on each is told.
    Curves {
        curves: Vec<Curve>,
        x: fn(f64) -> String,
        y: fn(f64) -> String,
    },
}

pub struct Panel {
    pub title: &'static str,
    /// The unit, and which way is better.
    pub unit: &'static str,
    pub content: Content,
}

const WIDTH: f64 = 860.0;
const GAP: f64 = 44.0;
const PANEL: f64 = (WIDTH - GAP) / 2.0;
const HEAD: f64 = 46.0;
const BAR: f64 = 23.0;
const FOOT: f64 = 26.0;
const PLOT: f64 = 230.0;
/// Room for the labels of bars, and for what stands beside them.
const LABELS: f64 = 140.0;
const TOLD: f64 = 86.0;

/// Draws panels, two beside each other.
pub fn draw(panels: &[Panel], theme: &Theme, alternative: &str) -> String {
    let rows: Vec<_> = panels.chunks(2).collect();
    let height_of = |row: &[Panel]| row.iter().map(height).fold(0.0, f64::max);
    let height: f64 = rows.iter().map(|row| height_of(row) + 22.0).sum::<f64>() - 12.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" font-size=\"12\" \
         font-family=\"-apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif\">\n\
         <title>{alternative}</title>\n"
    );
    let mut top = 0.0;
    for row in rows {
        for (index, panel) in row.iter().enumerate() {
            let left = index as f64 * (PANEL + GAP);
            let _ = writeln!(out, "<g transform=\"translate({left:.0} {top:.0})\">");
            head(&mut out, panel, theme);
            match &panel.content {
                Content::Bars(bars, axis) => draw_bars(&mut out, bars, *axis, theme),
                Content::Curves { curves, x, y } => draw_curves(&mut out, curves, (*x, *y), theme),
            }
            out.push_str("</g>\n");
        }
        top += height_of(row) + 22.0;
    }
    out.push_str("</svg>\n");
    out
}

fn height(panel: &Panel) -> f64 {
    match &panel.content {
        Content::Bars(bars, _) => HEAD + bars.len() as f64 * BAR + FOOT,
        Content::Curves { .. } => HEAD + PLOT + FOOT,
    }
}

fn head(out: &mut String, panel: &Panel, theme: &Theme) {
    let Panel { title, unit, .. } = panel;
    let _ = writeln!(
        out,
        "<text y=\"14\" font-size=\"14\" font-weight=\"600\" fill=\"{}\">{}</text>\
         <text y=\"32\" font-size=\"11.5\" fill=\"{}\">{}</text>",
        theme.ink,
        escaped(title),
        theme.faint,
        escaped(unit)
    );
}

// ===== bars =====

fn draw_bars(out: &mut String, bars: &[Bar], axis: Axis, theme: &Theme) {
    let scale = Scale::of(bars.iter().map(|bar| bar.value), axis, (LABELS, PANEL - TOLD));
    let bottom = HEAD + bars.len() as f64 * BAR;
    for tick in scale.ticks() {
        let x = scale.at(tick);
        line(out, (x, HEAD - 4.0), (x, bottom), theme.grid);
        text(out, (x, bottom + 15.0), ("middle", theme.faint), &plain(tick));
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = HEAD + index as f64 * BAR;
        let is_ours = matches!(bar.hue, Hue::Ours | Hue::OursToo);
        let weight = if is_ours { " font-weight=\"600\"" } else { "" };
        let label = escaped(&bar.label);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{}\"{weight}>{label}</text>",
            LABELS - 8.0,
            y + 14.0,
            theme.ink,
        );
        let end = if bar.value.is_finite() { scale.at(bar.value) } else { LABELS };
        if end > LABELS {
            let (width, colour) = (end - LABELS, theme.colour(bar.hue));
            let opacity = if is_ours { "" } else { " opacity=\"0.8\"" };
            let _ = writeln!(
                out,
                "<rect x=\"{LABELS:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"15\" rx=\"2\" \
                 fill=\"{colour}\"{opacity}/>",
                y + 2.5,
            );
        }
        let told = escaped(&bar.told);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\"{weight}>{told}</text>",
            end + 6.0,
            y + 14.0,
            if is_ours { theme.ink } else { theme.faint },
        );
    }
}

// ===== curves =====

fn draw_curves(
    out: &mut String,
    curves: &[Curve],
    (tell_x, tell_y): (fn(f64) -> String, fn(f64) -> String),
    theme: &Theme,
) {
    const LEFT: f64 = 46.0;
    const RIGHT: f64 = PANEL - 136.0;
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let x =
        Scale::of(all().map(|(x, _)| *x), Axis::Log, (LEFT, RIGHT)).tight(all().map(|(x, _)| *x));
    let y = Scale::of(all().map(|(_, y)| *y), Axis::Log, (HEAD + PLOT, HEAD));
    for tick in y.ticks() {
        let at = y.at(tick);
        line(out, (LEFT, at), (RIGHT, at), theme.grid);
        text(out, (LEFT - 7.0, at + 4.0), ("end", theme.faint), &tell_y(tick));
    }
    let mut seen: Vec<f64> = all().map(|(x, _)| *x).collect();
    seen.sort_by(f64::total_cmp);
    seen.dedup();
    for tick in seen {
        let at = x.at(tick);
        line(out, (at, HEAD + PLOT), (at, HEAD + PLOT + 4.0), theme.faint);
        text(out, (at, HEAD + PLOT + 18.0), ("middle", theme.faint), &tell_x(tick));
    }
    // Ours lies above the others.
    let mut order: Vec<&Curve> = curves.iter().collect();
    order.sort_by_key(|curve| matches!(curve.hue, Hue::Ours | Hue::OursToo));
    for curve in &order {
        let is_ours = matches!(curve.hue, Hue::Ours | Hue::OursToo);
        let points: Vec<_> = curve
            .points
            .iter()
            .map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y.at(*py)))
            .collect();
        let (colour, width) = (theme.colour(curve.hue), if is_ours { 3.0 } else { 1.7 });
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
            points.join(" ")
        );
        for point in points {
            let (cx, cy) = point.split_once(',').expect("it was made so");
            let radius = if is_ours { 3.6 } else { 2.6 };
            let _ =
                writeln!(out, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"{radius}\" fill=\"{colour}\"/>");
        }
    }
    let ends = order.iter().filter_map(|curve| Some((*curve, y.at(curve.points.last()?.1))));
    for (curve, at) in apart(ends.collect()) {
        let is_ours = matches!(curve.hue, Hue::Ours | Hue::OursToo);
        let weight = if is_ours { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11.5\" fill=\"{}\"{weight}>{}</text>",
            RIGHT + 9.0,
            at + 4.0,
            theme.colour(curve.hue),
            escaped(&curve.label)
        );
    }
}

/// Moves labels so that none lies on another.
fn apart<T>(mut labels: Vec<(T, f64)>) -> Vec<(T, f64)> {
    const LINE: f64 = 14.0;
    labels.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    for _ in 0..200 {
        for index in 1..labels.len() {
            let overlap = LINE - (labels[index].1 - labels[index - 1].1);
            if overlap > 0.0 {
                labels[index - 1].1 -= overlap / 2.0;
                labels[index].1 += overlap / 2.0;
            }
        }
    }
    labels
}

// ===== scales =====

/// From numbers to places.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, axis: Axis, (from, to): (f64, f64)) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let least = values.iter().copied().filter(|value| *value > 0.0).fold(most, f64::min);
        match axis {
            Axis::FromZero => Self { axis, low: 0.0, high: most, from, to },
            Axis::Log => Self { axis, low: least * 0.6, high: most * 1.15, from, to },
        }
    }

    /// Begins at the least and ends at the most.
    fn tight(mut self, values: impl Iterator<Item = f64> + Clone) -> Self {
        self.low = values.clone().fold(f64::INFINITY, f64::min);
        self.high = values.fold(0.0, f64::max);
        self
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.axis {
            Axis::FromZero => value / self.high,
            Axis::Log if value <= self.low => 0.0,
            Axis::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + (self.to - self.from) * share
    }

    fn ticks(&self) -> Vec<f64> {
        match self.axis {
            Axis::FromZero => {
                let rough = self.high / 4.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
                let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
                (0..)
                    .map(|index| f64::from(index) * step)
                    .take_while(|tick| *tick <= self.high)
                    .collect()
            }
            Axis::Log => {
                let powers = self.low.log10().ceil() as i32..=self.high.log10().floor() as i32;
                let few = powers.clone().count() < 3;
                let within = |tick: &f64| *tick >= self.low && *tick <= self.high;
                let parts: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let from = powers.start() - 1..=*powers.end();
                from.flat_map(|power| parts.iter().map(move |part| part * 10_f64.powi(power)))
                    .filter(within)
                    .collect()
            }
        }
    }
}

// ===== pieces =====

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let _ = writeln!(
        out,
        "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{colour}\" stroke-width=\"1\"/>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), (anchor, colour): (&str, &str), text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
        escaped(text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number on an axis, as short as it can be told.
pub fn plain(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{}M", number / 1e6),
        number if number >= 1e3 => format!("{}k", number / 1e3),
        number => format!("{}", (number * 1000.0).round() / 1000.0),
    }
}

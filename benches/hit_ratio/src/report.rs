//! Tables and picture.

use std::fmt::Write;

use crate::{Column, Row, Run, SEEDS, objects::Distribution, workload::Workload};

type Value = fn(&Run) -> f64;

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "this crate",
            Self::QuickCache => "quick_cache",
            Self::QuickCache90 => "quick_cache, hot 0.90",
            Self::Moka => "moka",
            Self::S3Fifo => "S3-FIFO (foyer)",
            Self::GdsfSize => "GDSF, by size",
            Self::GdsfTime => "GDSF, by size and time",
        }
    }

    fn color(self) -> &'static str {
        match self {
            Self::Ours => "#1a66c2",
            Self::QuickCache => "#c2571a",
            Self::QuickCache90 => "#e0a070",
            Self::Moka => "#1a7f37",
            Self::S3Fifo => "#8250df",
            Self::GdsfSize => "#9aa0a6",
            Self::GdsfTime => "#3c4043",
        }
    }
}

impl Distribution {
    fn describe(self) -> &'static str {
        match self {
            Self::Alike => {
                "Each body has 1 KiB and takes 50 ms: what counts is the hit ratio alone."
            }
            Self::Independent => {
                "Sizes and times have heavy tails, and do not depend on each other: bodies of 4 KiB in the middle and \
                 12 KiB on average, 40 and 80 ms."
            }
            Self::Proportional => {
                "The same sizes; what is larger takes longer: 5 ms and 4 ms for each KiB, within a factor of about two."
            }
        }
    }
}

// ===== statistics =====

impl Row {
    fn values(&self, column: Column, value: Value) -> impl Iterator<Item = f64> + Clone {
        self.columns[column as usize].iter().map(value)
    }

    fn mean(&self, column: Column, value: Value) -> f64 {
        self.values(column, value).sum::<f64>() / SEEDS as f64
    }

    /// Returns whether `ahead` is ahead of `behind` by more than two standard errors of their differences, each of
    /// one seed, and by more than a part in a thousand.
    fn is_ahead(&self, ahead: Column, behind: Column, value: Value) -> bool {
        let differences =
            self.values(ahead, value).zip(self.values(behind, value)).map(|(a, b)| a - b);
        let mean = self.mean(ahead, value) - self.mean(behind, value);
        let squares: f64 = differences.map(|difference| (difference - mean).powi(2)).sum();
        let error = (squares / (SEEDS * (SEEDS - 1)) as f64).sqrt();
        mean > 2.0 * error && mean > 0.001 * self.mean(behind, value)
    }

    fn peers_ahead(&self, value: Value) -> Vec<Column> {
        let mut ahead = Column::ALL.to_vec();
        ahead.retain(|column| self.is_ahead(*column, Column::Ours, value));
        ahead
    }

    fn name(&self) -> String {
        format!("{} {:.0} %", self.workload, self.room * 100.0)
    }
}

// ===== tables =====

/// Returns the page in Markdown.
pub fn page(workloads: &[Workload], rows: &[Row], note: &str) -> String {
    let mut text = include_str!("page.md").to_owned();
    for workload in workloads {
        let (requests, objects) = (workload.requests.len(), workload.objects.len());
        let _ =
            writeln!(text, "* **{}**: {requests} requests for {objects} objects.", workload.name);
    }
    text.push_str(
        "\n![Hit ratio and saved time of the origin by the room of the cache](hit_ratio.svg)\n",
    );
    for distribution in Distribution::ALL {
        let _ = write!(text, "\n# {}\n\n{}\n", distribution.name(), distribution.describe());
        let rows: Vec<_> = rows.iter().filter(|row| row.distribution == distribution).collect();
        table(&mut text, "Hit ratio in %", &rows, 1, |run| 100.0 * run.hits);
        if distribution != Distribution::Alike {
            table(&mut text, "Seconds of the origin saved per MiB", &rows, 2, |run| {
                run.seconds_per_mib
            });
        }
    }
    let _ = write!(text, "\n<sub>{note}</sub>\n");
    text
}

fn table(text: &mut String, title: &str, rows: &[&Row], digits: usize, value: Value) {
    let names: Vec<_> = Column::ALL.iter().map(|column| column.name()).collect();
    let _ = write!(
        text,
        "\n| {title} | {} |\n|---|{}\n",
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    for row in rows {
        let _ = write!(text, "| {}, {} |", row.name(), mib(row.bytes));
        for column in Column::ALL {
            let is_best = !Column::ALL.iter().any(|other| row.is_ahead(*other, column, value));
            let mean = row.mean(column, value);
            let cell = format!("{mean:.digits$}");
            let _ = write!(text, " {} |", if is_best { format!("**{cell}**") } else { cell });
        }
        text.push('\n');
    }
    let ahead: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let names: Vec<_> = row.peers_ahead(value).into_iter().map(Column::name).collect();
            (!names.is_empty()).then(|| format!("{} ({})", row.name(), names.join("; ")))
        })
        .collect();
    let _ = match ahead.is_empty() {
        true => writeln!(text, "\nNo other is ahead in any row."),
        false => writeln!(text, "\nOthers are ahead in: {}.", ahead.join(", ")),
    };
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

// ===== the picture =====

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 44.0;
const GAP: f64 = 52.0;

/// Returns a picture: a column for each workload, a line for each cache. Above the hit ratio where all are alike,
/// below the share of the origin's time that is saved.
pub fn plot(rows: &[Row]) -> String {
    let panels: [(Distribution, &str, Value); 3] = [
        (Distribution::Alike, "hits, alike", |run| run.hits),
        (Distribution::Independent, "time saved, independent", |run| run.saved),
        (Distribution::Proportional, "time saved, proportional", |run| run.saved),
    ];
    let mut workloads: Vec<_> = rows.iter().map(|row| row.workload).collect();
    workloads.dedup();
    workloads.truncate(workloads.len() / Distribution::ALL.len());
    let width = LEFT + workloads.len() as f64 * (WIDTH + GAP);
    let height = TOP + 3.0 * (HEIGHT + GAP) + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (x, workload) in workloads.iter().enumerate() {
        let left = LEFT + x as f64 * (WIDTH + GAP);
        svg.push_str(&label(left, 16.0, "start", workload));
        for (y, (distribution, title, value)) in panels.into_iter().enumerate() {
            let rows = rows.iter().filter(|row| row.distribution == distribution);
            let rows: Vec<_> = rows.filter(|row| row.workload == *workload).collect();
            svg.push_str(&panel(&rows, left, TOP + y as f64 * (HEIGHT + GAP), title, value));
        }
    }
    for (number, column) in Column::ALL.into_iter().enumerate() {
        let (x, y) =
            (LEFT + 160.0 * (number % 6) as f64, height - 26.0 + 16.0 * (number / 6) as f64);
        svg.push_str(&line(&[(x, y - 4.0), (x + 20.0, y - 4.0)], column));
        svg.push_str(&label(x + 26.0, y, "start", column.name()));
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(rows: &[&Row], left: f64, top: f64, title: &str, value: Value) -> String {
    let means = |column| rows.iter().map(move |row| row.mean(column, value));
    let all: Vec<_> = Column::ALL.into_iter().flat_map(means).collect();
    let lowest = all.iter().copied().fold(1.0, f64::min) - 0.02;
    let highest = all.iter().copied().fold(0.0, f64::max) + 0.02;
    let x = |room: f64| left + WIDTH * (room / 0.01).ln() / 25_f64.ln();
    let y = |value: f64| top + HEIGHT * (highest - value) / (highest - lowest);
    let mut svg = format!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#888\"/>\n"
    );
    svg.push_str(&label(left, top - 6.0, "start", title));
    for row in rows {
        svg.push_str(&label(
            x(row.room),
            top + HEIGHT + 14.0,
            "middle",
            &format!("{:.0} %", row.room * 100.0),
        ));
    }
    for percent in (0..10).map(|tenth| f64::from(tenth) / 10.0) {
        if (lowest..highest).contains(&percent) {
            svg.push_str(&label(
                left - 4.0,
                y(percent) + 4.0,
                "end",
                &format!("{:.0} %", percent * 100.0),
            ));
        }
    }
    // Ours on top.
    for column in Column::ALL.into_iter().rev() {
        let points: Vec<_> =
            rows.iter().map(|row| (x(row.room), y(row.mean(column, value)))).collect();
        svg.push_str(&line(&points, column));
    }
    svg
}

fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

fn line(points: &[(f64, f64)], column: Column) -> String {
    let width = if column == Column::Ours { 2.4 } else { 1.2 };
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"/>\n",
        points.join(" "),
        column.color()
    )
}

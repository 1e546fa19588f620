//! Table and plot of the days.

use std::fmt::Write;

use crate::{
    Outcome, Policy,
    parameters::{Day, QUOTA},
};

/// Returns a table of the days in Markdown.
pub(crate) fn table(days: &[(Day, Vec<Outcome>)]) -> String {
    let mut text = "<!-- Made by benches/origin.sh. -->\n\n# Days of a portal whose origin has a quota\n\n\
        Simulated days from midnight to midnight, with one seed: accounts by the law of Zipf, office hours, bursts of\n\
        views, comments through the portal, and changes that agents make beside it. The parameters are in\n\
        `benches/origin/src/parameters.rs`. They were chosen by the calls of fixed lifetimes and committed before the default\n\
        burst was set to one third.\n\n\
        The origin answers 429 to calls beyond its quota. An answer is *outdated* once the resource has changed since\n\
        the origin made it; the changes of agents reach no cache. On a day below the quota a budget costs freshness, too: a\n\
        token bucket keeps calls for the rest of the day, and in the morning it does not know what the day will be.\n\n\
        ![Calls during each day, and how outdated the answers were](origin.svg)\n"
        .to_owned();
    for (day, outcomes) in days {
        let _ = write!(
            text,
            "\n## {}\n\n{} views of {} accounts; the quota is {QUOTA} calls.\n\n\
             | | requests | calls | of the quota | refused to clients | outdated answers | by 50 % | 90 % | 99 % | at most |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            day.name, day.views, day.accounts
        );
        for outcome in outcomes {
            text.push_str(&row(outcome));
        }
        if let Some(budget) = outcomes.iter().find(|outcome| outcome.policy == Policy::Budget) {
            text.push_str(&sentence(budget));
        }
    }
    text
}

fn row(outcome: &Outcome) -> String {
    let Outcome { policy, requests, calls, refused, staleness, .. } = outcome;
    let outdated = outdated(outcome);
    let at = |share: f64| match outdated.len() {
        0 => "–".to_owned(),
        length => seconds(outdated[((length - 1) as f64 * share) as usize]),
    };
    format!(
        "| {} | {requests} | {calls} | {:.0} % | {refused} | {:.2} % | {} | {} | {} | {} |\n",
        policy.name(),
        100.0 * f64::from(*calls) / f64::from(QUOTA),
        100.0 * outdated.len() as f64 / staleness.len().max(1) as f64,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    )
}

fn sentence(outcome: &Outcome) -> String {
    let spared: Vec<_> =
        outcome.spared.iter().map(|(call, count)| format!("{call} {count}")).collect();
    let over = outcome.calls.saturating_sub(QUOTA);
    let end = match over {
        0 => "The quota lasts.".to_owned(),
        over => format!(
            "**The quota does not last: {over} calls too many.** Nothing can be spared of misses without a stale \
             response and of writes."
        ),
    };
    format!("\nRequests without a call because of the budget: {}. {end}\n", spared.join(", "))
}

/// Returns the milliseconds of the answers that were not true any more.
fn outdated(outcome: &Outcome) -> &[u64] {
    &outcome.staleness[outcome.staleness.partition_point(|time| *time == 0)..]
}

fn seconds(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{:.1} s", millis as f64 / 1000.0),
        10_000..600_000 => format!("{} s", millis / 1000),
        _ => format!("{} min", millis / 60_000),
    }
}

// ===== the plot =====

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 40.0;
const GAP: f64 = 56.0;

fn color(policy: Policy) -> &'static str {
    match policy {
        Policy::None => "#9aa0a6",
        Policy::Fixed => "#c2571a",
        Policy::Budget => "#1a66c2",
    }
}

/// Returns a picture: above the calls of each day, below the share of answers that were outdated by more than a
/// time.
pub(crate) fn plot(days: &[(Day, Vec<Outcome>)]) -> String {
    let (width, height) = (LEFT + 3.0 * (WIDTH + GAP), TOP + 2.0 * (HEIGHT + GAP) + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (column, (day, outcomes)) in days.iter().enumerate() {
        let left = LEFT + column as f64 * (WIDTH + GAP);
        svg.push_str(&label(left, 18.0, "start", day.name));
        svg.push_str(&calls_of(outcomes, left));
        svg.push_str(&staleness_of(outcomes, left));
    }
    for (number, policy) in Policy::ALL.into_iter().enumerate() {
        let (x, y) = (LEFT + 130.0 * number as f64, TOP + 2.0 * HEIGHT + GAP + 44.0);
        svg.push_str(&line(&[(x, y - 4.0), (x + 20.0, y - 4.0)], color(policy)));
        svg.push_str(&label(x + 26.0, y, "start", policy.name()));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Draws the calls of a day, each quarter of an hour, and the quota.
fn calls_of(outcomes: &[Outcome], left: f64) -> String {
    let most = outcomes.iter().map(|outcome| outcome.calls).max().unwrap_or(1).max(QUOTA);
    // What is far beyond is cut off, or the rest could not be told apart.
    let most = f64::from(most.min(3 * QUOTA));
    let mut svg = frame(left, TOP, "hour", "calls");
    let quota = TOP + HEIGHT * (1.0 - f64::from(QUOTA) / most);
    svg.push_str(&line(&[(left, quota), (left + WIDTH, quota)], "#b00020"));
    svg.push_str(&label(left + 4.0, quota - 4.0, "start", "quota"));
    for hour in [6, 12, 18] {
        let x = left + WIDTH * f64::from(hour) / 24.0;
        svg.push_str(&label(x, TOP + HEIGHT + 14.0, "middle", &hour.to_string()));
    }
    for outcome in outcomes {
        let points = calls(outcome, most);
        let points: Vec<_> =
            points.iter().map(|(x, y)| (left + WIDTH * x, TOP + HEIGHT * y)).collect();
        svg.push_str(&line(&points, color(outcome.policy)));
    }
    svg
}

/// Draws the share of the answers of a day that were outdated by more than a time.
fn staleness_of(outcomes: &[Outcome], left: f64) -> String {
    let top = TOP + HEIGHT + GAP;
    let mut svg = frame(left, top, "outdated by more than", "answers");
    for (millis, text) in [(1e3, "1 s"), (60e3, "1 min"), (3600e3, "1 h")] {
        svg.push_str(&label(left + WIDTH * log(millis), top + HEIGHT + 14.0, "middle", text));
    }
    for (share, text) in [(0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %")] {
        svg.push_str(&label(left - 4.0, top + HEIGHT * rank(share), "end", text));
    }
    for outcome in outcomes {
        let points = tail(outcome);
        let points: Vec<_> =
            points.iter().map(|(x, y)| (left + WIDTH * x, top + HEIGHT * y)).collect();
        svg.push_str(&line(&points, color(outcome.policy)));
    }
    svg
}

fn frame(left: f64, top: f64, below: &str, beside: &str) -> String {
    let frame = format!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#888\"/>\n"
    );
    let below = label(left + WIDTH, top + HEIGHT + 28.0, "end", below);
    frame + &below + &label(left, top - 6.0, "start", beside)
}

fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

fn line(points: &[(f64, f64)], stroke: &str) -> String {
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"1.6\"/>\n",
        points.join(" ")
    )
}

/// Returns the calls so far at each quarter of an hour, in parts of the frame.
fn calls(outcome: &Outcome, most: f64) -> Vec<(f64, f64)> {
    let mut sum = 0.0;
    let mut points = vec![(0.0, 1.0)];
    for (quarter, minutes) in outcome.minutes.chunks(15).take(96).enumerate() {
        sum += minutes.iter().map(|count| f64::from(*count)).sum::<f64>();
        points.push(((quarter + 1) as f64 / 96.0, 1.0 - (sum / most).min(1.0)));
    }
    points
}

/// Returns the share of answers that were outdated by more than each time, in parts of the frame.
fn tail(outcome: &Outcome) -> Vec<(f64, f64)> {
    let all = outcome.staleness.len().max(1) as f64;
    let times = (0..=80).map(|step| 100.0 * 72_000_f64.powf(f64::from(step) / 80.0));
    let points = times.map(|time| {
        let over = outcome.staleness.partition_point(|staleness| (*staleness as f64) <= time);
        (log(time), rank((outcome.staleness.len() - over) as f64 / all))
    });
    points.collect()
}

/// Returns the place of milliseconds on an axis from 0.1 s to 2 h.
fn log(millis: f64) -> f64 {
    (millis / 100.0).ln() / 72_000_f64.ln()
}

/// Returns the place of a share on an axis from 30 % down to 0.01 %.
fn rank(share: f64) -> f64 {
    ((0.3 / share.max(0.0001)).ln() / 3000_f64.ln()).clamp(0.0, 1.0)
}

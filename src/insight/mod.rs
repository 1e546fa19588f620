//! Insight into the cache: explanations, and comparisons with the origin.

mod comparison;
mod explanation;

pub(crate) use self::comparison::{BodyComparison, ComparedBody, head_difference};
pub use self::explanation::{Explanation, Forecast, InvalidatedSubject, InvalidatingRule};

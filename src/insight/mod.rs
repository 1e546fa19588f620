//! Insight into the cache: explanations.

pub(crate) mod explanation;

pub use self::explanation::{Explanation, Forecast, InvalidatedSubject, InvalidatingRule};

//! Properties for any input, and models of concurrent parts. Built for tests and fuzzing only.

pub mod fuzzing;
#[cfg(all(test, shuttle))]
mod model;
#[cfg(test)]
pub(crate) mod random;

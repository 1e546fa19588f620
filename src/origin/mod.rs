//! A rate-limited origin: the budget of its calls, and what the cache spares as it drains.

mod budget;
mod controller;

pub use budget::OriginBudget;
pub(crate) use controller::{OriginController, Priority};

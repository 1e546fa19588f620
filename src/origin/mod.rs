//! A rate-limited origin: the budget of its calls, the pauses that it asks for, and what the cache spares
//! because of them.

mod budget;
mod controller;
mod ledger;
mod pauses;
mod quota;

pub use budget::OriginBudget;
pub(crate) use controller::OriginController;
pub use ledger::{CallReport, SharedBudget};
pub(crate) use pauses::Paused;
pub use quota::{Exhausted, Quota};

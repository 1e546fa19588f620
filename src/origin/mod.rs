//! A rate-limited origin: the budget of its calls, the pauses that it asks for, what the cache spares because
//! of them, and its replicas.

mod budget;
mod controller;
mod ledger;
mod pauses;
mod quota;
mod refill;

pub use budget::OriginBudget;
pub(crate) use controller::OriginController;
pub use ledger::{CallReport, SharedBudget};
pub(crate) use pauses::Paused;
pub use quota::{Exhausted, Quota};
pub use refill::Refill;

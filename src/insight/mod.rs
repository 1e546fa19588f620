//! Insight into the cache: explanations, comparisons with the origin, audits.

mod audits;
mod comparison;
mod digests;
mod examination;
mod explanation;
mod write_log;

pub use self::{
    audits::{AuditReport, ChangeInterval, SuspectField},
    explanation::{Explanation, Forecast, InvalidatedSubject, InvalidatingRule},
    write_log::MissingRule,
};
pub(crate) use self::{
    audits::{AuditSample, Audits, Examination, is_sampled},
    comparison::{BodyComparison, ComparedBody, head_difference},
    digests::{FieldDigests, ResponseDigest},
    examination::{Examined, examine},
    write_log::ReadTarget,
};

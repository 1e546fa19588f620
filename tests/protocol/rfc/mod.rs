//! The rules of RFC 9110, 9111, 9211, 9875 and 10008 and of a draft, as tables: what is stored, what is asked, and what must be
//! answered, through the layer and in paused time.

mod cache_status;
mod checklist;
mod freshness;
mod groups;
mod invalidation;
mod no_vary_search;
mod query;
mod ranges;
mod reuse;
mod revalidation;
mod row;
mod storing;
mod targeted;
mod validation;

use crate::support;

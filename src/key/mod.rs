//! Keys: what groups stored responses, and what identifies one.
//!
//! A [`PrimaryKey`] is made by a route's key builder. It groups: one invalidation removes everything
//! that is stored under it. A [`Variant`] identifies: it holds everything the response was made
//! for, and an entry answers only a request with an equal one. So a careless key builder can
//! invalidate too much or too little, and can never hand one resource to a request for another.

mod digest_key;
mod hash;
mod named;
mod primary_key;
mod tag;
mod variant;
mod vary;

pub(crate) use self::{
    digest_key::DigestKey,
    hash::{Prehashed, seeded_hash},
    named::{TextPiece, pieces},
    primary_key::{KeyText, MAX_KEY, escaped_ends, is_reserved, push_parameter},
    tag::MAX_TAGS,
    variant::{EncodedParts, VariantParts, origin, parts_of, push_part},
    vary::{FieldList, Nominated},
};
pub use self::{
    named::{IntoKey, NamedKey, key},
    primary_key::{PrimaryKey, Slot, Strength, Subject, Token},
    tag::{Tag, Tags},
    variant::{Variant, VariantRef},
};

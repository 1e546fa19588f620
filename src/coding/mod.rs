//! Content codings (RFC 9110 §8.4.1): their names, their choice by a request, and how they are made.

mod choice;
mod codec;
mod content_coding;
mod tags;

pub use self::content_coding::ContentCoding;
pub(crate) use self::{
    choice::preferred,
    codec::encode,
    content_coding::CodingPolicy,
    tags::{add_suffix, is_suffixed, remove_suffixes},
};

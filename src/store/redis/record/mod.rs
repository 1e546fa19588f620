//! Record of an entry: the content of one field of a key's hash.
//!
//! A record begins with a line of text of fixed width, which is for the scripts. Everything after it
//! is binary, big-endian. Anything unexpected makes a record unreadable, which is a miss.
//!
//! ```text
//! TSC4 <incarnation> <stored> <fresh until> <kept until>\n
//! kind of the seal
//! numbers of the line once more, and that of the record
//! identity: the key, namespace included, and the variant
//! kind: a response (status, flags, ages, names, values, body), a `Pass`, the names of nominated fields, or
//! tags with their versions and then a response
//! seal: a CRC-32 or a keyed digest of everything before
//! ```

mod decode;
mod digest;
mod encode;
mod fields;
mod seal;
mod stamp;
mod tag_version;

#[cfg(any(test, fuzzing))]
pub(crate) use self::decode::read_anything;
pub(crate) use self::{
    decode::{Record, StoredContent, decode, tags_of},
    digest::{VariantDigest, digest},
    encode::encode,
    seal::Seal,
    stamp::{AHEAD, SLACK, Stamp},
    tag_version::{EARLIER_VERSIONS, Standing, TagStamp, TagVersion, VersionedTag},
};

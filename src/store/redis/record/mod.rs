//! Record of an entry: the content of one field of a key's hash.
//!
//! A record begins with a line of text of fixed width, which is for the scripts. Everything after it
//! is binary, big-endian, and lengths have as many bytes as they need. Anything unexpected makes a record unreadable, which is a miss.
//!
//! ```text
//! TSC5 <incarnation> <stored> <fresh until> <kept until>\n
//! form: kind of the seal, and whether the content is compressed
//! content, which may be compressed, and then encrypted:
//!    number of the record
//!    kind: a response (status, flags, ages, names, values, body), a `Pass`, the names of nominated fields,
//!    or tags with their versions and then a response
//! seal of everything before and of the place, which is not written: the key with its namespace, and the variant
//! ```

mod compression;
mod decode;
mod digest;
mod encode;
mod fields;
mod seal;
mod stamp;
mod tag_version;

#[cfg(any(test, fuzzing))]
pub(crate) use self::decode::read_anything;
#[cfg(feature = "redis-encryption")]
pub(crate) use self::seal::EncryptionKeys;
pub(crate) use self::{
    decode::{Record, StoredContent, decode, tags_of},
    digest::{VariantDigest, digest},
    encode::{RecordForm, encode},
    seal::Seal,
    stamp::{AHEAD, SLACK, Stamp},
    tag_version::{EARLIER_VERSIONS, Standing, TagStamp, TagVersion, VersionedTag},
};

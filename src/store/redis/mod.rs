//! Store that several processes share.
//!
//! Each primary key is one hash at the server, under its own name:
//!
//! ```text
//! support:messages:C42      HASH
//!    v:<digest>   record     of a response, or of the note that there is none to be had
//!    v:<digest>n  number     of the record: a process that remembers the response asks for this alone
//!    s:<digest>   outdated   time of a soft invalidation, and the record that was there
//!    l:<digest>   lease      fill that may store the variant of this digest
//! tower-support-cache:tag:account:A1        STRING    version of a tag
//! tower-support-cache:calls:origin          HASH      budget of an origin, and the processes that spend it
//! ```
//!
//! So a hit needs one field: a record at `v:…` is in force, unless it has tags (`tag_versions.rs`), and its
//! number tells whether it is still the one that was read before.
//!
//! The lease is in the same key as the records, so whatever removes the key voids every
//! fill in flight: `redis-cli DEL support:messages:C42` is a full invalidation, and so are expiry,
//! eviction and a flush.

mod builder;
mod calls;
mod fill;
mod invalidation;
mod link;
mod lookup;
mod near;
mod outbox;
mod record;
mod settings;
mod state;
mod store;
mod tag_versions;
mod waiters;

#[cfg(any(test, fuzzing))]
pub(crate) use self::record::read_anything;
pub use self::{
    builder::{RedisStoreBuilder, SealKey},
    fill::RedisLease,
    link::RedisCredentials,
    settings::ServerIdentity,
    store::RedisStore,
};

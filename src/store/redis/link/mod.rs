//! Link to the server: one connection, proven again and again, and replaced when it fails.
//!
//! A connection is *published* once the server has said who it is; from then on requests use it.
//! One supervisor asks again in every heartbeat, whether it is still the same server, still a primary,
//! and what the epoch is. On any doubt it asks at once, and where the reply is wrong or late the
//! connection is unpublished: requests bypass the store without waiting, until there is another.
//!
//! The `redis` crate's `ConnectionManager` is not used: with the server gone it made requests wait for
//! seconds, and with the server hung it never connected again.

mod batch;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod command;
mod connection;
mod counts;
mod credentials;
mod handle;
mod heartbeats;
mod identity;
mod node;
mod random;
mod scripts;
#[cfg(feature = "redis-cluster")]
mod slots;
mod supervisor;
mod transport;

pub use self::credentials::RedisCredentials;
pub(crate) use self::{
    command::{
        LeaseReply, LinkFault, OutdatedRecord, RestOfVariant, Sought, bulk, lookup_all,
        lookup_rest, millis, token_text,
    },
    connection::Connection,
    counts::count,
    credentials::CredentialSource,
    handle::{Dependents, Link},
    random::{random, random_text},
    scripts::{COMMIT, LEASE, SHARE_CALLS, TAG_VERSIONS},
    transport::{Endpoint, Servers},
};

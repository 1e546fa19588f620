//! Transport to the server: one server, the primary that sentinels name, or a cluster.

use std::{borrow::Cow, sync::Arc, time::Duration};

#[cfg(feature = "redis-cluster")]
use super::cluster::Cluster;
use super::{
    credentials::CredentialSource,
    node::{PrimaryInfo, ServerInfo, Tracking},
};
use crate::{clock::Instant, deadline::Deadline};
#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
#[cfg(feature = "redis-sentinel")]
use redis::{
    ConnectionAddr, TlsMode,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};

/// Address of the server, and the credentials for it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) servers: Servers,
    pub(crate) redis: RedisConnectionInfo,
    pub(crate) credentials: Option<CredentialSource>,
}

/// Addresses of the servers.
#[derive(Clone)]
pub(crate) enum Servers {
    One(Box<ConnectionInfo>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        /// Name of the primary.
        name: String,
    },
    #[cfg(feature = "redis-cluster")]
    Cluster(Vec<ConnectionInfo>),
}

/// Connection that commands are sent over. Clones share it.
#[derive(Clone)]
pub(crate) enum Transport {
    One(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(Cluster),
}

impl Endpoint {
    /// Asks for the credentials of the next connection.
    pub(super) async fn login(&self) -> Result<RedisConnectionInfo, RedisError> {
        match &self.credentials {
            Some(source) => source.fill_in(self.redis.clone()).await,
            None => Ok(self.redis.clone()),
        }
    }

    /// Connects. `attempt` counts up, so that a sentinel that hangs is not always the first.
    pub(super) async fn connect(
        &self,
        login: RedisConnectionInfo,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
        attempt: usize,
    ) -> Result<Transport, RedisError> {
        let _ = attempt;
        let redis = login.set_protocol(protocol);
        match &self.servers {
            Servers::One(info) => {
                let client = Client::open(info.as_ref().clone().set_redis_settings(redis))?;
                Ok(Transport::One(
                    client.get_multiplexed_async_connection_with_config(config).await?,
                ))
            }
            #[cfg(feature = "redis-sentinel")]
            Servers::Sentinels { sentinels, name } => {
                let mut sentinels = sentinels.clone();
                let first = attempt % sentinels.len();
                sentinels.rotate_left(first);
                let tcp = TcpSettings::default().set_nodelay(true);
                let mut node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(redis)
                    .set_tcp_settings(tcp);
                if matches!(sentinels[0].addr(), ConnectionAddr::TcpTls { .. }) {
                    node = node.set_tls_mode(TlsMode::Secure);
                }
                let (name, primary) = (name.clone(), SentinelServerType::Master);
                let mut client = SentinelClient::build(sentinels, name, Some(node), primary)?;
                Ok(Transport::One(client.get_async_connection_with_config(config).await?))
            }
            #[cfg(feature = "redis-cluster")]
            Servers::Cluster(nodes) => {
                let mut nodes = nodes.clone();
                let first = attempt % nodes.len();
                nodes.rotate_left(first);
                let tcp = TcpSettings::default().set_nodelay(true);
                let with = |node: ConnectionInfo| {
                    node.set_redis_settings(redis.clone()).set_tcp_settings(tcp.clone())
                };
                let nodes: Vec<_> = nodes.into_iter().map(with).collect();
                Ok(Transport::Cluster(Cluster::connect(&nodes, config).await?))
            }
        }
    }
}

impl Transport {
    /// Asks each primary about itself. In a cluster one that has not answered within `limit` is taken for what it
    /// was, and replies of the others may be used until an instant.
    pub(super) async fn info(
        &mut self,
        until: Instant,
        limit: Duration,
    ) -> Result<ServerInfo, RedisError> {
        let _ = (until, limit);
        match self {
            Self::One(connection) => {
                let mut pipeline = Pipeline::new();
                PrimaryInfo::ask(&mut pipeline);
                let asked = connection.req_packed_commands(&pipeline, 0, PrimaryInfo::COMMANDS);
                let info = PrimaryInfo::parse(&mut asked.await?.into_iter())?;
                Ok(ServerInfo { time: info.time, primaries: vec![info] })
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.info(until, limit).await,
        }
    }

    /// Returns the proof of the connection to the primary of a key, where each primary has its own.
    pub(super) fn proof<'k>(
        &self,
        key: impl FnOnce() -> Cow<'k, str>,
    ) -> Result<Option<Arc<Deadline>>, RedisError> {
        let _ = &key;
        match self {
            Self::One(_) => Ok(None),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.proof(&key()).map(Some),
        }
    }

    /// Returns whether the connection to each primary is proven, where each has a proof of its own.
    pub(super) fn is_proven(&self) -> bool {
        match self {
            Self::One(_) => true,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.is_proven(),
        }
    }

    /// Returns the number of replies that have led to another primary.
    pub(super) fn redirects(&self) -> u64 {
        match self {
            Self::One(_) => 0,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.redirects(),
        }
    }

    /// Returns whether commands for different keys can be sent in one piece.
    pub(crate) fn is_one(&self) -> bool {
        match self {
            Self::One(_) => true,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => false,
        }
    }

    /// Sends commands in one piece, and returns the reply to each, errors of the server included.
    pub(super) async fn ask_all(mut self, commands: Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut each = commands.cmd_iter();
        if let (Some(command), None) = (each.next(), each.next()) {
            return Ok(vec![self.req_packed_command(command).await?]);
        }
        drop(each);
        self.req_packed_commands(&commands, 0, commands.len()).await
    }

    /// Turns tracking of what is read from now on on or off, where the server can do it at all.
    pub(super) async fn track(&mut self, tracking: Tracking) -> Result<(), RedisError> {
        match self {
            Self::One(connection) => tracking.command().query_async(connection).await,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.track(tracking).await,
        }
    }
}

impl ConnectionLike for Transport {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.send(cmd)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => Box::pin(cluster.send_each(pipeline)),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => 0,
        }
    }
}

//! Transport to the server: one server, the primary that sentinels name, or a cluster.

#[cfg(feature = "redis-cluster")]
use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd,
};
#[cfg(feature = "redis-sentinel")]
use redis::{
    ConnectionAddr, TlsMode,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};
#[cfg(feature = "redis-cluster")]
use redis::{
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

use super::credentials::CredentialSource;

/// Time that connecting to a server may take.
pub(super) const CONNECT: Duration = Duration::from_millis(300);

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
    Cluster(ClusterConnection),
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
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .connection_timeout(CONNECT)
                    // Each command has a budget of its own.
                    .overall_response_timeout(None)
                    .retries(1)
                    .use_protocol(protocol)
                    .tcp_settings(TcpSettings::default().set_nodelay(true));
                if let Some(username) = redis.username() {
                    builder = builder.username(username);
                }
                if let Some(password) = redis.password() {
                    builder = builder.password(password);
                }
                Ok(Transport::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }
}

/// Tracking by the server of the keys that are read over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    On,
    Off,
}

/// Answers of the servers about themselves.
pub(super) struct ServerInfo {
    pub(super) primaries: Vec<PrimaryInfo>,
    /// Time of one of them, in milliseconds.
    pub(super) time: u64,
}

/// Sections of `INFO` of one primary.
pub(super) struct PrimaryInfo {
    pub(super) server: String,
    pub(super) replication: String,
}

impl Transport {
    /// Asks each primary for `INFO`.
    pub(super) async fn info(&mut self) -> Result<ServerInfo, RedisError> {
        match self {
            Self::One(connection) => {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
                pipeline.cmd("TIME");
                let replies = connection.req_packed_commands(&pipeline, 0, 3).await?;
                let [server, replication, time] = <[Value; 3]>::try_from(replies)
                    .map_err(|_| (ErrorKind::Client, "a reply is missing"))?;
                let [seconds, micros]: [u64; 2] = redis::from_redis_value(time.extract_error()?)?;
                let [server, replication] = [server, replication].map(section);
                let primaries = vec![PrimaryInfo { server: server?, replication: replication? }];
                Ok(ServerInfo { primaries, time: millis(seconds, micros) })
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => {
                let server = info_of_all(connection, "server").await?;
                let replication = info_of_all(connection, "replication").await?;
                let [seconds, micros]: [u64; 2] = cmd("TIME").query_async(connection).await?;
                if !server.keys().eq(replication.keys()) {
                    return Err((ErrorKind::Client, "the cluster has just changed").into());
                }
                let infos = server.into_values().zip(replication.into_values());
                let primaries =
                    infos.map(|(server, replication)| PrimaryInfo { server, replication });
                let primaries = primaries.collect();
                Ok(ServerInfo { primaries, time: millis(seconds, micros) })
            }
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
            Self::One(connection) => {
                let mut track = cmd("CLIENT");
                let switch = if tracking == Tracking::On { "ON" } else { "OFF" };
                track.arg("TRACKING").arg(switch).query_async(connection).await
            }
            #[cfg(feature = "redis-cluster")]
            // The `redis` crate does not report the loss of one of its connections, and with it of messages.
            Self::Cluster(_) => Err((ErrorKind::Client, "a cluster is not tracked").into()),
        }
    }
}

/// Returns a section of `INFO` of each primary of a cluster, by their addresses.
#[cfg(feature = "redis-cluster")]
async fn info_of_all(
    connection: &mut ClusterConnection,
    section: &str,
) -> Result<BTreeMap<String, String>, RedisError> {
    let mut info = cmd("INFO");
    info.arg(section);
    let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
    let reply = connection.route_command(info, routing).await?;
    Ok(redis::from_redis_value(reply.extract_error()?)?)
}

/// Returns the text of a section; none of one that the server refuses.
fn section(reply: Value) -> Result<String, RedisError> {
    match reply.extract_error() {
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => Err(error),
        Err(_) => Ok(String::new()),
        Ok(text) => Ok(redis::from_redis_value(text)?),
    }
}

fn millis(seconds: u64, micros: u64) -> u64 {
    seconds.saturating_mul(1000) + micros / 1000
}

impl ConnectionLike for Transport {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.req_packed_command(cmd),
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
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

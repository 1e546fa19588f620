//! Where the server is, and the wire to it: one server, the primary that sentinels name, or a cluster.

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, ProtocolVersion, RedisError,
    RedisFuture, Value,
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
    ErrorKind,
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};
#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
use redis::{RedisConnectionInfo, io::tcp::TcpSettings};

/// Where the server is.
#[derive(Clone)]
pub(super) enum Place {
    One(Box<ConnectionInfo>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        /// What they call the primary.
        name: String,
        redis: RedisConnectionInfo,
    },
    #[cfg(feature = "redis-cluster")]
    Cluster {
        nodes: Vec<ConnectionInfo>,
        redis: RedisConnectionInfo,
    },
}

/// What commands are sent over. Clones share one connection.
#[derive(Clone)]
pub(super) enum Wire {
    One(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

impl Place {
    /// Whether the server can be asked to tell what changes: in a cluster the wire does not say over
    /// which of its connections a message is missing.
    pub(super) fn can_track(&self) -> bool {
        match self {
            Self::One(_) => true,
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels { .. } => true,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster { .. } => false,
        }
    }

    /// Connects. `attempt` counts up, so that a sentinel that hangs is not always asked first.
    pub(super) async fn connect(
        &self,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
        attempt: usize,
    ) -> Result<Wire, RedisError> {
        let _ = attempt;
        match self {
            Self::One(info) => {
                let redis = info.redis_settings().clone().set_protocol(protocol);
                let client = Client::open(info.as_ref().clone().set_redis_settings(redis))?;
                Ok(Wire::One(client.get_multiplexed_async_connection_with_config(config).await?))
            }
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels { sentinels, name, redis } => {
                let mut sentinels = sentinels.clone();
                let first = attempt % sentinels.len();
                sentinels.rotate_left(first);
                let redis = redis.clone().set_protocol(protocol);
                let tcp = TcpSettings::default().set_nodelay(true);
                let mut node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(redis)
                    .set_tcp_settings(tcp);
                if matches!(sentinels[0].addr(), ConnectionAddr::TcpTls { .. }) {
                    node = node.set_tls_mode(TlsMode::Secure);
                }
                let (name, primary) = (name.clone(), SentinelServerType::Master);
                let mut client = SentinelClient::build(sentinels, name, Some(node), primary)?;
                Ok(Wire::One(client.get_async_connection_with_config(config).await?))
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster { nodes, redis } => {
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .connection_timeout(super::CONNECT)
                    // Whoever asks has a budget of their own, and what fails is asked of another.
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
                Ok(Wire::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }
}

/// What the servers say of themselves: the answers to `INFO server` and `INFO replication` of each
/// primary, and the time of one of them in milliseconds.
pub(super) struct Told {
    pub(super) primaries: Vec<(String, String)>,
    pub(super) time: u64,
    /// The value of the key that was asked for beside.
    pub(super) value: Option<String>,
}

impl Wire {
    pub(super) async fn tell(&mut self, key: &str) -> Result<Told, RedisError> {
        type Time = (u64, u64);
        let millis = |(seconds, micros): Time| seconds.saturating_mul(1000) + micros / 1000;
        match self {
            Self::One(connection) => {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
                pipeline.cmd("TIME").cmd("GET").arg(key);
                let (server, replication, time, value): (_, _, Time, _) =
                    pipeline.query_async(connection).await?;
                Ok(Told { primaries: vec![(server, replication)], time: millis(time), value })
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => {
                let server = info_of_all(connection, "server").await?;
                let replication = info_of_all(connection, "replication").await?;
                let time = cmd("TIME").query_async(connection).await?;
                let value = cmd("GET").arg(key).query_async(connection).await?;
                let is_same = server
                    .iter()
                    .map(|(node, _)| node)
                    .eq(replication.iter().map(|(node, _)| node));
                if !is_same {
                    return Err((ErrorKind::Client, "the cluster has just changed").into());
                }
                let infos = server.into_iter().map(|(_, info)| info);
                let primaries = infos.zip(replication.into_iter().map(|(_, info)| info)).collect();
                Ok(Told { primaries, time: millis(time), value })
            }
        }
    }

    /// Whether commands for different keys can be sent in one piece.
    pub(super) fn is_one(&self) -> bool {
        match self {
            Self::One(_) => true,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => false,
        }
    }

    /// Sends commands in one piece, and returns what is answered to each: also the server's errors.
    pub(super) async fn ask_all(mut self, commands: Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut each = commands.cmd_iter();
        if let (Some(command), None) = (each.next(), each.next()) {
            return Ok(vec![self.req_packed_command(command).await?]);
        }
        drop(each);
        self.req_packed_commands(&commands, 0, commands.len()).await
    }

    /// Asks the server to tell what changes of what is read from now on.
    pub(super) async fn track(&mut self) -> Result<(), RedisError> {
        match self {
            Self::One(connection) => {
                let mut track = cmd("CLIENT");
                track.arg("TRACKING").arg("ON").query_async(connection).await
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => Err((ErrorKind::Client, "a cluster is not tracked").into()),
        }
    }
}

/// Returns what each primary of a cluster says, in the order of their names.
#[cfg(feature = "redis-cluster")]
async fn info_of_all(
    connection: &mut ClusterConnection,
    section: &str,
) -> Result<Vec<(String, String)>, RedisError> {
    let mut info = cmd("INFO");
    info.arg(section);
    let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
    let told = connection.route_command(info, routing).await?;
    let mut infos: Vec<(String, String)> = redis::from_redis_value(told.extract_error()?)?;
    infos.sort();
    Ok(infos)
}

impl ConnectionLike for Wire {
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

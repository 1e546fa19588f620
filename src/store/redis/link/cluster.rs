//! Cluster: a connection to each primary, and the slots that each has.
//!
//! Which primaries there are stays as it is for as long as the link. One that joins, leaves or takes the place
//! of another makes it another cluster, and the link is lost. What changes meanwhile are the connections, each
//! of which has a proof of its own, and the slots, which move.
//!
//! A key leaves a primary only by being deleted there, so whoever has read it there gets a message. A primary
//! that loses a slot is proven anew all the same: no copy depends on the order of that.
//!
//! The cluster connection of the `redis` crate is not used: it does not tell over which of its connections a
//! reply has come, nor that one of them was replaced.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::{join_all, try_join_all};
use redis::{
    Arg, AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline,
    RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd,
};
use tokio::time::timeout;

use super::{
    identity::line,
    node::{CONNECT, PrimaryInfo, ServerInfo, Tracking},
    slots::{NodeAddress, SlotMap},
};
use crate::{
    clock::Instant,
    deadline::Deadline,
    store::{redis::settings::hash_slot, timeout::within},
    sync::{Mutex, lock},
};

/// Cluster of primaries. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<ClusterState>);

struct ClusterState {
    /// In the order of their addresses, as in every map.
    primaries: Vec<Primary>,
    slots: ArcSwap<SlotMap>,
    /// Epoch of the newest map: a node that is cut off has an older one.
    epoch: AtomicU64,
    /// Number of replies that have led elsewhere.
    redirects: AtomicU64,
    beats: AtomicUsize,
    is_tracked: AtomicBool,
    opener: Opener,
}

/// Primary, as long as it is one of the cluster.
struct Primary {
    address: NodeAddress,
    node: ArcSwapOption<Node>,
    /// Its last answer about itself.
    last: Mutex<Option<PrimaryInfo>>,
    is_opening: AtomicBool,
}

/// Connection to a primary, until it is lost.
struct Node {
    connection: MultiplexedConnection,
    /// Time until which its replies may be used. Held while it is set, so that one that was taken back stays so.
    proof: Mutex<Arc<Deadline>>,
}

/// Means of connecting to any node.
struct Opener {
    /// Address of a node, credentials, and settings.
    info: ConnectionInfo,
    config: AsyncConnectionConfig,
}

/// Answer of a primary about itself and its cluster.
struct NodeReport {
    info: PrimaryInfo,
    is_whole: bool,
    epoch: u64,
    slots: Option<SlotMap>,
}

/// Question to a primary, besides that about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedFor {
    State,
    /// Its map as well, which each is asked for in its turn.
    Slots,
}

/// Nodes that a command is for.
enum Route<'c> {
    Key(&'c [u8]),
    /// Each key has its own.
    Keys(Vec<&'c [u8]>),
    All,
    Any,
}

impl Cluster {
    /// Connects to the primaries that one of the nodes names.
    pub(super) async fn connect(
        nodes: &[ConnectionInfo],
        config: &AsyncConnectionConfig,
    ) -> Result<Self, RedisError> {
        let mut problem = away();
        for info in nodes {
            let opener = Opener { info: info.clone(), config: config.clone() };
            match Self::connect_by(opener).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// Connects to the primaries that a node names.
    async fn connect_by(opener: Opener) -> Result<Self, RedisError> {
        let named = match opener.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                NodeAddress { host: host.clone(), port: *port }
            }
            _ => return Err((ErrorKind::InvalidClientConfig, "a cluster has TCP addresses").into()),
        };
        let node = Node::new(opener.open(&named).await?);
        let NodeReport { epoch, slots, .. } = node.report(&named, AskedFor::Slots).await?;
        let slots = slots.ok_or_else(away)?;
        let open = async |address: &NodeAddress| {
            let node = Node::new(opener.open(address).await?);
            Ok::<_, RedisError>(Primary {
                address: address.clone(),
                node: ArcSwapOption::from_pointee(node),
                last: Mutex::default(),
                is_opening: AtomicBool::new(false),
            })
        };
        let primaries = try_join_all(slots.primaries.iter().map(open)).await?;
        Ok(Self(Arc::new(ClusterState {
            primaries,
            slots: ArcSwap::from_pointee(slots),
            epoch: AtomicU64::new(epoch),
            redirects: AtomicU64::new(0),
            beats: AtomicUsize::new(0),
            is_tracked: AtomicBool::new(false),
            opener,
        })))
    }

    /// Sends a command to the primary of its key.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        match Route::of(command) {
            Route::Key(key) => self.0.send(hash_slot(key), command).await,
            Route::Keys(keys) => {
                let each = keys.into_iter().map(async |key| {
                    let command = cmd("MGET").arg(key).to_owned();
                    self.0.send(hash_slot(key), &command).await
                });
                let mut values = Vec::new();
                for reply in try_join_all(each).await? {
                    values.extend(redis::from_redis_value::<Vec<Value>>(reply)?);
                }
                Ok(Value::Array(values))
            }
            Route::All => {
                let each = self.0.primaries.iter().map(|primary| primary.send(command));
                Ok(Value::Array(try_join_all(each).await?))
            }
            Route::Any => {
                let there = self.0.primaries.iter().find(|primary| primary.node.load().is_some());
                there.ok_or_else(away)?.send(command).await
            }
        }
    }

    /// Sends commands, each to the primary of its key.
    pub(super) async fn send_each(&self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        try_join_all(commands.cmd_iter().map(|command| self.send(command))).await
    }

    /// Returns the proof of the connection to the primary of a key.
    pub(super) fn proof(&self, key: &str) -> Result<Arc<Deadline>, RedisError> {
        let owner = self.0.owner(hash_slot(key.as_bytes()))?;
        let node = owner.node.load_full().ok_or_else(away)?;
        let proof = lock(&node.proof);
        Ok(Arc::clone(&proof))
    }

    pub(super) fn redirects(&self) -> u64 {
        self.0.redirects.load(Ordering::SeqCst)
    }

    /// Returns whether every connection is proven.
    pub(super) fn is_proven(&self) -> bool {
        let is_proven = |node: &Node| lock(&node.proof).is_ahead();
        self.0.primaries.iter().all(|primary| primary.node.load().as_deref().is_some_and(is_proven))
    }

    /// Turns tracking on or off, for connections that are opened later as well.
    pub(super) async fn track(&self, tracking: Tracking) -> Result<(), RedisError> {
        let tracked = self.send(&tracking.command()).await;
        let is_tracked = tracked.is_ok() && tracking == Tracking::On;
        self.0.is_tracked.store(is_tracked, Ordering::SeqCst);
        tracked.map(drop)
    }

    /// Asks each primary about itself, for as long as `limit`. The connection to one that answers is proven until
    /// an instant; that to another is lost, and opened again.
    pub(super) async fn info(
        &self,
        until: Instant,
        limit: Duration,
    ) -> Result<ServerInfo, RedisError> {
        let primaries = &self.0.primaries;
        let turn = self.0.beats.fetch_add(1, Ordering::Relaxed) % primaries.len().max(1);
        let asked = primaries.iter().enumerate().map(async |(index, primary)| {
            let node = primary.node.load_full()?;
            let asked_for = if index == turn { AskedFor::Slots } else { AskedFor::State };
            let asked = node.report(&primary.address, asked_for);
            let report = within(limit, asked, || ()).await?.ok()?;
            Some((node, report))
        });
        let mut answered = join_all(asked).await;
        for (_, report) in answered.iter_mut().flatten() {
            if let Some(slots) = report.slots.take() {
                self.0.adopt(slots, report.epoch)?;
            }
        }
        let mut time = None;
        for (index, (primary, answer)) in primaries.iter().zip(answered).enumerate() {
            let Some((node, report)) = answer else {
                self.reopen(index);
                continue;
            };
            time = time.or(Some(report.info.time));
            let last = lock(&primary.last).replace(report.info.clone());
            if last.is_some_and(|last| !last.is_same_run(&report.info)) {
                return Err(other());
            }
            match report.is_whole {
                true => lock(&node.proof).set(until),
                // It may have been cut off from the others, which have replaced it.
                false => node.silence(),
            }
        }
        let infos = primaries.iter().map(|primary| lock(&primary.last).clone());
        let primaries = infos.collect::<Option<_>>().ok_or_else(away)?;
        Ok(ServerInfo { primaries, time: time.ok_or_else(away)? })
    }
}

impl ClusterState {
    fn owner(&self, slot: u16) -> Result<&Primary, RedisError> {
        self.slots.load().owner(slot).map(|index| &self.primaries[index]).ok_or_else(away)
    }

    async fn send(&self, slot: u16, command: &Cmd) -> Result<Value, RedisError> {
        let owner = self.owner(slot)?;
        let reply = owner.send(command).await;
        let Err(error) = &reply else { return reply };
        let Some((address, _)) = error.redirect_node() else { return reply };
        // Before it is followed: what is read elsewhere depends on another connection.
        self.redirects.fetch_add(1, Ordering::SeqCst);
        let address = NodeAddress::parse(address, &owner.address).ok_or_else(other)?;
        let at = |primary: &Primary| primary.address == address;
        let index = self.primaries.iter().position(at).ok_or_else(other)?;
        let mut followed = Pipeline::with_capacity(2);
        if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
            self.set_owner(slot, index);
        } else {
            followed.cmd("ASKING").ignore();
        }
        followed.add_command(command.clone());
        self.primaries[index].follow(&followed).await
    }

    fn set_owner(&self, slot: u16, index: usize) {
        let before = self.slots.rcu(|slots| slots.with_owner(slot, index));
        if let Some(loser) = before.owner(slot).filter(|loser| *loser != index) {
            self.primaries[loser].renew();
        }
    }

    /// Adopts the map of a node, unless that lags behind.
    fn adopt(&self, slots: SlotMap, epoch: u64) -> Result<(), RedisError> {
        if self.epoch.fetch_max(epoch, Ordering::SeqCst) > epoch {
            return Ok(());
        }
        if !slots.primaries.iter().eq(self.primaries.iter().map(|primary| &primary.address)) {
            return Err(other());
        }
        let losers = slots.losers_since(&self.slots.load());
        self.slots.store(Arc::new(slots));
        losers.into_iter().for_each(|index| self.primaries[index].renew());
        Ok(())
    }
}

impl Cluster {
    /// Gives the connection to a primary up, and opens another one unless that is on its way.
    fn reopen(&self, index: usize) {
        let primary = &self.0.primaries[index];
        if let Some(node) = primary.node.swap(None) {
            node.silence();
        }
        if primary.is_opening.swap(true, Ordering::SeqCst) {
            return;
        }
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let primary = &state.primaries[index];
            let opened = timeout(4 * CONNECT, async {
                let mut connection = state.opener.open(&primary.address).await?;
                if state.is_tracked.load(Ordering::SeqCst) {
                    Tracking::On.command().query_async::<()>(&mut connection).await?;
                }
                Ok::<_, RedisError>(connection)
            });
            if let Ok(Ok(connection)) = opened.await {
                primary.node.store(Some(Arc::new(Node::new(connection))));
            }
            primary.is_opening.store(false, Ordering::SeqCst);
        });
    }
}

impl Primary {
    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.node.load_full().ok_or_else(away)?.connection.clone();
        let reply = connection.req_packed_command(command).await.map_err(lost)?;
        reply.extract_error()
    }

    /// Sends commands that another primary has led here, and returns the last reply.
    async fn follow(&self, commands: &Pipeline) -> Result<Value, RedisError> {
        let node = self.node.load_full().ok_or_else(away)?;
        let mut connection = node.connection.clone();
        let skipped = commands.len() - 1;
        let replies = connection.req_packed_commands(commands, skipped, 1).await.map_err(lost)?;
        // Whoever waits for the reply knows the proof of the other primary alone.
        let is_proven = lock(&node.proof).is_ahead();
        let reply = replies.into_iter().next().filter(|_| is_proven);
        reply.ok_or_else(away)?.extract_error()
    }

    fn renew(&self) {
        if let Some(node) = self.node.load_full() {
            node.renew();
        }
    }
}

impl Node {
    fn new(connection: MultiplexedConnection) -> Self {
        Self { connection, proof: Mutex::new(Arc::new(Deadline::none())) }
    }

    /// Asks a primary about itself, which is at this address.
    async fn report(
        &self,
        address: &NodeAddress,
        asked: AskedFor,
    ) -> Result<NodeReport, RedisError> {
        let mut pipeline = Pipeline::new();
        PrimaryInfo::ask(&mut pipeline);
        pipeline.cmd("CLUSTER").arg("INFO");
        if asked == AskedFor::Slots {
            pipeline.cmd("CLUSTER").arg("SLOTS");
        }
        let (mut connection, number) = (self.connection.clone(), pipeline.len());
        let replies = connection.req_packed_commands(&pipeline, 0, number).await?;
        let mut replies = replies.into_iter();
        let info = PrimaryInfo::parse(&mut replies)?;
        let cluster = replies.next().ok_or_else(away)?.extract_error()?;
        let cluster: String = redis::from_redis_value(cluster)?;
        let epoch = line(&cluster, "cluster_current_epoch:").and_then(|epoch| epoch.parse().ok());
        Ok(NodeReport {
            info,
            is_whole: line(&cluster, "cluster_state:") == Some("ok"),
            epoch: epoch.unwrap_or(0),
            slots: replies.next().map(|reply| SlotMap::parse(reply, address)).transpose()?,
        })
    }

    /// Takes the proof back from the copies that depend on it. What is read from now on has another.
    fn renew(&self) {
        let mut proof = lock(&self.proof);
        *proof = Arc::new(proof.replace());
    }

    /// Takes the proof back until there is another.
    fn silence(&self) {
        lock(&self.proof).clear();
        self.renew();
    }
}

impl Opener {
    async fn open(&self, address: &NodeAddress) -> Result<MultiplexedConnection, RedisError> {
        let mut to = self.info.addr().clone();
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } = &mut to
        {
            host.clone_from(&address.host);
            *port = address.port;
        }
        let client = Client::open(self.info.clone().set_addr(to))?;
        client.get_multiplexed_async_connection_with_config(&self.config).await
    }
}

impl<'c> Route<'c> {
    fn of(command: &'c Cmd) -> Self {
        let mut words = command.args_iter().filter_map(|word| match word {
            Arg::Simple(word) => Some(word),
            _ => None,
        });
        match words.next() {
            Some(b"MGET") => Self::Keys(words.collect()),
            Some(b"SCRIPT" | b"CLIENT") => Self::All,
            // Its text or digest and the number of its keys come first.
            Some(b"EVAL" | b"EVALSHA") => match words.nth(1) {
                Some(b"0") | None => Self::Any,
                Some(_) => words.next().map_or(Self::Any, Self::Key),
            },
            _ => words.next().map_or(Self::Any, Self::Key),
        }
    }
}

/// Returns the error of a command whose primary is not there.
fn away() -> RedisError {
    (ErrorKind::ClusterConnectionNotFound, "the primary is away").into()
}

/// Returns the error of a command over a connection that was lost: others are there.
fn lost(error: RedisError) -> RedisError {
    if error.is_io_error() { away() } else { error }
}

/// Returns the error that ends the link: the primaries are others.
fn other() -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, "the cluster has other primaries").into()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_to_the_primary_of_its_key() {
        for (text, expected) in [
            ("HGET k f", Some("k")),
            ("UNLINK k", Some("k")),
            ("EVALSHA digest 2 k mark a", Some("k")),
            ("EVAL text 1 k", Some("k")),
            ("EVAL text 0", None),
            ("SCRIPT LOAD text", None),
        ] {
            let mut words = text.split(' ');
            let mut command = cmd(words.next().expect("a word"));
            words.for_each(|word| {
                command.arg(word);
            });
            let key = match Route::of(&command) {
                Route::Key(key) => Some(std::str::from_utf8(key).expect("text")),
                Route::Keys(_) | Route::All | Route::Any => None,
            };
            assert_eq!(key, expected, "{text}");
        }
        let mut read = cmd("MGET");
        read.arg("a").arg("b");
        assert!(matches!(Route::of(&read), Route::Keys(keys) if keys == [b"a", b"b"]));
    }
}

//! Imitations of services that speak as Redis does, and not quite: a proxy in front of a real server.
//!
//! Each dialect is what a public page or public source says of the service, and no more. So a result through
//! it is *imitated*: nobody has seen the service itself do the same.

#![allow(dead_code)] // Each test uses a part of it.
#![allow(clippy::disallowed_methods)] // A round trip is of real time.
#![allow(clippy::unwrap_used)]

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use crate::server::pause;

/// Answers of a service, as far as they differ from those of the server behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    /// Fields that its `INFO` lacks.
    pub(crate) without: &'static [&'static str],
    /// Fields of `INFO` that it tells whatever the server's are.
    pub(crate) told: &'static [(&'static str, &'static str)],
    /// Sections that its `INFO` has, if not all. Of another it says no more than the heading.
    pub(crate) sections: Option<&'static [&'static str]>,
    /// Beginnings of commands that it refuses, and its words.
    pub(crate) refused: &'static [(&'static str, &'static str)],
    /// Its words where a script begins with `#!lua flags=…`.
    pub(crate) no_flags: Option<&'static str>,
    pub(crate) round_trip: Duration,
    pub(crate) uptime: Uptime,
}

/// Age of the server, as `INFO` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uptime {
    Real,
    /// Hours, and other ones for each run, so that a test need not wait until a server is of an age. An
    /// invalidation of everything then waits for 10 s.
    Old,
}

/// As it is.
pub(crate) const PLAIN: Dialect = Dialect {
    name: "redis",
    without: &[],
    told: &[],
    sections: None,
    refused: &[],
    no_flags: None,
    round_trip: Duration::ZERO,
    uptime: Uptime::Old,
};

/// A server in the same zone, and one that is far.
pub(crate) const ONE_MS: Dialect =
    Dialect { name: "1 ms away", round_trip: Duration::from_millis(1), ..PLAIN };
pub(crate) const FAR: Dialect =
    Dialect { name: "30 ms away", round_trip: Duration::from_millis(30), ..PLAIN };

/// Dragonfly has no `run_id`: <https://github.com/dragonflydb/dragonfly-operator/issues/385>. It knows
/// other flags of scripts: `ScriptParams::ApplyFlags` in `src/server/script_mgr.cc` of
/// <https://github.com/dragonflydb/dragonfly>.
pub(crate) const DRAGONFLY: Dialect = Dialect {
    name: "Dragonfly",
    without: &["run_id:", "process_id:", "master_replid2:", "second_repl_offset:"],
    refused: &[("FUNCTION", "ERR unknown command `FUNCTION`")],
    no_flags: Some("ERR Invalid flag: allow-oom"),
    ..PLAIN
};

/// KeyDB is of the age of Redis 6: scripts have no flags, which came with Redis 7.0
/// (<https://redis.io/docs/latest/develop/programmability/eval-intro/>, eval flags), and no functions.
pub(crate) const KEYDB: Dialect = Dialect {
    name: "KeyDB",
    refused: &[("FUNCTION", "ERR unknown command `FUNCTION`, with args beginning with: ")],
    no_flags: Some(
        "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'",
    ),
    ..PLAIN
};

/// ElastiCache with nodes: <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ClientConfig.RestrictedCommands.html>.
pub(crate) const ELASTICACHE: Dialect = Dialect {
    name: "ElastiCache",
    refused: &[
        ("CONFIG", "ERR unknown command 'CONFIG', with args beginning with: "),
        ("DEBUG", "ERR unknown command 'DEBUG', with args beginning with: "),
        ("SAVE", "ERR unknown command 'SAVE', with args beginning with: "),
        ("REPLICAOF", "ERR unknown command 'REPLICAOF', with args beginning with: "),
    ],
    ..PLAIN
};

/// Memorystore for Redis: <https://docs.cloud.google.com/memorystore/docs/redis/supported-commands>. Of
/// `CLIENT` it has what the page lists, with `TRACKING`, and without `SETINFO` or `NO-EVICT`.
pub(crate) const MEMORYSTORE: Dialect = Dialect {
    name: "Memorystore",
    refused: &[
        ("CONFIG", "ERR unknown command 'CONFIG', with args beginning with: "),
        ("CLIENT SETINFO", "ERR unknown subcommand 'SETINFO'. Try CLIENT HELP."),
        ("CLIENT NO-EVICT", "ERR unknown subcommand 'NO-EVICT'. Try CLIENT HELP."),
        ("ACL", "ERR unknown command 'ACL', with args beginning with: "),
    ],
    ..PLAIN
};

/// Redis Enterprise, and so Azure Managed Redis, with a database of before 7.4, which has no client-side
/// caching: <https://redis.io/docs/latest/operate/rs/7.8/references/compatibility/>.
pub(crate) const ENTERPRISE: Dialect = Dialect {
    name: "Azure Managed Redis",
    refused: &[
        ("CLIENT TRACKING", "ERR unknown subcommand 'TRACKING'. Try CLIENT HELP."),
        ("CONFIG", "ERR unknown command 'CONFIG', with args beginning with: "),
    ],
    ..PLAIN
};

/// Upstash: of `INFO` it has the sections that
/// <https://upstash.com/docs/redis/commands/server/info> lists, so nothing about replication, and no
/// `CLIENT TRACKING` is among <https://upstash.com/docs/redis/overall/rediscompatibility>.
pub(crate) const UPSTASH: Dialect = Dialect {
    name: "Upstash",
    without: &["run_id:"],
    sections: Some(&["server", "clients", "memory", "stats", "cluster", "keyspace"]),
    refused: &[("CLIENT TRACKING", "ERR Unsupported CLIENT subcommand: TRACKING")],
    ..PLAIN
};

/// TencentDB has neither RESP3 nor client-side caching:
/// <https://www.tencentcloud.com/document/product/239/77219>.
pub(crate) const TENCENT: Dialect = Dialect {
    name: "TencentDB",
    refused: &[
        ("HELLO", "NOPROTO unsupported protocol version"),
        ("CLIENT TRACKING", "ERR unknown subcommand 'TRACKING'. Try CLIENT HELP."),
    ],
    ..PLAIN
};

/// Garnet as it starts: no Lua (`CheckLuaEnabled` in `libs/server/Lua/LuaCommands.cs` of
/// <https://github.com/microsoft/garnet>), and no client-side caching
/// (<https://microsoft.github.io/garnet/docs/commands/api-compatibility>).
pub(crate) const GARNET: Dialect = Dialect {
    name: "Garnet",
    refused: &[
        ("EVAL", "ERR This instance has Lua scripting support disabled"),
        ("EVALSHA", "ERR This instance has Lua scripting support disabled"),
        ("SCRIPT", "ERR This instance has Lua scripting support disabled"),
        ("CLIENT TRACKING", "ERR unknown command"),
    ],
    ..PLAIN
};

/// Every service that is imitated, except for those that store nothing for us.
pub(crate) const ALL: &[Dialect] =
    &[ONE_MS, FAR, DRAGONFLY, KEYDB, ELASTICACHE, MEMORYSTORE, ENTERPRISE, TENCENT];

/// A server that is imitated, on a free port. Dropped, it refuses new connections.
pub(crate) struct Imitation {
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Imitation {
    pub(crate) async fn of(server: u16, dialect: Dialect) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, dialect));
            }
        });
        Self { port, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Imitation {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Reply that a command awaits.
enum Awaited {
    /// As the server gives it.
    Plain,
    /// The server's, without some fields.
    Info { is_heading_alone: bool },
    /// Without asking the server.
    Given(Vec<u8>),
}

async fn carry(client: TcpStream, server: u16, dialect: Dialect) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (await_reply, awaited) = unbounded_channel();
    let (send, sent) = unbounded_channel();
    // The first that ends cuts the others' connections.
    tokio::select! {
        ended = ask(Frames::of(from_client), to_server, dialect, await_reply) => ended,
        ended = answer(Frames::of(from_server), dialect, awaited, send) => ended,
        ended = deliver(sent, to_client, dialect.round_trip) => ended,
    }
}

/// Passes commands on, except for those that the service refuses.
async fn ask(
    mut commands: Frames,
    mut server: OwnedWriteHalf,
    dialect: Dialect,
    awaited: UnboundedSender<Awaited>,
) -> io::Result<()> {
    loop {
        let command = commands.next().await?;
        let words = words_of(&command);
        let reply = dialect.reply_to(&words);
        let is_passed_on = !matches!(reply, Awaited::Given(_));
        // First: the reply may be here at once.
        awaited.send(reply).map_err(io::Error::other)?;
        if is_passed_on {
            server.write_all(&command).await?;
        }
    }
}

/// Gives the replies in the order of their commands.
async fn answer(
    mut replies: Frames,
    dialect: Dialect,
    mut awaited: UnboundedReceiver<Awaited>,
    client: UnboundedSender<(Instant, Vec<u8>)>,
) -> io::Result<()> {
    let give = |bytes| client.send((Instant::now(), bytes)).map_err(io::Error::other);
    let mut first = None;
    loop {
        tokio::select! {
            next = awaited.recv(), if first.is_none() => match next {
                Some(Awaited::Given(bytes)) => give(bytes)?,
                Some(next) => first = Some(next),
                None => return Ok(()),
            },
            reply = replies.next() => {
                let reply = reply?;
                // A message is no reply.
                if reply[0] == b'>' {
                    give(reply)?;
                    continue;
                }
                while first.is_none() {
                    match awaited.recv().await {
                        Some(Awaited::Given(bytes)) => give(bytes)?,
                        Some(next) => first = Some(next),
                        None => return Ok(()),
                    }
                }
                give(match first.take() {
                    Some(Awaited::Info { is_heading_alone }) => dialect.info(&reply, is_heading_alone),
                    _ => reply,
                })?;
            }
        }
    }
}

/// Gives each reply once a round trip has passed.
async fn deliver(
    mut replies: UnboundedReceiver<(Instant, Vec<u8>)>,
    mut client: OwnedWriteHalf,
    round_trip: Duration,
) -> io::Result<()> {
    while let Some((since, bytes)) = replies.recv().await {
        if !round_trip.is_zero() {
            pause(round_trip.saturating_sub(since.elapsed())).await;
        }
        client.write_all(&bytes).await?;
    }
    Ok(())
}

impl Dialect {
    fn reply_to(&self, words: &[&[u8]]) -> Awaited {
        let text = |place: usize| words.get(place).map(|word| String::from_utf8_lossy(word));
        let upper = |place: usize| text(place).unwrap_or_default().to_uppercase();
        let (name, second) = (upper(0), upper(1));
        let is_refused = |(command, _): &&(&str, &str)| match command.split_once(' ') {
            Some((first, rest)) => name == first && second == rest,
            None => name == *command,
        };
        let script = match (&*name, &*second) {
            ("EVAL", _) => text(1),
            ("SCRIPT", "LOAD") => text(2),
            _ => None,
        };
        let no_flags = self.no_flags.filter(|_| script.is_some_and(|text| text.starts_with("#!")));
        let refused = self.refused.iter().find(is_refused).map(|(_, problem)| *problem);
        match refused.or(no_flags) {
            Some(problem) => Awaited::Given(format!("-{problem}\r\n").into_bytes()),
            None if name == "INFO" => {
                let section = second.to_lowercase();
                let has = |sections: &[&str]| sections.contains(&&*section) || section.is_empty();
                Awaited::Info { is_heading_alone: !self.sections.is_none_or(has) }
            }
            None => Awaited::Plain,
        }
    }

    /// Leaves out of a reply to `INFO` what the service leaves out.
    fn info(&self, reply: &[u8], is_heading_alone: bool) -> Vec<u8> {
        let text = String::from_utf8_lossy(reply);
        // Of a bulk string, and of a verbatim one.
        let Some((_, text)) = text.split_once("\r\n") else { return reply.to_vec() };
        let text = text.strip_prefix("txt:").unwrap_or(text).trim_end();
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let age = value("run_id:").map(|run| {
            let mut hasher = DefaultHasher::new();
            run.hash(&mut hasher);
            3600 + hasher.finish() % 360_000
        });
        let kept = text.lines().filter(|line| {
            let is_heading = line.starts_with('#');
            is_heading
                || !is_heading_alone && !self.without.iter().any(|field| line.starts_with(field))
        });
        let told = kept.map(|line| match (line.strip_prefix("uptime_in_seconds:"), age) {
            _ if self.told.iter().any(|(field, _)| line.starts_with(field)) => {
                let (field, value) =
                    self.told.iter().find(|(field, _)| line.starts_with(field)).unwrap();
                format!("{field}{value}\r\n")
            }
            (Some(real), Some(age)) if self.uptime == Uptime::Old => {
                format!("uptime_in_seconds:{}\r\n", age + real.parse::<u64>().unwrap_or(0))
            }
            _ => format!("{line}\r\n"),
        });
        let told: String = told.collect();
        format!("${}\r\n{told}\r\n", told.len()).into_bytes()
    }
}

// ===== the protocol =====

/// Frames of the protocol, one by one.
struct Frames {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Frames {
    fn of(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Returns the next. Dropped, it loses nothing.
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = end_of(&self.buffer, 0) {
                let rest = self.buffer.split_off(end);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Returns the end of the frame that begins at a place, if it is here.
fn end_of(bytes: &[u8], at: usize) -> Option<usize> {
    let (kind, number, mut end) = head_of(bytes, at)?;
    match kind {
        b'$' | b'=' | b'!' if number >= 0 => {
            end += usize::try_from(number).ok()? + 2;
            (bytes.len() >= end).then_some(end)
        }
        b'*' | b'~' | b'>' | b'%' => {
            let count = if kind == b'%' { 2 * number } else { number };
            for _ in 0..count {
                end = end_of(bytes, end)?;
            }
            Some(end)
        }
        _ => Some(end),
    }
}

/// Returns the kind and the number of a frame's first line, and its end.
fn head_of(bytes: &[u8], at: usize) -> Option<(u8, i64, usize)> {
    let line = bytes.get(at..)?;
    let length = line.windows(2).position(|two| two == b"\r\n")?;
    let number = std::str::from_utf8(&line[1..length]).ok().and_then(|text| text.parse().ok());
    Some((line[0], number.unwrap_or(0), at + length + 2))
}

/// Returns the words of a command.
fn words_of(command: &[u8]) -> Vec<&[u8]> {
    let Some((b'*', count, mut at)) = head_of(command, 0) else { return Vec::new() };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some((_, length, from)) = head_of(command, at) else { break };
        at = from + length as usize + 2;
        words.push(&command[from..at - 2]);
    }
    words
}

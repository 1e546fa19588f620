//! Scripts that run at the server.

use std::sync::LazyLock;

use futures_util::future::try_join_all;
use redis::{
    Cmd, ErrorKind, RedisError, Script as Source, ServerErrorKind, ToRedisArgs, Value, cmd,
};

use super::transport::Transport;
use crate::metrics::capability::{Capabilities, Capability};

/// Script, which the server knows by its digest.
pub(crate) struct Script {
    code: &'static str,
    digest: String,
    /// The same without flags, if it has any.
    plain: Option<Box<Self>>,
}

pub(crate) static LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lease.lua")));
pub(crate) static COMMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/commit.lua")));
pub(super) static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/release.lua")));
pub(super) static SOFT_INVALIDATE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/soft_invalidate.lua")));
pub(super) static UNSETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/unsettle.lua")));
pub(crate) static TAG_VERSIONS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/tag_versions.lua")));
pub(crate) static SHARE_CALLS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/share_calls.lua")));
pub(super) static RENEW_TAG_VERSION: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/renew_tag_version.lua")));

pub(super) static PLANT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/plant.lua")));
pub(super) static ENTER: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/enter.lua")));
pub(super) static BEGIN_EPOCH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/begin_epoch.lua")));

/// Script that a server takes only if it knows the flags of scripts.
const FLAGGED: &str = "#!lua flags=allow-oom\nreturn 1";

/// Returns whether a server takes scripts with flags.
pub(super) async fn takes_flags(transport: &Transport) -> bool {
    let mut probe = cmd("EVAL");
    probe.arg(FLAGGED).arg(0);
    probe.query_async::<Value>(&mut transport.clone()).await.is_ok()
}

/// Loads the scripts. A server that forbids it learns them with their first calls.
pub(super) async fn load(
    transport: &Transport,
    capabilities: &Capabilities,
) -> Result<(), RedisError> {
    let loads = all().map(|script| async move {
        let load = script.fit_for(capabilities).load();
        load.query_async::<Value>(&mut transport.clone()).await.map(drop)
    });
    // They are sent at once.
    try_join_all(loads).await.map(drop)
}

/// Returns every script that requests call.
fn all() -> [&'static Script; 8] {
    [
        &LEASE,
        &COMMIT,
        &RELEASE,
        &SOFT_INVALIDATE,
        &UNSETTLE,
        &TAG_VERSIONS,
        &RENEW_TAG_VERSION,
        &SHARE_CALLS,
    ]
}

impl Script {
    fn new(code: &'static str) -> Self {
        let plain = code.strip_prefix("#!").and_then(|rest| rest.split_once('\n'));
        let plain = plain.map(|(_, plain)| Box::new(Self::new(plain)));
        Self { code, digest: Source::new(code).get_hash().to_owned(), plain }
    }

    /// Returns the script as a server takes it. Without flags it writes nothing while the server is full.
    pub(super) fn fit_for(&self, capabilities: &Capabilities) -> &Self {
        match &self.plain {
            Some(plain) if !capabilities.contains(&Capability::ScriptFlags) => plain,
            _ => self,
        }
    }

    /// Calls the script on a key.
    pub(crate) async fn call(
        &self,
        transport: &mut Transport,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        self.call_on(transport, &[key], arguments).await
    }

    /// Calls the script on several keys: by its digest, and where the server does not know that by its text.
    pub(crate) async fn call_on(
        &self,
        transport: &mut Transport,
        keys: &[impl ToRedisArgs],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        let call = called("EVALSHA", &self.digest, keys, &arguments);
        match call.query_async(transport).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send_on(transport, keys, arguments).await
            }
            reply => reply,
        }
    }

    /// Calls the script on several keys by its text, where the round trip that may be saved matters more
    /// than the bytes.
    pub(super) async fn send_on(
        &self,
        transport: &mut Transport,
        keys: &[impl ToRedisArgs],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        called("EVAL", self.code, keys, arguments).query_async(transport).await
    }

    /// Returns the command that makes the script known to the server.
    fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}

fn called(
    command: &str,
    script: &str,
    keys: &[impl ToRedisArgs],
    arguments: impl Fn(&mut Cmd),
) -> Cmd {
    let mut call = cmd(command);
    call.arg(script).arg(keys.len()).arg(keys);
    arguments(&mut call);
    call
}

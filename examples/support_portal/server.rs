//! The Redis that several processes of the portal share: what is stored, what is changed in the CRM,
//! and who is there.

use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisResult, cmd};
use serde_json::{Value, json};
use tower_support_cache::{ConfigError, RedisStore};

use crate::crm::Change;

/// A list of all changes. A real CRM is one for all without it.
const CHANGES: &str = "support_portal:crm";
const PROCESSES: &str = "support_portal:processes";
/// A process that has not announced itself for this long is gone.
const SECONDS: u64 = 2;

#[derive(Clone)]
pub(crate) struct Server {
    url: String,
    client: Client,
}

impl Server {
    pub(crate) fn at(url: String) -> RedisResult<Self> {
        Ok(Self { client: Client::open(&*url)?, url })
    }

    pub(crate) fn store(&self) -> Result<RedisStore, ConfigError> {
        RedisStore::connect(&*self.url)
    }

    /// Adds a change, and returns how many there are with it.
    pub(crate) async fn add(&self, change: &Change) -> RedisResult<usize> {
        self.ask(cmd("RPUSH").arg(CHANGES).arg(change.to_json().to_string())).await
    }

    /// Returns the changes after the first `known` ones.
    pub(crate) async fn changes_after(&self, known: usize) -> RedisResult<Vec<Change>> {
        let texts: Vec<String> = self.ask(cmd("LRANGE").arg(CHANGES).arg(known).arg(-1)).await?;
        let changes = texts.iter().filter_map(|text| Change::of(&serde_json::from_str(text).ok()?));
        Ok(changes.collect())
    }

    /// Announces this process under its name, and returns what the others have announced.
    pub(crate) async fn announce(&self, own: &str, state: &Value) -> RedisResult<Vec<Value>> {
        let mut connection = self.client.get_multiplexed_async_connection().await?;
        let key = |name: &str| format!("{PROCESSES}:{name}");
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(key(own)).arg(state.to_string()).arg("EX").arg(SECONDS).ignore();
        pipeline.cmd("SADD").arg(PROCESSES).arg(own).ignore().cmd("SMEMBERS").arg(PROCESSES);
        let (mut names,): (Vec<String>,) = pipeline.query_async(&mut connection).await?;
        names.retain(|name| name != own);
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        let texts: Vec<Option<String>> = cmd("MGET").arg(keys).query_async(&mut connection).await?;
        let mut others = Vec::new();
        for (name, text) in names.iter().zip(texts) {
            match text {
                Some(text) => others.extend(serde_json::from_str::<Value>(&text)),
                None => cmd("SREM").arg(PROCESSES).arg(name).query_async(&mut connection).await?,
            }
        }
        Ok(others)
    }

    /// Over a connection of its own: next to the CRM's own time it costs nothing.
    async fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> RedisResult<T> {
        command.query_async(&mut self.client.get_multiplexed_async_connection().await?).await
    }
}

impl Change {
    fn to_json(&self) -> Value {
        match self {
            Self::Case { account, subject, text } => {
                json!({ "account": account, "subject": subject, "text": text })
            }
            Self::Comment { account, case, text } => {
                json!({ "account": account, "case": case, "text": text })
            }
        }
    }

    fn of(json: &Value) -> Option<Self> {
        let field = |name: &str| Some(json.get(name)?.as_str()?.to_owned());
        let (account, text) = (field("account")?, field("text")?);
        Some(match field("case") {
            Some(case) => Self::Comment { account, case, text },
            None => Self::Case { account, subject: field("subject")?, text },
        })
    }
}

//! Where several processes of the portal keep what is changed in the CRM: a list in their Redis.
//!
//! A real CRM is one for all without this.

use redis::{Client, Cmd, FromRedisValue, RedisResult, cmd};
use serde_json::{Value, json};

const KEY: &str = "support_portal:crm";

pub(crate) struct Ledger(Client);

#[derive(Debug)]
pub(crate) enum Change {
    Case { account: String, subject: String, text: String },
    Comment { account: String, case: String, text: String },
}

impl Ledger {
    pub(crate) fn at(url: &str) -> RedisResult<Self> {
        Ok(Self(Client::open(url)?))
    }

    /// Adds a change, and returns how many there are with it.
    pub(crate) async fn add(&self, change: &Change) -> RedisResult<usize> {
        self.ask(cmd("RPUSH").arg(KEY).arg(change.to_json().to_string())).await
    }

    /// Returns the changes after the first `known` ones.
    pub(crate) async fn after(&self, known: usize) -> RedisResult<Vec<Change>> {
        let texts: Vec<String> = self.ask(cmd("LRANGE").arg(KEY).arg(known).arg(-1)).await?;
        let changes = texts.iter().filter_map(|text| Change::of(&serde_json::from_str(text).ok()?));
        Ok(changes.collect())
    }

    /// Over a connection of its own: next to the CRM's own time it costs nothing.
    async fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> RedisResult<T> {
        command.query_async(&mut self.0.get_multiplexed_async_connection().await?).await
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

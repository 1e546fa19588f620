//! The client crate's own commands for the bytes of a hit: what a layer over Redis cannot go below.

use std::{hint::black_box, sync::Arc};

use futures_util::future::BoxFuture;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, Value, aio::MultiplexedConnection};

use crate::{
    columns::{Column, Keeps},
    ours,
    site::{AnySite, Plan, Seen, Site, Wish},
};

/// Its case stands for all: what a key is does not matter here.
const NUMBER: u32 = 100_000;

/// `GET` of a string as long as our record.
pub struct Get;

impl Column for Get {
    const NAME: &'static str = "raw-GET";
    const KEEPS: Keeps = Keeps::RawRedis;
    const SAFETY: &'static str = "";

    async fn build(plan: Plan) -> AnySite {
        let mut connection = connection(plan.redis()).await;
        let (_, record) = record(&plan, &mut connection).await;
        let mut set = redis::cmd("SET");
        set.arg("record").arg(record);
        set.query_async::<Value>(&mut connection).await.expect("the server stores it");
        Arc::new(Command { connection, words: ["GET", "record"].map(str::to_owned).into() })
    }
}

/// `HGET` of our record: what our hit asks of what it has not read before.
pub struct Hget;

impl Column for Hget {
    const NAME: &'static str = "raw-HGET";
    const KEEPS: Keeps = Keeps::RawRedis;
    const SAFETY: &'static str = "";

    async fn build(plan: Plan) -> AnySite {
        let mut connection = connection(plan.redis()).await;
        let (field, _) = record(&plan, &mut connection).await;
        Arc::new(Command { connection, words: ["HGET", &key(), &field].map(str::to_owned).into() })
    }
}

/// `HMGET` of our record and of two fields beside it, as other caches read.
pub struct Hmget;

impl Column for Hmget {
    const NAME: &'static str = "raw-HMGET";
    const KEEPS: Keeps = Keeps::RawRedis;
    const SAFETY: &'static str = "";

    async fn build(plan: Plan) -> AnySite {
        let mut connection = connection(plan.redis()).await;
        let (field, _) = record(&plan, &mut connection).await;
        let (key, lease) = (key(), field.replacen('v', "l", 1));
        let words = ["HMGET", &key, "g", &field, &lease].map(str::to_owned);
        Arc::new(Command { connection, words: words.into() })
    }
}

fn key() -> String {
    format!("case:{NUMBER}")
}

/// Has our cache store the response, and returns the field that it is in, and its record.
async fn record(plan: &Plan, connection: &mut MultiplexedConnection) -> (String, Vec<u8>) {
    let site = ours::OnRedis::build(plan.clone()).await;
    site.run(&Wish::get(), &[NUMBER, NUMBER]).await;
    let mut all = redis::cmd("HGETALL");
    let fields = all.arg(key()).query_async::<Vec<(String, Vec<u8>)>>(connection).await;
    let fields = fields.expect("the server answers");
    fields.into_iter().find(|(field, _)| !field.ends_with('n')).expect("it is stored")
}

/// As the crate makes it, but for the protocol, which is our store's.
async fn connection(url: &str) -> MultiplexedConnection {
    let info = redis::IntoConnectionInfo::into_connection_info(url).expect("an address");
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp));
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(crate::server::PATIENCE))
        .set_connection_timeout(Some(crate::server::PATIENCE));
    let client = client.expect("an address");
    client.get_multiplexed_async_connection_with_config(&config).await.expect("it is there")
}

struct Command {
    connection: MultiplexedConnection,
    words: Arc<[String]>,
}

impl Site for Command {
    fn run<'a>(&'a self, _: &'a Wish, numbers: &'a [u32]) -> BoxFuture<'a, ()> {
        let mut connection = self.connection.clone();
        Box::pin(async move {
            for _ in numbers {
                // Made anew, as whoever asks for different keys has to.
                let mut asked = redis::cmd(&self.words[0]);
                for word in &self.words[1..] {
                    asked.arg(word);
                }
                let answer = asked.query_async::<Value>(&mut connection).await;
                black_box(answer.expect("the server answers"));
            }
        })
    }

    fn ask(&self, _: Wish, _: u32) -> BoxFuture<'static, Result<Seen, String>> {
        Box::pin(async { Err("it is no service".to_owned()) })
    }

    fn stream<'a>(&'a self, _: u32, _: &'a mut (dyn FnMut(usize) + Send)) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn invalidate(&self, _: u32) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

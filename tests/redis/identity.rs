//! Identity of a server that has no `run_id`, as several services have none.

use tower_support_cache::{RedisStoreBuilder, ServerIdentity};

use crate::{
    Site,
    dialect::{DRAGONFLY, Dialect, Imitation, UPSTASH, Uptime},
    far, patient,
    proxy::Proxy,
    refuses,
    server::{Disk, PATIENCE, Server, until},
};

/// Dragonfly, if its `master_replid` outlived a restart, as that of Redis 7 does in a dump.
const SAME_REPLICATION: Dialect = Dialect {
    told: &[("master_replid:", "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb")],
    ..DRAGONFLY
};

/// Name of the token's key.
const TOKEN: &str = "tower-support-cache:identity";

fn accepting(builder: RedisStoreBuilder) -> RedisStoreBuilder {
    builder.server_identity(ServerIdentity::TokenAlone)
}

/// Asserts that a store takes its server for none, and is a bypass.
async fn is_refused(server: &Server, builder: RedisStoreBuilder) {
    let mut site = Site::lazy(builder.build().unwrap(), |route| route);
    refuses(server, async || {
        let read = site.read("origin").await;
        assert_eq!((read.text(), read.is_hit()), ("origin", false));
    })
    .await;
    assert!(site.handle.invalidate("case:1").await.is_err() && !site.store().is_linked);
}

#[tokio::test]
async fn processes_agree_on_a_server_without_a_run_id() {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, DRAGONFLY).await;
    let (mut site, mut other) =
        (Site::on(&imitation.url()).await, Site::on(&imitation.url()).await);
    site.fill("old").await;
    other.hits("old").await;
    other.handle.invalidate("case:1").await.unwrap();
    site.fill("new").await;
    other.hits("new").await;
    assert_eq!(site.store().links_lost + other.store().links_lost, 0);
}

/// A dump brings the token back, the record, and what was invalidated since.
#[tokio::test]
async fn a_restored_dump_is_noticed_without_a_run_id() {
    for dialect in [DRAGONFLY, SAME_REPLICATION] {
        let mut server = Server::start().await;
        let imitation = Imitation::of(server.port, dialect).await;
        let mut site = Site::prompt(&imitation.url()).await;
        site.fill("old").await;
        server.save().await;
        site.handle.invalidate("case:1").await.unwrap();
        server.kill();
        server.restart(Disk::Kept).await;
        assert_eq!(server.command::<u64>(&["EXISTS", "case:1", TOKEN]).await, 2, "they are back");
        site.fill("new").await;
        Site::on(&imitation.url()).await.hits("new").await;
    }
}

/// A replica has the token of its primary, and may lack its latest invalidations.
#[tokio::test]
async fn a_promoted_replica_is_noticed_without_a_run_id() {
    let (mut primary, replica) = (Server::start().await, Server::start().await);
    let replication = Proxy::to(primary.port).await;
    replica.follow(replication.port).await;
    let imitations = [
        Imitation::of(primary.port, DRAGONFLY).await,
        Imitation::of(replica.port, DRAGONFLY).await,
    ];
    let link = Proxy::to(imitations[0].port).await;
    let mut site = Site::prompt(&link.url()).await;
    site.fill("old").await;
    until(PATIENCE, "the replica has both", async || {
        (replica.command::<u64>(&["EXISTS", "case:1", TOKEN]).await == 2).then_some(())
    })
    .await;
    replication.freeze();
    site.handle.invalidate("case:1").await.unwrap();
    primary.kill();
    replica.promote().await;
    link.lead_to(imitations[1].port);
    link.cut();
    site.fill("new").await;
    Site::on(&link.url()).await.hits("new").await;
}

/// Its next run could begin within the tolerance of its start.
#[tokio::test]
async fn a_server_without_a_run_id_is_not_used_at_once_after_its_start() {
    let server = Server::start().await;
    let young = Dialect { uptime: Uptime::Real, ..DRAGONFLY };
    let imitation = Imitation::of(server.port, young).await;
    is_refused(&server, far(&imitation.url())).await;
    assert_eq!(server.command::<u64>(&["EXISTS", TOKEN]).await, 0);
}

#[tokio::test]
async fn a_server_that_does_not_say_who_it_is_is_refused_unless_that_is_accepted_by_name() {
    let mut server = Server::start().await;
    // It says that it is a primary, and not which.
    let nameless = Dialect { without: &["run_id:", "master_replid:"], ..DRAGONFLY };
    is_refused(&server, far(&Imitation::of(server.port, nameless).await.url())).await;
    let imitation = Imitation::of(server.port, UPSTASH).await;
    is_refused(&server, far(&imitation.url())).await;
    let site = async || Site::over(accepting(patient(&imitation.url())).build().unwrap()).await;
    let (mut one, mut other) = (site().await, site().await);
    one.fill("old").await;
    other.hits("old").await;
    other.handle.invalidate("case:1").await.unwrap();
    one.fill("new").await;
    // Its age is all that it tells, and enough to notice this.
    server.save().await;
    other.handle.invalidate("case:1").await.unwrap();
    server.kill();
    server.restart(Disk::Kept).await;
    one.fill("newest").await;
}

/// This is what the docs of `ServerIdentity::TokenAlone` say that it breaks.
#[tokio::test]
async fn a_token_alone_does_not_see_a_restored_dump() {
    let mut server = Server::start().await;
    let silent = Dialect { sections: Some(&[]), ..UPSTASH };
    let imitation = Imitation::of(server.port, silent).await;
    let site = async || Site::over(accepting(patient(&imitation.url())).build().unwrap()).await;
    let mut one = site().await;
    one.fill("old").await;
    server.save().await;
    one.handle.invalidate("case:1").await.unwrap();
    server.kill();
    server.restart(Disk::Kept).await;
    site().await.hits("old").await;
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_info_is_served_by_a_token_where_that_is_accepted() {
    let server = Server::start().await;
    server.run(&["ACL", "SETUSER", "default", "-info"]).await;
    let mut site = Site::over(accepting(patient(&server.url())).build().unwrap()).await;
    site.fill("one").await;
    site.hits("one").await;
}

/// Removed, evicted, or replaced by something else.
#[tokio::test]
async fn a_token_that_is_lost_takes_everything_along() {
    let server = Server::start().await;
    let imitation = Imitation::of(server.port, DRAGONFLY).await;
    let mut site = Site::on(&imitation.url()).await;
    for words in
        [&["DEL", TOKEN][..], &["SET", TOKEN, "0123456789abcdef x@1"], &["LPUSH", TOKEN, "1"]]
    {
        site.fill("old").await;
        let lost = site.store().links_lost;
        if words[0] == "LPUSH" {
            server.run(&["DEL", TOKEN]).await;
        }
        server.run(words).await;
        until(PATIENCE, "it is noticed", async || (site.store().links_lost > lost).then_some(()))
            .await;
        site.is_linked_again().await;
        site.fill("new").await;
        site.handle.invalidate("case:1").await.unwrap();
    }
}

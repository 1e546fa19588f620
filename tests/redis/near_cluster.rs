//! Near cache over a cluster: a copy answers while the primaries of its key, of its tags and of the epoch are
//! proven, and each is proven by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tower_support_cache::{CacheRoute, Capability, RedisStore};

use crate::{
    HEARTBEAT, HEARTBEAT_TIMEOUT, Site,
    cluster::{Cluster, PRIMARIES},
    server::{PATIENCE, until},
    support::{GatedBody, TTL, get, got, response, send},
};

const EPOCH: &str = "tower-support-cache:epoch";

/// A cluster, and names for each of its primaries.
struct Field {
    cluster: Cluster,
    /// Primary that has the epoch, and two others.
    epoch: usize,
    a: usize,
    b: usize,
}

impl Field {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let epoch = cluster.owner(EPOCH).await;
        let [a, b] = [1, 2].map(|step| (epoch + step) % PRIMARIES);
        Self { cluster, epoch, a, b }
    }

    /// Returns a case whose key is at a primary, and another one than those before.
    async fn case_at(&self, node: usize, skipped: usize) -> String {
        let mut skipped = skipped;
        for case in 1.. {
            if self.cluster.owner(&format!("case:{case}")).await == node {
                if skipped == 0 {
                    return case.to_string();
                }
                skipped -= 1;
            }
        }
        unreachable!("there are cases enough")
    }

    /// Returns a tag whose version is at a primary.
    async fn tag_at(&self, node: usize) -> String {
        for number in 0.. {
            let tag = format!("t{number}");
            if self.cluster.owner(&format!("tower-support-cache:tag:{tag}")).await == node {
                return tag;
            }
        }
        unreachable!("there are names enough")
    }

    /// Returns a site with a near cache, whose responses have a tag.
    async fn site(&self, tag: &str) -> Site {
        let store = RedisStore::cluster(self.cluster.urls())
            .near_cache_capacity(1024 * 1024)
            .near_cache_limit(TTL)
            .lookup_budget(PATIENCE)
            .invalidate_budget(PATIENCE)
            .heartbeat(HEARTBEAT)
            .heartbeat_timeout(Duration::from_millis(800));
        let route = |route: CacheRoute| if tag.is_empty() { route } else { route.tag(tag) };
        Site::lazy(store.build().unwrap(), route).linked().await
    }
}

impl Site {
    async fn read_case(&mut self, case: &str, body: &'static str) -> String {
        let read = self.ask(get(&format!("/cases/{case}")), body).await;
        read.text().to_owned()
    }

    /// Reads until a near copy answers, which every response must be equal to.
    async fn has_near_case(&mut self, case: &str, body: &'static str) {
        until(PATIENCE, "a copy is in the near cache", async || {
            let before = self.store().near.hits;
            assert_eq!(self.read_case(case, body).await, body);
            (self.store().near.hits > before).then_some(())
        })
        .await;
    }

    /// Reads until the origin is asked, or another site's response found.
    async fn sees_case(&mut self, case: &str, body: &'static str) {
        until(PATIENCE, "the message is here", async || {
            (self.read_case(case, body).await == body).then_some(())
        })
        .await;
    }

    /// Asserts that a near copy answers.
    async fn is_near_case(&mut self, case: &str, body: &str) {
        let before = self.store().near.hits;
        assert_eq!(self.read_case(case, "not asked").await, body);
        assert_eq!(self.store().near.hits, before + 1, "it asks nobody");
    }

    async fn is_proven(&self, expected: bool) {
        until(PATIENCE, "the near cache is proven, or is not", async || {
            (self.store().near.is_proven == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_copy_answers_unasked_and_a_change_elsewhere_at_any_primary_voids_it() {
    let field = Field::new().await;
    let tag = field.tag_at(field.b).await;
    let (mut site, mut other) = (field.site(&tag).await, field.site(&tag).await);
    assert!(site.store().capabilities.contains(&Capability::Tracking));
    for node in [field.epoch, field.a, field.b] {
        let case = field.case_at(node, 0).await;
        site.has_near_case(&case, "one").await;
        site.is_near_case(&case, "one").await;
        // By its key, by a program that knows nothing of the cache.
        field.cluster.nodes[node].run(&["DEL", &format!("case:{case}")]).await;
        site.sees_case(&case, "two").await;
        site.has_near_case(&case, "two").await;
        // By its key, by another process.
        other.handle.invalidate(format!("case:{case}")).await.unwrap();
        site.sees_case(&case, "three").await;
        site.has_near_case(&case, "three").await;
        // By its tag, at another primary.
        other.handle.invalidate_tag(&tag).await.unwrap();
        site.sees_case(&case, "four").await;
        site.has_near_case(&case, "four").await;
        assert_eq!(other.read_case(&case, "not asked").await, "four");
        // And with everything.
        other.handle.invalidate_all().await.unwrap();
        assert_eq!(site.read_case(&case, "five").await, "five", "acknowledged: each process knows");
        site.handle.invalidate(format!("case:{case}")).await.unwrap();
        assert_eq!(site.read_case(&case, "six").await, "six", "its own, at once");
    }
}

#[tokio::test]
async fn a_primary_that_is_silent_or_cut_off_silences_only_what_depends_on_it() {
    let field = Field::new().await;
    let tag = field.tag_at(field.a).await;
    let (mut site, mut tagged) = (field.site("").await, field.site(&tag).await);
    let at_a = field.case_at(field.a, 0).await;
    let [at_b, at_b_tagged] = [field.case_at(field.b, 0).await, field.case_at(field.b, 1).await];
    site.has_near_case(&at_a, "a").await;
    site.has_near_case(&at_b, "b").await;
    tagged.has_near_case(&at_b_tagged, "tagged").await;

    field.cluster.proxies[field.a].freeze();
    field.cluster.nodes[field.a].run(&["DEL", &format!("case:{at_a}")]).await;
    site.is_proven(false).await;
    tagged.is_proven(false).await;
    assert_eq!(site.read_case(&at_a, "new").await, "new");
    assert_eq!(tagged.read_case(&at_b_tagged, "new").await, "new");
    for _ in 0..3 {
        site.is_near_case(&at_b, "b").await;
    }
    assert_eq!(site.store().links_lost, 0, "the link is whole but for one connection");
    field.cluster.proxies[field.a].thaw();
    site.is_proven(true).await;
    site.has_near_case(&at_a, "newest").await;
    site.is_near_case(&at_b, "b").await;

    let silenced = site.store().near.silenced;
    field.cluster.proxies[field.a].cut();
    until(PATIENCE, "it is noticed", async || {
        site.is_near_case(&at_b, "b").await;
        (site.store().near.silenced > silenced).then_some(())
    })
    .await;
    site.is_proven(true).await;
    site.has_near_case(&at_a, "newest").await;
    field.cluster.nodes[field.a].run(&["DEL", &format!("case:{at_a}")]).await;
    site.sees_case(&at_a, "last").await;
    assert_eq!(site.store().links_lost, 0);
}

/// The one that takes its place has not seen the last invalidations.
#[tokio::test]
async fn a_failover_voids_the_records_there_and_every_record_with_a_tag_there() {
    let mut field = Field::new().await;
    let tag = field.tag_at(field.a).await;
    let (mut plain, mut tagged) = (field.site("").await, field.site(&tag).await);
    let [at_a, at_b] = [field.case_at(field.a, 0).await, field.case_at(field.b, 0).await];
    plain.has_near_case(&at_a, "old").await;
    tagged.has_near_case(&at_b, "old").await;
    let replica = field.a + PRIMARIES;
    let offset =
        async |node: usize, name: &str| field.cluster.nodes[node].info("replication", name).await;
    until(PATIENCE, "the replica is in step", async || {
        let sent = offset(field.a, "master_repl_offset").await;
        (offset(replica, "slave_repl_offset").await == sent).then_some(())
    })
    .await;
    field.cluster.proxies[field.a].freeze();
    for key in [format!("case:{at_a}"), format!("tower-support-cache:tag:{tag}")] {
        field.cluster.nodes[field.a].run(&["DEL", &key]).await;
    }
    let lost = [plain.store().links_lost, tagged.store().links_lost];
    field.cluster.nodes[field.a].kill();
    field.cluster.is_promoted(replica).await;
    until(PATIENCE, "the old link is lost", async || {
        let now = [plain.store().links_lost, tagged.store().links_lost];
        (now[0] > lost[0] && now[1] > lost[1]).then_some(())
    })
    .await;
    plain.is_proven(true).await;
    tagged.is_proven(true).await;
    let record: u64 =
        field.cluster.nodes[replica].command(&["EXISTS", &format!("case:{at_a}")]).await;
    assert_eq!(record, 1, "the record is back");
    assert_eq!(plain.read_case(&at_a, "new").await, "new");
    assert_eq!(tagged.read_case(&at_b, "new").await, "new");
    plain.has_near_case(&at_a, "new").await;
    tagged.has_near_case(&at_b, "new").await;
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_keys_and_the_tracking_along() {
    let field = Field::new().await;
    let Field { cluster, a, b, .. } = &field;
    let (mut site, other) = (field.site("").await, field.site("").await);
    let case = field.case_at(*a, 0).await;
    let key = format!("case:{case}");
    site.has_near_case(&case, "one").await;
    let hits = site.store().near.hits;
    // While it moves, what is there is read where it is, and an invalidation finds it there.
    cluster.begin_move(&key, *b).await;
    cluster.move_keys(&key, *a, *b).await;
    until(PATIENCE, "its copy is void", async || {
        let before = site.store().near.hits;
        assert_eq!(site.read_case(&case, "not asked").await, "one");
        (site.store().near.hits == before).then_some(())
    })
    .await;
    let asked = site.store().near.hits;
    for _ in 0..3 {
        assert_eq!(site.read_case(&case, "not asked").await, "one");
    }
    assert_eq!(site.store().near.hits, asked, "what was read elsewhere is asked about: {hits}");
    other.handle.invalidate(&*key).await.unwrap();
    assert_eq!(site.read_case(&case, "two").await, "two");
    cluster.end_move(&key, *a, *b).await;
    site.has_near_case(&case, "three").await;
    cluster.nodes[*b].run(&["DEL", &key]).await;
    site.sees_case(&case, "four").await;
    site.has_near_case(&case, "four").await;
    other.handle.invalidate(&*key).await.unwrap();
    site.sees_case(&case, "five").await;
    assert_eq!((site.store().links_lost, other.store().links_lost), (0, 0));
}

#[tokio::test]
async fn a_copy_is_not_served_while_the_new_primary_of_its_slot_is_unproven() {
    let field = Field::new().await;
    let Field { cluster, a, b, .. } = &field;
    let mut site = field.site("").await;
    let [case, rest] = [field.case_at(*a, 0).await, field.case_at(*a, 1).await];
    let key = format!("case:{case}");
    site.has_near_case(&case, "one").await;
    site.has_near_case(&rest, "rest").await;
    cluster.proxies[*b].freeze();
    site.is_proven(false).await;
    site.is_near_case(&case, "one").await;
    cluster.move_slot(&key, *b).await;
    cluster.nodes[*b].run(&["DEL", &key]).await;
    site.sees_case(&case, "two").await;
    let before = site.store().near.hits;
    for _ in 0..3 {
        assert_eq!(site.read_case(&case, "three").await, "three");
    }
    assert_eq!(site.store().near.hits, before);
    site.has_near_case(&rest, "rest").await;
    cluster.proxies[*b].thaw();
    site.is_proven(true).await;
    site.has_near_case(&case, "four").await;
}

/// Redis 7.0 tells nobody of the keys that it drops then.
#[tokio::test]
async fn a_slot_that_is_taken_from_a_primary_voids_what_was_read_there() {
    let field = Field::new().await;
    let mut site = field.site("").await;
    let [case, rest] = [field.case_at(field.a, 0).await, field.case_at(field.a, 1).await];
    site.has_near_case(&case, "one").await;
    site.has_near_case(&rest, "rest").await;
    field.cluster.take_slot(&format!("case:{case}"), field.a, field.b).await;
    site.sees_case(&case, "two").await;
    site.has_near_case(&case, "two").await;
    site.has_near_case(&rest, "rest").await;
    assert_eq!(site.store().links_lost, 0);
}

#[tokio::test]
async fn who_waits_for_another_processs_fill_hears_of_its_end() {
    let field = Field::new().await;
    let (mut site, other) = (field.site("").await, field.site("").await);
    for node in [field.epoch, field.a, field.b] {
        let path = format!("/cases/{}", field.case_at(node, 0).await);
        let filling = send(&site.cache, get(&path));
        let call = site.calls.next().await;
        let asked = field.cluster.nodes[node].calls().await["hmget"];
        let waiting = send(&other.cache, get(&path));
        until(PATIENCE, "it has looked, and waits", async || {
            (field.cluster.nodes[node].calls().await["hmget"] > asked + 1).then_some(())
        })
        .await;
        let pushes = other.store().near.pushes;
        call.ok("filled");
        assert_eq!(got(filling).await.text(), "filled");
        assert_eq!(got(waiting).await.text(), "filled");
        until(PATIENCE, "the message is here", async || {
            (other.store().near.pushes > pushes).then_some(())
        })
        .await;
    }
}

/// It is away from here, and is not asked: what the others report counts.
#[tokio::test]
async fn a_primary_that_was_replaced_while_it_is_silent_is_not_waited_for() {
    let field = Field::new().await;
    let mut site = field.site("").await;
    let case = field.case_at(field.a, 0).await;
    site.has_near_case(&case, "old").await;
    field.cluster.proxies[field.a].freeze();
    site.is_proven(false).await;
    field.cluster.nodes[field.a + PRIMARIES].run(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await;
    site.is_proven(true).await;
    assert_eq!(site.read_case(&case, "new").await, "new");
    site.has_near_case(&case, "new").await;
}

/// The rounds go on while a slot moves there and back, and across a failover.
#[tokio::test]
#[allow(clippy::disallowed_methods)] // The lag is of real time.
async fn an_invalidation_elsewhere_is_heard_of_soon_while_slots_move_and_primaries_fail() {
    const ROUNDS: usize = 300;
    let mut field = Field::new().await;
    let [case, moving] = [field.case_at(field.a, 0).await, field.case_at(field.a, 1).await];
    let (path, moving) = (format!("/cases/{case}"), format!("case:{moving}"));
    let site = Site::over(prompt(&field.cluster)).await;
    let other = Site::over(prompt(&field.cluster)).await;
    let version = Arc::new(AtomicU64::new(0));
    let (told, Site { cache, handle, calls }) = (Arc::clone(&version), site);
    calls.serve(move |_| {
        let mut response = response(200, &[], "");
        *response.body_mut() = GatedBody::full(told.load(SeqCst).to_string());
        response
    });
    let read = async || got(send(&cache, get(&path))).await.text().to_owned();
    let near = || handle.metrics().store.unwrap().near.hits;
    let mut lags = Vec::new();
    for round in 1..=ROUNDS {
        if round % 10 == 0 {
            let to = if round % 20 == 0 { field.a } else { field.b };
            field.cluster.move_slot(&moving, to).await;
        }
        if round == ROUNDS / 2 {
            field.cluster.nodes[field.epoch].kill();
            field.cluster.is_promoted(field.epoch + PRIMARIES).await;
        }
        // So that a copy answers.
        until(PATIENCE, "a copy is in the near cache", async || {
            let before = near();
            read().await;
            (near() > before).then_some(())
        })
        .await;
        version.store(round as u64, SeqCst);
        until(PATIENCE, "it is acknowledged", async || {
            other.handle.invalidate(format!("case:{case}")).await.ok()
        })
        .await;
        let acknowledged = Instant::now();
        while read().await != round.to_string() {}
        lags.push(acknowledged.elapsed());
    }
    lags.sort_unstable();
    let [median, p99, worst] = [ROUNDS / 2, ROUNDS * 99 / 100, ROUNDS - 1].map(|at| lags[at]);
    println!(
        "an invalidation elsewhere, {ROUNDS} times: p50 {median:?}, p99 {p99:?}, worst {worst:?}"
    );
    assert!(p99 <= HEARTBEAT + HEARTBEAT_TIMEOUT, "{p99:?}");
}

/// Returns a store with the defaults.
fn prompt(cluster: &Cluster) -> RedisStore {
    RedisStore::cluster(cluster.urls()).near_cache_limit(TTL).build().unwrap()
}

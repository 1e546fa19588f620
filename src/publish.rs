//! Publication of a layer's counts with the `metrics` facade.

use std::time::Duration;

use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};

use crate::{
    handle::SupportCacheHandle,
    metrics::{
        BucketSnapshot, OriginSnapshot, Snapshot,
        facade::{ORIGIN_SECONDS, STORE_OPERATION_SECONDS},
        operations::StoreSnapshot,
        outcome::{Alone, AuditResult, Bypass, Refusal, Shadow, SparedCall, Stale},
        switch::Switch,
    },
};

impl SupportCacheHandle {
    /// Publishes the counts of this moment with the recorder of the `metrics` facade.
    ///
    /// Call it before each scrape, or use [`publish_metrics_every`](Self::publish_metrics_every). A recorder
    /// that is installed later gets the whole counts, too. Times of origin requests and of store operations
    /// are the exception: they are recorded as they occur.
    ///
    /// | Counter | Labels besides `cache` |
    /// |---|---|
    /// | `support_cache_requests_total` | `bucket`, `outcome`: `hit`, `stale`, `collapsed`, `miss`, `alone`, `bypass`, `unsatisfied`, `exhausted`; `reason` of `stale`, `alone` and `bypass` |
    /// | `support_cache_fills_total` | `bucket`, `result`: `stored`, `fenced`, `refused`; `reason` of the last |
    /// | `support_cache_shadow_total` | `bucket`, `result`: `hit`, `stale`, `different`, `miss`, `uncompared` |
    /// | `support_cache_audits_total` | `bucket` with an audit, `result`: `confirmed`, `changed`, `not-deterministic`, `undeclared`, `discarded`, `inconclusive` |
    /// | `support_cache_refreshes_total`, `support_cache_refills_total` | `bucket` |
    /// | `support_cache_origin_failures_total` | `bucket`, `reason`: `error`, `panic` |
    /// | `support_cache_origin_seconds_saved_total` | `bucket` |
    /// | `support_cache_evictions_total` | `bucket` |
    /// | `support_cache_invalidations_total` | `kind`: `key`, `tag` |
    /// | `support_cache_invalidation_failures_total` | `reason`: `unusable`, `unmatched` |
    /// | `support_cache_writes_total` | `result`: `answered`, `unmatched`, `error`, `panic` |
    /// | `support_cache_detached_dropped_total` | |
    /// | `support_cache_encoded_total` | |
    ///
    /// | Gauge, histogram | Labels besides `cache` |
    /// |---|---|
    /// | `support_cache_entries`, `support_cache_bytes`, `support_cache_switched_off` | `bucket` |
    /// | `support_cache_flights`, `support_cache_detached`, `support_cache_hook_pending` | |
    /// | `support_cache_origin_seconds` | `bucket` |
    ///
    /// A layer with an [`origin_budget`](crate::SupportCacheLayerBuilder::origin_budget) has, with the label
    /// `origin`, `support_cache_origin_budget_calls`, `support_cache_origin_calls_left`,
    /// `support_cache_origin_calls_total`, and `support_cache_origin_calls_spared_total` by `call`:
    /// `early-refresh`, `revalidation`, `stale`, `refused`.
    ///
    /// `cache` is the [name](crate::SupportCacheLayerBuilder::name) of the layer: layers of one process need
    /// names of their own. What a store over a network counts has no such label:
    ///
    /// | | Labels |
    /// |---|---|
    /// | `support_cache_store_operation_seconds` | `operation`, `result`: `answered`, `failed`, `timed-out` |
    /// | `support_cache_store_linked`, `support_cache_store_breaker_open`, `support_cache_store_pending_invalidations`, `support_cache_store_links_lost_total`, `support_cache_store_late_timers_total` | |
    /// | `support_cache_store_records_total` | `result`: `fenced`, `unreadable`, `foreign` |
    /// | `support_cache_near_proven`, `support_cache_near_lag_seconds`, `support_cache_near_pushes_total`, `support_cache_near_silenced_total` | |
    /// | `support_cache_near_lookups_total` | `result`: `hit`, `confirmed` |
    ///
    /// ```
    /// use tower_support_cache::{MemoryStore, SupportCacheLayer};
    ///
    /// let cache = SupportCacheLayer::new(MemoryStore::new()).handle();
    /// cache.publish_metrics();
    /// // Then, with the crate `metrics-exporter-prometheus`: `prometheus.render()`.
    /// ```
    pub fn publish_metrics(&self) {
        describe();
        let snapshot = self.metrics();
        let cache = Labels(vec![Label::new("cache", self.name())]);
        cache.publish(&snapshot);
        for (name, counts) in &snapshot.buckets {
            cache.with("bucket", name.clone()).publish_bucket(counts);
        }
        for (name, report) in self.audits() {
            for result in AuditResult::ALL {
                let count = report.results.get(result).copied().unwrap_or(0);
                let labels = cache.with("bucket", name.clone()).with("result", result.as_str());
                labels.count("support_cache_audits_total", count);
            }
        }
        if let Some(origin) = &snapshot.origin {
            cache.with("origin", origin.name.clone()).publish_origin(origin);
        }
        if let Some(store) = &snapshot.store {
            Labels(Vec::new()).publish_store(store);
        }
    }

    /// Publishes the counts at once and after each interval: for recorders that send by themselves.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_support_cache::SupportCacheHandle;
    /// fn start(cache: SupportCacheHandle) {
    ///     tokio::spawn(async move { cache.publish_metrics_every(Duration::from_secs(10)).await });
    /// }
    /// ```
    ///
    /// # Cancellation
    ///
    /// It never ends by itself. Dropped, it publishes no more.
    pub async fn publish_metrics_every(&self, interval: Duration) {
        loop {
            self.publish_metrics();
            tokio::time::sleep(interval).await;
        }
    }
}

/// Labels of a group of metrics.
struct Labels(Vec<Label>);

impl Labels {
    fn with(&self, name: &'static str, value: impl Into<SharedString>) -> Self {
        let own = self.0.iter().cloned();
        Self(own.chain([Label::new(name, value)]).collect())
    }

    fn count(&self, name: &'static str, value: u64) {
        counter!(name, self.0.clone()).absolute(value);
    }

    fn gauge(&self, name: &'static str, value: f64) {
        gauge!(name, self.0.clone()).set(value);
    }

    fn publish(&self, counts: &Snapshot) {
        self.gauge("support_cache_flights", counts.flights as f64);
        self.gauge("support_cache_detached", counts.detached as f64);
        self.gauge("support_cache_hook_pending", counts.hook_pending as f64);
        self.count("support_cache_detached_dropped_total", counts.detached_dropped);
        self.count("support_cache_encoded_total", counts.encoded);
        for (result, count) in [
            ("answered", counts.writes),
            ("unmatched", counts.writes_unmatched),
            ("error", counts.writes_failed),
            ("panic", counts.writes_panicked),
        ] {
            self.with("result", result).count("support_cache_writes_total", count);
        }
        for (kind, count) in [("key", counts.invalidations), ("tag", counts.tag_invalidations)] {
            self.with("kind", kind).count("support_cache_invalidations_total", count);
        }
        for (reason, count) in [
            ("unusable", counts.invalidation_failures),
            ("unmatched", counts.invalidations_unmatched),
        ] {
            self.with("reason", reason).count("support_cache_invalidation_failures_total", count);
        }
    }

    fn publish_bucket(&self, counts: &BucketSnapshot) {
        self.gauge("support_cache_entries", counts.entries as f64);
        self.gauge("support_cache_bytes", counts.bytes as f64);
        self.gauge("support_cache_switched_off", f64::from(counts.switch == Switch::Off));
        self.count("support_cache_evictions_total", counts.evicted);
        self.count("support_cache_refreshes_total", counts.refreshes);
        self.count("support_cache_refills_total", counts.refills);
        self.count("support_cache_origin_seconds_saved_total", counts.saved.as_secs());
        for result in Shadow::ALL {
            let count = counts.shadow.get(result).copied().unwrap_or(0);
            self.with("result", result.as_str()).count("support_cache_shadow_total", count);
        }
        for (reason, count) in [("error", counts.failed), ("panic", counts.panicked)] {
            self.with("reason", reason).count("support_cache_origin_failures_total", count);
        }
        self.publish_requests(counts);
        self.publish_fills(counts);
    }

    /// Publishes requests by outcome and reason. A reason that has not occurred is a zero: a rate sees its
    /// first occurrence only if there is a value before it.
    fn publish_requests(&self, counts: &BucketSnapshot) {
        const REQUESTS: &str = "support_cache_requests_total";
        let alone: u64 = counts.alone.values().sum();
        for (outcome, count) in [
            ("hit", counts.hits),
            ("collapsed", counts.coalesced),
            ("miss", counts.misses.saturating_sub(alone)),
            ("unsatisfied", counts.unsatisfied),
            ("exhausted", counts.exhausted),
        ] {
            self.with("outcome", outcome).count(REQUESTS, count);
        }
        for reason in Stale::ALL {
            let count = counts.stale.get(reason).copied().unwrap_or(0);
            self.with("outcome", "stale").with("reason", reason.as_str()).count(REQUESTS, count);
        }
        for reason in Alone::ALL {
            let count = counts.alone.get(reason).copied().unwrap_or(0);
            self.with("outcome", "alone").with("reason", reason.as_str()).count(REQUESTS, count);
        }
        for reason in Bypass::ALL {
            let count = counts.bypassed.get(reason).copied().unwrap_or(0);
            self.with("outcome", "bypass").with("reason", reason.as_str()).count(REQUESTS, count);
        }
    }

    fn publish_fills(&self, counts: &BucketSnapshot) {
        const FILLS: &str = "support_cache_fills_total";
        self.with("result", "stored").count(FILLS, counts.stored);
        self.with("result", "fenced").count(FILLS, counts.fenced);
        for reason in Refusal::ALL.iter().filter(|reason| **reason != Refusal::Fenced) {
            let count = counts.refused.get(reason).copied().unwrap_or(0);
            self.with("result", "refused").with("reason", reason.as_str()).count(FILLS, count);
        }
    }

    fn publish_origin(&self, origin: &OriginSnapshot) {
        self.gauge("support_cache_origin_budget_calls", origin.budget as f64);
        self.gauge("support_cache_origin_calls_left", origin.left as f64);
        self.count("support_cache_origin_calls_total", origin.calls);
        for call in SparedCall::ALL {
            let count = origin.spared.get(call).copied().unwrap_or(0);
            self.with("call", call.as_str())
                .count("support_cache_origin_calls_spared_total", count);
        }
    }

    fn publish_store(&self, store: &StoreSnapshot) {
        self.gauge("support_cache_store_linked", f64::from(store.is_linked));
        self.gauge("support_cache_store_breaker_open", f64::from(store.is_breaker_open));
        self.gauge("support_cache_store_pending_invalidations", store.pending as f64);
        self.count("support_cache_store_links_lost_total", store.links_lost);
        self.count("support_cache_store_late_timers_total", store.late_timers);
        for (result, count) in
            [("fenced", store.fenced), ("unreadable", store.unreadable), ("foreign", store.foreign)]
        {
            self.with("result", result).count("support_cache_store_records_total", count);
        }
        let near = &store.near;
        self.gauge("support_cache_near_proven", f64::from(near.is_proven));
        if let Some(lag) = near.lag {
            self.gauge("support_cache_near_lag_seconds", lag.as_secs_f64());
        }
        self.count("support_cache_near_pushes_total", near.pushes);
        self.count("support_cache_near_silenced_total", near.silenced);
        for (result, count) in [("hit", near.hits), ("confirmed", near.confirmed)] {
            self.with("result", result).count("support_cache_near_lookups_total", count);
        }
    }
}

/// Kind of a metric.
enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

#[rustfmt::skip]
const DESCRIPTIONS: &[(MetricKind, &str, Unit, &str)] = &[
    (MetricKind::Counter, "support_cache_requests_total", Unit::Count, "Requests on cached routes that have ended, by outcome."),
    (MetricKind::Counter, "support_cache_fills_total", Unit::Count, "Responses that were stored, fenced by an invalidation, or refused."),
    (MetricKind::Counter, "support_cache_shadow_total", Unit::Count, "Requests in shadow, by the answer that they would have had."),
    (MetricKind::Counter, "support_cache_audits_total", Unit::Count, "Audits of hits that have ended, by result."),
    (MetricKind::Counter, "support_cache_refreshes_total", Unit::Count, "Forwards in the background."),
    (MetricKind::Counter, "support_cache_refills_total", Unit::Count, "Forwards soon after an invalidation of what they ask for."),
    (MetricKind::Counter, "support_cache_origin_failures_total", Unit::Count, "Forwards that ended with an error of the service or a panic."),
    (MetricKind::Counter, "support_cache_origin_seconds_saved_total", Unit::Seconds, "Time that hits and joins would have taken at the origin."),
    (MetricKind::Gauge, "support_cache_origin_budget_calls", Unit::Count, "Calls to the origin that the budget has in a period."),
    (MetricKind::Gauge, "support_cache_origin_calls_left", Unit::Count, "Calls to the origin that may be made at once now."),
    (MetricKind::Counter, "support_cache_origin_calls_total", Unit::Count, "Calls to the origin that the budget has counted in this process."),
    (MetricKind::Counter, "support_cache_origin_calls_spared_total", Unit::Count, "Requests for which the origin was not asked because of its limits, by the kind of call."),
    (MetricKind::Counter, "support_cache_evictions_total", Unit::Count, "Entries removed from memory to make room."),
    (MetricKind::Counter, "support_cache_invalidations_total", Unit::Count, "Keys and tags invalidated."),
    (MetricKind::Counter, "support_cache_invalidation_failures_total", Unit::Count, "Invalidations without a usable key or tag, or of one that no route makes."),
    (MetricKind::Counter, "support_cache_writes_total", Unit::Count, "Unsafe requests, by their end."),
    (MetricKind::Counter, "support_cache_detached_dropped_total", Unit::Count, "Fills, writes and refreshes dropped because too many went on without a caller."),
    (MetricKind::Counter, "support_cache_encoded_total", Unit::Count, "Stored responses that were encoded in a content coding."),
    (MetricKind::Gauge, "support_cache_entries", Unit::Count, "Entries in this process's memory."),
    (MetricKind::Gauge, "support_cache_bytes", Unit::Bytes, "Memory of these entries, overhead included."),
    (MetricKind::Gauge, "support_cache_switched_off", Unit::Count, "1 if the bucket is switched off."),
    (MetricKind::Gauge, "support_cache_flights", Unit::Count, "Forwards on their way whose responses may be shared."),
    (MetricKind::Gauge, "support_cache_detached", Unit::Count, "Fills and writes that go on without their callers."),
    (MetricKind::Gauge, "support_cache_hook_pending", Unit::Count, "Invalidations that the hook has not passed on yet."),
    (MetricKind::Histogram, ORIGIN_SECONDS, Unit::Seconds, "Time from a forward to the head of its response."),
    (MetricKind::Histogram, STORE_OPERATION_SECONDS, Unit::Seconds, "Time of an operation of the store."),
    (MetricKind::Gauge, "support_cache_store_linked", Unit::Count, "1 if there is a link to the store's server."),
    (MetricKind::Gauge, "support_cache_store_breaker_open", Unit::Count, "1 if lookups are not sent because they were slow."),
    (MetricKind::Gauge, "support_cache_store_pending_invalidations", Unit::Count, "Invalidations that the server has not acknowledged."),
    (MetricKind::Counter, "support_cache_store_links_lost_total", Unit::Count, "Links to the server that were lost."),
    (MetricKind::Counter, "support_cache_store_late_timers_total", Unit::Count, "Timers of heartbeats and of waits for the server that fired late: the runtime was starved."),
    (MetricKind::Counter, "support_cache_store_records_total", Unit::Count, "Records that were fenced, unreadable or foreign."),
    (MetricKind::Gauge, "support_cache_near_proven", Unit::Count, "1 if the near cache answers."),
    (MetricKind::Gauge, "support_cache_near_lag_seconds", Unit::Seconds, "Time that the last proof of the link took."),
    (MetricKind::Counter, "support_cache_near_pushes_total", Unit::Count, "Messages of the server that something has changed."),
    (MetricKind::Counter, "support_cache_near_silenced_total", Unit::Count, "Times that the near cache stopped answering."),
    (MetricKind::Counter, "support_cache_near_lookups_total", Unit::Count, "Responses found in the near cache."),
];

/// Describes each metric, every time: the recorder may have been installed a moment ago.
fn describe() {
    for (kind, name, unit, text) in DESCRIPTIONS {
        match kind {
            MetricKind::Counter => describe_counter!(*name, *unit, *text),
            MetricKind::Gauge => describe_gauge!(*name, *unit, *text),
            MetricKind::Histogram => describe_histogram!(*name, *unit, *text),
        }
    }
}

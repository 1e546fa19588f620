//! First decision about a request, without waiting: its rule, its admission, and a look into memory.

use std::{sync::Arc, time::Duration};

use super::{
    assess::Purpose,
    cache::Cache,
    lookup::Verdict,
    nesting::OuterFills,
    request::{Asks, Read},
    respond::Reuse,
    rules::{CachedRoute, Rules},
};
use crate::{
    key::{PrimaryKey, Slot, Variant},
    metrics::{
        cache_outcome::OutcomeReport,
        outcome::{Alone, Bypass, ForwardReason, Unshared},
        switch::Switch,
    },
    peek::SentContent,
    route::{
        CacheRule, Changes, Denied, HeadRef, Matched, RequestContent, RequestView, WriteMatch,
        admit,
    },
    store::Store,
};

/// Course that a request takes.
pub(crate) enum Decision {
    /// No rule is for it, or an outer layer has seen to it.
    Pass,
    /// The first frame of its body decides.
    Peek,
    /// Its content decides, which is read up to this number of bytes.
    ReadContent(u64),
    /// A stored response answers, in the bucket at this position.
    Answer(usize, Asks, Reuse),
    /// It has nothing to show, and the budget of the origin is spent until this time has passed.
    Refuse(usize, OutcomeReport, Duration),
    /// It is forwarded without a flight, in the bucket at this position and for this reason.
    Forward(usize, Unshared),
    /// Memory has no answer.
    Read(Read),
    /// A stored response answers, and is revalidated or refreshed afterwards.
    Refresh(Read, Reuse),
    /// The origin answers it, and its response is compared.
    Shadow(Read),
    /// An unsafe request that invalidates these keys and tags.
    Write(Changes),
    /// An unsafe request that no rule is for.
    Unmatched,
}

/// Matches a request to a rule; admits a read and looks into memory for it.
pub(crate) fn classify<St: Store>(
    cache: &Cache<St>,
    rules: &Rules,
    head: HeadRef<'_>,
    content: RequestContent<'_>,
) -> Decision {
    match rules.table.classify(head) {
        Matched::Pass => {
            cache.metrics().passed();
            Decision::Pass
        }
        Matched::Unmatched => {
            cache.metrics().unmatched_write();
            cache.metrics().passed();
            Decision::Unmatched
        }
        Matched::Read { route, parameters, .. } => {
            let route = rules.route(route);
            let view = RequestView { head, parameters: &parameters };
            let reason = match classify_read(cache, route, view, content) {
                Ok(decision) => return decision,
                Err(Denied::Unknown) => return Decision::Peek,
                Err(Denied::Unread(limit)) => return Decision::ReadContent(limit),
                Err(Denied::Write) => {
                    if let RequestContent::Read(SentContent::Unreadable) = content {
                        route.warn_of(Bypass::Content);
                    }
                    return write(cache, rules.table.write(head));
                }
                Err(Denied::Bypass(reason)) => reason,
            };
            route.warn_of(reason);
            Decision::Forward(route.bucket, Unshared::Bypassed(reason))
        }
        Matched::Write(matched) => write(cache, Some(matched)),
    }
}

/// Decides about a write, by what it changes.
fn write<St: Store>(cache: &Cache<St>, matched: Option<WriteMatch<'_>>) -> Decision {
    let matched = matched.unwrap_or_default();
    matched.failed.iter().for_each(|route| cache.invalidation_failed(route));
    Decision::Write(matched.changes)
}

fn classify_read<St: Store>(
    cache: &Cache<St>,
    route: &Arc<CachedRoute>,
    view: RequestView<'_, '_>,
    content: RequestContent<'_>,
) -> Result<Decision, Denied> {
    // First: whatever else is true of it, a write invalidates and a read does not.
    route.rule.judge(view, content)?;
    let switch = cache.metrics().switch_of(route.bucket);
    if switch == Switch::Off {
        return Err(Bypass::Switch.into());
    }
    let (rule, fields, secret) = (&route.rule, view.head.headers, &cache.identity.secret);
    let admitted = admit(&cache.identity, rule, route.variations.as_deref(), view, content)?;
    let asks = Asks::of(view.head, &admitted.fields, rule);
    let declared = rule.vary.values(fields, secret);
    let base = admitted.variant(&declared).encode();
    let base = base.borrowed();
    let outer = view.head.extensions.get::<OuterFills>();
    if outer.is_some_and(|outer| outer.hold(base, cache.store.sequence())) {
        cache.warn_of_nesting(route);
        return Ok(Decision::Pass);
    }
    if switch == Switch::Shadow {
        let slot = slot_of(rule, view, admitted.key, base.to_variant())?;
        return Ok(Decision::Shadow(Read::new(route, slot, admitted.sent, asks)));
    }
    let peek = |variant: &_| match cache.store.peek(variant) {
        Some(entry) => cache.consider(route, &asks.wishes, Purpose::Answer, fields, entry),
        None => Verdict::Nothing,
    };
    let mut verdict = peek(&base);
    let mut learned = None;
    if let Verdict::Vary(nominated) = verdict {
        let values = nominated.values(fields, secret);
        verdict = peek(&admitted.variant(&values).encode().borrowed());
        learned = Some((nominated, values));
    }
    let miss = if learned.is_some() { ForwardReason::VaryMiss } else { ForwardReason::UriMiss };
    let (reason, seen, refresh) = match verdict {
        Verdict::Answer(reuse) if !reuse.is_due && !cache.is_audit_due(route, &reuse) => {
            return Ok(Decision::Answer(route.bucket, asks, reuse));
        }
        Verdict::Answer(reuse) => {
            (ForwardReason::Stale, Some(Arc::clone(&reuse.entry)), Some(reuse))
        }
        Verdict::Keep(reason, seen) => (reason, seen, None),
        Verdict::Pass(pass) => (miss, Some(pass), None),
        Verdict::Vary(_) | Verdict::Nothing => (miss, None, None),
    };
    // Key and tags are made last: a hit needs neither.
    let base = base.to_variant();
    let (nominated, variant) = match learned {
        Some((nominated, values)) => (nominated, base.nominating(&values)),
        None => (rule.vary.clone(), base.clone()),
    };
    let is_refused = seen.as_ref().is_some_and(|seen| seen.is_pass());
    let right = is_refused.then(|| cache.retry(&variant, &asks)).flatten();
    if is_refused && right.is_none() {
        return Ok(pass(cache, route, &asks));
    }
    let (slot, outer) = (slot_of(rule, view, admitted.key, variant)?, outer.cloned());
    let read = Read::new(route, slot, admitted.sent, asks);
    let read = Read { base, nominated, reason, seen, right, outer, ..read };
    Ok(match refresh {
        Some(reuse) => Decision::Refresh(read, reuse),
        None => Decision::Read(read),
    })
}

/// Returns the slot of an admitted read. `made` is its key, if a closure has made that already.
pub(super) fn slot_of(
    rule: &CacheRule,
    view: RequestView<'_, '_>,
    made: Option<PrimaryKey>,
    variant: Variant,
) -> Result<Slot, Bypass> {
    let key = made.or_else(|| rule.key(view)).ok_or(Bypass::Key)?;
    Ok(Slot { key, variant, tags: rule.tags(view).ok_or(Bypass::Key)? })
}

/// Decides about a request whose last response could not be stored.
fn pass<St: Store>(cache: &Cache<St>, route: &CachedRoute, asks: &Asks) -> Decision {
    match cache.refusal(&route.rule) {
        Some(wait) => Decision::Refuse(route.bucket, asks.report, wait),
        None => Decision::Forward(route.bucket, Unshared::Alone(Alone::Pass)),
    }
}

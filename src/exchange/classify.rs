//! First decision about a request, before anything is waited for.

use super::{
    assess::Purpose,
    cache::Cache,
    lookup::Verdict,
    request::{Asks, Read},
    respond::Reuse,
};
use crate::{
    key::{Slot, Subject, VariantBuffer},
    metrics::outcome::{Bypass, Forward, Unshared},
    route::{CacheRule, Denied, HeadRef, Matched, RequestContent, RequestView, admit},
    store::Store,
};

/// Course that a request takes.
pub(crate) enum Decision {
    /// No rule is for it.
    Pass,
    /// A stored response of this route answers.
    Answer(usize, Asks, Reuse),
    /// It is forwarded by itself, in this bucket and for this reason.
    Forward(usize, Unshared),
    /// Memory has no answer.
    Read(Read),
    /// A stored response answers, and is revalidated or refreshed afterwards.
    Refresh(Read, Reuse),
    /// An unsafe request that invalidates these.
    Write(Vec<Subject>),
}

/// Matches a request to a rule; admits a read and looks into memory for it.
pub(crate) fn classify<St: Store>(
    cache: &Cache<St>,
    head: HeadRef<'_>,
    content: RequestContent,
) -> Decision {
    match cache.table.classify(head) {
        Matched::Pass => Decision::Pass,
        Matched::Read { route, rule, parameters } => {
            let view = RequestView { head, parameters: &parameters };
            let reason = match classify_read(cache, route, rule, view, content) {
                Ok(decision) => return decision,
                Err(Denied::Upgrade) => return Decision::Pass,
                Err(Denied::Bypass(reason)) => reason,
            };
            if reason == Bypass::Credentials {
                cache.warn_of_credentials(route);
            }
            Decision::Forward(cache.bucket(route), Unshared::Bypassed(reason))
        }
        Matched::Write(matched) => {
            matched.failed.iter().for_each(|route| cache.invalidation_failed(route));
            Decision::Write(matched.subjects)
        }
    }
}

fn classify_read<St: Store>(
    cache: &Cache<St>,
    route: usize,
    rule: &CacheRule,
    view: RequestView<'_, '_>,
    content: RequestContent,
) -> Result<Decision, Denied> {
    if cache.is_switched_off(route) {
        return Err(Bypass::Switch.into());
    }
    let (fields, secret) = (view.head.headers, &cache.identity.secret);
    let admitted = admit(&cache.identity, rule, view, content)?;
    let asks = Asks::of(view.head.method, &admitted);
    let declared = rule.vary.values(fields, secret);
    let mut room = VariantBuffer::new();
    let base = admitted.variant(&declared).encode(&mut room);
    let peek = |variant: &_| match cache.store.peek(variant) {
        Some(entry) => cache.consider(route, &asks.wishes, Purpose::Answer, entry),
        None => Verdict::Nothing,
    };
    let mut verdict = peek(&base);
    let mut learned = None;
    if let Verdict::Vary(nominated) = verdict {
        let values = nominated.values(fields, secret);
        verdict = peek(&admitted.variant(&values).encode(&mut VariantBuffer::new()));
        learned = Some((nominated, values));
    }
    let (forward, seen, refresh) = match verdict {
        Verdict::Answer(reuse) => return Ok(Decision::Answer(route, asks, reuse)),
        Verdict::Forward(alone) => {
            return Ok(Decision::Forward(cache.bucket(route), Unshared::Alone(alone)));
        }
        Verdict::Refresh(reuse) => (Forward::Stale, Some(reuse.entry().clone()), Some(reuse)),
        Verdict::Keep(forward, seen) => (forward, seen, None),
        Verdict::Vary(_) | Verdict::Nothing if learned.is_some() => (Forward::VaryMiss, None, None),
        Verdict::Vary(_) | Verdict::Nothing => (Forward::UriMiss, None, None),
    };
    let base = base.to_variant();
    let (nominated, variant) = match learned {
        Some((nominated, values)) => (nominated, base.nominating(&values)),
        None => (rule.vary.clone(), base.clone()),
    };
    let slot = Slot { key: admitted.key()?, variant, tags: admitted.tags()? };
    let read = Read { route, slot, base, nominated, asks, forward, seen, is_background: false };
    Ok(match refresh {
        Some(reuse) => Decision::Refresh(read, reuse),
        None => Decision::Read(read),
    })
}

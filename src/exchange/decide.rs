//! What is decided about a request before anything is waited for.

use http::Response;
use http_body::Body;

use crate::{
    body::ResponseBody,
    exchange::cache::Shared,
    exchange::request::Read,
    exchange::respond::{Asks, hit},
    key::{Room, Slot, Subject},
    metrics::outcome::{Alone, Bypass, Forward, Unshared},
    route::{CacheRule, Content, Denied, HeadRef, Matched, RequestView, admit},
    store::Store,
};

/// What is decided about a request.
pub(crate) enum Decision<B: Body> {
    /// Not the cache's business.
    Pass,
    Answer(Response<ResponseBody<B>>),
    /// Forward on the caller's own time, and say why.
    Forward(usize, Unshared),
    /// Boxed, so that the answer to a hit is moved in small steps.
    Read(Box<Read>),
    /// Answer with what is stale or soon will be, and ask about it afterwards.
    Refresh(Box<Read>, Response<ResponseBody<B>>),
    Write(Vec<Subject>),
}

/// Decides about a request: matches it to a rule, admits it and looks it up in this process.
pub(crate) fn decide<St: Store, B: Body>(
    shared: &Shared<St>,
    head: HeadRef<'_>,
    content: Content,
) -> Decision<B> {
    match shared.table.classify(head) {
        Matched::Pass => Decision::Pass,
        Matched::Read { route, rule, parameters } => {
            let view = RequestView { head, parameters: &parameters };
            let reason = match decide_read(shared, (route, rule), view, content) {
                Ok(decision) => return decision,
                Err(Denied::Upgrade) => return Decision::Pass,
                Err(Denied::Bypass(reason)) => reason,
            };
            if reason == Bypass::Credentials {
                shared.warn_of_credentials(route);
            }
            Decision::Forward(shared.bucket(route), Unshared::Bypassed(reason))
        }
        Matched::Write(matched) => {
            matched.failed.iter().for_each(|route| shared.invalidation_failed(route));
            Decision::Write(matched.subjects)
        }
    }
}

fn decide_read<St: Store, B: Body>(
    shared: &Shared<St>,
    (route, rule): (usize, &CacheRule),
    view: RequestView<'_, '_>,
    content: Content,
) -> Result<Decision<B>, Denied> {
    if shared.is_switched_off(route) {
        return Err(Bypass::Switch.into());
    }
    let (fields, secret) = (view.head.headers, &shared.identity.secret);
    let admitted = admit(&shared.identity, rule, view, content)?;
    let declared = rule.vary.values(fields, secret);
    let mut learned = None;
    let mut forward = Forward::UriMiss;
    let mut room = Room::new();
    let base = admitted.variant(&declared).encode(&mut room);
    let mut found = shared.store.peek(&base);
    if let Some(nominated) = found.as_ref().and_then(|note| note.as_nominated()).cloned() {
        let values = nominated.values(fields, secret);
        found = shared.store.peek(&admitted.variant(&values).encode(&mut Room::new()));
        forward = Forward::VaryMiss;
        learned = Some((nominated, values));
    }
    let asks = Asks::of(view.head.method, &admitted);
    let telling = shared.telling(route);
    let (mut seen, mut due) = (None, None);
    if let Some(entry) = found {
        let is_fresh = entry.is_fresh_at(telling.now);
        match entry.as_response() {
            None if is_fresh && !asks.wishes.only_if_cached => {
                return Ok(Decision::Forward(telling.bucket, Unshared::Alone(Alone::Pass)));
            }
            None => {}
            Some(_) if !is_fresh => {
                forward = Forward::Stale;
                seen = Some(entry).filter(|_| rule.keeps_stale());
            }
            Some(response) if asks.accept(response.0, telling.now) => {
                // What came from elsewhere does not know it yet.
                entry.note_route(route);
                let answer = hit(response, telling, &asks);
                if !shared.is_due((route, &asks), &entry, telling.now) {
                    return Ok(Decision::Answer(answer));
                }
                due = Some(answer);
                forward = Forward::Stale;
                seen = Some(entry);
            }
            Some(_) => {
                forward = Forward::Request;
                seen = Some(entry);
            }
        }
    }
    let base = base.to_variant();
    let (nominated, variant) = match learned {
        Some((nominated, values)) => (nominated, base.nominating(&values)),
        None => (rule.vary.clone(), base.clone()),
    };
    let slot = Slot { key: admitted.key()?, variant, tags: admitted.tags()? };
    let is_background = false;
    let read = Read { route, slot, base, nominated, asks, forward, seen, is_background };
    Ok(match due.or_else(|| shared.stale_at_once(&read)) {
        Some(response) => Decision::Refresh(Box::new(read), response),
        None => Decision::Read(Box::new(read)),
    })
}

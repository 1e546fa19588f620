//! Explanation of a request, by the same decisions that an exchange makes, and without their effects.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    assess::Purpose,
    cache::Cache,
    classify::slot_of,
    lookup::Verdict,
    request::{Asks, Read},
    respond::Reuse,
    rules::{CachedRoute, Rules},
};
use crate::{
    insight::{Explanation, Forecast, InvalidatedSubject},
    metrics::{
        outcome::{Alone, Bypass, ForwardReason, Stale},
        switch::Switch,
    },
    route::{Changes, Denied, HeadRef, Matched, RequestContent, RequestView, admit},
    store::{Lookup, Store},
};

impl<St: Store> Cache<St> {
    /// Explains a request with this content.
    pub(crate) async fn explain(&self, head: HeadRef<'_>, content: Bytes) -> Explanation {
        let rules = Arc::clone(&self.rules());
        let (route, view) = match rules.table.classify(head) {
            Matched::Pass | Matched::Unmatched => return Explanation::unmatched(Forecast::Pass),
            Matched::Write(matched) => return explain_write(&matched.changes),
            Matched::Read { route, parameters } => (rules.route(route), parameters),
        };
        let mut explanation = Explanation {
            route: Some(route.rule.route.clone()),
            bucket: Some(route.rule.bucket.clone()),
            ..Explanation::unmatched(Forecast::Pass)
        };
        let view = RequestView { head, parameters: &view };
        let is_empty = content.is_empty();
        let read = route.rule.content.as_ref().map(|rule| rule.read(content));
        let content = match &read {
            Some(read) => RequestContent::Read(read),
            None if is_empty => RequestContent::Absent,
            None => RequestContent::Present,
        };
        if route.rule.judge(view, content).is_err() {
            let changes = rules.table.write(head).map(|matched| matched.changes);
            return explain_write(&changes.unwrap_or_default());
        }
        match self.explain_admission(&rules, route, view, content, &mut explanation) {
            Err(reason) => explanation.forecast = Forecast::Bypass(reason),
            Ok(mut read) => {
                explanation.forecast = self.forecast(&mut read, head.headers).await;
                let nominated = read.nominated.names().iter().map(|name| format!("field {name}"));
                explanation.variant.extend(nominated);
            }
        }
        explanation
    }

    /// Admits a read, and explains where its response belongs.
    fn explain_admission(
        &self,
        rules: &Rules,
        route: &Arc<CachedRoute>,
        view: RequestView<'_, '_>,
        content: RequestContent<'_>,
        explanation: &mut Explanation,
    ) -> Result<Read, Bypass> {
        match self.metrics().switch_of(route.bucket) {
            Switch::On => {}
            Switch::Off => return Err(Bypass::Switch),
            Switch::Shadow => return Err(Bypass::Shadow),
        }
        let rule = &route.rule;
        let variations = route.variations.as_deref();
        let admitted = match admit(&self.identity, rule, variations, view, content) {
            Ok(admitted) => admitted,
            Err(Denied::Bypass(reason)) => return Err(reason),
            Err(Denied::Unknown | Denied::Unread(_) | Denied::Write) => {
                return Err(Bypass::Content);
            }
        };
        let asks = Asks::of(view.head, &admitted.fields, rule);
        let declared = rule.vary.values(view.head.headers, &self.identity.secret);
        let variant = admitted.variant(&declared).encode().borrowed().to_variant();
        explanation.variant = admitted.part_names();
        let slot = slot_of(rule, view, admitted.key, variant)?;
        explanation.key = Some(slot.key.as_str().to_owned());
        explanation.tags =
            slot.tags.iter().filter_map(|tag| Some(tag.text()?.to_owned())).collect();
        explanation.invalidated_by = rules.table.invalidating(rule, &slot);
        Ok(Read::new(route, slot, admitted.sent, asks))
    }

    /// Returns the course that a read would take now.
    async fn forecast(&self, read: &mut Read, fields: &HeaderMap) -> Forecast {
        let mut verdict = self.inspect(read, fields).await;
        if let Ok(Verdict::Vary(nominated)) = &verdict {
            read.vary_by(nominated, &nominated.values(fields, &self.identity.secret));
            verdict = self.inspect(read, fields).await;
        }
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(_) if read.asks.wishes.only_if_cached => Verdict::Nothing,
            Err(reason) => return Forecast::Bypass(reason),
        };
        match verdict {
            Verdict::Answer(reuse) => forecast_of(&reuse),
            Verdict::Pass(_) if !self.may_retry(&read.slot.variant, &read.asks) => {
                self.unless_refused(read, Forecast::Alone(Alone::Pass))
            }
            Verdict::Keep(reason, _) => self.missed(read, reason),
            Verdict::Pass(_) | Verdict::Vary(_) | Verdict::Nothing => {
                self.missed(read, read.reason)
            }
        }
    }

    async fn inspect(&self, read: &Read, fields: &HeaderMap) -> Result<Verdict, Bypass> {
        match self.store.inspect(&read.slot).await {
            Lookup::Found(entry) => {
                let wishes = &read.asks.wishes;
                Ok(self.weigh(&read.route, wishes, Purpose::Answer, fields, entry))
            }
            Lookup::Absent | Lookup::Held(_) => Ok(Verdict::Nothing),
            Lookup::Unavailable => Err(Bypass::Store),
        }
    }

    /// Returns the course of a read that finds no answer.
    fn missed(&self, read: &Read, reason: ForwardReason) -> Forecast {
        if read.asks.wishes.only_if_cached {
            return Forecast::Unsatisfied;
        }
        let forecast = read.asks.alone().map_or(Forecast::Miss(reason), Forecast::Alone);
        self.unless_refused(read, forecast)
    }

    fn unless_refused(&self, read: &Read, forecast: Forecast) -> Forecast {
        self.refusal(&read.route.rule).map_or(forecast, |_| Forecast::Exhausted)
    }
}

fn forecast_of(reuse: &Reuse) -> Forecast {
    let Some((head, _)) = reuse.entry.as_response() else { return Forecast::Pass };
    let (age, fresh_for) = head.age_and_ttl(reuse.now);
    let Some(reason) = reuse.stale else { return Forecast::Hit { age, fresh_for } };
    let windows = head.windows();
    let window = match reason {
        Stale::Revalidate => windows.while_revalidate,
        Stale::Error | Stale::Timeout | Stale::Quota => windows.if_error,
    };
    let stale_for = reuse.now.saturating_duration_since(head.fresh_until());
    Forecast::Stale { reason, age, stale_for, left: window.saturating_sub(stale_for) }
}

fn explain_write(changes: &Changes) -> Explanation {
    let subjects =
        changes.iter().map(|change| InvalidatedSubject::of(&change.subject, change.strength));
    Explanation { invalidates: subjects.collect(), ..Explanation::unmatched(Forecast::Write) }
}

//! Limits that the origin states, and the pauses that they ask for.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{cache::Cache, fill::ForwardedRequest};
use crate::{
    clock::{now, time_of_day},
    key::Variant,
    origin::{Paused, Quota},
    policy::stated_pause,
    store::Store,
};

impl<St: Store> Cache<St> {
    /// Notes the pause that a response asks for.
    pub(crate) fn hear(
        &self,
        asked: &ForwardedRequest<'_>,
        status: StatusCode,
        response: &HeaderMap,
    ) {
        let Some(pause) = stated_pause(status, response, time_of_day) else { return };
        let (read, fields) = (asked.read, &asked.fields);
        let paused = match read.route.rule.quota {
            Quota::Service => Paused::Service,
            // A 503 says nothing about the caller.
            Quota::Caller if status == StatusCode::SERVICE_UNAVAILABLE => {
                Paused::Part(read.slot.variant.seeded_hash())
            }
            Quota::Caller => {
                let caller = self.identity.credential_fields.hash(fields.iter());
                Paused::Part(caller.unwrap_or_else(|| read.slot.variant.seeded_hash()))
            }
        };
        self.pauses.begin(paused, now() + pause);
    }

    /// Returns whether the origin has asked for a pause that holds for a request with these fields.
    pub(crate) fn is_paused<'f>(
        &self,
        fields: impl IntoIterator<Item = (&'f HeaderName, &'f HeaderValue)>,
        variant: &Variant,
    ) -> bool {
        self.pauses.contain(|| {
            let resource = variant.seeded_hash();
            let caller = self.identity.credential_fields.hash(fields.into_iter());
            [caller.unwrap_or(resource), resource]
        })
    }
}

//! Finding the form of a response, or beginning one.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header::AGE};

use super::{EMPTY, Fields, Learned, SLOTS, Shared, Value, lines_of, status_slot, with_slots};
use crate::{
    entry::hop_by_hop::Hops,
    entry::{CACHE_STATUS, packed::pack},
    sync::{Mutex, lock},
};

/// So many forms are known of one route.
const FORMS: usize = 4;

/// The forms that responses of a route have had lately.
#[derive(Debug, Default)]
pub(crate) struct Mould {
    pub(super) known: Mutex<(Vec<Learned>, Shared)>,
}

impl Mould {
    /// Copies the fields that may be stored, and a body with them. `stripped` is mostly the same for all
    /// responses.
    ///
    /// All is copied once the form is found, so that nobody waits for it who looks for theirs.
    pub(in crate::entry) fn cast(
        &self,
        origin: &HeaderMap,
        stripped: &[HeaderName],
        body: &[impl AsRef<[u8]>],
    ) -> (Fields, Bytes) {
        if let Some(form) = self.usual(origin, stripped) {
            return form.with_own(origin.values().map(Value::from), body);
        }
        let (fields, has_inner_status) = storable(origin, stripped);
        let status_slot = status_slot(&fields);
        let values = || lines_of(&fields, status_slot).map(Value::from);
        if let Some(form) = self.learn(&fields, has_inner_status, values) {
            return form.with_own(values(), body);
        }
        let (own, body) = pack(values(), body);
        let mut own = own.into_iter();
        let line = || Some(own.next().unwrap_or(EMPTY));
        let fields = Fields::alone(fields, has_inner_status, line);
        (fields.expect("there is a line for each"), body)
    }

    /// Finds the form of a response of which all may be stored, as mostly is so: this is told without asking
    /// of each field.
    fn usual(&self, origin: &HeaderMap, stripped: &[HeaderName]) -> Option<Fields> {
        let mut known = lock(&self.known);
        let (known, shared) = &mut *known;
        let fits = |learned: &Learned| {
            !learned.form.has_inner_status
                && are_named_alike(&learned.form.fields, SLOTS, origin)
                && !stripped.iter().any(|name| origin.contains_key(name))
        };
        let place = known.iter().position(fits)?;
        known.swap(0, place);
        known[0].form(shared, || origin.values().map(Value::from))
    }

    /// Finds the form of what may be stored of a response, or begins one.
    fn learn<'v, V>(
        &self,
        fields: &HeaderMap,
        has_inner_status: bool,
        values: impl Fn() -> V,
    ) -> Option<Fields>
    where
        V: Iterator<Item = Value<'v>>,
    {
        let mut known = lock(&self.known);
        let (known, shared) = &mut *known;
        let fits = |learned: &Learned| {
            learned.form.has_inner_status == has_inner_status
                && are_named_alike(&learned.form.fields, 0, fields)
        };
        let place = match known.iter().position(fits) {
            Some(place) => place,
            None => {
                let learned = Learned::new(shared, fields, has_inner_status)?;
                known.truncate(FORMS - 1);
                known.push(learned);
                known.len() - 1
            }
        };
        known.swap(0, place);
        known[0].form(shared, values)
    }
}

/// Whether a response has the names of a form after so many slots, no more and no fewer. Without slots
/// none of its fields is of the connection then: nothing that names such fields is among them.
fn are_named_alike(form: &HeaderMap, slots: usize, response: &HeaderMap) -> bool {
    form.len() == response.len() + slots
        && form.iter().skip(slots).map(|(name, _)| name).eq(response.iter().map(|(name, _)| name))
}

/// Copies the fields that may be stored, with the slots. Returns also whether an inner cache has its
/// say among them.
pub(super) fn storable(origin: &HeaderMap, stripped: &[HeaderName]) -> (HeaderMap, bool) {
    let hops = Hops::of(origin);
    let is_kept =
        |name: &HeaderName| *name != AGE && !stripped.contains(name) && !hops.contain(name);
    let has_inner_status = origin.keys().any(|name| *name == CACHE_STATUS && is_kept(name));
    let kept = origin.iter().filter(|(name, _)| is_kept(name));
    let lines = kept.map(|(name, value)| Some((name.clone(), value.clone())));
    // A response with more fields than a map holds is refused before.
    (with_slots(has_inner_status, lines).unwrap_or_default(), has_inner_status)
}

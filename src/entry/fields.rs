//! The fields of a response as they are stored.
//!
//! Responses of one route mostly have the same fields, and in many of these the same values. What
//! they have in common is kept once, as a [`Form`]; a response keeps the values of its own. A hit
//! clones the form, which is warm whatever response is asked for, and puts these in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header::AGE};

use super::{
    CACHE_STATUS,
    kept::kept,
    weight::{PER_FIELD, name_weight},
};
use crate::{
    hops::Hops,
    sync::{Mutex, lock},
};

/// So many responses are looked at before the values that all of them have had are taken for their
/// form's.
const TRIALS: usize = 4;

/// So many forms are known of one route.
const FORMS: usize = 4;

/// How many slots the usual form begins with.
const SLOTS: usize = 2;

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// The fields of one response.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    form: Arc<Form>,
    /// The values that are not the form's, in the order of its lines.
    own: Box<[HeaderValue]>,
}

/// What responses have in common: names, and values.
#[derive(Debug)]
struct Form {
    /// Begins with a slot for `Age` and one for `Cache-Status`, so that a hit overwrites them in its
    /// clone without a search, and the map never grows. Where an inner cache has its say in
    /// `Cache-Status`, ours comes after it: the slot is then the last line of the field.
    fields: HeaderMap,
    has_inner_status: bool,
    /// Where the slot for `Cache-Status` is.
    status_slot: usize,
    /// What stands at each place that is no slot, once more: to go through these takes a fraction of
    /// the steps that the map's lines take.
    lines: Box<[HeaderValue]>,
    /// How many lines to pass over before each that is a response's own.
    gaps: Box<[usize]>,
    weight: usize,
    /// How many responses have had it.
    casts: AtomicUsize,
}

/// A value as it is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'v> {
    pub(crate) bytes: &'v [u8],
    pub(crate) is_sensitive: bool,
}

impl<'v> From<&'v HeaderValue> for Value<'v> {
    fn from(value: &'v HeaderValue) -> Self {
        Self { bytes: value.as_bytes(), is_sensitive: value.is_sensitive() }
    }
}

impl Fields {
    fn new(form: &Arc<Form>, own: Box<[HeaderValue]>) -> Self {
        form.casts.fetch_add(1, Ordering::Relaxed);
        Self { form: Arc::clone(form), own }
    }

    /// Puts the fields into a map, with the two slots filled.
    pub(super) fn put(&self, fields: &mut HeaderMap, age: HeaderValue, cache_status: HeaderValue) {
        let Form { has_inner_status, status_slot, gaps, .. } = &*self.form;
        *fields = self.form.fields.clone();
        let mut lines = fields.values_mut();
        if let Some(slot) = lines.next() {
            *slot = age;
        }
        if !has_inner_status {
            if let Some(slot) = lines.next() {
                *slot = cache_status;
            }
            put(lines, gaps, &self.own);
            return;
        }
        let lines = (1..).zip(lines).filter(|(place, _)| place != status_slot);
        put(lines.map(|(_, line)| line), gaps, &self.own);
        if let Some(slot) = fields.values_mut().nth(*status_slot) {
            *slot = cache_status;
        }
    }

    /// Returns the fields with empty slots.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        self.put(&mut fields, EMPTY, EMPTY);
        fields
    }

    /// Returns the fields, but for the slots.
    #[cfg(feature = "redis")]
    pub(crate) fn without_slots(&self) -> Vec<(HeaderName, HeaderValue)> {
        let fields = self.to_map();
        let lines = fields.iter().enumerate().filter(|(place, _)| !self.form.is_slot(*place));
        lines.map(|(_, (name, value))| (name.clone(), value.clone())).collect()
    }

    #[cfg(feature = "redis")]
    pub(crate) fn has_inner_status(&self) -> bool {
        self.form.has_inner_status
    }

    /// Returns the bytes that they take: their own, and their share of the form, which is less the
    /// more responses have had it.
    pub(crate) fn weight(&self) -> usize {
        let values: usize = self.own.iter().map(|value| size_of_val(value) + value.len()).sum();
        values + self.form.weight / self.form.casts.load(Ordering::Relaxed).max(1)
    }
}

#[inline]
fn put<'l>(
    mut lines: impl Iterator<Item = &'l mut HeaderValue>,
    gaps: &[usize],
    own: &[HeaderValue],
) {
    for (gap, value) in gaps.iter().zip(own) {
        if let Some(line) = lines.nth(*gap) {
            *line = value.clone();
        }
    }
}

/// What stands in a form where each response has a value of its own. No value of a form is sensitive.
fn own_mark() -> HeaderValue {
    let mut mark = EMPTY;
    mark.set_sensitive(true);
    mark
}

fn is_own(line: &HeaderValue) -> bool {
    line.is_sensitive()
}

/// Whether a response has another value than its form has for all.
fn is_other(line: &HeaderValue, value: Value<'_>) -> bool {
    !is_own(line) && (value.is_sensitive || value.bytes != line.as_bytes())
}

impl Form {
    fn new(fields: HeaderMap, has_inner_status: bool) -> Self {
        let statuses = fields.iter().enumerate().filter(|(_, (name, _))| **name == CACHE_STATUS);
        let status_slot = statuses.last().map_or(0, |(place, _)| place);
        let names: usize = fields.keys().map(name_weight).sum();
        let mut form = Self {
            weight: size_of::<Self>() + fields.len() * PER_FIELD + names,
            fields,
            has_inner_status,
            status_slot,
            lines: Box::default(),
            gaps: Box::default(),
            casts: AtomicUsize::new(0),
        };
        form.lines = form.lines_of(&form.fields).cloned().collect();
        let mut gap = 0;
        let mut gaps = Vec::new();
        for line in &form.lines {
            match is_own(line) {
                true => gaps.push(std::mem::take(&mut gap)),
                false => gap += 1,
            }
        }
        form.gaps = gaps.into();
        form.weight += size_of_val(&*form.lines) + size_of_val(&*form.gaps);
        form
    }

    fn is_slot(&self, place: usize) -> bool {
        place == 0 || place == self.status_slot
    }

    /// Returns what stands at each place that is no slot, in a map with the names and slots of this one.
    fn lines_of<'f>(&self, fields: &'f HeaderMap) -> impl Iterator<Item = &'f HeaderValue> {
        let lines = fields.values().enumerate().filter(|(place, _)| !self.is_slot(*place));
        lines.map(|(_, line)| line)
    }

    /// Returns those values, of all that a response has, that are not the form's.
    fn own<'v>(
        &self,
        mut values: impl Iterator<Item = Value<'v>>,
    ) -> impl Iterator<Item = Value<'v>> {
        self.gaps.iter().map_while(move |gap| values.nth(*gap))
    }

    /// Returns the same form with other lines; `None` for one that is each response's own.
    fn with_lines(&self, mut line: impl FnMut(&HeaderValue) -> Option<HeaderValue>) -> Self {
        let mut fields = self.fields.clone();
        let lines = fields.values_mut().enumerate().filter(|(place, _)| !self.is_slot(*place));
        for (_, value) in lines {
            *value = line(value).unwrap_or_else(own_mark);
        }
        Self::new(fields, self.has_inner_status)
    }
}

/// A form, and what is being learned of it.
#[derive(Debug)]
pub(crate) struct Learned {
    form: Arc<Form>,
    trial: Option<Trial>,
}

/// Which values all responses so far have had, before any is taken for the form's.
#[derive(Debug)]
struct Trial {
    lines: Option<Vec<Option<Box<[u8]>>>>,
    left: usize,
}

impl Learned {
    /// Begins with the form of fields, slots included, whose values are all each response's own.
    pub(crate) fn new(fields: HeaderMap, has_inner_status: bool) -> Self {
        // Copied: a clone's capacity is its length.
        let form = Form::new(fields, has_inner_status).with_lines(|_| None);
        Self { form: Arc::new(form), trial: Some(Trial { lines: None, left: TRIALS }) }
    }

    /// Sees to it that a response with such values has all that the form has.
    fn fit<'v, V>(&mut self, values: impl Fn() -> V)
    where
        V: Iterator<Item = Value<'v>>,
    {
        if self.form.lines.iter().zip(values()).any(|(line, value)| is_other(line, value)) {
            let mut values = values();
            let is_shared = |line: &HeaderValue, value| !is_own(line) && !is_other(line, value);
            let form = self.form.with_lines(|line| {
                values.next().filter(|value| is_shared(line, *value)).map(|_| line.clone())
            });
            self.form = Arc::new(form);
        }
        if let Some(trial) = &mut self.trial
            && trial.is_over(values())
        {
            let lines = self.trial.take().and_then(|trial| trial.lines).unwrap_or_default();
            let mut lines = lines.into_iter();
            let form = self.form.with_lines(|_| kept(&lines.next()??));
            self.form = Arc::new(form);
        }
    }

    /// Copies the values of a response.
    fn cast<'v, V>(&mut self, values: impl Fn() -> V) -> Fields
    where
        V: Iterator<Item = Value<'v>>,
    {
        self.fit(&values);
        let own = pack(self.form.gaps.len(), || self.form.own(values()));
        Fields::new(&self.form, own)
    }

    /// Takes the values of a response off the front of others. `own` makes those that are not the
    /// form's.
    #[cfg(feature = "redis")]
    pub(crate) fn read<'v>(
        &mut self,
        values: &mut (impl Iterator<Item = Value<'v>> + Clone),
        mut own: impl FnMut(Value<'v>) -> Option<HeaderValue>,
    ) -> Option<Fields> {
        let first = values.clone();
        let mut made = Vec::with_capacity(self.form.gaps.len());
        let mut is_fit = self.trial.is_none();
        for line in &self.form.lines {
            let value = values.next()?;
            is_fit &= !is_other(line, value);
            if is_fit && is_own(line) {
                made.push(own(value)?);
            }
        }
        if !is_fit {
            let lines = self.form.lines.len();
            let values = || first.clone().take(lines);
            self.fit(values);
            made = self.form.own(values()).map(own).collect::<Option<_>>()?;
        }
        Some(Fields::new(&self.form, made.into()))
    }
}

impl Trial {
    /// Looks at the values of one more response.
    fn is_over<'v>(&mut self, values: impl Iterator<Item = Value<'v>>) -> bool {
        let Some(lines) = &mut self.lines else {
            let line = |value: Value<'_>| (!value.is_sensitive).then(|| value.bytes.into());
            self.lines = Some(values.map(line).collect());
            return false;
        };
        for (line, value) in lines.iter_mut().zip(values) {
            *line = line.take().filter(|line| !value.is_sensitive && **line == *value.bytes);
        }
        self.left -= 1;
        self.left == 0
    }
}

/// The forms that responses of a route have had lately.
#[derive(Debug, Default)]
pub(crate) struct Mould {
    known: Mutex<Vec<Learned>>,
}

impl Mould {
    /// Copies the fields that may be stored. `stripped` is mostly the same for all responses.
    pub(super) fn cast(&self, origin: &HeaderMap, stripped: &[HeaderName]) -> Fields {
        let mut known = lock(&self.known);
        // Mostly all of them may be stored, which is told without asking of each.
        let fits = |learned: &Learned| {
            are_named_alike(&learned.form.fields, SLOTS, origin)
                && !stripped.iter().any(|name| origin.contains_key(name))
        };
        if let Some(place) = known.iter().position(fits) {
            known.swap(0, place);
            return known[0].cast(|| origin.values().map(Value::from));
        }
        let (fields, has_inner_status) = storable(origin, stripped);
        let fits = |learned: &Learned| {
            learned.form.has_inner_status == has_inner_status
                && are_named_alike(&learned.form.fields, 0, &fields)
        };
        match known.iter().position(fits) {
            Some(place) => known.swap(0, place),
            None => {
                known.truncate(FORMS - 1);
                known.insert(0, Learned::new(fields.clone(), has_inner_status));
            }
        }
        let form = Arc::clone(&known[0].form);
        known[0].cast(|| form.lines_of(&fields).map(Value::from))
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
fn storable(origin: &HeaderMap, stripped: &[HeaderName]) -> (HeaderMap, bool) {
    let hops = Hops::of(origin);
    let is_kept =
        |name: &HeaderName| *name != AGE && !stripped.contains(name) && !hops.contain(name);
    let has_inner_status = origin.keys().any(|name| *name == CACHE_STATUS && is_kept(name));
    let kept = origin.iter().filter(|(name, _)| is_kept(name));
    let lines = kept.map(|(name, value)| Some((name.clone(), value.clone())));
    // A response with more fields than a map holds is refused before.
    (with_slots(has_inner_status, lines).unwrap_or_default(), has_inner_status)
}

/// Makes a map of lines, with the slots where they belong. `None` if a line is, or there are too many.
pub(crate) fn with_slots(
    has_inner_status: bool,
    lines: impl Iterator<Item = Option<(HeaderName, HeaderValue)>>,
) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    fields.append(AGE, EMPTY);
    if !has_inner_status {
        fields.append(CACHE_STATUS, EMPTY);
    }
    for line in lines {
        let (name, value) = line?;
        fields.try_append(name, value).ok()?;
    }
    if has_inner_status {
        fields.try_append(CACHE_STATUS, EMPTY).ok()?;
    }
    Some(fields)
}

/// Copies so many values into one allocation: a value cut from a connection's read buffer would otherwise
/// keep that buffer alive as long as the entry.
fn pack<'v, V>(count: usize, values: impl Fn() -> V) -> Box<[HeaderValue]>
where
    V: Iterator<Item = Value<'v>>,
{
    if count == 0 {
        return Box::default();
    }
    let mut text = BytesMut::with_capacity(values().map(|value| value.bytes.len()).sum());
    values().for_each(|value| text.extend_from_slice(value.bytes));
    let mut text = text.freeze();
    let copies = values().map(|value| {
        let bytes = text.split_to(value.bytes.len());
        // The bytes were a field value before; a copy of them is one.
        let mut copy = HeaderValue::from_maybe_shared(bytes).unwrap_or(EMPTY);
        copy.set_sensitive(value.is_sensitive);
        copy
    });
    let mut all = Vec::with_capacity(count);
    all.extend(copies);
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = [(&'static str, &'static str)];

    fn fields(lines: &Lines) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    fn cast(mould: &Mould, lines: &Lines) -> Fields {
        mould.cast(&fields(lines), &[HeaderName::from_static("x-request-id")])
    }

    /// Every response comes out of a mould as it is, whatever came before.
    #[track_caller]
    fn check(pages: &[&Lines]) {
        let mould = Mould::default();
        for page in pages {
            let mut map = HeaderMap::new();
            let [age, status] = ["7", "ours"].map(HeaderValue::from_static);
            cast(&mould, page).put(&mut map, age.clone(), status.clone());
            let stripped = [HeaderName::from_static("x-request-id")];
            let (mut expected, _) = storable(&fields(page), &stripped);
            expected.insert(AGE, age);
            if let http::header::Entry::Occupied(mut lines) = expected.entry(CACHE_STATUS)
                && let Some(slot) = lines.iter_mut().next_back()
            {
                *slot = status;
            }
            assert!(map.iter().eq(&expected), "{map:?}\n{expected:?}");
        }
    }

    #[test]
    fn the_values_are_of_each_response() {
        let page = [("etag", "1"), ("link", "a"), ("link", "b"), ("x-name", "")];
        let other = [("etag", "longer"), ("link", ""), ("link", "c"), ("x-name", "3")];
        check(&[&page, &other, &page]);
        // Also when some have been taken for all responses'.
        for changed in 0..page.len() {
            let mut third = page;
            third[changed].1 = "other";
            let mut pages = vec![&page[..]; TRIALS + 2];
            pages.extend([&third[..], &page, &other, &third]);
            check(&pages);
        }
    }

    #[test]
    fn what_all_have_is_kept_once_and_the_rest_for_each() {
        let mould = Mould::default();
        let tags = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
        let pages = tags.map(|tag| [("content-type", "text/plain"), ("etag", tag), ("vary", "a")]);
        let all = pages.map(|page| cast(&mould, &page));
        let owned = all.each_ref().map(|fields| fields.own.len());
        assert_eq!(owned, [3, 3, 3, 3, 1, 1, 1, 1, 1, 1]);
        let last = &all[tags.len() - 1];
        assert_eq!(last.own[0], "10");
        let (one, other) = (last.to_map(), all[tags.len() - 2].to_map());
        assert!(std::ptr::eq(one["vary"].as_bytes(), other["vary"].as_bytes()));
        // One that differs has its own, and so have all after it.
        let odd = cast(&mould, &[("content-type", "text/html"), ("etag", "1"), ("vary", "a")]);
        let next = cast(&mould, &pages[0]);
        assert_eq!((odd.own.len(), next.own.len()), (2, 2));
    }

    #[test]
    fn what_is_sensitive_stays_so_and_is_each_responses_own() {
        let mould = Mould::default();
        let mut page = fields(&[("etag", "1"), ("link", "1")]);
        page.get_mut("etag").unwrap().set_sensitive(true);
        for _ in 0..2 * TRIALS {
            let map = mould.cast(&page, &[]).to_map();
            assert!(map["etag"].is_sensitive() && !map["link"].is_sensitive());
        }
        page.get_mut("link").unwrap().set_sensitive(true);
        assert!(mould.cast(&page, &[]).to_map()["link"].is_sensitive());
    }

    #[test]
    fn other_names_are_another_form() {
        check(&[
            &[("etag", "1")],
            &[("vary", "1")],
            &[("etag", "1"), ("etag", "2")],
            &[("etag", "1"), ("link", "2")],
            &[("link", "2"), ("etag", "1")],
            &[("link", "1"), ("link", "2")],
            &[("link", "1"), ("etag", "2")],
            &[],
            &[("etag", "1")],
        ]);
    }

    #[test]
    fn what_may_not_be_stored_is_left_out_each_time() {
        let pages = [
            &[("etag", "1"), ("connection", "x-hop"), ("x-hop", "1")][..],
            &[("etag", "1"), ("x-hop", "1")],
            &[("connection", "x-hop"), ("x-hop", "1")],
            &[("etag", "1"), ("x-request-id", "1")],
            &[("etag", "1"), ("age", "1")],
            &[("etag", "1"), ("cache-status", "inner; hit")],
            &[("cache-status", "inner; hit"), ("etag", "1"), ("cache-status", "other; hit")],
            &[("cache-status", "inner; hit")],
            &[("etag", "1"), ("keep-alive", "1")],
        ];
        for page in pages {
            check(&[page, page]);
            check(&[&[("etag", "1")], page, &[("etag", "1")]]);
            check(&[page; TRIALS + 3]);
        }
        check(&pages);
        let mould = Mould::default();
        let page = fields(&[("etag", "1"), ("x-secret", "1")]);
        assert_eq!(mould.cast(&page, &[]).to_map().len(), 4);
        assert_eq!(mould.cast(&page, &[HeaderName::from_static("x-secret")]).to_map().len(), 3);
    }

    #[test]
    fn the_slots_are_where_they_are_filled_whatever_becomes_of_an_inner_status() {
        for (lines, stripped) in [
            (&[("cache-status", "inner; hit"), ("etag", "1")][..], &[CACHE_STATUS][..]),
            (&[("connection", "cache-status"), ("cache-status", "inner"), ("etag", "1")], &[]),
        ] {
            let cast = Mould::default().cast(&fields(lines), stripped);
            assert!(!cast.form.has_inner_status);
            let map = cast.to_map();
            let names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["age", "cache-status", "etag"]);
        }
    }

    #[test]
    fn the_first_of_a_form_pays_for_it() {
        let (mould, page) = (Mould::default(), [("etag", "1"), ("x-own-name", "22")]);
        let own = 2 * size_of::<HeaderValue>() + 3;
        let weights = [(); 4].map(|()| cast(&mould, &page).weight() - own);
        assert!(weights[0] > 4 * PER_FIELD, "{weights:?}");
        assert_eq!(weights[1..], [weights[0] / 2, weights[0] / 3, weights[0] / 4]);
    }
}

//! The fields of a response as they are stored.
//!
//! Responses of one route mostly have the same fields, and in many of these the same values. What
//! they have in common is kept once, as a [`Form`]; a response keeps the values of its own. A hit
//! clones the form, which is warm whatever response is asked for, and puts these in.

mod mould;

use std::{
    mem,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::AGE};
use smallvec::SmallVec;

pub(crate) use self::mould::Mould;
use super::{
    CACHE_STATUS,
    kept::{LONGEST, kept},
    packed::pack,
    weight::{PER_FIELD, PER_TEXT, name_weight},
};

/// So many responses are looked at before the values that all of them have had are taken for their
/// form's.
const TRIALS: usize = 4;

/// A form is charged to the first that has it, and others may have it longer. So of one route so many
/// are alive at once, each of at most so many bytes. A response that fits none of them has a form of
/// its own, and is charged for it.
const MOST_SHARED: usize = 16;
const HEAVIEST: usize = 16 * 1024;

/// How many slots the usual form begins with.
const SLOTS: usize = 2;

pub(super) const EMPTY: HeaderValue = HeaderValue::from_static("");

/// The values that are a response's own, as few as mostly are in the entry itself.
pub(super) type Own = SmallVec<[HeaderValue; 3]>;

/// The fields of one response.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    form: Arc<Form>,
    /// The values that are not the form's, in the order of its lines.
    own: Own,
    /// Whether they are charged for the form: the first that have it are.
    pays: bool,
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
    /// The bytes that it takes.
    weight: usize,
}

/// The forms that are alive and that several may have.
#[derive(Debug, Default)]
pub(crate) struct Shared(Vec<Weak<Form>>);

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
    /// Fields that share nothing: `value` makes those of a map's lines, slots aside.
    pub(crate) fn alone(
        mut fields: HeaderMap,
        has_inner_status: bool,
        mut value: impl FnMut() -> Option<HeaderValue>,
    ) -> Option<Self> {
        let status_slot = status_slot(&fields);
        let mut text = 0;
        for (place, line) in fields.values_mut().enumerate() {
            if !is_slot(place, status_slot) {
                *line = value()?;
                text += line.len();
            }
        }
        // Copied: a clone's capacity is its length.
        let weight = form_weight(&fields) + text + PER_TEXT;
        let (lines, gaps) = (Box::default(), Box::default());
        let form =
            Form { fields: fields.clone(), has_inner_status, status_slot, lines, gaps, weight };
        Some(Self { form: Arc::new(form), own: Own::new(), pays: true })
    }

    /// Puts the fields into a map, with the two slots filled.
    #[inline]
    pub(super) fn put(&self, fields: &mut HeaderMap, age: HeaderValue, cache_status: HeaderValue) {
        let Form { has_inner_status, status_slot, gaps, .. } = &*self.form;
        *fields = self.form.fields.clone();
        let mut lines = fields.values_mut();
        if let Some(slot) = lines.next() {
            fill(slot, age);
        }
        if !has_inner_status {
            if let Some(slot) = lines.next() {
                fill(slot, cache_status);
            }
            put(lines, gaps, &self.own);
            return;
        }
        let lines = (1..).zip(lines).filter(|(place, _)| place != status_slot);
        put(lines.map(|(_, line)| line), gaps, &self.own);
        if let Some(slot) = fields.values_mut().nth(*status_slot) {
            fill(slot, cache_status);
        }
    }

    /// Copies the values that are not the form's, and a body with them.
    fn with_own<'v>(
        mut self,
        values: impl Iterator<Item = Value<'v>>,
        body: &[impl AsRef<[u8]>],
    ) -> (Self, Bytes) {
        let (own, body) = pack(self.form.own(values), body);
        self.own = own;
        (self, body)
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
        let lines =
            fields.iter().enumerate().filter(|(place, _)| !is_slot(*place, self.form.status_slot));
        lines.map(|(_, (name, value))| (name.clone(), value.clone())).collect()
    }

    #[cfg(feature = "redis")]
    pub(crate) fn has_inner_status(&self) -> bool {
        self.form.has_inner_status
    }

    /// Returns the bytes that they are charged for.
    pub(crate) fn weight(&self) -> usize {
        let own: usize = self.own.iter().map(HeaderValue::len).sum();
        // The others lie in the entry itself.
        let list = if self.own.spilled() { size_of_val(&*self.own) } else { 0 };
        let text = if self.own.is_empty() { 0 } else { PER_TEXT };
        let form = if self.pays { self.form.weight } else { 0 };
        own + list + text + form
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
            fill(line, value.clone());
        }
    }
}

/// Puts a value where an empty one stands. That is static, so there is nothing to be freed.
fn fill(line: &mut HeaderValue, value: HeaderValue) {
    mem::forget(mem::replace(line, value));
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

/// Returns where the slot for `Cache-Status` is: the last line of that name.
fn status_slot(fields: &HeaderMap) -> usize {
    let statuses = fields.iter().enumerate().filter(|(_, (name, _))| **name == CACHE_STATUS);
    statuses.last().map_or(0, |(place, _)| place)
}

fn is_slot(place: usize, status_slot: usize) -> bool {
    place == 0 || place == status_slot
}

/// Returns the bytes that a form of such fields takes.
fn form_weight(fields: &HeaderMap) -> usize {
    let names: usize = fields.keys().map(name_weight).sum();
    size_of::<Form>() + fields.len() * PER_FIELD + names
}

impl Shared {
    /// Lets a form be shared, unless it is too large or there are too many.
    fn admit(&mut self, form: Form) -> Option<Arc<Form>> {
        self.0.retain(|form| form.strong_count() > 0);
        if self.0.len() >= MOST_SHARED || form.weight > HEAVIEST {
            return None;
        }
        let form = Arc::new(form);
        self.0.push(Arc::downgrade(&form));
        Some(form)
    }
}

/// Returns what stands at each place of a map that is no slot.
fn lines_of(fields: &HeaderMap, status_slot: usize) -> impl Iterator<Item = &HeaderValue> {
    let lines = fields.values().enumerate().filter(move |(place, _)| !is_slot(*place, status_slot));
    lines.map(|(_, line)| line)
}

impl Form {
    /// A form for many.
    fn new(fields: HeaderMap, has_inner_status: bool) -> Self {
        let status_slot = status_slot(&fields);
        let (lines, gaps) = (Box::default(), Box::default());
        let mut form = Self { fields, has_inner_status, status_slot, lines, gaps, weight: 0 };
        form.weight = form_weight(&form.fields);
        form.lines = lines_of(&form.fields, form.status_slot).cloned().collect();
        let mut gap = 0;
        let mut gaps = Vec::new();
        for line in &form.lines {
            match is_own(line) {
                true => gaps.push(mem::take(&mut gap)),
                false => gap += 1,
            }
        }
        form.gaps = gaps.into();
        form.weight += size_of_val(&*form.lines) + size_of_val(&*form.gaps);
        form
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
        let lines =
            fields.values_mut().enumerate().filter(|(place, _)| !is_slot(*place, self.status_slot));
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
    /// Whether somebody has been charged for it.
    is_paid: bool,
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
    pub(crate) fn new(
        shared: &mut Shared,
        fields: &HeaderMap,
        has_inner_status: bool,
    ) -> Option<Self> {
        // Copied: a clone's capacity is its length.
        let form = Form::new(fields.clone(), has_inner_status).with_lines(|_| None);
        let trial = Some(Trial { lines: None, left: TRIALS });
        Some(Self { form: shared.admit(form)?, is_paid: false, trial })
    }

    /// Sees to it that a response with such values has all that the form has. `None` where it has not
    /// and there are too many forms already.
    fn fit<'v, V>(&mut self, shared: &mut Shared, values: impl Fn() -> V) -> Option<()>
    where
        V: Iterator<Item = Value<'v>>,
    {
        if self.form.lines.iter().zip(values()).any(|(line, value)| is_other(line, value)) {
            let mut values = values();
            let is_shared = |line: &HeaderValue, value| !is_own(line) && !is_other(line, value);
            let form = self.form.with_lines(|line| {
                values.next().filter(|value| is_shared(line, *value)).map(|_| line.clone())
            });
            self.form = shared.admit(form)?;
        }
        if let Some(trial) = &mut self.trial
            && trial.is_over(values())
        {
            let lines = self.trial.take().and_then(|trial| trial.lines).unwrap_or_default();
            let mut lines = lines.into_iter();
            let form = self.form.with_lines(|_| kept(&lines.next()??));
            self.form = shared.admit(form).unwrap_or_else(|| Arc::clone(&self.form));
        }
        Some(())
    }

    /// Returns the fields of a response with such values, its own left out.
    fn form<'v, V>(&mut self, shared: &mut Shared, values: impl Fn() -> V) -> Option<Fields>
    where
        V: Iterator<Item = Value<'v>>,
    {
        self.fit(shared, values)?;
        Some(self.fields(Own::new()))
    }

    fn fields(&mut self, own: Own) -> Fields {
        let pays = !mem::replace(&mut self.is_paid, true);
        Fields { form: Arc::clone(&self.form), own, pays }
    }

    /// Takes the values of a response off the front of others. `own` makes those that are not the
    /// form's. `None` where there are too few, one is none, or too many forms.
    #[cfg(feature = "redis")]
    pub(crate) fn read<'v>(
        &mut self,
        shared: &mut Shared,
        values: &mut (impl Iterator<Item = Value<'v>> + Clone),
        mut own: impl FnMut(Value<'v>) -> Option<HeaderValue>,
    ) -> Option<Fields> {
        let first = values.clone();
        let mut made = Own::with_capacity(self.form.gaps.len());
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
            self.fit(shared, values)?;
            // Charged for by their number, so there is room for no more.
            made = Own::with_capacity(self.form.gaps.len());
            for value in self.form.own(values()) {
                made.push(own(value)?);
            }
        }
        Some(self.fields(made))
    }
}

impl Trial {
    /// Looks at the values of one more response.
    fn is_over<'v>(&mut self, values: impl Iterator<Item = Value<'v>>) -> bool {
        let Some(lines) = &mut self.lines else {
            let is_candidate =
                |value: &Value<'_>| !value.is_sensitive && value.bytes.len() <= LONGEST;
            let line = |value| Some(value).filter(is_candidate).map(|value| value.bytes.into());
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

#[cfg(test)]
mod tests {
    use super::{mould::storable, *};
    use crate::verify::random::for_all;

    type Lines = [(&'static str, &'static str)];

    const NONE: &[Bytes] = &[];

    fn fields(lines: &Lines) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    fn cast(mould: &Mould, lines: &Lines) -> Fields {
        mould.cast(&fields(lines), &[HeaderName::from_static("x-request-id")], NONE).0
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
            let map = mould.cast(&page, &[], NONE).0.to_map();
            assert!(map["etag"].is_sensitive() && !map["link"].is_sensitive());
        }
        page.get_mut("link").unwrap().set_sensitive(true);
        assert!(mould.cast(&page, &[], NONE).0.to_map()["link"].is_sensitive());
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
        // As many lines, and the same names behind the first two.
        check(&[
            &[("x-user", "alice"), ("etag", "1"), ("cache-status", "inner; hit")],
            &[("etag", "2"), ("cache-status", "shield; hit"), ("cache-status", "inner; hit")],
        ]);
        let mould = Mould::default();
        let page = fields(&[("etag", "1"), ("x-secret", "1")]);
        let lines = |stripped| mould.cast(&page, stripped, NONE).0.to_map().len();
        assert_eq!(lines(&[]), 4);
        assert_eq!(lines(&[HeaderName::from_static("x-secret")]), 3);
    }

    #[test]
    fn whatever_responses_of_a_route_have_each_comes_out_as_it_is() {
        const NAMES: [&str; 6] =
            ["etag", "link", "x-own", "cache-status", "x-request-id", "keep-alive"];
        const VALUES: [&str; 4] = ["same", "", "other", "third"];
        for_all(|random| {
            let kinds = random.vec(1..6, |random| random.vec(0..5, |random| random.pick(&NAMES)));
            let pages = random.vec(1..60, |random| {
                let (names, values) = (random.pick(&kinds), random.below(64));
                // Mostly the same.
                let value =
                    |place: usize| VALUES[if values >> place & 1 == 0 { 0 } else { values % 4 }];
                let names = names.into_iter().enumerate();
                names.map(|(place, name)| (name, value(place))).collect::<Vec<_>>()
            });
            check(&pages.iter().map(|page| &page[..]).collect::<Vec<_>>());
        });
    }

    #[test]
    fn the_slots_are_where_they_are_filled_whatever_becomes_of_an_inner_status() {
        for (lines, stripped) in [
            (&[("cache-status", "inner; hit"), ("etag", "1")][..], &[CACHE_STATUS][..]),
            (&[("connection", "cache-status"), ("cache-status", "inner"), ("etag", "1")], &[]),
        ] {
            let cast = Mould::default().cast(&fields(lines), stripped, NONE).0;
            assert!(!cast.form.has_inner_status);
            let map = cast.to_map();
            let names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["age", "cache-status", "etag"]);
        }
    }

    #[test]
    fn a_form_is_charged_to_the_first_and_to_each_where_there_are_too_many() {
        let (mould, page) = (Mould::default(), [("etag", "1"), ("x-own-name", "22")]);
        let own = 3 + PER_TEXT;
        assert!(cast(&mould, &page).weight() > own + 4 * PER_FIELD);
        assert_eq!(cast(&mould, &page).weight(), own);
        let names: Vec<_> = (0..2 * MOST_SHARED).map(|n| format!("x-name-{n}")).collect();
        let twice = |name: &String| {
            let mut response = fields(&page);
            response.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("3"));
            [(); 2].map(|()| mould.cast(&response, &[], NONE).0)
        };
        let alive: Vec<_> = names.iter().map(twice).collect();
        let second: Vec<_> = alive.iter().map(|[_, second]| second.weight()).collect();
        let shared = second.iter().filter(|weight| **weight < 2 * own).count();
        assert_eq!(shared, MOST_SHARED - 1, "{second:?}");
        assert!(second[shared..].iter().all(|weight| *weight > 5 * PER_FIELD), "{second:?}");
        assert_eq!(alive[names.len() - 1][1].to_map()[&names[names.len() - 1]], "3");
        // What is not alive any more makes room.
        drop(alive);
        let [_, second] = twice(&"x-later-name".to_owned());
        assert!(second.weight() < 2 * own);
    }

    #[test]
    fn a_form_that_is_too_heavy_is_one_responses_own() {
        let mut response = HeaderMap::new();
        for n in 0..HEAVIEST / PER_FIELD {
            let name = HeaderName::try_from(format!("x-name-{n}")).unwrap();
            response.append(name, HeaderValue::from_static("1"));
        }
        let mould = Mould::default();
        for cast in [(); 2].map(|()| mould.cast(&response, &[], NONE).0) {
            assert!(cast.weight() > HEAVIEST);
            assert!(cast.to_map().iter().skip(SLOTS).eq(&response));
        }
    }

    #[test]
    fn a_long_value_is_not_tried_out() {
        let mut known = Shared::default();
        let long = "x".repeat(LONGEST + 1);
        let mut response = fields(&[("etag", "1")]);
        response.append("link", HeaderValue::from_str(&long).unwrap());
        let (map, _) = storable(&response, &[]);
        let mut learned = Learned::new(&mut known, &map, false).unwrap();
        learned.form(&mut known, || response.values().map(Value::from)).unwrap();
        let lines = learned.trial.unwrap().lines.unwrap();
        assert!(lines[0].is_some() && lines[1].is_none());
    }

    #[test]
    fn nobody_waits_for_a_body_that_is_copied() {
        /// A chunk that is looked at only where nobody has the lock.
        struct Chunk<'m>(&'m Mould);
        impl AsRef<[u8]> for Chunk<'_> {
            fn as_ref(&self) -> &[u8] {
                assert!(self.0.known.try_lock().is_ok());
                b"chunk"
            }
        }
        let mould = Mould::default();
        let names: Vec<_> = (0..HEAVIEST / PER_FIELD).map(|n| format!("x-name-{n}")).collect();
        let heavy = names.iter().map(|name| (HeaderName::try_from(name).unwrap(), EMPTY));
        // Learned, known, with what is not stored, and with a form of its own.
        let page = fields(&[("etag", "1")]);
        let odd = fields(&[("etag", "1"), ("age", "1")]);
        for origin in [&page, &page, &odd, &heavy.collect()] {
            assert_eq!(mould.cast(origin, &[], &[Chunk(&mould)]).1, "chunk");
        }
    }

    #[cfg(feature = "redis")]
    #[test]
    fn what_is_read_takes_no_more_than_it_is_charged_for() {
        let names: Vec<_> = (0..17).map(|n| format!("x-name-{n}")).collect();
        let response: HeaderMap = names
            .iter()
            .map(|name| (HeaderName::try_from(name).unwrap(), HeaderValue::from_static("1")))
            .collect();
        let (map, _) = storable(&response, &[]);
        let mut shared = Shared::default();
        let mut learned = Learned::new(&mut shared, &map, false).unwrap();
        let own = |value: Value<'_>| HeaderValue::from_bytes(value.bytes).ok();
        let values: Vec<_> = response.values().cloned().collect();
        for _ in 0..TRIALS {
            let mut values = values.iter().map(Value::from);
            let read = learned.read(&mut shared, &mut values, own).unwrap();
            assert!(read.own.len() == names.len() && read.own.capacity() == names.len());
        }
    }
}

//! What one pass over a request's fields finds.

use http::{
    HeaderMap, HeaderName,
    header::{
        CACHE_CONTROL, COOKIE, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_UNMODIFIED_SINCE, PRAGMA, RANGE, UPGRADE,
    },
};

/// The fields that carry credentials, and which names are worth a closer look.
#[derive(Debug)]
pub(crate) struct Watched {
    credential_fields: Vec<HeaderName>,
    credentials: Sieve,
    others: Sieve,
}

impl Watched {
    pub(crate) fn new(credential_fields: Vec<HeaderName>) -> Self {
        let others = [
            HOST,
            RANGE,
            IF_MATCH,
            IF_UNMODIFIED_SINCE,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
            UPGRADE,
            CACHE_CONTROL,
            PRAGMA,
        ];
        let credentials = Sieve::of(&credential_fields);
        Self { credential_fields, credentials, others: Sieve::of(&others) }
    }
}

/// What a request may say.
#[derive(Clone, Copy)]
pub(crate) enum Fact {
    Credentials = 1 << 0,
    /// Credentials other than cookies.
    Authorization = 1 << 1,
    Range = 1 << 2,
    /// What only the origin may evaluate.
    Precondition = 1 << 3,
    Directives = 1 << 4,
    Conditions = 1 << 5,
    Upgrade = 1 << 6,
}

/// What the fields of a request mean for the cache.
#[derive(Clone, Copy, Default)]
pub(crate) struct Facts<'a> {
    pub(super) host: &'a [u8],
    pub(super) hosts: usize,
    /// One bit for each [`Fact`].
    found: u8,
}

impl<'a> Facts<'a> {
    #[inline]
    pub(crate) fn of(fields: &'a HeaderMap, watched: &Watched) -> Self {
        let mut facts = Self::default();
        // Names are looked at and not lines, which are many more steps to go through.
        for (place, name) in fields.keys().enumerate() {
            let mark = mark(name);
            if watched.others.may_hold(mark) {
                match *name {
                    HOST if fields.len() == fields.keys_len() => {
                        // Every name has one line: it is at the same place.
                        facts.host = fields.values().nth(place).map_or(b"", |host| host.as_bytes());
                        facts.hosts = 1;
                    }
                    HOST => {
                        for host in fields.get_all(HOST) {
                            facts.host = host.as_bytes();
                            facts.hosts += 1;
                        }
                    }
                    RANGE => facts.note(Fact::Range),
                    IF_MATCH | IF_UNMODIFIED_SINCE => facts.note(Fact::Precondition),
                    IF_NONE_MATCH | IF_MODIFIED_SINCE => facts.note(Fact::Conditions),
                    UPGRADE => facts.note(Fact::Upgrade),
                    CACHE_CONTROL | PRAGMA => facts.note(Fact::Directives),
                    _ => {}
                }
            }
            if watched.credentials.may_hold(mark) && watched.credential_fields.contains(name) {
                facts.note(Fact::Credentials);
                if *name != COOKIE {
                    facts.note(Fact::Authorization);
                }
            }
        }
        facts
    }

    fn note(&mut self, fact: Fact) {
        self.found |= fact as u8;
    }

    pub(crate) fn have(&self, fact: Fact) -> bool {
        self.found & fact as u8 != 0
    }

    /// Whether the request wants the resource and says nothing else that matters, credentials aside.
    pub(super) fn are_plain(&self) -> bool {
        const BY_THE_WAY: u8 = Fact::Credentials as u8 | Fact::Authorization as u8;
        let has_usual_host = self.hosts == 0 || self.hosts == 1 && !self.host.is_empty();
        has_usual_host && self.found & !BY_THE_WAY == 0
    }
}

/// Lets most names that are none of a set's be passed over without comparing them.
#[derive(Clone, Copy, Debug)]
struct Sieve(u64);

impl Sieve {
    fn of(names: &[HeaderName]) -> Self {
        Self(names.iter().map(mark).fold(0, |all, mark| all | mark))
    }

    fn may_hold(self, mark: u64) -> bool {
        self.0 & mark != 0
    }
}

/// Returns one bit, by a name's length and first letter.
#[inline]
fn mark(name: &HeaderName) -> u64 {
    let name = name.as_str().as_bytes();
    1 << ((name.len() + usize::from(name[0])) % 64)
}

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

/// What the fields of a request mean for the cache.
#[derive(Clone, Copy, Default)]
pub(crate) struct Facts<'a> {
    pub(super) host: &'a [u8],
    pub(super) hosts: usize,
    pub(crate) has_credentials: bool,
    /// Credentials other than cookies.
    pub(super) is_authorized: bool,
    pub(super) has_range: bool,
    pub(super) has_precondition: bool,
    pub(super) has_directives: bool,
    pub(super) has_conditions: bool,
    pub(super) is_upgrade: bool,
}

impl<'a> Facts<'a> {
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
                    RANGE => facts.has_range = true,
                    IF_MATCH | IF_UNMODIFIED_SINCE => facts.has_precondition = true,
                    IF_NONE_MATCH | IF_MODIFIED_SINCE => facts.has_conditions = true,
                    UPGRADE => facts.is_upgrade = true,
                    CACHE_CONTROL | PRAGMA => facts.has_directives = true,
                    _ => {}
                }
            }
            if watched.credentials.may_hold(mark) && watched.credential_fields.contains(name) {
                facts.has_credentials = true;
                facts.is_authorized |= *name != COOKIE;
            }
        }
        facts
    }

    /// Whether the request wants the resource and says nothing else that matters, credentials aside.
    pub(super) fn are_plain(&self) -> bool {
        let has_usual_host = self.hosts == 0 || self.hosts == 1 && !self.host.is_empty();
        let is_unusual = self.has_range
            | self.has_precondition
            | self.has_directives
            | self.has_conditions
            | self.is_upgrade;
        has_usual_host && !is_unusual
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
fn mark(name: &HeaderName) -> u64 {
    let name = name.as_str().as_bytes();
    1 << ((name.len() + usize::from(name[0])) % 64)
}

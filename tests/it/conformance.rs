//! The conformance suite: stores that hold its properties pass, and each flaw is caught.

use std::{
    future::ready,
    ops::Deref,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tower_support_cache::{
    MemoryStore,
    store::{
        Begin, Commit, Entry, Lookup, Pending, PrimaryKey, Sequence, Slot, Store, Strength,
        Subject, Tag, Tags, Token, Variant, VariantRef, conformance,
    },
    testing::Sealed,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_conforms() {
    conformance::check(async || MemoryStore::new()).await;
}

/// The suite lets a store wait, and ask again for a right to fill; this one has no reason to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_answers_at_once() {
    conformance::check(async || Prompt(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_memory_store_conforms() {
    conformance::check(async || MemoryStore::builder().capacity(16 * 1024).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_written_with_the_public_interface_alone_conforms() {
    conformance::check(async || Listed::new(Flaw::None)).await;
}

#[tokio::test(start_paused = true)]
async fn each_flaw_is_caught_by_the_rule_it_breaks() {
    use Flaw::*;
    caught(IgnoresFence, "a fill that an invalidation overtook is fenced").await;
    caught(ForgetsVariants, "an invalidation removes every variant of its key").await;
    caught(RemovesOtherKeys, "an invalidation removes no other key").await;
    caught(InvalidatesWhenPolled, "in force when it is called").await;
    caught(VoidsWhenPolled, "in force when it is called").await;
    caught(ForgetsFenceForAll, "a fill that an invalidation overtook is fenced").await;
    caught(ReplacesNewer, "an older response does not replace a newer one").await;
    caught(KeepsFirst, "a stale entry is replaced").await;
    caught(FindsByKey, "an entry is found by its own variant only").await;
    caught(NeverLooksAgain, "`begin` finds a fresh entry").await;
    caught(FindsWhatWasSeen, "`begin` does not find what was seen before").await;
    caught(AnswersWithNotes, "`begin` finds nothing where nothing fresh is stored").await;
    caught(ForgetsNotes, "a note is stored if its entry is").await;
    caught(NotesFirst, "a note is stored if its entry is").await;
    caught(ReplacesWithPass, "a response may answer").await;
    caught(KeepsLease, "the right to fill is granted").await;
    caught(LeaksEntries, "entry is released").await;
    caught(VoidsEverything, "does not void the fills of other keys").await;
    caught(IgnoresTags, "an invalidation of a tag removes all that has it: fence").await;
    caught(ReadsWhatTagsRemoved, "an invalidation of a tag removes all that has it: memory").await;
    caught(CommitsWhatTagsVoided, "a fill that an invalidation of a tag overtook is fenced").await;
    caught(FindsWhatItRemembers, "a response that was read often is found while it is there").await;
    caught(TagsWhenPolled, "an invalidation of a tag removes all that has it: fence").await;
    caught(ChecksFirst, "no look-up finds what was made before").await;
}

async fn caught(flaw: Flaw, rule: &str) {
    let message = message(tokio::spawn(conformance::check(async move || Listed::new(flaw))).await);
    assert!(message.contains(rule), "{flaw:?} was caught by another rule: {message}");
}

fn message(outcome: Result<(), tokio::task::JoinError>) -> String {
    let panic = outcome.expect_err("the suite catches it").into_panic();
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    IgnoresFence,
    ForgetsVariants,
    RemovesOtherKeys,
    InvalidatesWhenPolled,
    VoidsWhenPolled,
    ForgetsFenceForAll,
    ReplacesNewer,
    KeepsFirst,
    FindsByKey,
    NeverLooksAgain,
    FindsWhatWasSeen,
    AnswersWithNotes,
    ForgetsNotes,
    NotesFirst,
    ReplacesWithPass,
    KeepsLease,
    LeaksEntries,
    VoidsEverything,
    IgnoresTags,
    ReadsWhatTagsRemoved,
    CommitsWhatTagsVoided,
    TagsWhenPolled,
    FindsWhatItRemembers,
    ChecksFirst,
}

/// A memory store that may not wait, nor say that it cannot be asked.
struct Prompt(MemoryStore);

impl Sealed for Prompt {}

impl Store for Prompt {
    type Lease = ();

    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        self.lookup(slot)
    }

    fn sequence(&self) -> &Sequence {
        self.0.sequence()
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        self.0.peek(variant)
    }

    async fn lookup(&self, slot: &Slot) -> Lookup {
        at_once(self.0.lookup(slot))
    }

    async fn begin(&self, slot: &Slot, token: Option<Token>, seen: Option<&Entry>) -> Begin<()> {
        let begun = at_once(self.0.begin(slot, token, seen));
        assert!(matches!(begun, Begin::Granted(()) | Begin::Found(_)), "it is there: {begun:?}");
        begun
    }

    async fn commit(&self, lease: (), entry: Arc<Entry>, note: Option<Arc<Entry>>) -> Commit {
        at_once(self.0.commit(lease, entry, note))
    }

    fn invalidate(
        &self,
        subject: &Subject,
        strength: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        ready(at_once(self.0.invalidate(subject, strength)))
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        ready(at_once(self.0.invalidate_all()))
    }
}

fn at_once<R>(future: impl Future<Output = R>) -> R {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the memory store does not wait"),
    }
}

/// A store in a list, without bounds, that does one thing wrong.
#[derive(Clone)]
struct Listed(Arc<List>);

struct List {
    sequence: Sequence,
    entries: Mutex<Vec<Arc<Entry>>>,
    leaked: Mutex<Vec<Arc<Entry>>>,
    leases: Mutex<Vec<Slot>>,
    reads: Mutex<Vec<Arc<Entry>>>,
    flaw: Flaw,
}

impl Deref for Listed {
    type Target = List;

    fn deref(&self) -> &List {
        &self.0
    }
}

impl Listed {
    fn new(flaw: Flaw) -> Self {
        Self(Arc::new(List {
            sequence: Sequence::new(),
            entries: Mutex::default(),
            leaked: Mutex::default(),
            leases: Mutex::default(),
            reads: Mutex::default(),
            flaw,
        }))
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn find(&self, variant: &Variant) -> Option<Arc<Entry>> {
        let entries = self.entries.lock().unwrap();
        let is_it =
            |entry: &&Arc<Entry>| entry.slot().variant == *variant || self.has(Flaw::FindsByKey);
        entries.iter().find(is_it).cloned()
    }

    /// Returns an entry that was read three times, whether it is still there or not.
    fn remembered(&self, variant: &Variant) -> Option<Arc<Entry>> {
        let reads = self.reads.lock().unwrap();
        let mut of_it = reads.iter().filter(|entry| entry.slot().variant == *variant);
        of_it.nth(2).filter(|_| self.has(Flaw::FindsWhatItRemembers)).cloned()
    }

    fn insert(&self, entry: Arc<Entry>) -> Commit {
        let mut entries = self.entries.lock().unwrap();
        let variant = &entry.slot().variant;
        if let Some(at) = entries.iter().position(|other| other.slot().variant == *variant) {
            if entry.is_older_than(&entries[at]) && !self.has(Flaw::ReplacesNewer) {
                return Commit::Superseded;
            }
            if self.has(Flaw::KeepsFirst) {
                return Commit::Stored;
            }
            entries.remove(at);
        }
        entry.hold();
        if self.has(Flaw::LeaksEntries) {
            self.leaked.lock().unwrap().push(Arc::clone(&entry));
        }
        entries.push(entry);
        Commit::Stored
    }

    /// Invalidates a key. Returns it if the rest is done when the invalidation is polled.
    fn invalidate_key(&self, key: &PrimaryKey) -> Option<Subject> {
        match self.flaw {
            Flaw::InvalidatesWhenPolled => self.sequence.invalidate(key, || ()),
            Flaw::VoidsWhenPolled => self.remove(key),
            Flaw::VoidsEverything => {
                self.sequence.invalidate_all(|_| self.remove(key));
                return None;
            }
            _ => {
                self.sequence.invalidate(key, || self.remove(key));
                return None;
            }
        }
        Some(key.clone().into())
    }

    /// Invalidates a tag. Returns it if that is done when the invalidation is polled.
    fn invalidate_tag(&self, tag: &Tag) -> Option<Subject> {
        let is_late = self.has(Flaw::TagsWhenPolled);
        if !is_late && !self.has(Flaw::IgnoresTags) {
            self.sequence.invalidate_tag(tag);
        }
        is_late.then(|| tag.clone().into())
    }

    fn remove(&self, key: &PrimaryKey) {
        let mut entries = self.entries.lock().unwrap();
        if self.has(Flaw::ForgetsVariants) {
            if let Some(at) = entries.iter().position(|entry| entry.slot().key == *key) {
                entries.remove(at);
            }
            return;
        }
        entries.retain(|entry| {
            let is_other = entry.slot().key != *key;
            is_other && !self.has(Flaw::RemovesOtherKeys)
        });
    }
}

impl Sealed for Listed {}

impl Store for Listed {
    type Lease = ();

    fn inspect(&self, slot: &Slot) -> impl Future<Output = Lookup> + Send {
        self.lookup(slot)
    }

    fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    fn peek(&self, variant: &VariantRef<'_>) -> Option<Arc<Entry>> {
        let is_alive = |entry: &Arc<Entry>| {
            self.has(Flaw::ReadsWhatTagsRemoved)
                || self.sequence.are_current(&entry.slot().tags, entry.fence())
        };
        let found = self.find(&variant.to_variant()).filter(is_alive);
        self.reads.lock().unwrap().extend(found.clone());
        found
    }

    async fn lookup(&self, slot: &Slot) -> Lookup {
        let found = self.peek(&slot.variant.borrowed());
        match found.or_else(|| self.remembered(&slot.variant)) {
            Some(entry) => Lookup::Found(entry),
            None => Lookup::Absent,
        }
    }

    async fn begin(&self, slot: &Slot, _: Option<Token>, seen: Option<&Entry>) -> Begin<()> {
        let is_wanted = |entry: &Arc<Entry>| {
            let is_seen = seen.is_some_and(|seen| std::ptr::eq(seen, &**entry));
            entry.is_fresh()
                && self.sequence.is_slot_current(entry.slot(), entry.fence())
                && (entry.is_answer() || self.has(Flaw::AnswersWithNotes))
                && (!is_seen || self.has(Flaw::FindsWhatWasSeen))
                && !self.has(Flaw::NeverLooksAgain)
        };
        if let Some(entry) = self.find(&slot.variant).filter(is_wanted) {
            return Begin::Found(entry);
        }
        if self.has(Flaw::KeepsLease) {
            let is_held = self.leases.lock().unwrap().contains(slot);
            if is_held {
                return std::future::pending().await;
            }
            self.leases.lock().unwrap().push(slot.clone());
        }
        Begin::Granted(())
    }

    async fn commit(&self, (): (), entry: Arc<Entry>, note: Option<Arc<Entry>>) -> Commit {
        let gives_way = |place: &Arc<Entry>| {
            let earlier = self.find(&place.slot().variant);
            earlier.is_some_and(|earlier| entry.gives_way_to(&earlier))
        };
        if !self.has(Flaw::ReplacesWithPass) && note.iter().chain([&entry]).any(gives_way) {
            return Commit::Superseded;
        }
        let fence = entry.fence();
        let mut slot = entry.slot().clone();
        if self.has(Flaw::CommitsWhatTagsVoided) {
            slot.tags = Tags::none();
        }
        if self.has(Flaw::KeepsLease) {
            let variant = &entry.slot().variant;
            self.leases.lock().unwrap().retain(|slot| slot.variant != *variant);
        }
        if self.has(Flaw::IgnoresFence) {
            return self.insert(entry);
        }
        if self.has(Flaw::ChecksFirst) {
            if !self.sequence.is_slot_current(&slot, fence) {
                return Commit::Fenced;
            }
            tokio::task::yield_now().await;
            note.map(|note| self.insert(note));
            return self.insert(entry);
        }
        let mut note = note.filter(|_| !self.has(Flaw::ForgetsNotes));
        if self.has(Flaw::NotesFirst) {
            note.take().map(|note| self.insert(note));
        }
        let store = || {
            note.map(|note| self.insert(note));
            self.insert(entry)
        };
        self.sequence.commit(&slot, fence, store).unwrap_or(Commit::Fenced)
    }

    fn invalidate(
        &self,
        subject: &Subject,
        _: Strength,
    ) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        let late = match subject {
            Subject::Key(key) => self.invalidate_key(key),
            Subject::Tag(tag) => self.invalidate_tag(tag),
        };
        let list = self.clone();
        async move {
            match late {
                Some(Subject::Key(key)) => list.sequence.invalidate(&key, || list.remove(&key)),
                Some(Subject::Tag(tag)) => list.sequence.invalidate_tag(&tag),
                None => {}
            }
            Ok(())
        }
    }

    fn invalidate_all(&self) -> impl Future<Output = Result<(), Pending>> + Send + use<> {
        if !self.has(Flaw::ForgetsFenceForAll) {
            self.sequence.invalidate_all(|_| self.entries.lock().unwrap().clear());
        }
        self.entries.lock().unwrap().clear();
        ready(Ok(()))
    }
}

//! The registers, shared by the processes through a file: what the origin holds, and what has been
//! acknowledged as invalidated.

use std::{
    fs::{File, OpenOptions},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::Mutex,
};

pub(crate) const KEYS: usize = 16;
/// Each key has one of these,
pub(crate) const TAGS: usize = 4;
/// those in here a group as well, which only their responses tell,
pub(crate) const GROUPED: Range<usize> = 4..BARE;
/// and those from here on neither.
pub(crate) const BARE: usize = 12;
/// Number of registers: soft invalidations have their own.
const REGISTERS: usize = 2 * KEYS;

/// Returns the register of a key's soft invalidations.
pub(crate) fn softly(key: usize) -> usize {
    KEYS + key
}

const NAME: &str = "registers";
/// A number, and its complement to tell a read that a write has torn.
const CELL: usize = 16;
/// Cells of a register.
const CELLS: usize = 3;
/// Number of acknowledgements of a key that are kept.
const RING: u64 = 512;
const NOTE: usize = 32;
const NOTES: u64 = (CELLS * REGISTERS * CELL) as u64;

/// Each key is written by one process, and read by all.
pub(crate) struct World {
    file: File,
    processes: usize,
    index: usize,
    /// Held while a register of ours is written.
    writing: [Mutex<()>; REGISTERS],
}

#[derive(Clone, Copy)]
enum Register {
    /// Version at the origin.
    Version,
    /// The newest version whose invalidation has been acknowledged.
    Acknowledged,
    /// Time until which nothing may be stored, in microseconds.
    Doubted,
}

/// Origin of an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The process that the key belongs to, through its layer.
    Owner,
    /// A program that the layer knows nothing of.
    Stranger,
}

/// An acknowledgement, as it is kept.
#[derive(Clone, Copy)]
struct Note {
    version: u64,
    /// In microseconds, on a clock that the processes share.
    at: u64,
    by: u64,
}

impl World {
    pub(crate) fn create(folder: &Path) {
        let zeroes: Vec<_> = (0..CELLS * REGISTERS).flat_map(|_| cell(0)).collect();
        let file = File::create(folder.join(NAME)).unwrap();
        file.write_all_at(&zeroes, 0).unwrap();
        file.set_len(NOTES + REGISTERS as u64 * RING * NOTE as u64).unwrap();
    }

    pub(crate) fn open(folder: &Path, index: usize, processes: usize) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(NAME)).unwrap();
        Self { file, processes, index, writing: Default::default() }
    }

    /// Returns the key of this process that is the `random`th.
    pub(crate) fn own(&self, random: u64) -> usize {
        let owned = (KEYS - self.index).div_ceil(self.processes);
        self.index + (random as usize % owned) * self.processes
    }

    pub(crate) fn all_own(&self) -> impl Iterator<Item = usize> + use<> {
        (self.index..KEYS).step_by(self.processes)
    }

    /// The keys of this process that have the same tag as one.
    pub(crate) fn own_fellows(&self, key: usize) -> impl Iterator<Item = usize> + use<> {
        self.all_own().filter(move |other| *other < BARE && other % TAGS == key % TAGS)
    }

    pub(crate) fn version(&self, key: usize) -> u64 {
        self.read(key, Register::Version)
    }

    pub(crate) fn acknowledged(&self, key: usize) -> u64 {
        self.read(key, Register::Acknowledged)
    }

    /// Returns the time until which nothing may be stored for a key, in microseconds.
    pub(crate) fn doubted_until(&self, key: usize) -> u64 {
        self.read(key, Register::Doubted)
    }

    /// Notes that nothing may be stored for a key from now on until a time.
    pub(crate) fn doubt(&self, key: usize, until: u64) {
        let _held = self.writing[key].lock().unwrap();
        self.put(key, Register::Doubted, until.max(self.doubted_until(key)));
    }

    /// Changes what the origin holds. Returns the new version.
    pub(crate) fn write(&self, key: usize) -> u64 {
        let _held = self.writing[key].lock().unwrap();
        let version = self.version(key) + 1;
        self.put(key, Register::Version, version);
        version
    }

    pub(crate) fn is_own(&self, key: usize) -> bool {
        key % self.processes == self.index
    }

    /// Notes that an invalidation after `version` was written has been acknowledged.
    pub(crate) fn acknowledge(&self, key: usize, version: u64, by: By) {
        let _held = self.writing[key].lock().unwrap();
        if self.acknowledged(key) < version {
            let note = Note { version, at: micros(), by: by as u64 };
            self.file.write_all_at(&note.bytes(), note_offset(key, version)).unwrap();
            self.put(key, Register::Acknowledged, version);
        }
    }

    /// Returns for how long `version` had been out of date at an instant, in microseconds, and
    /// whether its owner had said so; `None` if that was too many versions ago.
    pub(crate) fn out_of_date(&self, key: usize, version: u64, at: u64) -> Option<(u64, bool)> {
        if self.acknowledged(key) >= version + RING {
            return None;
        }
        let notes = (0..RING).filter_map(|slot| {
            let mut bytes = [0; NOTE];
            self.file.read_exact_at(&mut bytes, note_offset(key, slot)).unwrap();
            Note::parse(bytes).filter(|note| note.version > version && note.at <= at)
        });
        let notes: Vec<_> = notes.collect();
        let first = notes.iter().map(|note| note.at).min()?;
        Some((at - first, notes.iter().any(|note| note.by == By::Owner as u64)))
    }

    fn read(&self, key: usize, register: Register) -> u64 {
        loop {
            let mut cell = [0; CELL];
            self.file.read_exact_at(&mut cell, offset(key, register)).unwrap();
            let (number, complement) = cell.split_at(CELL / 2);
            let number = u64::from_le_bytes(number.try_into().unwrap());
            if !number == u64::from_le_bytes(complement.try_into().unwrap()) {
                return number;
            }
        }
    }

    fn put(&self, key: usize, register: Register, number: u64) {
        self.file.write_all_at(&cell(number), offset(key, register)).unwrap();
    }
}

impl Note {
    fn bytes(self) -> [u8; NOTE] {
        let Self { version, at, by } = self;
        let mut bytes = [0; NOTE];
        for (part, number) in [version, at, by, !(version ^ at ^ by)].into_iter().enumerate() {
            bytes[8 * part..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn parse(bytes: [u8; NOTE]) -> Option<Self> {
        let part = |part: usize| u64::from_le_bytes(bytes[8 * part..][..8].try_into().unwrap());
        let note = Self { version: part(0), at: part(1), by: part(2) };
        (note.bytes() == bytes).then_some(note)
    }
}

/// Returns the time on a clock that all processes share, in microseconds.
#[allow(clippy::disallowed_methods)] // Nothing waits for it.
pub(crate) fn micros() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64
}

fn note_offset(key: usize, version: u64) -> u64 {
    NOTES + (key as u64 * RING + version % RING) * NOTE as u64
}

fn offset(key: usize, register: Register) -> u64 {
    ((CELLS * key + register as usize) * CELL) as u64
}

fn cell(number: u64) -> [u8; CELL] {
    let mut cell = [0; CELL];
    cell[..CELL / 2].copy_from_slice(&number.to_le_bytes());
    cell[CELL / 2..].copy_from_slice(&(!number).to_le_bytes());
    cell
}

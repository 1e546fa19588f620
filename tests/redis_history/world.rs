//! The registers, shared by the processes through a file: what the origin holds, and what has been
//! acknowledged as invalidated.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::Mutex,
};

pub(crate) const KEYS: usize = 12;

const NAME: &str = "registers";
/// A number, and its complement to tell a read that a write has torn.
const CELL: usize = 16;

/// Each key is written by one process, and read by all.
pub(crate) struct World {
    file: File,
    processes: usize,
    index: usize,
    /// Held while a register of ours is written.
    writing: [Mutex<()>; KEYS],
}

#[derive(Clone, Copy)]
enum Register {
    /// What the origin holds.
    Version,
    /// The newest version whose invalidation has been acknowledged.
    Acknowledged,
}

impl World {
    pub(crate) fn create(folder: &Path) {
        let zeroes: Vec<_> = (0..2 * KEYS).flat_map(|_| cell(0)).collect();
        fs::write(folder.join(NAME), zeroes).unwrap();
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

    pub(crate) fn version(&self, key: usize) -> u64 {
        self.read(key, Register::Version)
    }

    pub(crate) fn acknowledged(&self, key: usize) -> u64 {
        self.read(key, Register::Acknowledged)
    }

    /// Changes what the origin holds. Returns the new version.
    pub(crate) fn write(&self, key: usize) -> u64 {
        let _held = self.writing[key].lock().unwrap();
        let version = self.version(key) + 1;
        self.put(key, Register::Version, version);
        version
    }

    /// Notes that an invalidation after `version` was written has been acknowledged.
    pub(crate) fn acknowledge(&self, key: usize, version: u64) {
        let _held = self.writing[key].lock().unwrap();
        if self.acknowledged(key) < version {
            self.put(key, Register::Acknowledged, version);
        }
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

fn offset(key: usize, register: Register) -> u64 {
    ((2 * key + register as usize) * CELL) as u64
}

fn cell(number: u64) -> [u8; CELL] {
    let mut cell = [0; CELL];
    cell[..CELL / 2].copy_from_slice(&number.to_le_bytes());
    cell[CELL / 2..].copy_from_slice(&(!number).to_le_bytes());
    cell
}

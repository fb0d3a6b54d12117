// SPDX-License-Identifier: Apache-2.0
//! All that can be done to the bytes of a file.

use crate::testkit::Dice;
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SMALLEST: u64 = 5 << 20;
const LARGEST: u64 = 14 << 20;
const PAGE: u64 = 4096;

/// A file that is edited at random. Its length stays within bounds, and a multiple of `unit`, or none of 4096.
pub(in crate::capture) struct Edits {
    path: PathBuf,
    file: File,
    unit: u64,
    /// Edits that the file system did.
    pub(in crate::capture) done: u64,
}

impl Edits {
    pub(in crate::capture) fn new(directory: &Path, name: &str, unit: u64, dice: &mut Dice) -> Self {
        let path = directory.join(name);
        let odd = if unit == PAGE { 0 } else { 77 };
        fs::write(&path, dice.bytes(usize::try_from(SMALLEST * 2 + odd).expect("small"))).expect("a file");
        let file = File::options().read(true).write(true).open(&path).expect("a file");
        Self { path, file, unit, done: 0 }
    }

    pub(in crate::capture) fn size(&self) -> u64 {
        self.file.metadata().expect("a file").len()
    }

    pub(in crate::capture) fn write_at(&mut self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("written");
        self.done += 1;
    }

    /// A length that is allowed, near to this one.
    fn length(&self, near: u64) -> u64 {
        let len = near.clamp(SMALLEST, LARGEST) / self.unit * self.unit;
        if self.unit != PAGE && len.is_multiple_of(PAGE) { len + 1 } else { len }
    }

    pub(in crate::capture) fn edit(&mut self, dice: &mut Dice) {
        let size = self.size();
        let mut any = |below: u64| dice.roll(usize::try_from(below).expect("small")) as u64;
        let (kind, at) = (any(16), any(size - (64 << 10)));
        let (len, page_at, other) = (1 + any(20_000), at / PAGE * PAGE, any(size - (64 << 10)) / PAGE * PAGE);
        let pages = (1 + any(6)) * PAGE;
        let keep = FallocateFlags::KEEP_SIZE;
        match kind {
            0..5 => self.write_at(at, &dice.bytes(len as usize)),
            5 => self.write_at(page_at, &dice.bytes(pages as usize)),
            // the same bytes once more: nothing changes, but where they lie
            6 => self.copy(page_at, page_at, pages),
            7 => self.copy(page_at, other, pages),
            8 => self.allocate(FallocateFlags::PUNCH_HOLE | keep, at, len),
            9 => self.allocate(FallocateFlags::PUNCH_HOLE | keep, page_at, pages),
            10 => self.allocate(FallocateFlags::ZERO_RANGE | keep, at, len),
            11 => self.allocate(keep, at, len * 20),
            12 => self.set_len(self.length(size.saturating_sub(len * 10))),
            13 if size < LARGEST - (1 << 20) => self.set_len(self.length(size + len * 30)),
            14 if size < LARGEST - (1 << 20) => {
                // appended: in one, and in two pieces
                let until = self.length(size + len);
                self.write_at(size, &dice.bytes(until.saturating_sub(size) as usize));
            }
            15 if size > SMALLEST + pages && dice.roll(2) == 0 => self.allocate(FallocateFlags::COLLAPSE_RANGE, page_at, pages),
            15 if size < LARGEST - pages => self.allocate(FallocateFlags::INSERT_RANGE, page_at, pages),
            _ => {
                // reading leaves nothing behind
                let mut bytes = vec![0; len as usize];
                self.file.read_at(&mut bytes, at).expect("readable");
            }
        }
    }

    fn copy(&mut self, from: u64, to: u64, len: u64) {
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, from).expect("readable");
        if from == to {
            return self.write_at(to, &bytes);
        }
        // blocks are shared, if they may be
        let (mut source, mut target) = (from, to);
        if rustix::fs::copy_file_range(&self.file, Some(&mut source), &self.file, Some(&mut target), len as usize).is_err() {
            return; // they overlap
        }
        self.done += 1;
    }

    fn allocate(&mut self, flags: FallocateFlags, at: u64, len: u64) {
        // not every file system can do all of it
        if rustix::fs::fallocate(&self.file, flags, at, len).is_ok() {
            self.done += 1;
        }
    }

    fn set_len(&mut self, len: u64) {
        self.file.set_len(len).expect("cut");
        self.done += 1;
    }

    /// Writes through a mapping of the file, which this crate itself can't do without unsafe code.
    pub(in crate::capture) fn write_mapped(&mut self, dice: &mut Dice) {
        let size = self.size() / PAGE * PAGE;
        let mut command = Command::new("xfs_io");
        command.arg("-c").arg(format!("mmap -rw 0 {size}"));
        for _ in 0..8 {
            let (at, len) = (dice.roll(usize::try_from(size - 9000).expect("small")), 1 + dice.roll(8000));
            command.arg("-c").arg(format!("mwrite -S {} {at} {len}", dice.roll(256)));
        }
        if command.arg(&self.path).output().is_ok_and(|output| output.status.success()) {
            self.done += 8;
        }
    }
}

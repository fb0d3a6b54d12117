// SPDX-License-Identifier: Apache-2.0
//! The processes that there are, as `/proc` shows them.

use super::Whom;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// The flag of kernel threads.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: i32,
    parent: i32,
    state: u8,
    kernel: bool,
    /// When it started, in ticks: tells it from a later one of the same number.
    pub(super) started: u64,
}

impl Process {
    pub(super) fn read(id: i32) -> Option<Self> {
        parse(id, &std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// It has ended, and only its parent has not heard of it.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// Whether no thread of it runs or can go on by itself.
    pub(super) fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id)) else { return true };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            parse(self.id, &stat).is_none_or(|thread| matches!(thread.state, b'T' | b't' | b'Z' | b'X'))
        })
    }

    /// Its name, at most 15 bytes of it.
    pub(super) fn name(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.id)).unwrap_or_default().trim_end().to_owned()
    }

    /// Whether it does something of its own on a signal, instead of ending.
    pub(super) fn catches(&self, signal: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let masks = status.lines().filter(|line| ["SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|mask| line.starts_with(mask)));
        let mut values = masks.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
        values.any(|mask| mask & (1 << (signal - 1)) != 0)
    }
}

/// A line of `/proc/<id>/stat`. The name in it is in brackets and may hold anything.
fn parse(id: i32, stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let state = *fields.first()?.as_bytes().first()?;
    let flags: u64 = fields.get(6)?.parse().ok()?;
    let (parent, started) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
    Some(Process { id, parent, state, kernel: flags & KERNEL_THREAD != 0, started })
}

/// All processes that are meant; `None`: this is the machine's own process namespace, where the others are none of ours.
pub(super) fn list(whom: Whom) -> io::Result<Option<Vec<Process>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let id = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = id.and_then(Process::read) {
            all.insert(process.id, process);
        }
    }
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    match whom {
        Whom::OtherContainers => {
            if all.values().any(|process| process.kernel) {
                return Ok(None);
            }
            let ours = namespace(Path::new("/proc/self/ns/mnt"));
            if ours.is_none() {
                return Err(io::Error::other("this process's own mount namespace can't be seen"));
            }
            // the first one is the pod's own, and no signal stops it
            let other = |process: &Process| process.id != 1 && process.id != own && namespace(&of(process.id)) != ours;
            Ok(Some(all.into_values().filter(other).collect()))
        }
        Whom::StartedBy(root) => {
            let mut found = BTreeSet::from([root]);
            // the keeper is one of them, and so is what it may have started
            let is_new = |process: &Process, found: &BTreeSet<i32>| {
                process.id != own && found.contains(&process.parent) && !found.contains(&process.id)
            };
            loop {
                let more: Vec<i32> = all.values().filter(|process| is_new(process, &found)).map(|process| process.id).collect();
                if more.is_empty() {
                    break;
                }
                found.extend(more);
            }
            found.remove(&root);
            Ok(Some(found.iter().filter_map(|id| all.get(id)).copied().collect()))
        }
    }
}

fn of(id: i32) -> std::path::PathBuf {
    format!("/proc/{id}/ns/mnt").into()
}

/// Which mount namespace; `None`: that may not be seen, so it is another's.
fn namespace(path: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_link(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_only_a_name() {
        let stat = "42 (a) T 1 (x) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1 1";
        let process = parse(42, stat).expect("read");
        assert_eq!(process, Process { id: 42, parent: 7, state: b'S', kernel: false, started: 98_765 });
        assert_eq!(parse(42, "42 (a"), None);
        assert!(parse(2, "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0").expect("read").kernel);
    }

    #[test]
    fn this_process_is_there_and_is_not_its_own() {
        let own = i32::try_from(std::process::id()).expect("small");
        let process = Process::read(own).expect("it runs");
        assert!(!process.is_stopped() && !process.is_over());
        let started = list(Whom::StartedBy(process.parent)).expect("a list").expect("processes");
        assert!(started.iter().all(|process| process.id != own));
    }
}

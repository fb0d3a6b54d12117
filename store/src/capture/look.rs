// SPDX-License-Identifier: Apache-2.0
//! Looking at many names, and reading those that are new and small: a second thread takes half of them. Comparing or reading a million files is
//! mostly waiting for the system's answers: 3.6 s and 16 s of one thread's time (measured on ext4, all in memory).

use super::content::read_at;
use crate::disk::{Dir, FileInfo, FileKind, info_of, xattr};
use crate::tree::Name;
use holdfast_core::time::Timestamp;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};

/// Names looked at together.
pub(super) const BATCH: usize = 256;
/// Fewer are looked at alone: waking a thread costs about as much as ten looks.
const ALONE: usize = 24;

/// Files up to this many bytes are read along: a batch of them must fit into memory.
const EARLY_MAX: u64 = 8 << 10;

/// A name, and what it stands for.
pub(super) struct Look {
    pub(super) name: Name,
    pub(super) info: io::Result<FileInfo>,
    /// Its content, if it was read along.
    pub(super) early: Option<Early>,
}

/// A small file that was read in one go, and did not change meanwhile.
pub(super) struct Early {
    pub(super) info: FileInfo,
    pub(super) xattrs: xattr::List,
    pub(super) bytes: Vec<u8>,
    /// When it had not been read yet.
    pub(super) looked: Timestamp,
}

type Looks = Vec<Look>;

/// What is asked of the second thread.
struct Question {
    dir: Arc<Dir>,
    names: Vec<Name>,
    read: Option<Timestamp>,
}

/// The caller's end.
pub(super) struct Lookout {
    requests: SyncSender<Question>,
    answers: Receiver<Looks>,
}

/// The second thread's end: it serves until the caller's end is dropped.
pub(super) struct Helper {
    requests: Receiver<Question>,
    answers: SyncSender<Looks>,
}

pub(super) fn pair() -> (Lookout, Helper) {
    let (requests, to_serve) = sync_channel(1);
    let (answered, answers) = sync_channel(1);
    (Lookout { requests, answers }, Helper { requests: to_serve, answers: answered })
}

fn look(dir: &Dir, names: Vec<Name>, read: Option<Timestamp>) -> impl Iterator<Item = Look> {
    names.into_iter().map(move |name| {
        let info = dir.info(&name);
        let early = info.as_ref().ok().filter(|info| is_early(info)).and_then(|info| early(dir, &name, info, read?));
        Look { name, info, early }
    })
}

fn is_early(info: &FileInfo) -> bool {
    info.kind == FileKind::File && info.links == 1 && (1..=EARLY_MAX).contains(&info.size) && info.allocated >= info.size
}

/// Reads a small file. Whatever is not plain is left to whoever asks again, and says what is wrong.
fn early(dir: &Dir, name: &Name, before: &FileInfo, looked: Timestamp) -> Option<Early> {
    let fd = dir.open_file(name).ok()?;
    let xattrs = xattr::read(&fd).ok()?;
    let mut bytes = vec![0; usize::try_from(before.size).ok()?];
    if read_at(&fd, &mut bytes, 0).ok()? != bytes.len() {
        return None;
    }
    // the one look after reading covers the time since the look before: nothing changed in between
    let info = info_of(&fd).ok()?;
    (info.kind == FileKind::File && info.unchanged_since(before)).then_some(Early { info, xattrs, bytes, looked })
}

impl Helper {
    pub(super) fn serve(self) {
        for Question { dir, names, read } in self.requests {
            if self.answers.send(look(&dir, names, read).collect()).is_err() {
                return;
            }
        }
    }
}

impl Lookout {
    /// What these names of a directory stand for, in their order. `read`: they are going to be captured, and it is this time.
    pub(super) fn look(&self, dir: &Arc<Dir>, mut names: Vec<Name>, read: Option<Timestamp>) -> Looks {
        let half = names.len() / 2;
        let others = if names.len() < ALONE { Vec::new() } else { names.split_off(half) };
        if others.is_empty() {
            return look(dir, names, read).collect();
        }
        match self.requests.send(Question { dir: Arc::clone(dir), names: others, read }) {
            Ok(()) => {
                let mut looks: Looks = look(dir, names, read).collect();
                looks.extend(self.answers.recv().unwrap_or_default());
                looks
            }
            // the thread could not be started
            Err(SendError(question)) => look(dir, names.into_iter().chain(question.names).collect(), read).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_looked_at_once_and_in_order_with_and_without_the_helper() {
        let directory = tempfile::tempdir().expect("a directory");
        let names: Vec<Name> = (0..100).filter_map(|i| Name::new(format!("n{i:03}").as_bytes())).collect();
        for name in names.iter().skip(1) {
            std::fs::write(directory.path().join(std::str::from_utf8(name.as_bytes()).expect("text")), b"x").expect("a file");
        }
        let dir = Arc::new(Dir::open_root(directory.path()).expect("a directory"));
        let check = |looks: Looks| {
            assert_eq!(looks.iter().map(|look| look.name.clone()).collect::<Vec<_>>(), names);
            assert!(looks.iter().skip(1).all(|look| look.info.as_ref().is_ok_and(|info| info.size == 1)));
            assert!(looks.iter().skip(1).all(|look| look.early.as_ref().is_some_and(|early| early.bytes == b"x")));
            assert!(looks[0].info.is_err() && looks[0].early.is_none(), "it does not exist");
        };
        std::thread::scope(|scope| {
            let (lookout, helper) = pair();
            scope.spawn(|| helper.serve());
            check(lookout.look(&dir, names.clone(), Some(Timestamp::default())));
            check(lookout.look(&dir, names.clone(), Some(Timestamp::default())));
        });
        let (lookout, helper) = pair();
        drop(helper);
        check(lookout.look(&dir, names.clone(), Some(Timestamp::default())));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Where the bytes of a clone lie, remembered: nobody writes to it, and the next comparison is often made while a program stands still. Asking takes
//! about 2.5 µs for each stretch (XFS, Linux 6.18), and a file that was written at random for a minute has tens of thousands of them.

use super::extents::{self, Found, Stretch};
use super::volume;
use rustix::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Stretches remembered of all clones together: 3.75 MiB.
const STRETCHES_MAX: usize = 96 << 10;

/// How many stretches may still be remembered.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self::of(STRETCHES_MAX)
    }
}

impl Budget {
    pub(super) fn of(stretches: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(stretches)))
    }

    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, count: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count)).is_ok()
    }
}

/// The stretches of a clone, as soon as they were asked for once.
#[derive(Debug)]
pub(super) struct Layout {
    known: OnceLock<Option<Box<[Stretch]>>>,
    budget: Budget,
}

impl Layout {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { known: OnceLock::new(), budget: budget.clone() }
    }

    /// The stretches of the clone, which is open here and flushed.
    pub(super) fn stretches<'f>(&'f self, fd: impl AsFd + 'f) -> Box<dyn Iterator<Item = Found> + 'f> {
        match self.known.get_or_init(|| self.remember(&fd)) {
            Some(known) => Box::new(known.iter().cloned().map(Ok)),
            None => Box::new(extents::list(fd)),
        }
    }

    /// `None`: they are too many, can't be listed, or may lie elsewhere later.
    fn remember(&self, fd: impl AsFd) -> Option<Box<[Stretch]>> {
        if !volume::keeps_places(&fd) {
            return None;
        }
        let most = self.budget.left();
        let found: Vec<Stretch> = extents::list(fd).take(most.saturating_add(1)).collect::<Result<_, _>>().ok()?;
        self.budget.take(found.len()).then(|| found.into())
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        if let Some(Some(known)) = self.known.get() {
            self.budget.0.fetch_add(known.len(), Ordering::Relaxed);
        }
    }
}

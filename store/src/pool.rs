// SPDX-License-Identifier: Apache-2.0
//! Buffers that are used again. A general allocator keeps the large ones it gave out and got back scattered over its arenas: half as much memory
//! again (measured with glibc), or a page fault for each page of each of them.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers of about one size. They are kept as long as one is in use: what is at rest takes no memory.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<State>,
    /// So many are kept.
    keep: usize,
}

#[derive(Debug)]
struct State {
    free: Vec<Vec<u8>>,
    lent: usize,
}

impl Pool {
    pub(crate) const fn new(keep: usize) -> Self {
        Self { state: Mutex::new(State { free: Vec::new(), lent: 0 }), keep }
    }

    /// An empty buffer; it may have room already.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut buffer = self.take_filled();
        buffer.clear();
        buffer
    }

    /// A buffer with whatever it held: for those who overwrite it, and would otherwise have to zero it first.
    pub(crate) fn take_filled(&self) -> Vec<u8> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent += 1;
        state.free.pop().unwrap_or_default()
    }

    /// Gives a buffer back; also one of another origin in place of the one that was taken.
    pub(crate) fn put(&self, buffer: Vec<u8>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent = state.lent.saturating_sub(1);
        if state.lent == 0 {
            state.free = Vec::new();
        } else if state.free.len() < self.keep && buffer.capacity() > 0 {
            state.free.push(buffer);
        }
    }

    /// Bytes whose buffer comes back when the last of them is dropped.
    pub(crate) fn share(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: Arc::clone(self) })
    }
}

struct Lent {
    buffer: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_has_gone() {
        let pool = Arc::new(Pool::new(1));
        let (_in_use, mut buffer) = (pool.take(), pool.take());
        buffer.resize(1000, 7);
        let shared = pool.share(buffer);
        let part = shared.slice(10..20);
        drop(shared);
        assert_eq!(pool.take().capacity(), 0, "it is still read");
        assert_eq!(part, [7; 10][..]);
        drop(part);
        let again = pool.take();
        assert!(again.is_empty() && again.capacity() >= 1000);
    }

    #[test]
    fn no_more_are_kept_than_asked_for_and_none_at_rest() {
        let pool = Pool::new(1);
        let lent: Vec<_> = (0..4).map(|_| pool.take()).collect();
        pool.put(vec![1]);
        pool.put(vec![2]);
        assert_eq!(pool.take_filled(), [1]);
        assert_eq!(pool.take().capacity(), 0);
        for buffer in lent {
            pool.put(buffer);
        }
        assert_eq!(pool.take().capacity(), 0, "nothing is in use");
    }
}

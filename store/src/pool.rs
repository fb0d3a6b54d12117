// SPDX-License-Identifier: Apache-2.0
//! Buffers that are used again. A general allocator keeps the large ones it gave out and got back scattered over its arenas: half as much memory
//! again (measured with glibc), or a page fault for each page of each of them.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers of about one size.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    /// So many are kept.
    keep: usize,
}

impl Pool {
    pub(crate) const fn new(keep: usize) -> Self {
        Self { free: Mutex::new(Vec::new()), keep }
    }

    /// An empty buffer; it may have room already.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(crate) fn put(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(buffer);
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
        let shared = pool.share(vec![7; 1000]);
        let part = shared.slice(10..20);
        drop(shared);
        assert_eq!(pool.take().capacity(), 0, "it is still read");
        assert_eq!(part, [7; 10][..]);
        drop(part);
        let again = pool.take();
        assert!(again.is_empty() && again.capacity() >= 1000);
    }

    #[test]
    fn no_more_are_kept_than_asked_for() {
        let pool = Pool::new(1);
        pool.put(vec![1]);
        pool.put(vec![2]);
        assert!(pool.take().capacity() > 0);
        assert_eq!(pool.take().capacity(), 0);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Work that blocks, on a thread of its own that somebody waits for: trees may nest deeply, and what walks them recurses.

use std::io;
use std::thread::{Builder, JoinHandle};
use tokio::sync::oneshot;

/// Work under way. Dropped before it has ended, it goes on to its end.
#[derive(Debug)]
pub struct Working<T> {
    thread: JoinHandle<()>,
    result: oneshot::Receiver<T>,
}

/// Begins `work` on a thread with a stack of so many bytes.
///
/// # Errors
/// If the system has no thread to give.
pub fn start<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Working<T>> {
    let (done, result) = oneshot::channel();
    let named = Builder::new().name(name.to_owned()).stack_size(stack_bytes);
    let thread = named.spawn(move || drop(done.send(work())))?;
    Ok(Working { thread, result })
}

impl<T> Working<T> {
    /// Waits for its end; `None` if it has panicked. Cancel-safe.
    pub async fn ended(&mut self) -> Option<T> {
        (&mut self.result).await.ok()
    }

    /// Leaves nothing behind: waits, blocking, for the thread that is about to end, after [`ended`](Self::ended). Whether it has not panicked.
    #[must_use]
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_hears_of_the_end_whatever_it_is() {
        let mut working = start("sum", 1 << 20, || 1 + 1).expect("a thread");
        assert_eq!(working.ended().await, Some(2));
        assert!(working.join());
        let mut working = start("panics", 1 << 20, || -> u8 { panic!("on purpose") }).expect("a thread");
        assert_eq!(working.ended().await, None);
        assert!(!working.join());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Work that blocks, on a thread of its own that somebody waits for.

use anyhow::Context;
use tokio::sync::oneshot;

/// Trees may nest deeply, and what walks them recurses.
const STACK_BYTES: usize = 256 << 20;

/// Work under way.
#[derive(Debug)]
pub(crate) struct Working<T> {
    thread: std::thread::JoinHandle<()>,
    result: oneshot::Receiver<T>,
}

/// Begins `work` on a thread of its own.
pub(crate) fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<Working<T>> {
    let (done, result) = oneshot::channel();
    let named = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    let thread = named.spawn(move || drop(done.send(work()))).context("start a thread")?;
    Ok(Working { thread, result })
}

impl<T> Working<T> {
    /// Waits for its end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<T> {
        (&mut self.result).await.context("a thread ended by itself")
    }

    /// Leaves nothing behind; to be called after [`ended`](Self::ended).
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a thread ended by itself");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Work that blocks, while its progress is shown.

use anyhow::Context;
use holdfast_store::thread;

/// Trees may nest deeply, and what walks them recurses.
const STACK_BYTES: usize = 256 << 20;

/// Work under way.
#[derive(Debug)]
pub(crate) struct Working<T>(thread::Working<T>);

/// Begins `work` on a thread of its own.
pub(crate) fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<Working<T>> {
    thread::start(name, STACK_BYTES, work).map(Working).context("start a thread")
}

impl<T> Working<T> {
    /// Waits for its end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<T> {
        self.0.ended().await.context("a thread ended by itself")
    }

    /// Leaves nothing behind; to be called after [`ended`](Self::ended).
    pub(crate) fn join(self) {
        if !self.0.join() {
            tracing::error!("a thread ended by itself");
        }
    }
}

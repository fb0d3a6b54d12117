// SPDX-License-Identifier: Apache-2.0
//! Work that blocks, on a thread of its own that somebody waits for.

use crate::AgentError;
use tokio::sync::oneshot;

/// Trees may nest deeply, and what walks them recurses.
const STACK_BYTES: usize = 64 << 20;

/// Runs `work` on a thread of its own and waits for it. Not cancel-safe: if the future is dropped, the thread goes on to its end.
pub(crate) async fn run<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AgentError> {
    let (done, wait) = oneshot::channel();
    let named = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    let thread = named.spawn(move || drop(done.send(work()))).map_err(|error| AgentError::Thread(error.to_string()))?;
    let result = wait.await;
    let joined = thread.join();
    match (result, joined) {
        (Ok(value), Ok(())) => Ok(value),
        _ => Err(AgentError::Thread(format!("{name} ended by itself"))),
    }
}

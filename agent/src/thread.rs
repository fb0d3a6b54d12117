// SPDX-License-Identifier: Apache-2.0
//! Work that blocks, and is waited for.

use crate::AgentError;
use holdfast_store::thread;

/// Trees may nest deeply, and what walks them recurses.
const STACK_BYTES: usize = 64 << 20;

/// Runs `work` on a thread of its own and waits for it. Not cancel-safe: if the future is dropped, the thread goes on to its end.
pub(crate) async fn run<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AgentError> {
    let mut working = thread::start(name, STACK_BYTES, work).map_err(|error| AgentError::Thread(error.to_string()))?;
    let result = working.ended().await;
    match (result, working.join()) {
        (Some(value), true) => Ok(value),
        _ => Err(AgentError::Thread(format!("{name} ended by itself"))),
    }
}

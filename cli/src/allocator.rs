// SPDX-License-Identifier: Apache-2.0
//! Memory that is let go of goes back to the system.
//!
//! glibc maps big allocations one by one and unmaps them when they are freed, but what counts as big grows with the largest that was freed so far
//! (`M_MMAP_THRESHOLD` in mallopt(3)): after the 16 MiB of one passphrase, packs' buffers come from arenas, which hardly shrink. An agent that had captured
//! 2 GiB kept 44 MiB of its own at rest, and 7 MiB with a threshold that stays; a restore of them took 76 MiB at most, and 57. A process can only be
//! told by its environment, before it begins.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
/// Small enough for buffers of packs and compressors, large enough that small things stay cheap. In bytes.
const BYTES: &str = "262144";

/// Begins this process anew with a threshold that stays, unless it has one. Its id, its arguments and its files stay the same; if it can't be, it goes
/// on as it is.
pub(crate) fn settle() {
    if !cfg!(target_env = "gnu") || std::env::var_os(THRESHOLD).is_some() {
        return;
    }
    let (Ok(program), mut arguments) = (std::env::current_exe(), std::env::args_os()) else { return };
    let mut again = Command::new(program);
    if let Some(own) = arguments.next() {
        again.arg0(own);
    }
    let error = again.args(arguments).env(THRESHOLD, BYTES).exec();
    tracing::debug!(%error, "memory is managed as the system does by itself");
}

/// The variables that a program started by this one must not see: they were meant for this process.
pub(crate) fn own_variables() -> impl Iterator<Item = &'static OsStr> {
    let own = std::env::var_os(THRESHOLD).is_some_and(|value| value == BYTES);
    own.then_some(OsStr::new(THRESHOLD)).into_iter()
}

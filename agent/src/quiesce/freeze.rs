// SPDX-License-Identifier: Apache-2.0
//! Stopping processes, all of them, and letting them go on.

use super::Whom;
use super::processes::{Process, list};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// What is not stopped after so long may wait for one that is: they go on, and it is tried again.
const ROUND: Duration = Duration::from_millis(100);
/// Between looks.
const LOOK: Duration = Duration::from_micros(200);

/// Why processes could not be stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum FreezeError {
    #[error("there is no process of the application to be stopped: does the pod share its processes?")]
    Nobody,
    #[error("the processes of the whole machine are visible here: none of them is stopped")]
    Machine,
    #[error("process {process} may not be stopped by this user")]
    Forbidden { process: i32 },
    #[error("some processes did not stop in time, {process} among them")]
    Late { process: i32 },
    #[error("the processes can't be listed: {0}")]
    Unseen(#[from] io::Error),
}

/// Processes that were stopped: number and start.
#[derive(Debug, Default)]
pub(super) struct Frozen(BTreeMap<i32, u64>);

/// Stops all processes that are meant, those that they start meanwhile included. What was stopped goes on if that fails.
pub(super) fn freeze(whom: Whom, deadline: Instant) -> Result<Frozen, FreezeError> {
    loop {
        let mut frozen = Frozen::default();
        let round = (Instant::now() + ROUND).min(deadline);
        match frozen.stop(whom, round) {
            Ok(()) => return Ok(frozen),
            Err(error) => {
                frozen.thaw();
                if !matches!(error, FreezeError::Late { .. }) || Instant::now() >= deadline {
                    return Err(error);
                }
            }
        }
    }
}

/// Lets all processes that are meant go on, whoever stopped them.
pub(super) fn thaw_all(whom: Whom) -> Result<(), FreezeError> {
    let found = list(whom)?.ok_or(FreezeError::Machine)?;
    for process in found {
        let _ = tell(process.id, Signal::CONT); // it may have ended just now
    }
    Ok(())
}

impl Frozen {
    fn stop(&mut self, whom: Whom, until: Instant) -> Result<(), FreezeError> {
        loop {
            let mut moving = None;
            for process in list(whom)?.ok_or(FreezeError::Machine)?.iter().filter(|process| !process.is_over()) {
                if self.0.get(&process.id) != Some(&process.started) {
                    // known before it is stopped: whatever happens in between, it goes on again
                    self.0.insert(process.id, process.started);
                    moving = Some(process.id);
                    match tell(process.id, Signal::STOP) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(_) => return Err(FreezeError::Forbidden { process: process.id }),
                    }
                } else if !process.is_stopped() {
                    moving = Some(process.id);
                }
            }
            match moving {
                None if self.0.is_empty() => return Err(FreezeError::Nobody),
                None => return Ok(()),
                Some(process) if Instant::now() >= until => return Err(FreezeError::Late { process }),
                Some(_) => std::thread::park_timeout(LOOK),
            }
        }
    }

    /// Lets them go on. A process can't end while it is stopped, unless it is killed: then its number may be another's.
    pub(super) fn thaw(&self) {
        for (id, started) in &self.0 {
            if Process::read(*id).is_some_and(|process| process.started == *started) {
                let _ = tell(*id, Signal::CONT); // it may have been killed just now
            }
        }
    }
}

fn tell(id: i32, signal: Signal) -> Result<(), Errno> {
    Pid::from_raw(id).map_or(Ok(()), |id| kill_process(id, signal))
}

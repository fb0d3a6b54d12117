// SPDX-License-Identifier: Apache-2.0
//! What the system says of a process.

use std::time::Duration;

/// A process that is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched(pub(crate) u32);

impl Watched {
    /// The bytes that it has in memory.
    pub(crate) fn memory(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it ever had.
    pub(crate) fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes << 10
    }

    /// The processor time that it has had.
    pub(crate) fn cpu(self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("it runs");
        // its name, in brackets, may have blanks in it
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split_whitespace().collect();
        let ticks: u64 = [11, 12].map(|at| fields[at].parse::<u64>().expect("a number")).iter().sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

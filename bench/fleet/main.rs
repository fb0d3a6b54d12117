// SPDX-License-Identifier: Apache-2.0
//! Many agents at one coordinator: how long a snapshot of all of them takes, and what an agent costs that has nothing to do.
//!
//! The coordinator is a process, `holdfast coordinator` over a repository at an S3 server. The agents are simulated: their sessions, their part in a
//! barrier, their claims and their records are those of `holdfast run`, over a connection each; but they watch no files and stop no programs. Without
//! arguments it is a test of few; `--agents 10,100,1000` measures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may stop at once")]

#[path = "../../cli/tests/cli/coordinator.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod coordinator;
#[path = "../../cli/tests/cli/kit.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kit;
mod measure;
mod member;
mod process;

use measure::Measured;
use std::time::Duration;

/// What the test tries: so few that a busy machine does it in seconds.
const FEW: [usize; 2] = [10, 100];
/// How long agents are left alone to see what that costs.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_IN_TEST: Duration = Duration::from_secs(1);
const NAME: &str = "a_snapshot_of_many_agents_has_them_all";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["--list", ..] => {}
        ["--agents", sizes, ref rest @ ..] => {
            let idle = match *rest {
                [] => IDLE,
                ["--idle", seconds] => Duration::from_secs(seconds.parse().expect("seconds")),
                _ => panic!("--agents N,N… [--idle SECONDS]"),
            };
            let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().expect("a number of agents")).collect();
            show(&sizes, idle);
        }
        _ => {
            let wanted = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
            if NAME.contains(wanted) {
                show(&FEW, IDLE_IN_TEST);
                println!("{NAME} ... ok");
            }
        }
    }
}

/// Measures each size with a coordinator and a repository of its own, and prints a line for it.
fn show(sizes: &[usize], idle: Duration) {
    if cfg!(debug_assertions) {
        println!("compiled without optimisation: these figures say little");
    }
    println!("{}", Measured::HEAD);
    for agents in sizes {
        println!("{}", measure::measure(*agents, idle));
    }
    println!("{}", Measured::LEGEND);
}

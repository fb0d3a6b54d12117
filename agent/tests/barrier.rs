// SPDX-License-Identifier: Apache-2.0
//! Barriers with real processes: what is frozen stands still, what is killed leaves nobody frozen, and a bank's books are right in every snapshot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may stop at once")]

#[path = "common/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod common;
#[path = "common/dice.rs"]
mod dice;
#[path = "agent/kit.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest")]
mod kit;

#[path = "barrier/bank.rs"]
mod bank;
#[path = "barrier/cases.rs"]
mod cases;
#[path = "barrier/keepers.rs"]
mod keepers;
#[path = "barrier/world.rs"]
mod world;

use std::future::Future;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match *words {
        ["--bank", number, ref rest @ ..] => bank::run(number.parse().expect("a number"), rest),
        ["--agent", url, lineage, base, application] => {
            runtime.block_on(world::hold(url, lineage, base.as_ref(), application.parse().expect("a process")));
        }
        ["--list", ..] => {}
        _ => {
            let wanted = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
            let case = |name: &str, case: &mut dyn FnMut()| {
                if name.contains(wanted) {
                    case();
                    println!("{name} ... ok");
                }
            };
            let run = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| runtime.block_on(future);
            case("frozen_processes_stand_still_and_go_on", &mut keepers::frozen_processes_stand_still_and_go_on);
            case("a_rest_ends_with_its_budget", &mut keepers::a_rest_ends_with_its_budget);
            case("an_agent_that_is_gone_leaves_nobody_frozen", &mut keepers::an_agent_that_is_gone_leaves_nobody_frozen);
            case("hooks_are_asked_before_and_after", &mut keepers::hooks_are_asked_before_and_after);
            case("a_hook_that_hangs_is_given_up", &mut keepers::a_hook_that_hangs_is_given_up);
            case("a_signal_that_would_end_a_process_is_not_sent", &mut keepers::a_signal_that_would_end_a_process_is_not_sent);
            case("a_killed_agent_thaws_and_there_is_no_snapshot", &mut || {
                run(Box::pin(cases::a_killed_agent_thaws_and_there_is_no_snapshot()));
            });
            case("the_books_of_a_frozen_bank_are_right", &mut || run(Box::pin(cases::the_books_of_a_frozen_bank_are_right())));
            case("the_books_of_a_bank_that_rests_all_the_time_are_right", &mut || {
                run(Box::pin(cases::the_books_of_a_bank_that_rests_all_the_time_are_right()));
            });
            case("a_rest_that_fails_costs_no_checkpoint", &mut || run(Box::pin(cases::a_rest_that_fails_costs_no_checkpoint())));
            case("the_books_of_a_bank_that_is_asked_are_right", &mut || {
                run(Box::pin(cases::the_books_of_a_bank_that_is_asked_are_right()));
            });
            case("a_bank_that_is_not_at_rest_is_caught", &mut || run(Box::pin(cases::a_bank_that_is_not_at_rest_is_caught())));
        }
    }
}

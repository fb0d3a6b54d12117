// SPDX-License-Identifier: Apache-2.0
//! Any second: a restore gives the newest state at or before the moment that was asked for, never a later one.

use crate::dice::{Dice, rounds};
use crate::kit::Lab;
use holdfast_agent::clock::SystemClock;
use holdfast_core::time::Timestamp;
use holdfast_store::capture::Clock;
use holdfast_store::log::Selector;
use std::fs;
use std::time::Duration;

/// At least.
const STAMPS: u64 = 100;
const EVERY: Duration = Duration::from_millis(100);
const ASKED: u64 = 50;
/// What a state may be older than the moment: the test's cadence (a tenth of a second), a capture, and a machine that is busy with other tests.
const BEHIND: Duration = Duration::from_secs(3);

/// A stamp: from when it may be in a state, and from when it must be.
struct Stamp {
    from: Timestamp,
    by: Timestamp,
}

/// Writes a number again and again, each time a greater one; the answer is when.
async fn stamped(lab: &Lab) -> Vec<Stamp> {
    let mut ticks = tokio::time::interval(EVERY);
    let mut stamps = Vec::new();
    for number in 0..rounds(STAMPS) {
        ticks.tick().await;
        let from = SystemClock.now();
        fs::write(lab.path("next"), number.to_string()).expect("a file");
        fs::rename(lab.path("next"), lab.path("state/counter")).expect("renamed");
        stamps.push(Stamp { from, by: SystemClock.now() });
    }
    stamps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_second_comes_back_and_none_after_it() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let stamps = stamped(&lab).await;
    agent.end().await;
    let (first, last) = (stamps[0].by.plus(BEHIND), stamps[stamps.len() - 1].by);
    let (mut dice, mut most) = (Dice(7), Duration::ZERO);
    for _ in 0..ASKED {
        let span = u64::try_from(last.since(first).as_micros()).expect("minutes");
        let moment = first.plus(Duration::from_micros(dice.roll(span)));
        let mark = lab.log().find(Selector::At(moment), false).await.expect("a timeline").expect("a checkpoint");
        let files = lab.restored(mark.sequence).await.1;
        let number: usize = String::from_utf8_lossy(&files["counter"]).parse().expect("a number");
        assert!(stamps[number].from <= moment, "{number} was written after the moment");
        // the newest that was there at the moment, and since when there was a newer one than what came back
        if let Some(missed) = stamps.get(number + 1).filter(|next| next.by <= moment) {
            most = most.max(moment.since(missed.by));
        }
    }
    println!("{ASKED} of {ASKED} moments came back, at most {most:?} behind");
    assert!(most <= BEHIND, "a state was {most:?} behind");
}

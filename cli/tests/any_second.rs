// SPDX-License-Identifier: Apache-2.0
//! Any second: a program counts ten times a second under `holdfast run`, and is restored as it was at random moments: 50, or 20 without arguments.
//!
//! Each restore must give a count that was there at its moment, not one of later, and no older than the recovery point objective. Without arguments it takes
//! 12 s; `--minutes 5` takes longer, `--every 10` captures less often.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may stop at once")]

#[path = "cli/kit.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kit;

use holdfast_agent::clock::SystemClock;
use holdfast_core::time::Timestamp;
use holdfast_store::capture::Clock;
use kit::Kit;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const NAME: &str = "any_second_comes_back_from_the_program";
const SHORT: Duration = Duration::from_secs(12);
const EVERY: f64 = 1.0;
/// What a count may be older than the pace of captures: until it is noticed, read and durable, on a machine that has much to do.
const SLACK: Duration = Duration::from_secs(2);
const STAMP_EVERY: Duration = Duration::from_millis(100);
const ASKED: usize = 50;
/// In the short one.
const FEW: usize = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["--list", ..] => {}
        ["--write", state, notes, seconds] => count(state.as_ref(), notes.as_ref(), seconds.parse().expect("seconds")),
        ["--minutes", minutes] => any_second(Duration::from_secs_f64(60.0 * number(minutes)), EVERY, ASKED),
        ["--minutes", minutes, "--every", every] => {
            any_second(Duration::from_secs_f64(60.0 * number(minutes)), number(every), ASKED);
        }
        _ => {
            let wanted = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
            if NAME.contains(wanted) {
                any_second(SHORT, EVERY, FEW);
                println!("{NAME} ... ok");
            }
        }
    }
}

fn number(text: &str) -> f64 {
    text.parse().expect("a number")
}

/// The program: writes a greater number again and again, and notes beside the state when.
fn count(state: &Path, notes: &Path, seconds: f64) {
    let mut noted = fs::File::create(notes).expect("a file");
    let began = Instant::now();
    for count in 0_u32.. {
        let due = STAMP_EVERY * count;
        if due >= Duration::from_secs_f64(seconds) {
            return;
        }
        std::thread::park_timeout(due.saturating_sub(began.elapsed()));
        let from = SystemClock.now();
        let new = notes.with_extension("new");
        fs::write(&new, count.to_string()).expect("a file");
        fs::rename(&new, state.join("count")).expect("renamed");
        writeln!(noted, "{} {}", from.nanos(), SystemClock.now().nanos()).expect("noted");
    }
}

/// A count: from when it may be in a state, and from when it must be.
struct Stamp {
    from: Timestamp,
    by: Timestamp,
}

fn any_second(time: Duration, every: f64, moments: usize) {
    let kit = Kit::new();
    let (state, notes) = (kit.path("state"), kit.path("notes"));
    fs::create_dir_all(&state).expect("a directory");
    let (protects, pace) = (format!("data={}", state.display()), every.to_string());
    let mut command = kit.command(&["run", "--lineage", "counter", "--state", &protects, "--every", &pace, "--"]);
    command.arg(std::env::current_exe().expect("this program")).arg("--write").arg(&state).arg(&notes);
    command.arg(time.as_secs_f64().to_string());
    let ran = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("the program");
    assert!(ran.success(), "{ran}");

    let stamps = stamps(&notes);
    let objective = Duration::from_secs_f64(every) + SLACK;
    // a state that is not there yet can't come back: the first is asked for once it must be
    let (first, last) = (stamps[0].by.plus(objective), stamps.last().expect("stamps").by);
    let seed = std::env::var("HOLDFAST_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| getrandom::u64().expect("random numbers"));
    println!("{} counts in {time:?}, captured every {every} s; HOLDFAST_TEST_SEED={seed}", stamps.len());
    let (mut chance, mut ages, mut wrong) = (seed, Vec::new(), String::new());
    for asked in 0..moments {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let span = u64::try_from(last.since(first).as_micros()).expect("minutes");
        let moment = first.plus(Duration::from_micros((chance >> 16) % span));
        let Some(count) = restored(&kit, moment, asked) else {
            writeln!(wrong, "{moment}: no count at all").expect("text");
            continue;
        };
        let age = age(&stamps, count, moment);
        match age {
            Some(age) if age <= objective => {}
            Some(age) => writeln!(wrong, "{moment}: {count}, which is {age:?} old").expect("text"),
            None => writeln!(wrong, "{moment}: {count}, which was written later").expect("text"),
        }
        ages.extend(age);
    }
    ages.sort_unstable();
    let right = moments - wrong.lines().count();
    println!(
        "{right} of {moments} moments came back within {objective:?}: median age {:?}, worst {:?}",
        ages.get(ages.len() / 2).copied().unwrap_or_default(),
        ages.last().copied().unwrap_or_default()
    );
    assert!(wrong.is_empty(), "{wrong}");
}

fn stamps(notes: &Path) -> Vec<Stamp> {
    let notes = fs::read_to_string(notes).expect("notes");
    let time = |text: &str| Timestamp::from_nanos(text.parse().expect("a time"));
    let stamp = |line: &str| line.split_once(' ').map(|(from, by)| Stamp { from: time(from), by: time(by) });
    notes.lines().map(|line| stamp(line).expect("two times")).collect()
}

/// The count that a restore to this moment brings back, if there was one.
fn restored(kit: &Kit, moment: Timestamp, asked: usize) -> Option<usize> {
    let to = kit.path(&format!("to-{asked}"));
    kit.run(&["restore", "--at", &moment.to_string(), to.to_str().expect("text")]).text();
    let count = fs::read_to_string(to.join("count")).ok();
    fs::remove_dir_all(&to).expect("removed");
    count.map(|count| count.parse().expect("a number"))
}

/// How long before the moment the next count took the place of this one: what was lost. `None`: it was not there yet.
fn age(stamps: &[Stamp], count: usize, moment: Timestamp) -> Option<Duration> {
    if stamps[count].from > moment {
        return None;
    }
    let next = stamps.get(count + 1).filter(|next| next.by <= moment);
    Some(next.map_or(Duration::ZERO, |next| moment.since(next.by)))
}

// SPDX-License-Identifier: Apache-2.0
//! The coordinator's process is killed while it takes a snapshot: the programs go on, and the snapshot is whole or not there.
//!
//! Three programs run under `holdfast run --freeze`. A fourth member, in this test, answers as it likes: so a barrier stays where it is wanted until
//! the coordinator is killed, and everything else is what it always is.

use crate::coordinator::Serving;
use crate::kit::{Kit, write};
use crate::laggard::{Laggard, Step};
use holdfast_s3_server::Fault;
use http::Method;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const PROGRAMS: usize = 3;
/// Of each program, in seconds: it rests for so long at most …
const BUDGET: f64 = 4.0;
/// … and by its own clock a little longer, on a machine that has much to do.
const LATE: f64 = 1.5;
const PATIENCE: Duration = Duration::from_secs(60);
/// Each step of the commit takes so long at least: it is killed within.
const SLOW: Duration = Duration::from_millis(40);
/// At most so long after the members have come to where it is killed; a commit has ended by then, or not.
const WITHIN_MS: u64 = 700;
/// As long as the file `go` is there, and so not beyond this test, each number goes to one file, then to the other; what is noted beside is when, by the program's own reading of the clock.
const PROGRAM: &str = "i=0; while [ -e ../go ]; do i=$((i+1)); echo $i >> first; echo $i >> second; \
                       read now rest < /proc/uptime; echo $now >> ../ticks-$0; sleep 0.02; done";
/// What is waited for is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

struct Programs {
    kit: Kit,
    children: Vec<Child>,
}

impl Programs {
    fn start(kit: Kit, serving: &Serving) -> Self {
        write(&kit.path("go"), b"");
        let children = (0..PROGRAMS).map(|number| {
            let state = kit.path(&format!("state-{number}"));
            std::fs::create_dir_all(&state).expect("a directory");
            let (protects, budget) = (format!("data={}", state.display()), BUDGET.to_string());
            let script = format!("cd {}; {PROGRAM}", state.display());
            let name = format!("program-{number}");
            let run =
                ["run", "--lineage", &name, "--state", &protects, "--freeze", "--pause-budget", &budget, "--every", "0.5", "--"];
            let mut command = serving.command(&kit, &[&run[..], &["sh", "-c", &script, &number.to_string()]].concat());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program")
        });
        let children = children.collect();
        Self { kit, children }
    }

    /// When each was at work, by its own clock, in seconds.
    fn ticks(&self, number: usize) -> Vec<f64> {
        let ticks = std::fs::read_to_string(self.kit.path(&format!("ticks-{number}"))).unwrap_or_default();
        // the last line may not be whole
        let whole = ticks.rfind('\n').map_or("", |end| &ticks[..end]);
        whole.lines().map(|line| line.parse().expect("a time")).collect()
    }

    /// Waits until each has gone on since it had so many ticks.
    fn go_on(&self, since: &[usize]) {
        until("every program goes on", || (0..PROGRAMS).all(|number| self.ticks(number).len() > since[number]));
    }

    /// The longest that any has stood still, by its own clock, from each one's tick on.
    fn longest_rest(&self, since: &[usize]) -> f64 {
        let rests = (0..PROGRAMS).flat_map(|number| {
            let ticks = self.ticks(number).split_off(since[number].saturating_sub(1));
            ticks.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>()
        });
        rests.fold(0.0, f64::max)
    }

    fn counts(&self) -> Vec<usize> {
        (0..PROGRAMS).map(|number| self.ticks(number).len()).collect()
    }

    /// Whether all of them are stopped.
    fn are_frozen(&self) -> bool {
        self.children.iter().all(|child| children_of(child.id()).iter().any(|process| state(*process) == Some('T')))
    }

    /// A snapshot has all members, and each is one moment.
    fn is_whole(&self, name: &str) {
        let shown = self.kit.json(&["snapshot", "show", name]).json();
        let members = shown["members"].as_array().expect("members");
        assert_eq!(members.len(), PROGRAMS + 1, "{name} is a part: {shown}");
        assert_eq!(shown["consistency"].as_str(), Some("frozen"), "{shown}");
        for number in 0..PROGRAMS {
            let lines = |file: &str| {
                let path = format!("program-{number}:data/{file}");
                self.kit.run(&["cat", "--snapshot", name, &path]).text().lines().count()
            };
            let (first, second) = (lines("first"), lines("second"));
            assert!(first == second || first == second + 1, "{name}, {number}: {first} and {second}");
        }
    }

    fn exists(&self, name: &str) -> bool {
        let listed = self.kit.json(&["snapshot", "list"]).json();
        listed["snapshots"].as_array().expect("a list").iter().any(|one| one["name"] == name)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.kit.path("go"));
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_coordinator_that_is_killed_before_the_commit_leaves_no_snapshot() {
    killed_at(&[Some(Step::Prepare), Some(Step::Freeze), Some(Step::Cut), Some(Step::Seal)]);
}

#[test]
fn a_coordinator_that_is_killed_within_the_commit_leaves_a_snapshot_whole_or_not_at_all() {
    killed_at(&[None; 3]);
}

/// Kills a coordinator at some phases of a barrier, one after the other: each is the step that the fourth member does not answer, or none, and then it is the
/// commit.
fn killed_at(phases: &[Option<Step>]) {
    let mut dice = Dice::new();
    let kit = Kit::new();
    let fourth = kit.path("fourth");
    std::fs::create_dir_all(&fourth).expect("a directory");
    write(&fourth.join("file"), b"as it was\n");
    kit.protect("fourth", &fourth);
    let sequence = *kit.checkpoints("fourth").last().expect("a checkpoint");
    let mut serving = Serving::start(&kit);
    let address = serving.address().to_owned();
    let token = std::fs::read_to_string(kit.path("token")).expect("a token").trim().to_owned();
    let programs = Programs::start(kit, &serving);
    let (mut taken, mut not) = (0, 0);
    for round in 0..rounds(phases.len() as u64) {
        let silent = phases[usize::try_from(round).expect("few") % phases.len()];
        let (name, next) = (format!("killed-{round}"), format!("next-{round}"));
        let mut laggard = Laggard::open(&serving.url, &token, "fourth", sequence);
        protected(&serving, &programs.kit);
        let before = programs.counts();
        programs.go_on(&before);

        // it stays where the fourth member is silent, or goes through a commit that takes its time
        programs.kit.script.always(Method::PUT, "state/snapshots/", Fault::Delay(SLOW));
        programs.kit.script.always(Method::PUT, "state/domains/", Fault::Delay(SLOW));
        let mut asks = serving.command(&programs.kit, &["snapshot", "create", &name]);
        let mut asking = asks.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program");
        laggard.take_part(silent);
        if matches!(silent, Some(Step::Freeze | Step::Cut)) {
            until("all are frozen", || programs.are_frozen());
        }
        let wait = Duration::from_millis(dice.roll(WITHIN_MS));
        std::thread::park_timeout(wait);
        serving.kill();
        let killed = programs.counts();
        asking.wait().expect("it ends");
        programs.kit.script.clear();
        drop(laggard);

        programs.go_on(&killed);
        let rest = programs.longest_rest(&before);
        println!("{silent:?}, {wait:?} later: rested {rest:.2} s");
        assert!(rest <= BUDGET + LATE, "a program stood still for {rest} s");

        serving = Serving::at(&programs.kit, &address);
        match programs.exists(&name) {
            true => {
                programs.is_whole(&name);
                taken += 1;
            }
            false => not += 1,
        }
        assert!(silent.is_none() || !programs.exists(&name), "{name} exists, though a member had not sealed");

        // the next coordinator takes the next one
        let mut laggard = Laggard::open(&serving.url, &token, "fourth", sequence);
        protected(&serving, &programs.kit);
        let mut asks = serving.command(&programs.kit, &["snapshot", "create", &next]);
        let mut asking = asks.stdout(Stdio::null()).spawn().expect("the program");
        laggard.take_part(None);
        assert!(asking.wait().expect("it ends").success(), "{next} could not be taken");
        programs.is_whole(&next);
    }
    println!("{taken} were there whole, {not} were not there");
}

/// Waits until the coordinator knows that all are protected.
fn protected(serving: &Serving, kit: &Kit) {
    until("all are protected", || {
        let listed = serving.run(kit, &["-o", "json", "lineages"]);
        let told = listed.json();
        let lineages = told["lineages"].as_array().cloned().unwrap_or_default();
        let live = |one: &&serde_json::Value| one["live"]["phase"] == "streaming";
        lineages.iter().filter(live).count() == PROGRAMS + 1
    });
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what} never came to be");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// What a process has started, but for the keeper.
fn children_of(process: u32) -> Vec<u32> {
    let path = PathBuf::from(format!("/proc/{process}/task/{process}/children"));
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().map(|child| child.parse().expect("a number")).collect()
}

fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// So many rounds, times `HOLDFAST_TEST_TIMES`: few while one works, many where there is time.
fn rounds(few: u64) -> u64 {
    let times = std::env::var("HOLDFAST_TEST_TIMES").map_or(1, |times| times.parse().expect("HOLDFAST_TEST_TIMES is a number"));
    few * times
}

/// Chance that can be repeated: xorshift64*, Vigna 2014.
struct Dice(u64);

impl Dice {
    /// From `HOLDFAST_TEST_SEED`, or another one each time; it is printed.
    fn new() -> Self {
        let random = || getrandom::u64().expect("random numbers");
        let seed = std::env::var("HOLDFAST_TEST_SEED").map_or_else(|_| random(), |seed| seed.parse().expect("a number"));
        println!("HOLDFAST_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

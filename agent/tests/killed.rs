// SPDX-License-Identifier: Apache-2.0
//! Agents killed at random moments. This program is its own agent: started with arguments of its own it protects a directory and does
//! what it is told on standard input, until it is killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may stop at once"
)]

#[path = "common/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod common;
#[path = "common/dice.rs"]
mod dice;
#[path = "agent/kit.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kit;

use dice::Dice;
use kit::{Agent, Lab};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const ROUNDS: u64 = 8;
const FILES: u64 = 12;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    match arguments.get(1).map(String::as_str) {
        Some("--agent") => runtime.block_on(protect(&arguments[2], &arguments[3], &arguments[4])),
        Some("--list") => {}
        _ => {
            runtime.block_on(what_was_acknowledged_survives_every_kill());
            println!("what_was_acknowledged_survives_every_kill ... ok");
        }
    }
}

/// The agent: for each line it is told it flushes, and says which checkpoint it is.
async fn protect(endpoint: &str, state: &str, scratch: &str) {
    let transport = kit::transport(endpoint.to_owned(), "secret").await;
    let domain = kit::domain(&transport).await;
    let config = kit::config(Path::new(state), Path::new(scratch));
    let agent = Agent::start(config, &transport, &domain).await.expect("an agent");
    println!("ready");
    let (lines, mut told) = tokio::sync::mpsc::channel(1);
    let reading = std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || lines.blocking_send(()).is_err() {
                return;
            }
        }
    });
    while told.recv().await.is_some() {
        println!("{}", agent.flush().await.sequence);
    }
    reading.join().expect("no panic");
}

/// The agent's process, as whoever runs it sees it.
struct Process {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(lab: &Lab) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = std::process::Command::new(program);
        command.arg("--agent").arg(lab.server.endpoint()).arg(lab.path("state")).arg(lab.path("scratch"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut process = Self { child, answers };
        assert_eq!(process.line(), "ready");
        process
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }

    fn ask(&mut self) {
        self.child.stdin.as_mut().expect("piped").write_all(b"flush\n").expect("told");
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

/// An application whose files are each replaced whole. A file's content begins with the number of its write.
struct Application {
    state: PathBuf,
    dice: Dice,
    writes: u64,
}

impl Application {
    fn write(&mut self) {
        self.writes += 1;
        let file = self.dice.roll(FILES);
        let len = usize::try_from(self.dice.roll(40_000)).expect("small");
        let mut content = self.writes.to_le_bytes().to_vec();
        content.resize(8 + len, u8::try_from(self.writes % 251).expect("a byte"));
        let directory = self.state.join(format!("d{}", file % 3));
        fs::create_dir_all(&directory).expect("a directory");
        let temporary = directory.join("new");
        fs::write(&temporary, content).expect("a file");
        fs::rename(&temporary, directory.join(format!("f{file}"))).expect("replaced");
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        common::files(&self.state)
    }
}

/// The number of the write that a file comes from; it must be whole.
fn version(name: &str, content: &[u8]) -> u64 {
    let number = u64::from_le_bytes(content[..8].try_into().expect("8 bytes"));
    let fill = u8::try_from(number % 251).expect("a byte");
    assert!(content[8..].iter().all(|byte| *byte == fill), "{name} is torn");
    number
}

async fn what_was_acknowledged_survives_every_kill() {
    let lab = Lab::start().await;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()) | 1);
    println!("SEED={seed}");
    let mut application = Application { state: lab.path("state"), dice: Dice(seed), writes: 0 };
    let mut acknowledged: (u64, BTreeMap<String, Vec<u8>>) = (0, BTreeMap::new());
    for round in 0..ROUNDS {
        let mut process = Process::start(&lab);
        for _ in 0..application.dice.roll(4) {
            (0..application.dice.roll(10)).for_each(|_| application.write());
            process.ask();
            let sequence = process.line().parse().expect("a number");
            acknowledged = (sequence, application.files());
        }
        // and now while it works, at a moment that nobody chose
        let last_words = application.dice.roll(2) == 0;
        (0..application.dice.roll(60)).for_each(|_| application.write());
        if last_words {
            process.ask();
        }
        (0..application.dice.roll(30)).for_each(|_| application.write());
        process.kill();
        check(&lab, &application, &acknowledged, round).await;
    }
    // in the end a last agent goes on from whatever the kills have left
    let agent = lab.agent().await;
    let last = agent.flush().await;
    assert!(lab.restored(last.sequence).await.1 == application.files(), "the state is what the disk holds");
    agent.end().await;
}

async fn check(lab: &Lab, application: &Application, acknowledged: &(u64, BTreeMap<String, Vec<u8>>), round: u64) {
    let (sequence, then) = acknowledged;
    if *sequence == 0 {
        return;
    }
    let (_, exact) = lab.restored(*sequence).await;
    assert!(exact == *then, "round {round}: checkpoint {sequence} was acknowledged with other files");
    let (newest, found) = lab.restored(0).await;
    assert!(newest >= *sequence, "round {round}: {newest} is older than {sequence}, which was acknowledged");
    for (name, content) in then {
        let found = found.get(name).unwrap_or_else(|| panic!("round {round}: {name} is lost"));
        let (was, is) = (version(name, content), version(name, found));
        assert!(is >= was, "round {round}: {name} is of write {is}, and write {was} was acknowledged");
        assert!(is <= application.writes, "round {round}: {name} is of write {is}, which never was");
    }
}

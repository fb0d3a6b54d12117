// SPDX-License-Identifier: Apache-2.0
//! A program that runs has its state for itself, also when `holdfast run` was killed away from it.

use crate::kit::{Kit, read, write};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

/// A protected program that runs until it is killed.
struct Running {
    holdfast: Child,
    program: Pid,
}

impl Running {
    fn start(kit: &Kit, state: &Path) -> Self {
        let state = format!("data={}", state.display());
        let line = ["run", "--lineage", "web", "--state", &state, "--", "sh", "-c", "echo $$; exec sleep 600"];
        let mut holdfast = kit.command(&line).stdout(Stdio::piped()).spawn().expect("the program");
        let mut said = String::new();
        BufReader::new(holdfast.stdout.take().expect("its output")).read_line(&mut said).expect("a line");
        let program = Pid::from_raw(said.trim().parse().expect("a number")).expect("a process");
        Self { holdfast, program }
    }

    fn kill_holdfast(&mut self) {
        self.holdfast.kill().expect("it runs");
        self.holdfast.wait().expect("it has ended");
    }

    /// Kills the program, and waits until it is gone: it may be nobody's child of ours.
    fn kill_program(&self) {
        let process = pidfd_open(self.program, PidfdFlags::empty()).expect("it runs");
        kill_process(self.program, Signal::KILL).expect("it runs");
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("it has ended");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.holdfast.kill(); // they may have ended
        let _ = kill_process(self.program, Signal::KILL);
        let _ = self.holdfast.wait();
    }
}

#[test]
fn no_second_program_starts_beside_one_whose_holdfast_was_killed() {
    let kit = Kit::seeded();
    let (state, ran) = (kit.path("web"), kit.path("ran"));
    let mut running = Running::start(&kit, &state);
    running.kill_holdfast();
    let path = format!("data={}", state.display());
    let again = ["run", "--lineage", "web", "--state", &path, "--", "touch", ran.to_str().expect("text")];
    kit.run(&again).refused(3, "was killed and has left its program running");
    assert!(!ran.exists());
    running.kill_program();
    kit.run(&again).text();
    assert!(ran.exists());
}

#[test]
fn what_ends_in_good_order_keeps_nobody_out_whoever_it_has_started() {
    let kit = Kit::seeded();
    let path = format!("data={}", kit.path("web").display());
    let line = ["run", "--lineage", "web", "--state", &path, "--", "sh", "-c", "sleep 600 </dev/null >/dev/null 2>&1 & echo $!"];
    let said = kit.run(&line).text();
    kit.run(&["run", "--lineage", "web", "--state", &path, "--", "true"]).text();
    let daemon = Pid::from_raw(said.trim().parse().expect("a number")).expect("a process");
    kill_process(daemon, Signal::KILL).expect("it runs");
}

#[test]
fn nothing_is_restored_beneath_a_program_that_runs() {
    let kit = Kit::seeded();
    let state = kit.path("web");
    write(&state.join("mine"), b"mine\n");
    let mut running = Running::start(&kit, &state);
    let first = kit.checkpoints("web")[0].to_string();
    let inner = state.join("journal");
    for (target, extra) in [(&state, "--remove-extra"), (&state, "--keep-extra"), (&inner, "--remove-extra")] {
        let target = target.to_str().expect("text");
        kit.run(&["restore", "--checkpoint", &first, extra, target]).refused(3, "is being protected, and a program works there");
    }
    assert_eq!((read(&state.join("mine")), read(&state.join("changed"))), ("mine\n".to_owned(), "after, longer\n".to_owned()));
    // single files may come back while it runs
    let target = state.to_str().expect("text");
    kit.run(&["restore", "--checkpoint", &first, "--keep-extra", target, "data/old"]).text();
    assert_eq!(read(&state.join("old")), "old\n");
    running.kill_holdfast();
    running.kill_program();
    kit.run(&["restore", "--checkpoint", &first, "--remove-extra", target]).text();
    assert!(!state.join("mine").exists());
}

#[test]
fn whoever_does_not_want_to_wait_for_the_last_capture_need_not() {
    let kit = Kit::seeded();
    let state = kit.path("web");
    let path = format!("data={}", state.display());
    let change = format!("echo ready; read go; echo changed > {}/changed; exit 7", state.display());
    let line = ["run", "--lineage", "web", "--state", &path, "--", "sh", "-c", &change];
    let mut command = kit.command(&line);
    let mut holdfast = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    BufReader::new(holdfast.stdout.take().expect("its output")).read_line(&mut String::new()).expect("it runs");
    // nothing that is written is answered from here on: the last capture takes as long as it may
    kit.script.always(http::Method::PUT, "state/", holdfast_s3_server::Fault::BlackHole);
    drop(holdfast.stdin.take());
    let mut said = BufReader::new(holdfast.stderr.take().expect("its errors")).lines();
    let mut until = |what: &str| said.by_ref().map_while(Result::ok).find(|line| line.contains(what));
    assert!(until("its last changes are being captured, for at most 1 min 0 s").is_some());
    kill_process(Pid::from_child(&holdfast), Signal::INT).expect("it waits");
    assert!(until("THE LAST CHANGES ARE NOT CAPTURED").is_some());
    assert_eq!(holdfast.wait().expect("it has ended").code(), Some(7), "the program's own");
    kit.script.clear();
    kit.protect("web", &state);
    assert_eq!(kit.run(&["cat", "web:data/changed"]).text(), "changed\n", "the disk was kept");
}

#[test]
fn a_program_that_cannot_be_started_is_told_as_shells_tell_it() {
    let kit = Kit::seeded();
    let path = format!("data={}", kit.path("web").display());
    let run = |program: &str| kit.run(&["run", "--lineage", "web", "--state", &path, "--", program]);
    run("no-such-program-anywhere").refused(127, "can't run no-such-program-anywhere");
    let plain = kit.path("web/old-plain");
    write(&plain, b"no program");
    run(plain.to_str().expect("text")).refused(126, "can't run");
    let (one, two) = (format!("a={}", kit.path("one").display()), format!("a={}", kit.path("two").display()));
    kit.run(&["run", "--state", &one, "--state", &two, "--", "true"]).refused(2, "two directories are called \"a\"");
}

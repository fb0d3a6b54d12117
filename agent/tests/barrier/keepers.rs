// SPDX-License-Identifier: Apache-2.0
//! The keeper's process, asked as the agent asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// For what should happen at once, on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two processes, and the shell that started them: which is no part of the application.
pub(crate) struct Application {
    shell: Child,
    pub(crate) processes: Vec<i32>,
}

impl Application {
    pub(crate) fn start() -> Self {
        let script = "sleep 1000 & echo $!; sh -c 'sleep 1000' & echo $!; wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).process_group(0).spawn().expect("a shell");
        let lines = BufReader::new(shell.stdout.take().expect("piped")).lines();
        let processes: Vec<i32> = lines.take(2).map(|line| line.expect("a line").parse().expect("a number")).collect();
        // it is what it will be once it has a name of its own
        let named = || std::fs::read_to_string(format!("/proc/{}/comm", processes[0])).expect("it runs");
        while named().trim() != "sleep" {
            std::thread::yield_now();
        }
        Self { shell, processes }
    }

    pub(crate) fn root(&self) -> i32 {
        i32::try_from(self.shell.id()).expect("small")
    }

    pub(crate) fn states(&self) -> Vec<char> {
        self.processes.iter().map(|process| state(*process)).collect()
    }

    /// Waits until all are in such a state, and says how long that took.
    pub(crate) fn until(&self, stopped: bool) -> Duration {
        let began = Instant::now();
        while self.states().iter().any(|state| (*state == 'T') != stopped) {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.states());
            std::thread::yield_now();
        }
        began.elapsed()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.shell);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.shell.wait();
    }
}

fn state(process: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    stat[stat.rfind(')').expect("a name") + 2..].chars().next().expect("a state")
}

struct Keeper {
    child: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Keeper {
    fn start(means: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        let mut child = command.arg("keeper").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a keeper");
        let (asks, says) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("piped")));
        let mut keeper = Self { child, asks, says };
        keeper.ask(means);
        assert_eq!(keeper.hear(), r#""ready""#);
        keeper
    }

    fn freezing(application: &Application) -> Self {
        Self::start(&format!(r#"{{"freeze":{{"startedBy":{}}}}}"#, application.root()))
    }

    fn ask(&mut self, what: &str) {
        writeln!(self.asks.as_mut().expect("open"), "{what}").expect("asked");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn asked(&mut self, what: &str) -> String {
        self.ask(what);
        self.hear()
    }

    fn end(mut self) {
        drop(self.asks.take());
        assert!(self.child.wait().expect("it ends").success());
    }
}

pub(crate) fn frozen_processes_stand_still_and_go_on() {
    let application = Application::start();
    let mut keeper = Keeper::freezing(&application);
    for _ in 0..3 {
        assert_eq!(keeper.asked(r#"{"rest":{"budgetMs":60000}}"#), r#""rested""#);
        assert_eq!(application.states(), ['T', 'T'], "when it is said, it is so");
        assert_ne!(state(application.root()), 'T', "whoever started it is not the application");
        assert_eq!(keeper.asked(r#""goOn""#), r#"{"goes":null}"#);
        application.until(false);
    }
    keeper.end();
}

pub(crate) fn a_rest_ends_with_its_budget() {
    let application = Application::start();
    let mut keeper = Keeper::freezing(&application);
    let began = Instant::now();
    assert_eq!(keeper.asked(r#"{"rest":{"budgetMs":300}}"#), r#""rested""#);
    application.until(false);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(keeper.asked(r#""goOn""#), r#"{"goes":null}"#, "whoever comes late hears nothing else");
    keeper.end();
}

pub(crate) fn an_agent_that_is_gone_leaves_nobody_frozen() {
    let application = Application::start();
    let mut keeper = Keeper::freezing(&application);
    assert_eq!(keeper.asked(r#"{"rest":{"budgetMs":600000}}"#), r#""rested""#);
    // as the end of the agent's process closes it
    drop(keeper.asks.take());
    application.until(false);
    assert!(keeper.child.wait().expect("it ends").success());
}

/// An application that is asked by HTTP: what it hears, and whether it answers.
struct Asked {
    listener: TcpListener,
    means: String,
}

impl Asked {
    fn new(timeout_ms: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let hook = |path: &str| format!(r#"{{"call":{{"http":{{"port":{port},"path":"{path}"}}}},"timeoutMs":{timeout_ms}}}"#);
        let means = format!(r#"{{"hooks":{{"before":{},"after":{},"whom":"otherContainers"}}}}"#, hook("/rest"), hook("/go"));
        Self { listener, means }
    }

    /// Hears one request; the answer is left to be given.
    fn hear(&self) -> (String, std::net::TcpStream) {
        let (mut stream, _) = self.listener.accept().expect("a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).expect("a byte"), 1);
            head.extend(byte);
        }
        (String::from_utf8(head).expect("text").lines().next().expect("a line").to_owned(), stream)
    }

    fn answer(&self, code: u16) -> String {
        let (line, mut stream) = self.hear();
        write!(stream, "HTTP/1.1 {code} x\r\nContent-Length: 0\r\n\r\n").expect("answered");
        line
    }
}

pub(crate) fn hooks_are_asked_before_and_after() {
    let asked = Asked::new(20_000);
    let mut keeper = Keeper::start(&asked.means);
    keeper.ask(r#"{"rest":{"budgetMs":60000}}"#);
    assert_eq!(asked.answer(204), "POST /rest HTTP/1.1");
    assert_eq!(keeper.hear(), r#""rested""#);
    keeper.ask(r#""goOn""#);
    assert_eq!(asked.answer(503), "POST /go HTTP/1.1");
    assert_eq!(asked.answer(200), "POST /go HTTP/1.1", "it is told until it says that it goes on");
    assert_eq!(keeper.hear(), r#"{"goes":null}"#);
    keeper.ask(r#"{"rest":{"budgetMs":60000}}"#);
    assert_eq!(asked.answer(500), "POST /rest HTTP/1.1");
    assert_eq!(asked.answer(200), "POST /go HTTP/1.1", "a no may be half a yes");
    assert!(keeper.hear().contains("failed"));
    keeper.end();
}

pub(crate) fn a_hook_that_hangs_is_given_up() {
    let asked = Asked::new(100);
    let mut keeper = Keeper::start(&asked.means);
    keeper.ask(r#"{"rest":{"budgetMs":60000}}"#);
    let (line, hanging) = asked.hear();
    assert_eq!(line, "POST /rest HTTP/1.1");
    assert_eq!(asked.answer(200), "POST /go HTTP/1.1");
    let said = keeper.hear();
    assert!(said.contains("failed") && said.contains("did not answer within 100ms"), "{said}");
    drop(hanging);
    keeper.end();
}

pub(crate) fn a_signal_that_would_end_a_process_is_not_sent() {
    let application = Application::start();
    let hook = r#"{"call":{"signal":{"signal":"usr1","process":"sleep"}},"timeoutMs":1}"#;
    let root = application.root();
    let mut keeper = Keeper::start(&format!(r#"{{"hooks":{{"before":{hook},"after":null,"whom":{{"startedBy":{root}}}}}}}"#));
    let said = keeper.asked(r#"{"rest":{"budgetMs":60000}}"#);
    assert!(said.contains("does not catch"), "{said}");
    assert!(application.states().iter().all(|state| *state != 'Z'), "it lives");
    keeper.end();
}

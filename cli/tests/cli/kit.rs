// SPDX-License-Identifier: Apache-2.0
//! The built program, an S3 server of its own for each test, and what it said.

use holdfast_agent::clock::SystemClock;
use holdfast_s3_server::{Config, Script, Server};
use holdfast_store::capture::Clock;
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::s3::{Options, S3};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const PASSPHRASE: &str = "correct horse";

pub(crate) struct Kit {
    pub(crate) script: Arc<Script>,
    pub(crate) directory: TempDir,
    endpoint: String,
    runtime: Runtime,
    server: Option<Server>,
}

/// What the program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: output.stdout, err }
    }
}

impl Ran {
    /// What was said, of a program that did what it should.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.any_text()
    }

    pub(crate) fn any_text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("text")
    }

    /// The one document.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.any_text(), self.err))
    }

    /// A document for each line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// It ended with this code and one line that says this.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{}", self.err);
        assert!(self.err.contains(says), "{:?} is not in {:?}", says, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        assert_eq!(self.any_text(), "", "nothing but results go to standard output");
    }
}

impl Kit {
    /// A store with a repository, whose passphrase takes a fifth of the usual time: what most tests need is not how it is made.
    pub(crate) fn new() -> Self {
        let kit = Self::empty();
        kit.runtime.block_on(async {
            let options = Options {
                bucket: "bucket".to_owned(),
                prefix: "state".to_owned(),
                endpoint: Some(kit.endpoint.clone()),
                region: Some("us-east-1".to_owned()),
                credentials: Some(("key".to_owned(), "secret".to_owned())),
                ..Options::default()
            };
            let transport = Arc::new(S3::new(options).await);
            let made = Repository::create(transport, PASSPHRASE.as_bytes(), Kdf::QUICK, SystemClock.now());
            made.await.expect("a repository");
        });
        kit
    }

    /// A store without a repository.
    pub(crate) fn empty() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let directory = tempfile::tempdir().expect("a directory");
        let script = Arc::new(Script::new());
        let mut config = Config::new(directory.path().join("s3"), "key", "secret");
        config.buckets = vec!["bucket".to_owned()];
        config.durable = false;
        // a coordinator with much to do opens hundreds, and a stranger is not to be feared here
        config.limits.connections = 2048;
        config.faults = Some(script.clone());
        let server = runtime.block_on(Server::start(config)).expect("a server");
        Self { script, endpoint: server.endpoint(), directory, runtime, server: Some(server) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program without anything of this machine's in its environment.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.env_clear().stdin(Stdio::null()).env("TZ", "UTC").env("HOME", self.directory.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    }

    /// The program with the repository and its passphrase in its environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = self.bare();
        command.env("HOLDFAST_REPO", "s3://bucket/state").env("HOLDFAST_ENDPOINT", &self.endpoint);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("HOLDFAST_PASSPHRASE", PASSPHRASE);
        command.args(args);
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        self.command(args).output().expect("the program").into()
    }

    /// With `-o json`.
    pub(crate) fn json(&self, args: &[&str]) -> Ran {
        self.run(&[&["-o", "json"], args].concat())
    }

    /// Protects a directory as it is now: one more checkpoint of a lineage.
    #[track_caller]
    pub(crate) fn protect(&self, lineage: &str, state: &Path) {
        let state = format!("data={}", state.display());
        self.run(&["run", "--lineage", lineage, "--state", &state, "--", "true"]).text();
    }

    /// A lineage `web` with two states of a small tree: the second has `new`, lacks `old`, and another `changed`.
    pub(crate) fn seeded() -> Self {
        let kit = Self::new();
        let state = kit.path("web");
        std::fs::create_dir_all(state.join("journal")).expect("a directory");
        write(&state.join("old"), b"old\n");
        write(&state.join("changed"), b"before\n");
        write(&state.join("journal/0001"), &[b'x'; 100_000]);
        kit.protect("web", &state);
        std::fs::remove_file(state.join("old")).expect("a file");
        write(&state.join("changed"), b"after, longer\n");
        write(&state.join("new"), b"new\n");
        kit.protect("web", &state);
        kit
    }

    /// The numbers of a lineage's checkpoints, oldest first.
    pub(crate) fn checkpoints(&self, lineage: &str) -> Vec<u64> {
        let found = self.json(&["timeline", lineage]).json();
        let list = found["checkpoints"].as_array().expect("a list");
        list.iter().rev().map(|one| one["checkpoint"].as_u64().expect("a number")).collect()
    }

    /// What the store takes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        let mut found = Vec::new();
        files(&self.path("s3"), &mut found);
        // one that is deleted at this moment takes nothing
        found.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
    }

    /// The files in which the store keeps objects whose names contain this.
    pub(crate) fn objects(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files(&self.path("s3"), &mut found);
        found.retain(|path| std::fs::read(path).is_ok_and(|bytes| contains(&bytes, part.as_bytes())));
        found
    }
}

/// So many bytes that don't compress: they lie in packs, not in records.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let word = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(i | 1).to_le_bytes();
    (0..).flat_map(word).take(len).collect()
}

impl Drop for Kit {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

pub(crate) fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned()
}

#[track_caller]
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file");
}

/// Ids, times and ages replaced by what they are.
pub(crate) fn redact(text: &str) -> String {
    text.lines().map(|line| redact_line(line.trim_end())).collect::<Vec<_>>().join("\n")
}

fn redact_line(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some(len) = a_time(rest) {
            out.push_str("<time>");
            rest = &rest[len..];
        } else if let Some(len) = an_id(rest, out.chars().last()) {
            out.push_str("<id>");
            rest = &rest[len..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    // columns are as wide as what was replaced
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `14:03:07 (…)`, with a date or without, or RFC 3339.
fn a_time(text: &str) -> Option<usize> {
    let shape = |pattern: &str| {
        let fits = |(c, wanted): (char, char)| if wanted == '0' { c.is_ascii_digit() } else { c == wanted };
        text.len() >= pattern.len() && text.is_char_boundary(pattern.len()) && text.chars().zip(pattern.chars()).all(fits)
    };
    if shape("0000-00-00T00:00:00") {
        return text.find('Z').map(|end| end + 1);
    }
    let begin = if shape("0000-00-00 00:00:00 (") {
        19
    } else if shape("00:00:00 (") {
        8
    } else {
        return None;
    };
    text[begin..].find(')').map(|end| begin + end + 1)
}

fn an_id(text: &str, before: Option<char>) -> Option<usize> {
    let len = text.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    (len >= 12 && before.is_none_or(|c| !c.is_ascii_alphanumeric())).then_some(len)
}

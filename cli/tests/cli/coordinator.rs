// SPDX-License-Identifier: Apache-2.0
//! `holdfast coordinator` as a process of its own.

use crate::kit::{Kit, Ran};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// It serves until it is dropped, at the latest.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Serving {
    /// On a port of its own.
    pub(crate) fn start(kit: &Kit) -> Self {
        Self::at(kit, "127.0.0.1:0")
    }

    /// At this address. When this returns, it is ready.
    pub(crate) fn at(kit: &Kit, address: &str) -> Self {
        Self::with(kit, address, &[])
    }

    /// With further options.
    pub(crate) fn with(kit: &Kit, address: &str, options: &[&str]) -> Self {
        let token = kit.path("token");
        let args = ["-o", "json", "coordinator", "--listen", address, "--token-file", token.to_str().expect("text")];
        let mut child =
            kit.command(&args).args(options).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        Self { url: ready["listening"].as_str().expect("a URL").to_owned(), child }
    }

    /// Where it listens, without the scheme.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The program, told of it and of nothing but the token.
    pub(crate) fn command(&self, kit: &Kit, args: &[&str]) -> Command {
        let mut command = kit.bare();
        command.env("HOLDFAST_COORDINATOR", &self.url).env("HOLDFAST_TOKEN_FILE", kit.path("token"));
        command.args(args);
        command
    }

    /// Runs the program against it.
    pub(crate) fn run(&self, kit: &Kit, args: &[&str]) -> Ran {
        self.command(kit, args).output().expect("the program").into()
    }

    /// Ends it without a word, as a loss of its machine would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `spec.consistency`: how an application is brought to rest.

use super::{cel, shapes};
use crate::text::DurationText;
use holdfast_core::policy::rules;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the application is brought to rest for a capture.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default = "ConsistencySpec::default")]
#[x_kube(
    validation = cel(&rules::PAUSE_RANGE),
    validation = cel(&rules::HOOK_TIMEOUT_OVER_PAUSE),
    validation = cel(&shapes::HOOKS_MISSING),
    validation = cel(&shapes::HOOKS_UNUSED)
)]
pub struct ConsistencySpec {
    /// None: a capture is clean if nothing happened to change. Hooks: the application is asked to rest. Freeze: its processes are stopped, which needs a shared process namespace.
    pub mode: ConsistencyMode,
    /// Snapshots: it rests for snapshots only. EveryCheckpoint: each time changes are captured, too; what is captured without is marked as fuzzy.
    pub when: PauseWhen,
    /// The application goes on after this long, whatever the capture has come to.
    pub pause_budget: DurationText,
    /// What the application is asked; with mode Hooks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksSpec>,
}

impl Default for ConsistencySpec {
    fn default() -> Self {
        let pause_budget = DurationText::from("5s");
        Self { mode: ConsistencyMode::None, when: PauseWhen::Snapshots, pause_budget, hooks: None }
    }
}

/// By which means the application is brought to rest.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum ConsistencyMode {
    /// By none.
    None,
    /// It is asked.
    Hooks,
    /// Its processes are stopped.
    Freeze,
}

/// For which captures the application is brought to rest.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum PauseWhen {
    /// For snapshots.
    Snapshots,
    /// For every checkpoint.
    EveryCheckpoint,
}

/// What the application is asked.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HooksSpec {
    /// To come to rest, or to write down what it has in memory.
    pub before: HookSpec,
    /// To go on. Left out: it goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<HookSpec>,
}

/// One request to the application: exactly one of http, unixSocket and signal.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = cel(&shapes::HOOK_ONE),
    validation = cel(&rules::HOOK_TIMEOUT),
    validation = cel(&rules::HOOK_HTTP_PATH),
    validation = cel(&rules::HOOK_SOCKET_PATH),
    validation = cel(&rules::HOOK_PROCESS)
)]
pub struct HookSpec {
    /// POST to the application on localhost; any 2xx is a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSpec>,
    /// A line to a unix socket of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_socket: Option<SocketSpec>,
    /// A signal to the application's processes; its timeout is waited out, since a signal has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalSpec>,
    /// How long it may take to answer.
    #[serde(default = "default_timeout")]
    pub timeout: DurationText,
}

fn default_timeout() -> DurationText {
    DurationText::from("2s")
}

/// A request by HTTP.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSpec {
    /// Where the application listens, on 127.0.0.1.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The path of the URL.
    #[serde(default = "default_path")]
    #[schemars(length(max = 1024))]
    pub path: String,
}

fn default_path() -> String {
    "/".to_owned()
}

/// A request on a unix socket.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SocketSpec {
    /// Where the socket is, as the containers see it.
    #[schemars(length(max = 107))]
    pub path: String,
    /// What is sent; a line feed is added.
    #[schemars(length(max = 1024))]
    pub send: String,
    /// What the answer must begin with. Left out: any answer is a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub expect: Option<String>,
}

/// A signal.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SignalSpec {
    /// Which.
    pub name: SignalName,
    /// To every process with this name, as in /proc/PID/comm.
    #[schemars(length(max = 15))]
    pub process: String,
}

/// The signals an application may give a meaning of its own.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum SignalName {
    /// Hang-up.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// The first of the user's.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// The second.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

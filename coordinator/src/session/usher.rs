// SPDX-License-Identifier: Apache-2.0
//! The seam between a session and whoever decides which lineage it is for, where the agent itself can't: in a cluster a pod has what its place among
//! its workload's pods gives it.

use crate::shared::Shared;
use holdfast_core::time::Monotonic;
use holdfast_proto::v1;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// Whose grants these are: what ends, ends them all at once.
pub(crate) type Bearer = Arc<str>;

/// What is said to an agent before it is welcomed, or what ends its session.
#[derive(Debug)]
#[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "only clusters have ushers"))]
pub(crate) enum Word {
    /// It has to wait: one of the closed set of reasons, and a sentence.
    Wait { reason: &'static str, message: String },
    /// It is granted a lineage.
    Begin(Box<Assignment>),
    /// Its session ends; and if so, its grants with it.
    End { status: Status, revoke: bool },
}

/// A lineage for a session.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    /// Whose repository it is in.
    pub(crate) shared: Arc<Shared>,
    pub(crate) names: v1::LineageRef,
    /// Who the agent is, for people.
    pub(crate) holder: String,
    pub(crate) bearer: Bearer,
    /// What the session is resumed by.
    pub(crate) session: String,
    pub(crate) take_over: bool,
    pub(crate) start: v1::Start,
}

/// Accompanies one connection of an agent; dropped, the connection is gone.
#[tonic::async_trait]
pub(crate) trait Usher: fmt::Debug + Send {
    /// The next word; waits for it. Cancel-safe: a word that was not taken is said again.
    async fn next(&mut self) -> Word;

    /// The agent has said something; of its state, if it did.
    fn heard(&mut self, live: Option<&v1::Live>);

    /// The pod is being ended, and has so long.
    fn stopping(&mut self, grace: Duration);
}

/// Until when grants last whose pod is being ended: its token may be void before.
pub(crate) fn outlives(now: Monotonic, grace: Duration) -> Monotonic {
    now.plus(grace.min(GRACE_MAX)).plus(AFTER_GRACE)
}

/// What is left for the last checkpoint when a grace is over.
const AFTER_GRACE: Duration = Duration::from_secs(60);
/// Longest grace that is believed.
const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

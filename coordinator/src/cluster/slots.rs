// SPDX-License-Identifier: Apache-2.0
//! Who has which slot: one task owns all tables, gathers what watches and agents say, asks [`holdfast_core::slot`], writes down and tells.

use super::identity::PodIdentity;
use super::waiting::PodUsher;
use super::{ClusterConfig, SlotView};
use crate::session::Instance;
use crate::session::usher::Word;
use crate::status;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

mod actor;
mod facts;
mod follow;
mod foreign;
mod guests;
mod lookout;
mod owners;
mod preflight;
mod records;
mod rows;

pub(super) use facts::is_ready;

/// Things said by agents that wait to be heard.
const ASKS_MAX: usize = 4096;

/// What is said to an agent; kept until the next is.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(pub(super) Option<Arc<Speech>>);

/// Each once.
#[derive(Debug)]
pub(super) enum Speech {
    Wait { reason: &'static str, message: String },
    Begin(crate::session::usher::Assignment),
    End { status: Status, revoke: bool },
}

impl Speech {
    /// As a session takes it.
    pub(super) fn word(&self) -> Word {
        match self {
            Self::Wait { reason, message } => Word::Wait { reason, message: message.clone() },
            Self::Begin(assigned) => Word::Begin(Box::new(assigned.clone())),
            Self::End { status, revoke } => Word::End { status: status.clone(), revoke: *revoke },
        }
    }
}

/// What a pod's connection says to the task.
#[derive(Debug)]
pub(super) enum Ask {
    /// An agent asks for its lineage; of one pod the newest connection counts.
    Arrives { pod: PodIdentity, instance: Instance, connection: u64, said: watch::Sender<Said> },
    /// It has said something; what it is at, if it told.
    Heard { uid: String, connection: u64, news: Option<News> },
    /// Its connection is gone.
    Leaves { uid: String, connection: u64 },
}

/// What an agent is at, as far as slots are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// It was granted its lineage and waits for a person's decision.
    Stuck(&'static str, String),
    /// It looks at its disk and its log; what keeps it from that is no question.
    Begins,
    /// It restores, captures, or ends.
    Goes,
    /// It has sealed its record.
    Ended,
}

/// The way to the task. Clones lead to the same.
#[derive(Clone)]
pub(super) struct Slots {
    asks: mpsc::Sender<Ask>,
    connections: Arc<AtomicU64>,
    rows: watch::Receiver<Arc<Vec<SlotView>>>,
}

impl Slots {
    /// The way, and the task.
    pub(super) fn new(config: ClusterConfig) -> (Self, Task) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (told, rows) = watch::channel(Arc::default());
        (Self { asks, connections: Arc::default(), rows }, Task { config, asked, told })
    }

    /// Accompanies an agent's connection.
    pub(super) async fn attend(&self, pod: PodIdentity, instance: Instance) -> Result<PodUsher, Status> {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (said, hears) = watch::channel(Said::default());
        let uid = pod.uid.clone();
        let arrives = Ask::Arrives { pod, instance, connection, said };
        self.asks.send(arrives).await.map_err(|_| status::shutting_down())?;
        Ok(PodUsher::new(self.asks.clone(), hears, uid, connection))
    }

    /// The slots as they are, and each change of them.
    pub(super) fn rows(&self) -> watch::Receiver<Arc<Vec<SlotView>>> {
        self.rows.clone()
    }
}

/// The task, not running yet.
pub(super) struct Task {
    config: ClusterConfig,
    asked: mpsc::Receiver<Ask>,
    told: watch::Sender<Arc<Vec<SlotView>>>,
}

impl Task {
    /// Runs until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { config, asked, told } = self;
        tokio::select! {
            () = actor::Actor::new(config, told).run(asked) => {}
            () = stop.cancelled() => {}
        }
    }
}

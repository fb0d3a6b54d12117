// SPDX-License-Identifier: Apache-2.0
//! A member of a barrier that answers up to a step, and is silent from then on.

use holdfast_agent::Connection;
use holdfast_core::barrier::{Answer, Order, Rest};
use holdfast_proto::barrier;
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{self, LineageRef, SessionRequest, SessionResponse};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::Streaming;

/// What is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Prepare,
    Freeze,
    Cut,
    /// The thaw is, but not that the checkpoint is durable.
    Seal,
}

const PATIENCE: Duration = Duration::from_secs(60);

/// An open session of a lineage that has a checkpoint already; dropped, it is gone.
pub(crate) struct Laggard {
    runtime: Runtime,
    out: mpsc::Sender<SessionRequest>,
    commands: Streaming<SessionResponse>,
    sequence: u64,
}

impl Laggard {
    pub(crate) fn open(url: &str, token: &str, lineage: &str, sequence: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let (out, commands) = runtime.block_on(async {
            let connection = Connection::new(url, Some(token)).expect("an address");
            let (out, events) = mpsc::channel(16);
            let hello = v1::Hello {
                protocol: holdfast_proto::AGENT_PROTOCOL,
                agent_version: "0.1.0".to_owned(),
                lineage: Some(LineageRef { domain: "default".to_owned(), lineage: lineage.to_owned() }),
                holder: "a test".to_owned(),
                instance: getrandom::u64().expect("random numbers").to_le_bytes().repeat(2).into(),
                resume: String::new(),
                barriers: true,
            };
            let live = v1::Live { phase: v1::Phase::Streaming.into(), ..v1::Live::default() };
            let report = v1::StatusReport { live: Some(live), sequence, ..v1::StatusReport::default() };
            for event in [Event::Hello(hello), Event::Status(report)] {
                out.send(SessionRequest { event: Some(event) }).await.expect("room");
            }
            let events = futures::stream::unfold(events, |mut events| async { Some((events.recv().await?, events)) });
            let answered = AgentServiceClient::new(connection.channel()).session(connection.request(events)).await;
            let mut commands = answered.expect("a session").into_inner();
            let welcome = commands.message().await.expect("a session").and_then(|first| first.command);
            assert!(matches!(welcome, Some(Command::Welcome(_))), "no welcome: {welcome:?}");
            (out, commands)
        });
        Self { runtime, out, commands, sequence }
    }

    /// Takes part in the next barrier until the step that is not answered, or to its end.
    pub(crate) fn take_part(&mut self, silent: Option<Step>) {
        let Self { runtime, out, commands, sequence } = self;
        let taking_part = async {
            loop {
                let heard = commands.message().await.expect("a session").and_then(|message| message.command);
                let Some(Command::Barrier(order)) = heard else { continue };
                let (id, order) = barrier::order_of(order).expect("an order");
                let (step, answers) = match order {
                    Order::Prepare => (Step::Prepare, vec![Answer::Prepared]),
                    Order::Freeze { .. } => (Step::Freeze, vec![Answer::Frozen(Rest::Frozen)]),
                    Order::Cut => (Step::Cut, vec![Answer::Cut]),
                    Order::Thaw => (Step::Seal, vec![Answer::Thawed(Duration::ZERO), Answer::Sealed(*sequence)]),
                };
                let silent = silent == Some(step);
                let said = answers.into_iter().filter(|answer| !silent || matches!(answer, Answer::Thawed(_)));
                for answer in said {
                    let event = Some(Event::Barrier(barrier::answer(id, answer)));
                    out.send(SessionRequest { event }).await.expect("a session");
                }
                if silent || step == Step::Seal {
                    return;
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, taking_part).await.expect("the barrier's orders") });
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Agents of other versions.

use crate::kit::{World, names, reason};
use crate::sessions::eventually;
use holdfast_proto::AGENT_PROTOCOL;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{LineageRef, Live, Phase, SessionResponse, StatusReport};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// What a later version says at first: there is more in it.
#[derive(Clone, PartialEq, Message)]
struct Hello {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(string, tag = "2")]
    agent_version: String,
    #[prost(message, optional, tag = "3")]
    lineage: Option<LineageRef>,
    #[prost(bytes = "vec", tag = "5")]
    instance: Vec<u8>,
    #[prost(string, tag = "1000")]
    more: String,
}

/// What a later version says: there is an event that nobody knows here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(message, optional, tag = "1")]
    hello: Option<Hello>,
    #[prost(message, optional, tag = "2")]
    status: Option<StatusReport>,
    #[prost(message, optional, tag = "1000")]
    more: Option<Hello>,
}

fn hello(protocol: u32) -> Hello {
    Hello {
        protocol,
        agent_version: "99.0.0".to_owned(),
        lineage: Some(names("web-0")),
        instance: vec![1; 16],
        more: "of a later version".to_owned(),
    }
}

/// A session of an agent that says hello so.
async fn open(
    channel: &Channel,
    hello: Hello,
) -> Result<(mpsc::Sender<Event>, Streaming<SessionResponse>, SessionResponse), Status> {
    let (out, events) = mpsc::channel(4);
    out.send(Event { hello: Some(hello), ..Event::default() }).await.expect("room");
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("a connection");
    let (path, codec) = (PathAndQuery::from_static("/holdfast.v1.AgentService/Session"), ProstCodec::default());
    let mut commands = client.streaming(Request::new(ReceiverStream::new(events)), path, codec).await?.into_inner();
    let first = commands.message().await?.expect("an answer");
    Ok((out, commands, first))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_agent_says_besides_is_passed_over() {
    let world = World::new().await;
    let served = world.serve().await;
    let (out, _commands, first) = open(&served.channel, hello(AGENT_PROTOCOL)).await.expect("a session");
    assert!(matches!(first.command, Some(Command::Welcome(_))), "{first:?}");
    out.send(Event { more: Some(hello(AGENT_PROTOCOL)), ..Event::default() }).await.expect("room");
    let live = Live { phase: Phase::Streaming.into(), lag_ms: 700_000, ..Live::default() };
    let status = Some(StatusReport { live: Some(live), ..StatusReport::default() });
    out.send(Event { status, ..Event::default() }).await.expect("room");
    let found = eventually(&served.channel, "web-0", |one| one.live.as_ref().is_some_and(|live| live.lag_ms >= 700_000)).await;
    assert_eq!(found.live.map(|live| live.phase()), Some(Phase::Streaming));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_too_far_apart_are_told_so() {
    let world = World::new().await;
    let served = world.serve().await;
    for protocol in [0, AGENT_PROTOCOL + 1] {
        let answer = open(&served.channel, hello(protocol)).await;
        let said = answer.as_ref().expect_err("a refusal").message().to_owned();
        assert!(said.contains(&format!("protocol {protocol}")) && said.contains("nearer"), "{said}");
        assert_eq!(reason(answer), Reason::ProtocolUnsupported);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Who may call, what is offered, and how a server ends.

use crate::kit::{Agent, Served, World, names, reason};
use bytes::{Buf, BufMut, Bytes};
use holdfast_coordinator::{Access, Coordinator, CoordinatorError};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::{GetLineageRequest, ListLineagesRequest, WatchSnapshotsRequest};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tokio::net::TcpListener;
use tonic::Code;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICES: [&str; 6] = [
    "holdfast.v1.AgentService",
    "holdfast.v1.FileService",
    "holdfast.v1.LineageService",
    "holdfast.v1.ObjectService",
    "holdfast.v1.RestoreService",
    "holdfast.v1.SnapshotService",
];

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_but_health_answers() {
    let world = World::new().await;
    let served = Served::start(Coordinator::new(world.config(Access::Token("secret".to_owned())))).await;
    let request = |token: Option<&str>| {
        let mut request = tonic::Request::new(ListLineagesRequest::default());
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        }
        request
    };
    let mut client = LineageServiceClient::new(served.channel.clone());
    for token in [None, Some("secres"), Some("secret ."), Some("")] {
        assert_eq!(reason(client.list_lineages(request(token)).await), Reason::Unauthenticated, "{token:?}");
    }
    assert!(client.list_lineages(request(Some("secret"))).await.is_ok());
    assert_eq!(Agent::open(served.channel.clone(), "web-0", 1).await.err().expect("refused").code(), Code::Unauthenticated);
    for service in SERVICES.into_iter().chain([""]) {
        let check = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(served.channel.clone()).check(check).await.expect("health is for everybody");
        assert_eq!(answer.into_inner().status, 1, "{service}");
    }
    let (channel, _in_process) = served.coordinator.in_process().await.expect("a pipe");
    assert!(
        LineageServiceClient::new(channel).list_lineages(ListLineagesRequest::default()).await.is_ok(),
        "no token in this process"
    );
}

#[tokio::test]
async fn an_open_coordinator_listens_on_loopback_only() {
    let world = World::new().await;
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let serving = world.coordinator().serve(listener, std::future::pending());
    let refused = tokio::time::timeout(std::time::Duration::from_secs(10), serving).await.expect("an answer at once");
    assert!(matches!(refused, Err(CoordinatorError::Unguarded { .. })), "{refused:?}");
}

/// Bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn ask(channel: Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("reflection").into_inner();
    answers.message().await.expect("an answer").expect("an answer").message_response.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_is_enough_to_call() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    writer.checkpoint().await;
    let served = world.serve().await;
    let MessageResponse::ListServicesResponse(listed) =
        ask(served.channel.clone(), MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let listed: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]) {
        assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
    }
    // each service's file, with all that it imports
    let mut pool = DescriptorPool::new();
    let mut wanted = vec![MessageRequest::FileContainingSymbol("holdfast.v1.LineageService".to_owned())];
    let mut files = Vec::new();
    while let Some(question) = wanted.pop() {
        let MessageResponse::FileDescriptorResponse(found) = ask(served.channel.clone(), question).await else {
            panic!("no file")
        };
        for file in found.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(&*file).expect("a descriptor");
            wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
            files.push(file);
        }
    }
    let set = prost_types::FileDescriptorSet { file: files.into_iter().rev().collect() };
    let mut seen = std::collections::BTreeSet::new();
    let file = set.file.into_iter().filter(|file| seen.insert(file.name.clone())).collect();
    pool.add_file_descriptor_set(prost_types::FileDescriptorSet { file }).expect("a whole set");
    let method = pool.get_service_by_name("holdfast.v1.LineageService").expect("the service");
    let method = method.methods().find(|method| method.name() == "GetLineage").expect("the method");
    let ask =
        DynamicMessage::decode(method.input(), GetLineageRequest { lineage: Some(names("web-0")) }.encode_to_vec().as_slice());
    let mut client = tonic::client::Grpc::new(served.channel.clone());
    client.ready().await.expect("a connection");
    let path = http::uri::PathAndQuery::from_static("/holdfast.v1.LineageService/GetLineage");
    let bytes = Bytes::from(ask.expect("a message").encode_to_vec());
    let answer: Bytes = client.unary(tonic::Request::new(bytes), path, Raw).await.expect("an answer").into_inner();
    let answer = DynamicMessage::decode(method.output(), answer).expect("a message");
    assert_eq!(answer.get_field_by_name("head").expect("a field").as_u64(), Some(2));
    assert_eq!(answer.get_field_by_name("holder").expect("a field").as_str(), Some("a test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_tells_those_who_listen() {
    let world = World::new().await;
    let mut served = world.serve().await;
    let (other, _in_process) = served.coordinator.in_process().await.expect("a pipe");
    let agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let mut kept = Agent::open(other.clone(), "web-1", 1).await.expect("a session");
    let mut watch = SnapshotServiceClient::new(served.channel.clone())
        .watch_snapshots(WatchSnapshotsRequest {})
        .await
        .expect("a watch")
        .into_inner();
    let mut health = HealthClient::new(served.channel.clone())
        .watch(HealthCheckRequest { service: String::new() })
        .await
        .expect("a watch")
        .into_inner();
    watch.message().await.expect("synced");
    health.message().await.expect("serving");
    served.stop();
    assert_eq!(reason::<()>(Err(agent.end().await)), Reason::ShuttingDown);
    assert_eq!(reason(watch.message().await), Reason::ShuttingDown);
    while let Ok(Some(status)) = health.message().await {
        assert_eq!(status.status, 2, "not serving");
    }
    // what this process serves itself goes on
    let flush = async {
        let request = holdfast_proto::v1::FlushLineageRequest { lineage: Some(names("web-1")) };
        LineageServiceClient::new(other.clone()).flush_lineage(request).await
    };
    let answer = async {
        let asked = kept.flush().await;
        kept.flushed(asked.id, 0, "no room").await;
    };
    assert_eq!(reason(tokio::join!(flush, answer).0), Reason::FlushFailed);
    let coordinator = served.coordinator.clone();
    served.ended().await;
    coordinator.end().await;
    assert_eq!(reason::<()>(Err(kept.end().await)), Reason::ShuttingDown);
    assert!(matches!(coordinator.in_process().await, Err(CoordinatorError::Ended)));
}

// SPDX-License-Identifier: Apache-2.0
//! Against a relay over a model store, on a real connection.

use super::*;
use holdfast_proto::v1::object_service_server::{ObjectService, ObjectServiceServer};
use holdfast_proto::v1::{CreateObjectResponse, HeadObjectResponse, ListObjectsResponse, StoredObject};
use holdfast_store::transport::memory::Memory;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Response;
use tonic::transport::{Endpoint, Server};

#[derive(Debug, Default)]
struct Relay {
    memory: Memory,
    /// What the next call is answered with, whatever it asks for.
    refusal: Mutex<Option<Status>>,
    tokens: Mutex<Vec<Bytes>>,
}

impl Relay {
    fn arrived<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let token = request.metadata().get_bin(GRANT_HEADER).and_then(|token| token.to_bytes().ok());
        self.tokens.lock().expect("unpoisoned").push(token.unwrap_or_default());
        self.refusal.lock().expect("unpoisoned").take().map_or(Ok(()), Err)
    }
}

fn status(error: &TransportError) -> Status {
    match error.failure {
        Failure::NotFound => Status::not_found(error.to_string()),
        Failure::BeyondEnd => Status::out_of_range(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

fn name(text: &str) -> Name {
    Name::listed(text).expect("a name")
}

struct Service(Arc<Relay>);

type Pieces = tokio_stream::Iter<std::vec::IntoIter<Result<GetObjectResponse, Status>>>;

#[async_trait]
impl ObjectService for Service {
    type GetObjectStream = Pieces;

    async fn get_object(&self, request: Request<GetObjectRequest>) -> Result<Response<Pieces>, Status> {
        self.0.arrived(&request)?;
        let GetObjectRequest { name: object, offset, length } = request.into_inner();
        let range = if length == 0 { Range::All } else { Range::From { offset, len: length } };
        let bytes = self.0.memory.get(&name(&object), range).await.map_err(|error| status(&error))?;
        let pieces: Vec<_> = bytes.chunks(3).map(|data| Ok(GetObjectResponse { data: Bytes::copy_from_slice(data) })).collect();
        Ok(Response::new(tokio_stream::iter(pieces)))
    }

    async fn head_object(&self, request: Request<HeadObjectRequest>) -> Result<Response<HeadObjectResponse>, Status> {
        self.0.arrived(&request)?;
        let size = self.0.memory.size(&name(&request.into_inner().name)).await.map_err(|error| status(&error))?;
        let length = size.ok_or_else(|| Status::not_found("there is no such object"))?;
        Ok(Response::new(HeadObjectResponse { length }))
    }

    async fn create_object(&self, request: Request<CreateObjectRequest>) -> Result<Response<CreateObjectResponse>, Status> {
        self.0.arrived(&request)?;
        let CreateObjectRequest { name: object, body, sha256 } = request.into_inner();
        let body = Body::new(body);
        assert_eq!(body.sha256[..], sha256[..]);
        match self.0.memory.create(&name(&object), &body).await.map_err(|error| status(&error))? {
            Created::Yes => Ok(Response::new(CreateObjectResponse {})),
            Created::Exists => Err(Status::already_exists("there is one")),
        }
    }

    async fn list_objects(&self, request: Request<ListObjectsRequest>) -> Result<Response<ListObjectsResponse>, Status> {
        self.0.arrived(&request)?;
        let ListObjectsRequest { prefix, after, by_level, limit } = request.into_inner();
        let after = Some(after.as_str()).filter(|after| !after.is_empty());
        let limit = u16::try_from(limit).expect("a limit");
        let page = self.0.memory.list(&prefix, after, by_level, limit).await.map_err(|error| status(&error))?;
        let objects = page.objects.iter().map(|(name, length)| StoredObject { name: name.to_string(), length: *length });
        let next = page.next.unwrap_or_default();
        Ok(Response::new(ListObjectsResponse { objects: objects.collect(), prefixes: page.prefixes, next }))
    }
}

struct Lab {
    relay: Arc<Relay>,
    token: GrantToken,
    transport: RemoteTransport,
    _server: JoinSet<()>,
}

async fn lab() -> Lab {
    let relay = Arc::new(Relay::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().expect("bound"))).expect("an address");
    let service = ObjectServiceServer::new(Service(Arc::clone(&relay))).max_decoding_message_size(20 << 20);
    let mut server = JoinSet::new();
    server.spawn(async move {
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.expect("served");
    });
    let token = GrantToken::new(b"first");
    let transport = RemoteTransport::new(endpoint.connect_lazy(), token.clone());
    Lab { relay, token, transport, _server: server }
}

#[tokio::test]
async fn it_is_a_transport_like_any_other() {
    let Lab { transport, .. } = &lab().await;
    let body = Body::new(Bytes::from_static(b"0123456789"));
    assert_eq!(transport.create(&name("a/b"), &body).await.expect("created"), Created::Yes);
    assert_eq!(transport.create(&name("a/b"), &body).await.expect("settled"), Created::Exists);
    assert_eq!(transport.get(&name("a/b"), Range::All).await.expect("read"), body.bytes, "pieces are put together");
    let part = transport.get(&name("a/b"), Range::From { offset: 8, len: 100 }).await.expect("read");
    assert_eq!(part, Bytes::from_static(b"89"), "as many as there are");
    let beyond = transport.get(&name("a/b"), Range::From { offset: 10, len: 1 }).await.expect_err("beyond");
    assert_eq!(beyond.failure, Failure::BeyondEnd);
    assert!(transport.get(&name("a/c"), Range::All).await.expect_err("nothing").is_not_found());
    assert_eq!(transport.size(&name("a/b")).await.expect("known"), Some(10));
    assert_eq!(transport.size(&name("a/c")).await.expect("known"), None);
    for more in ["a/d/e", "a/f"] {
        transport.create(&name(more), &body).await.expect("created");
    }
    let page = transport.list("a/", None, true, 1000).await.expect("listed");
    let names: Vec<_> = page.objects.iter().map(|(name, length)| (name.as_str(), *length)).collect();
    assert_eq!((names, page.prefixes, page.next), (vec![("a/b", 10), ("a/f", 10)], vec!["a/d/".to_owned()], None));
    let page = transport.list("a/", None, false, 1).await.expect("listed");
    let rest = transport.list("a/", page.next.as_deref(), false, 1000).await.expect("listed");
    assert_eq!((page.objects.len(), rest.objects.len()), (1, 2));
    assert_eq!(transport.delete(&name("a/b")).await.expect_err("never").failure, Failure::Unusable);
}

#[tokio::test]
async fn a_whole_pack_fits() {
    let Lab { transport, .. } = &lab().await;
    let body = Body::new(Bytes::from(vec![7; 16 << 20]));
    assert_eq!(transport.create(&name("pack"), &body).await.expect("created"), Created::Yes);
    assert_eq!(transport.size(&name("pack")).await.expect("known"), Some(16 << 20));
}

#[tokio::test]
async fn whatever_leaves_the_outcome_open_is_unavailable() {
    let Lab { relay, transport, .. } = &lab().await;
    let body = Body::new(Bytes::from_static(b"x"));
    let definite = [
        (Code::PermissionDenied, Failure::Refused),
        (Code::InvalidArgument, Failure::Refused),
        (Code::FailedPrecondition, Failure::Refused),
        (Code::OutOfRange, Failure::Refused),
        (Code::NotFound, Failure::NotFound),
        (Code::Unimplemented, Failure::Unusable),
    ];
    let open = [
        Code::Aborted,
        Code::Cancelled,
        Code::DataLoss,
        Code::DeadlineExceeded,
        Code::Internal,
        Code::ResourceExhausted,
        Code::Unauthenticated,
        Code::Unavailable,
        Code::Unknown,
    ];
    for (code, expected) in definite.into_iter().chain(open.map(|code| (code, Failure::Unavailable))) {
        *relay.refusal.lock().expect("unpoisoned") = Some(Status::new(code, "no"));
        let error = transport.create(&name("a"), &body).await.expect_err("refused");
        assert_eq!(error.failure, expected, "{code:?}");
        assert_eq!(error.operation, "put", "whoever writes a log goes by this word");
    }
}

#[tokio::test]
async fn a_coordinator_that_is_gone_or_silent_is_unavailable() {
    let nobody = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let transport = RemoteTransport::new(nobody, GrantToken::new(b"token"));
    assert!(transport.size(&name("a")).await.expect_err("nobody").is_retryable());
    let call = Call { operation: "get", object: "a" };
    let silent = std::future::pending::<Result<(), Status>>();
    let error = call.within(Duration::from_millis(1), silent).await.expect_err("silence");
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_renewed_grant_is_what_is_sent_next() {
    let Lab { relay, transport, token, .. } = &lab().await;
    transport.size(&name("a")).await.expect("an answer");
    token.renew(b"second");
    transport.list("a", None, false, 1).await.expect("an answer");
    let tokens = relay.tokens.lock().expect("unpoisoned").clone();
    assert_eq!(tokens, [Bytes::from_static(b"first"), Bytes::from_static(b"second")]);
}

// SPDX-License-Identifier: Apache-2.0
//! The store behind a coordinator: for whoever holds a grant and no credentials of the store.

use crate::connection::Tokens;
use crate::grant::GrantToken;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use holdfast_proto::GRANT_HEADER;
use holdfast_proto::v1::object_service_client::ObjectServiceClient;
use holdfast_proto::v1::{CreateObjectRequest, GetObjectRequest, GetObjectResponse, HeadObjectRequest, ListObjectsRequest};
use holdfast_store::name::Name;
use holdfast_store::transport::{Body, Created, Failure, Page, Range, Transport, TransportError};
use std::future::Future;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// No answer within these means: unavailable. The relay gives the store 30 seconds, and an object is up to 16 MiB long.
const BRIEF: Duration = Duration::from_secs(35);
const TRANSFER: Duration = Duration::from_secs(45);
/// Objects are no longer than this, and neither is what may be read at once.
const OBJECT_BYTES_MAX: usize = 32 << 20;

/// Objects through a coordinator's relay. Makes one attempt per call.
#[derive(Clone)]
pub struct RemoteTransport {
    client: ObjectServiceClient<Channel>,
    grant: GrantToken,
    tokens: Tokens,
    location: String,
}

impl std::fmt::Debug for RemoteTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteTransport({})", self.location)
    }
}

impl RemoteTransport {
    /// The objects that a grant opens.
    #[must_use]
    pub fn new(channel: Channel, grant: impl Into<GrantToken>) -> Self {
        let client = ObjectServiceClient::new(channel).max_decoding_message_size(OBJECT_BYTES_MAX);
        Self { client, grant: grant.into(), tokens: Tokens::none(), location: "the coordinator's store".to_owned() }
    }

    /// With what is sent as `authorization`, if the coordinator asks for it.
    #[must_use]
    pub fn authorized(self, tokens: Tokens) -> Self {
        Self { tokens, ..self }
    }

    /// With where the coordinator is, for people.
    #[must_use]
    pub fn at(self, url: &str) -> Self {
        Self { location: format!("the store behind {url}"), ..self }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin(GRANT_HEADER, self.grant.header());
        self.tokens.put(request.metadata_mut());
        request
    }
}

/// One call, and what it is called in messages.
#[derive(Clone, Copy)]
struct Call<'a> {
    operation: &'static str,
    object: &'a str,
}

impl Call<'_> {
    async fn within<T>(self, limit: Duration, answer: impl Future<Output = Result<T, Status>>) -> Result<T, TransportError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|status| self.failed(&status)),
            Err(_) => Err(self.error(Failure::Unavailable, format!("the coordinator did not answer within {limit:?}"))),
        }
    }

    fn failed(self, status: &Status) -> TransportError {
        let message = match status.message() {
            "" => format!("the coordinator answered {:?}", status.code()),
            message => message.to_owned(),
        };
        self.error(failure(self.operation, status.code()), message)
    }

    fn error(self, failure: Failure, message: String) -> TransportError {
        TransportError { operation: self.operation, object: self.object.to_owned(), message, failure }
    }
}

/// What an answer means. Whatever leaves open whether something was done, or may go better with the next grant, is unavailable.
fn failure(operation: &str, code: Code) -> Failure {
    match code {
        Code::NotFound => Failure::NotFound,
        // outside of reading it is a message that was too long
        Code::OutOfRange if operation == "get" => Failure::BeyondEnd,
        Code::OutOfRange | Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists => {
            Failure::Refused
        }
        Code::Unimplemented => Failure::Unusable,
        Code::Ok
        | Code::Aborted
        | Code::Cancelled
        | Code::DataLoss
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::ResourceExhausted
        | Code::Unauthenticated
        | Code::Unavailable
        | Code::Unknown => Failure::Unavailable,
    }
}

/// All pieces, put together.
async fn collect(mut pieces: Streaming<GetObjectResponse>) -> Result<Bytes, Status> {
    let Some(first) = pieces.message().await? else { return Ok(Bytes::new()) };
    let Some(second) = pieces.message().await? else { return Ok(first.data) };
    let mut whole = BytesMut::from(first.data);
    let mut next = Some(second);
    while let Some(piece) = next {
        if whole.len() + piece.data.len() > OBJECT_BYTES_MAX {
            return Err(Status::invalid_argument("the object is longer than any of Holdfast's"));
        }
        whole.extend_from_slice(&piece.data);
        next = pieces.message().await?;
    }
    Ok(whole.freeze())
}

#[async_trait]
impl Transport for RemoteTransport {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        let call = Call { operation: "put", object: name.as_str() };
        let sha256 = Bytes::copy_from_slice(&body.sha256);
        let message = CreateObjectRequest { name: name.to_string(), body: body.bytes.clone(), sha256 };
        let mut client = self.client.clone();
        let answer = call.within(TRANSFER, async {
            match client.create_object(self.request(message)).await {
                Ok(_) => Ok(Created::Yes),
                Err(status) if status.code() == Code::AlreadyExists => Ok(Created::Exists),
                Err(status) => Err(status),
            }
        });
        answer.await
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        let call = Call { operation: "get", object: name.as_str() };
        let (offset, length) = match range {
            Range::All => (0, 0),
            Range::From { offset, len } => (offset, len.max(1)),
        };
        let message = GetObjectRequest { name: name.to_string(), offset, length };
        let mut client = self.client.clone();
        let answer = call.within(TRANSFER, async { collect(client.get_object(self.request(message)).await?.into_inner()).await });
        let bytes = answer.await?;
        // more than was asked for is no answer to the question; less is what there is
        if length > 0 && bytes.len() as u64 > length {
            return Err(call.error(Failure::Unavailable, format!("{} bytes came instead of {length}", bytes.len())));
        }
        Ok(bytes)
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        let call = Call { operation: "head", object: name.as_str() };
        let message = HeadObjectRequest { name: name.to_string() };
        let mut client = self.client.clone();
        match call.within(BRIEF, client.head_object(self.request(message))).await {
            Ok(answer) => Ok(Some(answer.into_inner().length)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        let call = Call { operation: "list", object: prefix };
        let message = ListObjectsRequest {
            prefix: prefix.to_owned(),
            after: after.unwrap_or_default().to_owned(),
            by_level,
            limit: limit.clamp(1, 1000).into(),
        };
        let mut client = self.client.clone();
        let answer = call.within(BRIEF, client.list_objects(self.request(message))).await?.into_inner();
        let objects = answer.objects.into_iter().filter_map(|object| Some((Name::listed(&object.name)?, object.length)));
        let next = Some(answer.next).filter(|next| !next.is_empty());
        Ok(Page { objects: objects.collect(), prefixes: answer.prefixes, next })
    }

    /// No grant allows it: only the coordinator collects.
    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        let call = Call { operation: "delete", object: name.as_str() };
        Err(call.error(Failure::Unusable, "a coordinator's grant never includes deleting".to_owned()))
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}

#[cfg(test)]
mod tests;

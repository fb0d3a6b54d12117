// SPDX-License-Identifier: Apache-2.0
//! The relay: a grant's objects, to and from the store. What goes through is sealed.

use super::Api;
use crate::grant::{Scope, Wish};
use crate::shared::OBJECT_MIB;
use crate::status;
use crate::stream::{Answers, deadline, until};
use bytes::Bytes;
use futures::stream;
use holdfast_proto::GRANT_HEADER;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::object_service_server::ObjectService;
use holdfast_proto::v1::{
    CreateObjectRequest, CreateObjectResponse, GetObjectRequest, GetObjectResponse, HeadObjectRequest, HeadObjectResponse,
    ListObjectsRequest, ListObjectsResponse, StoredObject,
};
use holdfast_store::name::Name;
use holdfast_store::transport::{Body, Created, Range, Transport};
use sha2::{Digest, Sha256};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Longest piece of an object in one message.
const PIECE_BYTES: usize = 256 << 10;
/// Whoever takes longer for one object holds up others.
const TRANSFER_WITHIN: Duration = Duration::from_secs(300);
const OBJECT_BYTES_MAX: u64 = (OBJECT_MIB as u64) << 20;

#[tonic::async_trait]
impl ObjectService for Api {
    type GetObjectStream = Answers<GetObjectResponse>;

    async fn get_object(&self, request: Request<GetObjectRequest>) -> Result<Response<Self::GetObjectStream>, Status> {
        let until_when = deadline(&request).unwrap_or_else(|| Instant::now() + TRANSFER_WITHIN);
        let scope = self.scope(&request)?;
        let GetObjectRequest { name, offset, length } = request.into_inner();
        let name = allowed(&scope, Wish::Read, name)?;
        let range = match (offset, length) {
            (0, 0) => Range::All,
            (_, 0) => return Err(status::invalid("length", "is 0, and the offset is not")),
            (offset, len) => Range::From { offset, len: len.min(OBJECT_BYTES_MAX) },
        };
        let mib = match range {
            Range::All => OBJECT_MIB,
            Range::From { len, .. } => u32::try_from(len.div_ceil(1 << 20)).unwrap_or(OBJECT_MIB),
        };
        let permit = self.shared.relay_permit(mib).await?;
        let bytes = self.transport().get(&name, range).await.map_err(|error| status::relayed(&error))?;
        // an empty object is one empty piece
        let first = GetObjectResponse { data: bytes.slice(..bytes.len().min(PIECE_BYTES)) };
        let rest = (bytes.slice(first.data.len()..), permit);
        let pieces = stream::unfold((Some(first), rest), |(first, (mut bytes, permit))| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, (bytes, permit))));
            }
            let data: Bytes = bytes.split_to(bytes.len().min(PIECE_BYTES));
            (!data.is_empty()).then_some((Ok(GetObjectResponse { data }), (None, (bytes, permit))))
        });
        Ok(Response::new(until(pieces, self.stop.clone(), Some(until_when))))
    }

    async fn head_object(&self, request: Request<HeadObjectRequest>) -> Result<Response<HeadObjectResponse>, Status> {
        let scope = self.scope(&request)?;
        let name = allowed(&scope, Wish::Read, request.into_inner().name)?;
        match self.transport().size(&name).await.map_err(|error| status::relayed(&error))? {
            Some(length) => Ok(Response::new(HeadObjectResponse { length })),
            None => Err(status::not_found("object", name.to_string())),
        }
    }

    async fn create_object(&self, request: Request<CreateObjectRequest>) -> Result<Response<CreateObjectResponse>, Status> {
        let scope = self.scope(&request)?;
        let CreateObjectRequest { name, body, sha256 } = request.into_inner();
        let name = allowed(&scope, Wish::Create, name)?;
        if body.is_empty() || body.len() as u64 > OBJECT_BYTES_MAX {
            return Err(status::invalid("body", format!("has {} bytes; an object has 1 to {OBJECT_BYTES_MAX}", body.len())));
        }
        let found: [u8; 32] = Sha256::digest(&body).into();
        if *sha256 != found {
            return Err(status::invalid("sha256", "is not that of the body: it was changed on its way"));
        }
        let _permit = self.shared.relay_permit(u32::try_from(body.len().div_ceil(1 << 20)).unwrap_or(OBJECT_MIB)).await?;
        match self.transport().create(&name, &Body { bytes: body, sha256: found }).await {
            Ok(Created::Yes) => Ok(Response::new(CreateObjectResponse {})),
            Ok(Created::Exists) => {
                let message = format!("there is an object {name} already");
                Err(status::about(Reason::ObjectExists, message, "object", name.to_string()))
            }
            Err(error) => Err(status::of_creation(&error)),
        }
    }

    async fn list_objects(&self, request: Request<ListObjectsRequest>) -> Result<Response<ListObjectsResponse>, Status> {
        let scope = self.scope(&request)?;
        let ListObjectsRequest { prefix, after, by_level, limit } = request.into_inner();
        if !scope.allows_list(&prefix, &after) {
            return Err(exceeded(&prefix));
        }
        let limit = u16::try_from(limit).unwrap_or(u16::MAX).clamp(1, 1000);
        let after = Some(after.as_str()).filter(|after| !after.is_empty());
        let page = self.transport().list(&prefix, after, by_level, limit).await.map_err(|error| status::relayed(&error))?;
        let object = |(name, length): (Name, u64)| StoredObject { name: name.to_string(), length };
        Ok(Response::new(ListObjectsResponse {
            objects: page.objects.into_iter().map(object).collect(),
            prefixes: page.prefixes,
            next: page.next.unwrap_or_default(),
        }))
    }
}

impl Api {
    fn transport(&self) -> &Arc<dyn Transport> {
        self.shared.catalog.repository().transport()
    }

    /// What the request's grant covers.
    fn scope<T>(&self, request: &Request<T>) -> Result<Scope, Status> {
        let missing = || status::because(Reason::GrantUnknown, format!("send a grant's token in the header {GRANT_HEADER}"));
        let header = request.metadata().get_bin(GRANT_HEADER).ok_or_else(missing)?;
        let token = header.to_bytes().map_err(|_| missing())?;
        let grants = self.shared.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || status::because(Reason::GrantUnknown, "the grant is unknown or has expired: open a new session");
        grants.scope(self.shared.clock.monotonic(), &token).cloned().ok_or_else(unknown)
    }
}

fn allowed(scope: &Scope, wish: Wish, name: String) -> Result<Name, Status> {
    match Name::listed(&name).filter(|_| scope.allows(wish, &name)) {
        Some(name) => Ok(name),
        None => Err(exceeded(&name)),
    }
}

fn exceeded(name: &str) -> Status {
    status::about(Reason::GrantExceeded, "the grant does not cover this object", "object", name)
}

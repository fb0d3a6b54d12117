// SPDX-License-Identifier: Apache-2.0
//! The files of any point in time.

use super::Api;
use crate::catalog::Found;
use crate::page::{self, Position};
use crate::status;
use crate::stream::{Answers, Halt, deadline, produce, until};
use crate::tree::content::{self};
use crate::tree::diff::{PATHS_MAX, Pair, diff};
use crate::tree::list::Walk;
use crate::tree::{Path, State, wrong_kind};
use futures::StreamExt;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::file_service_server::FileService;
use holdfast_proto::v1::{
    DiffFilesRequest, DiffFilesResponse, File, GetFileRequest, ListFilesRequest, ListFilesResponse, ReadFileRequest,
    ReadFileResponse,
};
use holdfast_store::tree::Body;
use prost::Message;
use std::sync::Arc;
use tokio::runtime::Handle;
#[cfg(feature = "kubernetes")]
use tonic::Code;
use tonic::{Request, Response, Status};

/// Files of a page, by default and at most; and its bytes, since names and attributes may be long.
const FILES: (usize, usize) = (1000, 10_000);
const PAGE_BYTES: usize = 1 << 20;

#[tonic::async_trait]
impl FileService for Api {
    async fn list_files(&self, request: Request<ListFilesRequest>) -> Result<Response<ListFilesResponse>, Status> {
        let mut request = request.into_inner();
        let count = page::size(std::mem::take(&mut request.page_size), FILES.0, FILES.1);
        let token = std::mem::take(&mut request.page_token);
        let position = self.shared.pages.position(&request, &token)?;
        let base = Path::parse(&request.path, "path")?;
        let found = match &position {
            None => self.shared.resolve(request.point.clone(), "point").await?,
            Some(position) => self.again(&request, position).await?,
        };
        let after = Path::parse(&position.map(|position| position.after).unwrap_or_default(), "page_token")?;
        let bound = Position {
            sequence: found.entry.record.sequence,
            record: found.entry.hash.as_bytes().to_vec(),
            ..Position::default()
        };
        let checkpoint = found.checkpoint.clone();
        let recursive = request.recursive;
        let (files, last) = self.blocking(found, move |state| list(state, &base, recursive, &after, count)).await?;
        let token = |after: Vec<u8>| self.shared.pages.token(&request, Position { after, ..bound });
        let next_page_token = last.map(token).unwrap_or_default();
        Ok(Response::new(ListFilesResponse { files, next_page_token, checkpoint: Some(checkpoint) }))
    }

    async fn get_file(&self, request: Request<GetFileRequest>) -> Result<Response<File>, Status> {
        let request = request.into_inner();
        let path = Path::parse(&request.path, "path")?;
        let found = self.shared.resolve(request.point, "point").await?;
        let describe = move |state: &State| {
            let item = state.find(&path)?;
            Ok(state.describe(path.text, &item)?)
        };
        Ok(Response::new(self.blocking(found, describe).await?))
    }

    type ReadFileStream = Answers<ReadFileResponse>;

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Result<Response<Self::ReadFileStream>, Status> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        let path = Path::parse(&request.path, "path")?;
        let found = self.shared.resolve(request.point, "point").await?;
        let permit = self.shared.tree_permit().await?;
        let (state, checkpoint) = (State::new(&found, Handle::current()), found.checkpoint);
        let (offset, length) = (request.offset, request.length);
        let mut pieces = produce(&self.shared.tasks, permit, move |sink| {
            let item = state.find(&path)?;
            let Body::File { size, content } = &item.inode.body else { return Err(wrong_kind(&path, "a regular file").into()) };
            if offset > *size {
                let message = format!("the file has {size} bytes, so there is nothing at {offset}");
                return Err(status::because(Reason::BeyondEnd, message).into());
            }
            let end = if length == 0 { *size } else { offset.saturating_add(length).min(*size) };
            let file = state.describe(path.text.clone(), &item)?;
            sink.send(ReadFileResponse { checkpoint: Some(checkpoint), file: Some(file), data: bytes::Bytes::new() })?;
            let piece = |data| sink.send(ReadFileResponse { checkpoint: None, file: None, data });
            content::read(&state.reader, *size, content, (offset, end), piece)
        });
        let first = first(&mut pieces).await?;
        let answer = futures::stream::iter(first.map(Ok)).chain(pieces);
        Ok(Response::new(until(answer, self.stop.clone(), deadline)))
    }

    type DiffFilesStream = Answers<DiffFilesResponse>;

    async fn diff_files(&self, request: Request<DiffFilesRequest>) -> Result<Response<Self::DiffFilesStream>, Status> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        if request.paths.len() > PATHS_MAX {
            return Err(status::invalid("paths", format!("are more than {PATHS_MAX}")));
        }
        let paths = request.paths.iter().map(|path| Path::parse(path, "paths")).collect::<Result<Vec<_>, _>>()?;
        let one = self.shared.resolve(request.one, "one").await?;
        let two = self.shared.resolve(request.two, "two").await?;
        if one.place.domain().keys.id != two.place.domain().keys.id {
            return Err(status::invalid(
                "two.lineage.domain",
                "must be that of the first point: domains share nothing to compare by",
            ));
        }
        let permit = self.shared.tree_permit().await?;
        let left = State::new(&one, Handle::current());
        let right = State::with(&two, Arc::clone(&left.reader));
        let differences = produce(&self.shared.tasks, permit, move |sink| diff(Pair { one: &left, two: &right }, &paths, sink));
        Ok(Response::new(until(differences, self.stop.clone(), deadline)))
    }
}

/// The first message, or the refusal that came instead: an answer that never begins is a plain error.
async fn first<T>(pieces: &mut (impl futures::Stream<Item = Result<T, Status>> + Unpin)) -> Result<Option<T>, Status> {
    pieces.next().await.transpose()
}

impl Api {
    /// The checkpoint that the page before this one was read from.
    async fn again(&self, request: &ListFilesRequest, position: &Position) -> Result<Found, Status> {
        let names = request.point.as_ref().and_then(|point| point.lineage.clone());
        let place = self.shared.catalog.lineage(names, "point.lineage").await?;
        let found = self.shared.catalog.checkpoint(place, position.sequence).await?;
        if found.entry.hash.as_bytes().as_slice() != position.record {
            return Err(status::invalid("page_token", "is of a checkpoint that is gone"));
        }
        Ok(found)
    }

    /// How much lies at and below paths of a checkpoint: the lengths of files together, and entries. A path that is not there is returned.
    #[cfg(feature = "kubernetes")]
    pub(crate) async fn measure(&self, found: Found, paths: &[String]) -> Result<Result<(u64, u64), String>, Status> {
        let paths = paths.to_vec();
        self.blocking(found, move |state| measure(state, &paths)).await
    }

    /// Runs work on a checkpoint's files, on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        found: Found,
        work: impl FnOnce(&State) -> Result<T, Halt> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.shared.tree_permit().await?;
        let state = State::new(&found, Handle::current());
        let task = self.shared.tasks.spawn_blocking(move || {
            let _permit = permit;
            work(&state)
        });
        match task.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Halt::Because(status))) => Err(status),
            Ok(Err(Halt::Gone)) | Err(_) => Err(status::lost()),
        }
    }
}

#[cfg(feature = "kubernetes")]
fn measure(state: &State, paths: &[String]) -> Result<Result<(u64, u64), String>, Halt> {
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    for text in paths {
        let Ok(path) = Path::parse(text.as_bytes(), "paths") else { return Ok(Err(text.clone())) };
        let item = match state.find(&path) {
            Ok(item) => item,
            Err(Halt::Because(status)) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {
                return Ok(Err(text.clone()));
            }
            Err(other) => return Err(other),
        };
        entries += 1;
        let Body::Directory { .. } = &item.inode.body else {
            bytes = bytes.saturating_add(state.describe(path.text, &item)?.size);
            continue;
        };
        let mut walk = Walk::new(state, &path, true, &Path { names: Vec::new(), text: Vec::new() })?;
        while let Some(file) = walk.next()? {
            (bytes, entries) = (bytes.saturating_add(file.size), entries + 1);
        }
    }
    Ok(Ok((bytes, entries)))
}

/// A page of a listing, and its last path, if there may be more.
fn list(state: &State, base: &Path, recursive: bool, after: &Path, count: usize) -> Result<(Vec<File>, Option<Vec<u8>>), Halt> {
    let mut walk = Walk::new(state, base, recursive, after)?;
    let (mut files, mut bytes) = (Vec::new(), 0);
    while let Some(file) = walk.next()? {
        bytes += file.encoded_len();
        files.push(file);
        if files.len() == count || bytes >= PAGE_BYTES {
            let last = files.last().map(|file| file.path.to_vec());
            return Ok((files, last));
        }
    }
    Ok((files, None))
}

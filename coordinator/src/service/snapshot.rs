// SPDX-License-Identifier: Apache-2.0
//! Named sets of checkpoints.

use super::Api;
use super::lineage::within;
use crate::barrier::Underway;
use crate::board::{Known, POLL_EVERY};
use crate::page::{self, Position};
use crate::stream::{Answers, deadline, until};
use crate::{convert, status};
use futures::{StreamExt, stream};
use holdfast_core::id::{DomainId, SnapshotId};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::snapshot_service_server::SnapshotService;
use holdfast_proto::v1::watch_snapshots_response::Kind;
use holdfast_proto::v1::{
    CreateSnapshotRequest, DeleteSnapshotRequest, DeleteSnapshotResponse, GetSnapshotRequest, ListSnapshotsRequest,
    ListSnapshotsResponse, Snapshot, SnapshotMember, SnapshotProgress, WatchSnapshotsRequest, WatchSnapshotsResponse,
};
use holdfast_store::snapshot as store;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

mod take;

pub(crate) use take::Terms;

/// Snapshots of a page, by default and at most.
const SNAPSHOTS: (usize, usize) = (50, 500);
/// Members that are read at once.
const READS: usize = 32;

#[tonic::async_trait]
impl SnapshotService for Api {
    async fn create_snapshot(&self, request: Request<CreateSnapshotRequest>) -> Result<Response<Snapshot>, Status> {
        let within = within(deadline(&request));
        self.taken(request.into_inner(), Terms::within(within)).await.map(Response::new)
    }

    async fn get_snapshot(&self, request: Request<GetSnapshotRequest>) -> Result<Response<Snapshot>, Status> {
        let found = self.shared.board.find(&request.into_inner().snapshot, "snapshot").await?;
        Ok(Response::new(self.in_full(&found).await?))
    }

    async fn list_snapshots(&self, request: Request<ListSnapshotsRequest>) -> Result<Response<ListSnapshotsResponse>, Status> {
        let mut request = request.into_inner();
        let count = page::size(std::mem::take(&mut request.page_size), SNAPSHOTS.0, SNAPSHOTS.1);
        let token = std::mem::take(&mut request.page_token);
        let below = self.shared.pages.position(&request, &token)?.map_or(u64::MAX, |position| position.sequence);
        let known = self.shared.board.refresh().await?;
        let wanted =
            known.range(..below).rev().map(|(_, snapshot)| snapshot).filter(|snapshot| carries(snapshot, &request.labels));
        let page: Vec<&Arc<store::Snapshot>> = wanted.take(count).collect();
        let next = page.last().filter(|_| page.len() == count).map(|last| last.number);
        let mut snapshots = Vec::with_capacity(page.len());
        for snapshot in page {
            snapshots.push(self.in_short(snapshot).await?);
        }
        let token = |sequence| self.shared.pages.token(&request, Position { sequence, ..Position::default() });
        Ok(Response::new(ListSnapshotsResponse { snapshots, next_page_token: next.map(token).unwrap_or_default() }))
    }

    type WatchSnapshotsStream = Answers<WatchSnapshotsResponse>;

    async fn watch_snapshots(
        &self,
        request: Request<WatchSnapshotsRequest>,
    ) -> Result<Response<Self::WatchSnapshotsStream>, Status> {
        let deadline = deadline(&request);
        let told = self.shared.board.watch();
        let known = self.shared.board.refresh().await?;
        let mut queue: VecDeque<_> = known.values().map(|snapshot| (Kind::Exists, Some(Arc::clone(snapshot)))).collect();
        queue.push_back((Kind::Synced, None));
        let watcher = Watcher {
            api: self.clone(),
            told,
            known,
            queue,
            underway: self.shared.barriers.watch(),
            told_of: Underway::default(),
        };
        let changes = stream::unfold(watcher, |mut watcher| async { Some((watcher.next().await, watcher)) });
        Ok(Response::new(until(changes, self.stop.clone(), deadline)))
    }

    async fn delete_snapshot(&self, request: Request<DeleteSnapshotRequest>) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let key = request.into_inner().snapshot;
        let id = self.shared.board.id(&key, "snapshot").await?;
        match self.deleted(id).await? {
            true => Ok(Response::new(DeleteSnapshotResponse {})),
            false => Err(status::not_found("snapshot", key)),
        }
    }
}

fn carries(snapshot: &store::Snapshot, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(label, value)| snapshot.labels.get(label) == Some(value))
}

/// Somebody who watches the snapshots.
struct Watcher {
    api: Api,
    told: watch::Receiver<Known>,
    known: Known,
    queue: VecDeque<(Kind, Option<Arc<store::Snapshot>>)>,
    /// What is being taken.
    underway: watch::Receiver<Underway>,
    told_of: Underway,
}

impl Watcher {
    /// The next thing to tell; waits for it, and looks now and then for what others did.
    async fn next(&mut self) -> Result<WatchSnapshotsResponse, Status> {
        loop {
            if let Some((kind, snapshot)) = self.queue.pop_front() {
                let snapshot = match snapshot {
                    Some(snapshot) => Some(self.api.in_short(&snapshot).await?),
                    None => None,
                };
                return Ok(WatchSnapshotsResponse { kind: kind.into(), snapshot, progress: None });
            }
            if let Some(progress) = self.progress() {
                return Ok(WatchSnapshotsResponse { kind: Kind::Progress.into(), snapshot: None, progress: Some(progress) });
            }
            let changed = tokio::time::timeout(POLL_EVERY, async {
                tokio::select! {
                    changed = self.told.changed() => changed.map(|()| true),
                    changed = self.underway.changed() => changed.map(|()| false),
                }
            });
            match changed.await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => self.compare(),
                Ok(Err(_)) => return Err(status::shutting_down()),
                // a store that does not answer now may later: the watch goes on
                Err(_) => drop(self.api.shared.board.poll().await),
            }
        }
    }

    /// How far one is that is being taken, if there is something new to tell.
    fn progress(&mut self) -> Option<SnapshotProgress> {
        let now = Arc::clone(&self.underway.borrow_and_update());
        let known = Arc::make_mut(&mut self.told_of);
        known.retain(|id, _| now.contains_key(id));
        let (id, progress) = now.iter().find(|(id, progress)| known.get(*id) != Some(*progress))?;
        known.insert(*id, progress.clone());
        Some(progress.clone())
    }

    fn compare(&mut self) {
        let now = Arc::clone(&self.told.borrow_and_update());
        let gone = self.known.iter().filter(|(number, _)| !now.contains_key(number));
        self.queue.extend(gone.map(|(_, snapshot)| (Kind::Deleted, Some(Arc::clone(snapshot)))));
        let new = now.iter().filter(|(number, _)| !self.known.contains_key(number));
        self.queue.extend(new.map(|(_, snapshot)| (Kind::Created, Some(Arc::clone(snapshot)))));
        self.known = now;
    }
}

impl Api {
    /// Takes a snapshot; whoever asked for it may go away meanwhile.
    pub(crate) async fn taken(&self, request: CreateSnapshotRequest, terms: Terms) -> Result<Snapshot, Status> {
        // between its pins and its creation a snapshot must not be left alone
        let api = self.clone();
        let task = self.shared.tasks.spawn(async move { api.take(request, terms).await });
        task.await.map_err(|_| status::lost())?
    }

    /// Deletes a snapshot; whoever asked for it may go away meanwhile. `false`: there never was one.
    async fn deleted(&self, id: SnapshotId) -> Result<bool, Status> {
        let board = &self.shared.board;
        if board.whole(id).await?.is_some_and(|snapshot| !board.has_all_of(&snapshot)) {
            let message = "the snapshot has members of other namespaces, too: only who has the whole repository deletes it, with holdfast snapshot delete";
            return Err(status::about(Reason::Forbidden, message, "snapshot", id.to_string()));
        }
        let api = self.clone();
        let task = self.shared.tasks.spawn(async move {
            let deleted = api.shared.board.snapshots.delete(id).await.map_err(status::store);
            api.shared.board.refresh().await?;
            deleted
        });
        task.await.map_err(|_| status::lost())?
    }

    /// Deletes the snapshot with this id; that there is none is as good.
    #[cfg(feature = "kubernetes")]
    pub(crate) async fn let_go(&self, id: &str) -> Result<(), Status> {
        match id.parse() {
            Ok(id) => self.deleted(id).await.map(drop),
            Err(_) => Err(status::invalid("id", "is none")),
        }
    }

    /// A snapshot as the register has it.
    async fn in_short(&self, snapshot: &store::Snapshot) -> Result<Snapshot, Status> {
        let mut names: BTreeMap<DomainId, String> = BTreeMap::new();
        for member in &snapshot.members {
            if let Entry::Vacant(vacant) = names.entry(member.domain) {
                let domain = self.shared.catalog.domain_by_id(member.domain).await?;
                vacant.insert(domain.map(|domain| domain.keys.name.clone()).unwrap_or_default());
            }
        }
        Ok(convert::snapshot(snapshot, |domain| names.get(&domain).cloned().unwrap_or_default()))
    }

    /// A snapshot with its members as their records have them. One that can't be read is told as the register has it.
    async fn in_full(&self, snapshot: &store::Snapshot) -> Result<Snapshot, Status> {
        let mut told = self.in_short(snapshot).await?;
        let read = |checkpoint: Option<holdfast_proto::v1::Checkpoint>| async move {
            let checkpoint = checkpoint?;
            let place = self.shared.catalog.lineage(checkpoint.lineage.clone(), "lineage").await.ok()?;
            let found = self.shared.catalog.checkpoint(place, checkpoint.sequence).await.ok()?;
            (found.checkpoint.record == checkpoint.record).then_some(found.checkpoint)
        };
        let asked: Vec<_> = told.members.iter().map(|member| member.checkpoint.clone()).collect();
        let found: Vec<_> = stream::iter(asked).map(read).buffered(READS).collect().await;
        for (member, found) in told.members.iter_mut().zip(found) {
            if found.is_some() {
                member.checkpoint = found;
            }
        }
        if snapshot.skew.is_none() {
            told.skew_ns = convert::skew(&told.members);
        }
        let bytes = |member: &SnapshotMember| member.checkpoint.as_ref()?.totals.as_ref().map(|totals| totals.bytes);
        told.bytes = told.members.iter().filter_map(bytes).sum();
        Ok(told)
    }
}

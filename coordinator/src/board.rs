// SPDX-License-Identifier: Apache-2.0
//! The snapshots as they are known here, kept up to date for those who watch.

use crate::clock::Clock;
use crate::status;
use holdfast_core::id::{DomainId, SnapshotId};
use holdfast_core::time::Monotonic;
use holdfast_proto::problem::Reason;
use holdfast_store::repository::Repository;
use holdfast_store::snapshot::{Snapshot, Snapshots};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tonic::Status;

/// The register is asked at most so often for what others did, however many watch.
pub(crate) const POLL_EVERY: Duration = Duration::from_secs(3);
/// Fewest characters of an id's beginning.
const BEGINNING_MIN: usize = 4;

/// The snapshots that exist, by number.
pub(crate) type Known = Arc<BTreeMap<u64, Arc<Snapshot>>>;

/// The snapshots as they are known here.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) snapshots: Snapshots,
    /// The only domain whose snapshots are known here.
    only: Option<DomainId>,
    clock: Clock,
    polled: Mutex<Option<Monotonic>>,
    known: watch::Sender<Known>,
}

impl Board {
    pub(crate) fn new(repository: Repository, clock: Clock, only: Option<&str>) -> Self {
        let known = watch::Sender::new(Known::default());
        let only = only.map(|name| repository.domain_id(name));
        Self { snapshots: Snapshots::new(repository), only, clock, polled: Mutex::default(), known }
    }

    /// Whether all of a snapshot is spoken of: none of it lies in other domains, if there is an only one.
    pub(crate) fn has_all_of(&self, snapshot: &Snapshot) -> bool {
        self.only.is_none_or(|only| snapshot.members.iter().all(|member| member.domain == only))
    }

    /// What is spoken of a snapshot: its members of the only domain, if there is one, as if there were no others.
    fn spoken_of(&self, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        if self.has_all_of(&snapshot) {
            return Some(snapshot);
        }
        let mut part = Arc::unwrap_or_clone(snapshot);
        part.members.retain(|member| Some(member.domain) == self.only);
        (!part.members.is_empty()).then(|| Arc::new(part))
    }

    /// A snapshot as it stands in the register, whoever else's members it has.
    pub(crate) async fn whole(&self, id: SnapshotId) -> Result<Option<Arc<Snapshot>>, Status> {
        let found = self.snapshots.by_id(id).await.map_err(status::store)?;
        Ok(found.map(|(snapshot, _)| snapshot))
    }

    /// The id of the snapshot that a request makes. What two domains call their requests is no business of each other's.
    pub(crate) fn id_of_request(&self, request: &str) -> SnapshotId {
        match self.only {
            Some(only) => self.snapshots.id_of_request(&format!("{only} {request}")),
            None => self.snapshots.id_of_request(request),
        }
    }

    /// Reads the register and tells those who watch.
    pub(crate) async fn refresh(&self) -> Result<Known, Status> {
        let mut polled = self.polled.lock().await;
        self.read(&mut polled).await
    }

    /// As [`refresh`](Self::refresh), unless somebody did it a moment ago.
    pub(crate) async fn poll(&self) -> Result<(), Status> {
        let mut polled = self.polled.lock().await;
        let now = self.clock.monotonic();
        if polled.is_none_or(|polled| now.since(polled) >= POLL_EVERY) {
            self.read(&mut polled).await?;
        }
        Ok(())
    }

    /// One at a time: an older answer must not be told after a newer one.
    async fn read(&self, polled: &mut Option<Monotonic>) -> Result<Known, Status> {
        let listed = self.snapshots.list().await.map_err(status::store)?;
        let spoken_of = listed.into_iter().filter_map(|snapshot| self.spoken_of(snapshot));
        let now: Known = Arc::new(spoken_of.map(|snapshot| (snapshot.number, snapshot)).collect());
        self.known.send_if_modified(|known| {
            let changed = known.keys().ne(now.keys());
            if changed {
                *known = Arc::clone(&now);
            }
            changed
        });
        *polled = Some(self.clock.monotonic());
        Ok(now)
    }

    /// What is known, and each change of it.
    pub(crate) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// The snapshot with this name, id, or beginning of an id.
    pub(crate) async fn find(&self, key: &str, field: &str) -> Result<Arc<Snapshot>, Status> {
        if key.is_empty() {
            return Err(status::invalid(field, "is empty"));
        }
        choose(self.refresh().await?.values(), key)
    }

    /// The id of a snapshot that exists, or that a full id names and that was deleted.
    pub(crate) async fn id(&self, key: &str, field: &str) -> Result<SnapshotId, Status> {
        match (self.find(key, field).await, key.parse::<SnapshotId>()) {
            (Ok(found), _) => Ok(found.id),
            // with one domain alone, an id that isn't known here may well be another domain's
            (Err(status), Ok(id)) if status.code() == tonic::Code::NotFound && self.only.is_none() => Ok(id),
            (Err(status), _) => Err(status),
        }
    }
}

fn choose<'a>(snapshots: impl Iterator<Item = &'a Arc<Snapshot>>, key: &str) -> Result<Arc<Snapshot>, Status> {
    let mut beginnings: Vec<&Arc<Snapshot>> = Vec::new();
    for snapshot in snapshots {
        if snapshot.name == key {
            return Ok(Arc::clone(snapshot));
        }
        if key.len() >= BEGINNING_MIN && snapshot.id.to_string().starts_with(key) {
            beginnings.push(snapshot);
        }
    }
    match beginnings[..] {
        [] => Err(status::not_found("snapshot", key)),
        [one] => Ok(Arc::clone(one)),
        _ => {
            let message = format!("{key:?} is the beginning of {} ids: give more of it", beginnings.len());
            Err(status::about(Reason::Ambiguous, message, "snapshot", key))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::time::Timestamp;
    use holdfast_proto::problem::Problem;
    use holdfast_store::snapshot::Consistency;

    fn snapshot(first: u8, name: &str) -> Arc<Snapshot> {
        let mut id = [0xab; 16];
        id[2] = first;
        Arc::new(Snapshot {
            number: first.into(),
            id: SnapshotId::new(id),
            name: name.to_owned(),
            created: Timestamp::default(),
            consistency: Consistency::Crash,
            members: Vec::new(),
            labels: BTreeMap::new(),
            skew: None,
        })
    }

    #[test]
    fn names_count_before_beginnings_of_ids() {
        let all = [snapshot(0x10, "nightly"), snapshot(0x11, "abab10"), snapshot(0x20, "x")];
        let found = |key: &str| choose(all.iter(), key).map(|found| found.number).map_err(|status| Problem::of(&status).reason);
        assert_eq!(found("nightly"), Ok(0x10));
        assert_eq!(found("abab10"), Ok(0x11), "a name, although an id begins so");
        assert_eq!(found("abab10ab"), Ok(0x10));
        assert_eq!(found("abab1"), Err(Some(Reason::Ambiguous)));
        assert_eq!(found("aba"), Err(Some(Reason::NotFound)), "too short");
        assert_eq!(found("10abab"), Err(Some(Reason::NotFound)), "not the beginning");
        assert_eq!(found("abac"), Err(Some(Reason::NotFound)));
    }
}

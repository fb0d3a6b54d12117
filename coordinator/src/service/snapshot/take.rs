// SPDX-License-Identifier: Apache-2.0
//! Taking a snapshot: choose, flush, pin, commit.

use super::Api;
use crate::catalog::{Key, Place};
use crate::status;
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::SnapshotId;
use holdfast_core::time::Timestamp;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::{CreateSnapshotRequest, LineageRef, Snapshot};
use holdfast_store::lineages;
use holdfast_store::snapshot::{Consistency, Made, Proposal, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Members of a snapshot.
const MEMBERS_MAX: usize = 10_000;
/// Lineages that are flushed, or looked up, at once: all that a machine of moderate size has.
const FLUSHES: usize = 256;
/// Longest name, request id, and text of a label; and most labels.
const NAME_MAX: usize = 128;
const REQUEST_ID_MAX: usize = 64;
const LABEL_MAX: usize = 256;
const LABELS_MAX: usize = 64;

/// A checkpoint that was chosen, and whether an agent made it for this snapshot.
struct Chosen {
    place: Place,
    sequence: u64,
    flushed: bool,
}

impl Api {
    /// Takes a snapshot: all or nothing.
    pub(super) async fn take(&self, request: CreateSnapshotRequest, within: Duration) -> Result<Snapshot, Status> {
        check(&request)?;
        let snapshots = &self.shared.board.snapshots;
        let id = match request.request_id.as_str() {
            "" => SnapshotId::new(self.shared.random_id()?),
            text => self.shared.board.id_of_request(text),
        };
        if let Some((before, deleted)) = snapshots.by_id(id).await.map_err(status::store)? {
            return match deleted {
                true => {
                    Err(status::about(Reason::Deleted, "this request's snapshot was deleted since", "snapshot", id.to_string()))
                }
                false => self.in_full(&before).await,
            };
        }
        let places = self.selected(&request).await?;
        let until = Instant::now() + within;
        let choose = |place: Place| self.choose(place, until, request.accept_fuzzy);
        let chosen: Vec<Chosen> = stream::iter(places).map(choose).buffer_unordered(FLUSHES).try_collect().await?;
        let created = self.shared.clock.now();
        let proposal = proposal(id, &request, created, &chosen);
        let made = snapshots.create(&proposal).await;
        self.shared.board.refresh().await?;
        let (snapshot, new) = match made.map_err(status::store)? {
            Made::New(snapshot) => (snapshot, true),
            Made::Before(snapshot) => (snapshot, false),
        };
        let mut told = self.in_full(&snapshot).await?;
        if new {
            let flushed: BTreeSet<Key> = chosen.iter().filter(|one| one.flushed).map(|one| one.place.key()).collect();
            for (member, of) in told.members.iter_mut().zip(&snapshot.members) {
                member.flushed = flushed.contains(&(of.domain, of.lineage));
            }
        }
        Ok(told)
    }

    /// The lineages that were selected, each once, in the order of their names.
    async fn selected(&self, request: &CreateSnapshotRequest) -> Result<Vec<Place>, Status> {
        let mut places: BTreeMap<(String, String), Place> = BTreeMap::new();
        let mut add = |place: Place| {
            places.insert((place.names.domain.clone(), place.names.lineage.clone()), place);
        };
        for (index, names) in request.lineages.iter().enumerate() {
            add(self.shared.catalog.existing(Some(names.clone()), &format!("lineages[{index}]")).await?);
        }
        if request.lineages.is_empty() {
            for domain in self.domains(&request.domain).await? {
                let all = u16::try_from(MEMBERS_MAX).unwrap_or(u16::MAX);
                let ids =
                    lineages::lineages(self.shared.catalog.repository(), &domain, None, all).await.map_err(status::store)?;
                for id in ids {
                    let log =
                        holdfast_store::log::Log::new(self.shared.catalog.repository().transport().clone(), domain.clone(), id);
                    let head = log.head(0).await.map_err(status::store)?;
                    if head > 0 {
                        let lineage = log.read_body(head).await.map_err(status::store)?.name;
                        add(Place { names: LineageRef { domain: domain.keys.name.clone(), lineage }, log });
                    }
                }
            }
        }
        match places.len() {
            0 => Err(status::because(Reason::NothingSelected, "no lineage is selected: there is none yet")),
            MEMBERS_MAX.. => Err(status::invalid("lineages", format!("are more than {MEMBERS_MAX}"))),
            _ => Ok(places.into_values().collect()),
        }
    }

    /// A lineage's checkpoint: of a live one what is flushed now, of others the newest.
    async fn choose(&self, place: Place, until: Instant, accept_fuzzy: bool) -> Result<Chosen, Status> {
        if !self.shared.desk.is_live(place.key()) {
            let found = self.shared.catalog.point(place, None, accept_fuzzy, "lineages").await?;
            return Ok(Chosen { sequence: found.entry.record.sequence, place: found.place, flushed: false });
        }
        let sequence = self.flush(&place, until.saturating_duration_since(Instant::now())).await?;
        let found = self.shared.catalog.checkpoint(place, sequence).await?;
        let quality = found.entry.record.checkpoint().map(|checkpoint| checkpoint.quality);
        let name = found.place.text();
        match quality {
            Some(Quality::Clean) => {}
            Some(Quality::Fuzzy) if accept_fuzzy => {}
            Some(Quality::Fuzzy) => {
                let message =
                    format!("lineage {name} changed while it was captured: accept fuzzy members, or try again when it is quiet");
                return Err(status::about(Reason::OnlyFuzzy, message, "lineage", name));
            }
            _ => {
                let message = format!("lineage {name} answered with checkpoint {sequence}, which is not complete");
                return Err(status::about(Reason::FlushFailed, message, "lineage", name));
            }
        }
        Ok(Chosen { place: found.place, sequence, flushed: true })
    }
}

fn proposal(id: SnapshotId, request: &CreateSnapshotRequest, created: Timestamp, chosen: &[Chosen]) -> Proposal {
    let member =
        |one: &Chosen| Wanted { log: one.place.log.clone(), name: one.place.names.lineage.clone(), sequence: one.sequence };
    let mut members: Vec<Wanted> = chosen.iter().map(member).collect();
    members.sort_by(|one, two| one.name.cmp(&two.name));
    Proposal {
        id,
        rename: request.name.is_empty(),
        name: if request.name.is_empty() { name_of(created) } else { request.name.clone() },
        created,
        consistency: Consistency::Crash,
        labels: request.labels.clone(),
        members,
    }
}

/// A name made of a time: to the second, without what shells and URLs mind.
fn name_of(created: Timestamp) -> String {
    let text = created.to_string();
    let second = text.split(['.', 'Z']).next().unwrap_or_default();
    second.replace(':', "-").to_lowercase()
}

fn check(request: &CreateSnapshotRequest) -> Result<(), Status> {
    if request.name.len() > NAME_MAX || request.name.chars().any(char::is_control) {
        return Err(status::invalid("name", format!("has control characters, or more than {NAME_MAX} bytes")));
    }
    if request.request_id.chars().count() > REQUEST_ID_MAX {
        return Err(status::invalid("request_id", format!("has more than {REQUEST_ID_MAX} characters")));
    }
    if request.lineages.len() > MEMBERS_MAX {
        return Err(status::invalid("lineages", format!("are more than {MEMBERS_MAX}")));
    }
    if !request.lineages.is_empty() && !request.domain.is_empty() {
        return Err(status::invalid("domain", "selects all lineages of a domain, and lineages are named: give one of them"));
    }
    let long = |text: &String| text.len() > LABEL_MAX;
    if request.labels.len() > LABELS_MAX
        || request.labels.iter().any(|(label, value)| label.is_empty() || long(label) || long(value))
    {
        return Err(status::invalid(
            "labels",
            format!("are more than {LABELS_MAX}, or one is empty or longer than {LABEL_MAX} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_times() {
        assert_eq!(name_of(Timestamp::from_nanos(1_700_000_000_123_456_789)), "2023-11-14t22-13-20");
    }

    #[test]
    fn requests_are_checked_field_by_field() {
        use holdfast_proto::problem::Problem;
        let field = |request: CreateSnapshotRequest| {
            check(&request)
                .err()
                .map(|status| Problem::of(&status).fields.first().map(|(field, _)| field.clone()).unwrap_or_default())
        };
        let base = CreateSnapshotRequest::default;
        assert_eq!(field(base()), None);
        assert_eq!(field(CreateSnapshotRequest { name: "a\nb".to_owned(), ..base() }).as_deref(), Some("name"));
        assert_eq!(field(CreateSnapshotRequest { request_id: "x".repeat(65), ..base() }).as_deref(), Some("request_id"));
        let both = CreateSnapshotRequest { domain: "x".to_owned(), lineages: vec![LineageRef::default()], ..base() };
        assert_eq!(field(both).as_deref(), Some("domain"));
        let labels = BTreeMap::from([(String::new(), String::new())]);
        assert_eq!(field(CreateSnapshotRequest { labels, ..base() }).as_deref(), Some("labels"));
    }
}

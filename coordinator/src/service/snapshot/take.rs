// SPDX-License-Identifier: Apache-2.0
//! Taking a snapshot: choose, bring to one moment, pin, commit.

use super::Api;
use crate::barrier::{Barriers, Cut, Ended, PAUSE, Within};
use crate::catalog::{Key, Place};
use crate::session::Enlisted;
use crate::status;
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_core::barrier::{Refusal, Rest, Why};
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::{LineageId, SnapshotId};
use holdfast_core::time::Timestamp;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::{CreateSnapshotRequest, LineageRef, Snapshot};
use holdfast_store::lineages;
use holdfast_store::log::Log;
use holdfast_store::seal::Domain;
use holdfast_store::snapshot::{Consistency, Made, Proposal, Setting, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio::time::Instant;
use tonic::Status;

/// Members of a snapshot.
const MEMBERS_MAX: usize = 10_000;
/// Lineages that are flushed, or whose checkpoints are read, at once: all that a machine of moderate size has.
const FLUSHES: usize = 256;
/// Lineages that are looked for at once.
const LOOKUPS: usize = 64;
/// Longest name, request id, and text of a label; and most labels.
const NAME_MAX: usize = 128;
const REQUEST_ID_MAX: usize = 64;
const LABEL_MAX: usize = 256;
const LABELS_MAX: usize = 64;

/// How a snapshot is to be taken.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// All of it takes no longer.
    pub(crate) within: Duration,
    /// Its members are at rest for so long at most.
    pub(crate) pause: Duration,
    /// If its name is taken, another is made of it.
    pub(crate) rename: bool,
    /// What its members run as.
    pub(crate) setting: Setting,
    /// Lineages that belong to it and have nothing to give yet: should one of their agents come meanwhile, it is tried again.
    pub(crate) absent: Vec<LineageRef>,
}

impl Terms {
    /// As long as it takes, within a time; a name that is taken is refused.
    pub(super) fn within(within: Duration) -> Self {
        Self { within, pause: PAUSE, rename: false, setting: Setting::default(), absent: Vec::new() }
    }
}

/// A checkpoint that was chosen, and whether an agent made it for this snapshot.
struct Chosen {
    place: Place,
    sequence: u64,
    flushed: bool,
    pause: Option<Duration>,
}

/// Barriers that are tried for one snapshot: what breaks one may well not break the next.
const BARRIERS: u32 = 3;

impl Api {
    /// Takes a snapshot: all or nothing.
    pub(super) async fn take(&self, request: CreateSnapshotRequest, terms: Terms) -> Result<Snapshot, Status> {
        check(&request)?;
        let id = match request.request_id.as_str() {
            "" => SnapshotId::new(self.shared.random_id()?),
            text => self.shared.board.id_of_request(text),
        };
        if let Some(before) = self.by_id(id).await? {
            return Ok(before);
        }
        let places = self.selected(&request).await?;
        let absent = self.absent(&terms).await?;
        let until = Instant::now() + terms.within;
        let within = Within { until, pause: terms.pause };
        let _turns = self.turns(until).await?;
        let mut shown = self.shared.barriers.show(id, &request.name);
        let (request, terms, all) = (&request, &terms, places.as_slice());
        let everybody: Vec<Place> = all.iter().chain(&absent).cloned().collect();
        let keys: BTreeSet<Key> = everybody.iter().map(Place::key).collect();
        let mut before: Option<(BTreeSet<Key>, Why<Key>)> = None;
        for tries in 1..=BARRIERS {
            let enlisted = Enlisted::of(self.shared.desks(), &keys);
            let members = enlisted.members().clone();
            // who had nothing to give is there now: it was not chosen, and belongs to it
            if let Some(come) = absent.iter().map(Place::key).find(|key| self.shared.desk_of(*key).is_some()) {
                return Err(broken(&Why::Changed(come), &everybody));
            }
            // who took part in the last one must not be left out of this one for having broken it
            if let Some((_, why)) = before.as_ref().filter(|(before, _)| !before.is_subset(&members)) {
                return Err(broken(why, &everybody));
            }
            if members.is_empty() {
                return self.commit(&Wish { id, request, terms, until, cut: None }, all).await;
            }
            let commit = |cut| async move {
                let wish = Wish { id, request, terms, until, cut: Some(cut) };
                match self.commit(&wish, all).await {
                    Ok(snapshot) => Ok(Ok(snapshot)),
                    Err(status) => Err(Err(status)),
                }
            };
            let barrier = Barriers::next(self.shared.parts().map(|part| &part.barriers));
            match self.shared.barriers.run(barrier, enlisted, within, &self.stop, &mut shown, commit).await {
                Ended::Reached(made) => return made,
                Ended::Broken(why) if tries < BARRIERS && may_help(&why) && Instant::now() < until => {
                    tracing::info!(?why, tries, "a barrier was broken; trying again");
                    before = Some((members, why));
                }
                Ended::Broken(why) => return Err(broken(&why, &everybody)),
            }
        }
        Err(status::too_late())
    }

    /// The right to run a barrier: a member takes part in one at a time.
    async fn turns(&self, until: Instant) -> Result<Vec<MutexGuard<'_, ()>>, Status> {
        let mut turns = Vec::new();
        for part in self.shared.parts() {
            turns.push(tokio::time::timeout_at(until, part.barriers.turn.lock()).await.map_err(|_| status::too_late())?);
        }
        Ok(turns)
    }

    /// The snapshot that a request has made before, if it has.
    #[cfg(feature = "kubernetes")]
    pub(crate) async fn made(&self, request: &str) -> Result<Option<Snapshot>, Status> {
        self.by_id(self.shared.board.id_of_request(request)).await
    }

    /// What the members of a snapshot ran as that are of a namespace, and of the domain that is spoken of.
    ///
    /// Where all members are of one domain, its name says nothing: another cluster's namespace may be called otherwise.
    #[cfg(feature = "kubernetes")]
    pub(crate) async fn setting(&self, id: &str, namespace: &str) -> Result<Setting, Status> {
        let board = &self.shared.board;
        let found = board.find(id, "snapshot").await?;
        let mut setting = board.snapshots.setting(found.number).await.map_err(status::store)?;
        let whole = board.whole(found.id).await?.is_some_and(|snapshot| board.has_all_of(&snapshot));
        if let (false, Some(domain)) = (whole, self.shared.catalog.only()) {
            setting.manifests.retain(|manifest| manifest.namespace == namespace);
            let own = format!("{domain}/");
            setting.images.retain_mut(|image| {
                let of = image.lineage.strip_prefix(&own).map(str::to_owned);
                of.map(|lineage| image.lineage = lineage).is_some()
            });
        }
        Ok(setting)
    }

    async fn by_id(&self, id: SnapshotId) -> Result<Option<Snapshot>, Status> {
        match self.shared.board.snapshots.by_id(id).await.map_err(status::store)? {
            None => Ok(None),
            Some((_, true)) => {
                Err(status::about(Reason::Deleted, "this request's snapshot was deleted since", "snapshot", id.to_string()))
            }
            Some((before, false)) => self.in_full(&before).await.map(Some),
        }
    }

    /// Chooses for those who took part in no barrier, and makes the set visible.
    async fn commit(&self, wish: &Wish<'_>, places: &[Place]) -> Result<Snapshot, Status> {
        let choose = |place: Place| self.choose(place, wish);
        let chosen: Vec<Chosen> = stream::iter(places.to_vec()).map(choose).buffer_unordered(FLUSHES).try_collect().await?;
        let created = self.shared.clock.now();
        let proposal = proposal(wish, created, &chosen);
        let made = self.shared.board.snapshots.create(&proposal).await;
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

    /// Where those will be that have nothing to give yet. In a domain that does not exist nobody is.
    async fn absent(&self, terms: &Terms) -> Result<Vec<Place>, Status> {
        let mut places = Vec::new();
        for names in &terms.absent {
            if let Some(domain) = self.shared.catalog.domain(&names.domain).await? {
                places.push(self.shared.catalog.place(names.clone(), domain));
            }
        }
        Ok(places)
    }

    /// The lineages that were selected, each once, in the order of their names.
    async fn selected(&self, request: &CreateSnapshotRequest) -> Result<Vec<Place>, Status> {
        let named = request.lineages.iter().enumerate();
        let existing = |(index, names): (usize, &LineageRef)| {
            let names = names.clone();
            async move { self.shared.catalog.existing(Some(names), &format!("lineages[{index}]")).await }
        };
        let mut found: Vec<Place> = stream::iter(named).map(existing).buffered(LOOKUPS).try_collect().await?;
        if request.lineages.is_empty() {
            for domain in self.domains(&request.domain).await? {
                let all = u16::try_from(MEMBERS_MAX).unwrap_or(u16::MAX);
                let ids =
                    lineages::lineages(self.shared.catalog.repository(), &domain, None, all).await.map_err(status::store)?;
                let place = |id| self.place_of(&domain, id);
                let begun: Vec<Option<Place>> = stream::iter(ids).map(place).buffered(LOOKUPS).try_collect().await?;
                found.extend(begun.into_iter().flatten());
            }
        }
        let named = |place: Place| ((place.names.domain.clone(), place.names.lineage.clone()), place);
        let places: BTreeMap<(String, String), Place> = found.into_iter().map(named).collect();
        match places.len() {
            0 => Err(status::because(Reason::NothingSelected, "no lineage is selected: there is none yet")),
            MEMBERS_MAX.. => Err(status::invalid("lineages", format!("are more than {MEMBERS_MAX}"))),
            _ => Ok(places.into_values().collect()),
        }
    }

    /// A lineage by its id, if it has a record: the newest has its name.
    async fn place_of(&self, domain: &Arc<Domain>, id: LineageId) -> Result<Option<Place>, Status> {
        let log = Log::new(self.shared.catalog.repository().transport().clone(), Arc::clone(domain), id);
        let head = log.head(0).await.map_err(status::store)?;
        if head == 0 {
            return Ok(None);
        }
        let lineage = log.read_body(head).await.map_err(status::store)?.name;
        Ok(Some(Place { names: LineageRef { domain: domain.keys.name.clone(), lineage }, log }))
    }

    /// A lineage's checkpoint: what it gave in the barrier; of a live one that was not in it what is flushed now, of others the newest.
    async fn choose(&self, place: Place, wish: &Wish<'_>) -> Result<Chosen, Status> {
        let accept_fuzzy = wish.request.accept_fuzzy;
        let key = place.key();
        let pause = wish.cut.as_ref().and_then(|cut| cut.reached.pauses.get(&key).copied());
        let sequence = match wish.cut.as_ref().and_then(|cut| cut.checkpoints.get(&key)) {
            Some(sequence) => *sequence,
            None if self.shared.desk_of(key).is_none() => {
                let found = self.shared.catalog.point(place, None, accept_fuzzy, "lineages").await?;
                return Ok(Chosen { sequence: found.entry.record.sequence, place: found.place, flushed: false, pause });
            }
            None => self.flush(&place, wish.until.saturating_duration_since(Instant::now())).await?,
        };
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
        Ok(Chosen { place: found.place, sequence, flushed: true, pause })
    }
}

/// What is to become a snapshot.
struct Wish<'a> {
    id: SnapshotId,
    request: &'a CreateSnapshotRequest,
    terms: &'a Terms,
    until: Instant,
    /// What a barrier gave.
    cut: Option<Cut>,
}

/// Whether another barrier may come to more: this one was broken by what passes.
const fn may_help(why: &Why<Key>) -> bool {
    use Refusal::{BudgetSpent, NotCut, NotFrozen, OutOfTurn};
    matches!(why, Why::Changed(_) | Why::Refused(_, OutOfTurn | BudgetSpent | NotFrozen | NotCut))
}

fn broken(why: &Why<Key>, places: &[Place]) -> Status {
    let name = |key: &Key| -> String { places.iter().find(|place| place.key() == *key).map(Place::text).unwrap_or_default() };
    let (who, message) = match why {
        Why::Refused(member, refusal) => (name(member), format!("lineage {}: {refusal}", name(member))),
        Why::Changed(member) => {
            (name(member), format!("the agent of lineage {} was lost, or came, while all were to be at rest", name(member)))
        }
        Why::Late(members) => {
            let first = members.first().map(name).unwrap_or_default();
            let message = format!("{} of the lineages were not ready in time, {first} among them", members.len());
            (first, message)
        }
        Why::Cancelled => return status::too_late(),
        Why::NotCommitted => (String::new(), "the set could not be made visible".to_owned()),
    };
    let message = format!("there is no snapshot, and all applications go on: {message}");
    Problem::new(Reason::BarrierFailed, message).resource("lineage", who).retry_after(Duration::from_secs(1)).into()
}

/// The weakest of all: one that was not in the barrier is a moment of its own.
fn consistency(wish: &Wish<'_>, chosen: usize) -> Consistency {
    let cut = wish.cut.as_ref().filter(|cut| cut.checkpoints.len() == chosen);
    match cut.map(|cut| cut.reached.rest) {
        Some(Rest::Frozen) => Consistency::Frozen,
        Some(Rest::Hooks) => Consistency::Hooks,
        Some(Rest::Crash) | None => Consistency::Crash,
    }
}

fn proposal(wish: &Wish<'_>, created: Timestamp, chosen: &[Chosen]) -> Proposal {
    let (id, request) = (wish.id, wish.request);
    let member = |one: &Chosen| Wanted {
        log: one.place.log.clone(),
        name: one.place.names.lineage.clone(),
        sequence: one.sequence,
        pause: one.pause,
    };
    let mut members: Vec<Wanted> = chosen.iter().map(member).collect();
    members.sort_by(|one, two| (&one.name, one.log.domain().keys.id).cmp(&(&two.name, two.log.domain().keys.id)));
    Proposal {
        id,
        rename: wish.terms.rename || request.name.is_empty(),
        name: if request.name.is_empty() { name_of(created) } else { request.name.clone() },
        created,
        consistency: consistency(wish, chosen.len()),
        skew: wish.cut.as_ref().filter(|cut| cut.checkpoints.len() == chosen.len()).map(|cut| cut.reached.skew),
        labels: request.labels.clone(),
        members,
        setting: wish.terms.setting.clone(),
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

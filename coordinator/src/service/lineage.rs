// SPDX-License-Identifier: Apache-2.0
//! What is protected, and which points of its history exist.

use super::Api;
use crate::catalog::{self, Place};
use crate::page::{self, Position};
use crate::session::Outcome;
use crate::stream::deadline;
use crate::{convert, status};
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_core::id::{DomainId, LineageId};
use holdfast_core::time::Timestamp;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::lineage_service_server::LineageService;
use holdfast_proto::v1::{
    Checkpoint, FlushLineageRequest, GetCheckpointRequest, GetLineageRequest, Lineage, LineageRef, ListCheckpointsRequest,
    ListCheckpointsResponse, ListLineagesRequest, ListLineagesResponse,
};
use holdfast_store::lineages;
use holdfast_store::log::{Log, Mark};
use holdfast_store::seal::Domain;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Lineages of a page, and checkpoints, each by default and at most.
const LINEAGES: (usize, usize) = (100, 500);
const CHECKPOINTS: (usize, usize) = (200, 2000);
const FULL_CHECKPOINTS: (usize, usize) = (50, 500);
/// Checkpoints that are looked at for one page; one that is not full then says where to go on.
const LOOKED_AT_MAX: usize = 20_000;
/// Logs that are read at once for one request.
const READS: usize = 8;
/// How long a flush takes at most if the caller said nothing, and if it said too much.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);
const FLUSH_WITHIN_MAX: Duration = Duration::from_secs(600);
/// Of the caller's time this much is left to answer in.
const ANSWER_IN: Duration = Duration::from_millis(200);

#[tonic::async_trait]
impl LineageService for Api {
    async fn list_lineages(&self, request: Request<ListLineagesRequest>) -> Result<Response<ListLineagesResponse>, Status> {
        let mut request = request.into_inner();
        let count = page::size(std::mem::take(&mut request.page_size), LINEAGES.0, LINEAGES.1);
        let token = std::mem::take(&mut request.page_token);
        let after = match self.shared.pages.position(&request, &token)? {
            Some(position) => Some(after_of(&position.after).ok_or_else(|| status::invalid("page_token", "is damaged"))?),
            None => None,
        };
        let domains = self.domains(&request.domain).await?;
        let (places, last) = self.places(&domains, after, count).await?;
        let read = |(domain, id): (Arc<Domain>, LineageId)| self.read(domain, id);
        let read: Vec<Option<Lineage>> = stream::iter(places).map(read).buffered(READS).try_collect().await?;
        let mut lineages: Vec<Lineage> = read.into_iter().flatten().collect();
        if last.is_none() {
            lineages.extend(self.begun(&request.domain).await?);
        }
        let token = |after: (DomainId, LineageId)| {
            let after = [after.0.as_bytes().as_slice(), after.1.as_bytes()].concat();
            self.shared.pages.token(&request, Position { after, ..Position::default() })
        };
        Ok(Response::new(ListLineagesResponse { lineages, next_page_token: last.map(token).unwrap_or_default() }))
    }

    async fn get_lineage(&self, request: Request<GetLineageRequest>) -> Result<Response<Lineage>, Status> {
        let place = self.shared.catalog.lineage(request.into_inner().lineage, "lineage").await?;
        let (domain, id) = (Arc::clone(place.domain()), place.log.lineage());
        if let Some(lineage) = self.read(domain, id).await? {
            return Ok(Response::new(lineage));
        }
        match self.begun_lineage(&place) {
            Some(lineage) => Ok(Response::new(lineage)),
            None => Err(status::not_found("lineage", place.text())),
        }
    }

    async fn list_checkpoints(
        &self,
        request: Request<ListCheckpointsRequest>,
    ) -> Result<Response<ListCheckpointsResponse>, Status> {
        let mut request = request.into_inner();
        let (default, most) = if request.full { FULL_CHECKPOINTS } else { CHECKPOINTS };
        let count = page::size(std::mem::take(&mut request.page_size), default, most);
        let token = std::mem::take(&mut request.page_token);
        let position = self.shared.pages.position(&request, &token)?;
        let span = Span::of(&request)?;
        let place = self.shared.catalog.existing(request.lineage.clone(), "lineage").await?;
        let from = position.map_or(u64::MAX, |position| position.sequence);
        let (marks, next) = marks(&place.log, from, &span, count).await?;
        let checkpoints = match request.full {
            false => marks.iter().map(|mark| convert::mark(&place.names, mark)).collect(),
            true => self.full(&place, &marks).await?,
        };
        let token = |sequence| self.shared.pages.token(&request, Position { sequence, ..Position::default() });
        Ok(Response::new(ListCheckpointsResponse { checkpoints, next_page_token: next.map(token).unwrap_or_default() }))
    }

    async fn get_checkpoint(&self, request: Request<GetCheckpointRequest>) -> Result<Response<Checkpoint>, Status> {
        let found = self.shared.resolve(request.into_inner().point, "point").await?;
        Ok(Response::new(found.checkpoint))
    }

    async fn flush_lineage(&self, request: Request<FlushLineageRequest>) -> Result<Response<Checkpoint>, Status> {
        let within = within(deadline(&request));
        let place = self.shared.catalog.lineage(request.into_inner().lineage, "lineage").await?;
        let sequence = self.flush(&place, within).await?;
        Ok(Response::new(self.shared.catalog.checkpoint(place, sequence).await?.checkpoint))
    }
}

/// How long a flush may take.
pub(super) fn within(deadline: Option<Instant>) -> Duration {
    let asked = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).saturating_sub(ANSWER_IN));
    asked.unwrap_or(FLUSH_WITHIN).min(FLUSH_WITHIN_MAX)
}

impl Api {
    /// Has the agent of a lineage flush, and says with which checkpoint it is durable.
    pub(super) async fn flush(&self, place: &Place, within: Duration) -> Result<u64, Status> {
        let name = place.text();
        let desk = self.shared.desk_of(place.key()).unwrap_or(&self.shared.desk);
        let flush = tokio::select! {
            flush = desk.flush(place.key(), within) => flush,
            () = self.stop.cancelled() => return Err(status::shutting_down()),
        };
        let refusal = match flush {
            Ok(sequence) => return Ok(sequence),
            Err(Outcome::Gone) => Problem::new(Reason::NotLive, format!("no agent of lineage {name} is connected")),
            Err(Outcome::Busy) => return Err(status::busy("flushes of this lineage")),
            Err(Outcome::Failed(why)) => Problem::new(Reason::FlushFailed, format!("lineage {name} could not be flushed: {why}"))
                .retry_after(ANSWER_IN * 5),
            Err(Outcome::Done(sequence)) => return Ok(sequence),
        };
        Err(refusal.resource("lineage", name).into())
    }

    /// The domain with this name, or all of them.
    pub(super) async fn domains(&self, name: &str) -> Result<Vec<Arc<Domain>>, Status> {
        let name = if name.is_empty() { self.shared.catalog.only().unwrap_or_default() } else { name };
        if !name.is_empty() {
            catalog::name(name, "domain")?;
            return Ok(self.shared.catalog.domain(name).await?.into_iter().collect());
        }
        let ids = lineages::domains(self.shared.catalog.repository()).await.map_err(status::store)?;
        let mut domains = Vec::with_capacity(ids.len());
        for id in ids {
            domains.extend(self.shared.catalog.domain_by_id(id).await?);
        }
        Ok(domains)
    }

    /// The lineages after one, in the order of their ids; and the last of them, if there may be more.
    async fn places(
        &self,
        domains: &[Arc<Domain>],
        after: Option<(DomainId, LineageId)>,
        count: usize,
    ) -> Result<(Vec<(Arc<Domain>, LineageId)>, Option<(DomainId, LineageId)>), Status> {
        let mut found: Vec<(Arc<Domain>, LineageId)> = Vec::new();
        for domain in domains {
            let id = domain.keys.id;
            let start = match after {
                Some((before, _)) if id < before => continue,
                Some((before, lineage)) if id == before => Some(lineage),
                _ => None,
            };
            let left = u16::try_from(count - found.len()).unwrap_or(u16::MAX);
            let ids = lineages::lineages(self.shared.catalog.repository(), domain, start, left).await.map_err(status::store)?;
            found.extend(ids.into_iter().map(|lineage| (Arc::clone(domain), lineage)));
            if found.len() >= count {
                let last = found.last().map(|(domain, lineage)| (domain.keys.id, *lineage));
                return Ok((found, last));
            }
        }
        Ok((found, None))
    }

    /// What a log says of its lineage, and its agent of itself.
    async fn read(&self, domain: Arc<Domain>, id: LineageId) -> Result<Option<Lineage>, Status> {
        let log = Log::new(Arc::clone(self.shared.catalog.repository().transport()), Arc::clone(&domain), id);
        let Some(read) = lineages::Lineage::read(log).await.map_err(status::store)? else { return Ok(None) };
        let names = LineageRef { domain: domain.keys.name.clone(), lineage: read.name.clone() };
        Ok(Some(Lineage {
            id: id.to_string(),
            holder: read.claim.holder.clone(),
            generation: read.head.generation,
            head: read.head.sequence,
            sealed: read.is_sealed(),
            newest: read.newest.as_ref().and_then(|entry| convert::checkpoint(&names, entry)),
            live: self.shared.desk.live((domain.keys.id, id)),
            owner: read.claim.owner.to_string(),
            r#ref: Some(names),
        }))
    }

    /// Lineages whose agents are connected, and that have no history yet.
    async fn begun(&self, domain: &str) -> Result<Vec<Lineage>, Status> {
        let mut begun = Vec::new();
        for guest in self.shared.desk.guests() {
            if !domain.is_empty() && guest.names.domain != domain {
                continue;
            }
            let place = self.shared.catalog.lineage(Some(guest.names), "lineage").await?;
            if place.log.head(0).await.map_err(status::store)? == 0 {
                begun.extend(self.begun_lineage(&place));
            }
        }
        Ok(begun)
    }

    fn begun_lineage(&self, place: &Place) -> Option<Lineage> {
        let live = self.shared.desk.live(place.key())?;
        let guest = self.shared.desk.guests().into_iter().find(|guest| guest.key == place.key())?;
        Some(Lineage {
            r#ref: Some(place.names.clone()),
            id: place.log.lineage().to_string(),
            holder: guest.holder,
            live: Some(live),
            ..Lineage::default()
        })
    }

    /// Checkpoints in full. One that retention removed meanwhile is left out.
    async fn full(&self, place: &Place, marks: &[Mark]) -> Result<Vec<Checkpoint>, Status> {
        let read = |sequence: u64| async move {
            match place.log.read(sequence).await {
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(status::of_store(&error)),
                Ok(entry) => Ok(convert::checkpoint(&place.names, &entry)),
            }
        };
        let sequences: Vec<u64> = marks.iter().map(|mark| mark.sequence).collect();
        let read: Vec<Option<Checkpoint>> = stream::iter(sequences).map(read).buffered(READS).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }
}

fn after_of(bytes: &[u8]) -> Option<(DomainId, LineageId)> {
    let (domain, lineage) = bytes.split_at_checked(DomainId::LEN)?;
    Some((DomainId::try_from(domain).ok()?, LineageId::try_from(lineage).ok()?))
}

/// A span of time, each end of which may be open.
struct Span {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Span {
    fn of(request: &ListCheckpointsRequest) -> Result<Self, Status> {
        let end = |time: &Option<prost_types::Timestamp>, field: &str| match time {
            None => Ok(None),
            Some(time) => {
                convert::moment(time).map(Some).ok_or_else(|| status::invalid(field, "is not a time between 1677 and 2262"))
            }
        };
        let (first, last) = (end(&request.not_before, "not_before")?, end(&request.not_after, "not_after")?);
        if first.zip(last).is_some_and(|(first, last)| first > last) {
            return Err(status::invalid("not_before", "is later than not_after"));
        }
        Ok(Self { first, last })
    }

    fn has(&self, moment: Timestamp) -> bool {
        self.first.is_none_or(|first| first <= moment) && self.last.is_none_or(|last| moment <= last)
    }
}

/// The checkpoints of a span at and below a number, newest first; and where to go on, if there may be more.
async fn marks(log: &Log, from: u64, span: &Span, count: usize) -> Result<(Vec<Mark>, Option<u64>), Status> {
    let mut timeline = log.timeline(from);
    let mut marks = Vec::new();
    for _ in 0..LOOKED_AT_MAX {
        let Some(mark) = timeline.next().await.map_err(status::store)? else { return Ok((marks, None)) };
        // clocks may have been wrong in between, so the walk goes on beyond the span
        if span.has(mark.last_close) {
            marks.push(mark);
        }
        if marks.len() == count {
            let next = mark.sequence.checked_sub(1).filter(|next| *next > 0);
            return Ok((marks, next));
        }
        if mark.sequence <= 1 {
            return Ok((marks, None));
        }
    }
    let next = timeline.next().await.map_err(status::store)?.map(|mark| mark.sequence);
    Ok((marks, next))
}

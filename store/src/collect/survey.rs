// SPDX-License-Identifier: Apache-2.0
//! The first look: every lineage's log, what each policy makes of it, and what nothing reaches.

use super::history::History;
use super::mark::Marks;
use super::role::Role;
use super::sweep;
use super::{Ended, OfLineage, Reason, Remains, Report, Request, Tally};
use crate::error::Result;
use crate::lineages::{domains, lineages};
use crate::log::Log;
use crate::name::{Located, locate};
use crate::seal::Domain;
use crate::snapshot::{Snapshots, pins};
use crate::tree::Object;
use holdfast_core::collection::{Looks, Point, Thinned, Thinning, Why, thin};
use holdfast_core::id::{DomainId, LineageId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pack that is worth rewriting, its live frames, and the bytes that come free.
pub(super) type Rewrite = (Object, Vec<(u32, u32)>, u64);

/// A lineage, and what is to become of it.
#[derive(Debug)]
pub(super) struct OneLineage {
    pub(super) log: Log,
    pub(super) history: History,
    /// Why nothing of it may be touched, if so.
    pub(super) left_alone: Option<String>,
    /// What retention makes of its records; `None`: they stay as they are.
    pub(super) thinned: Option<Thinned>,
    /// With the present look.
    pub(super) looks: Looks,
    /// What earlier collectors condemned.
    pub(super) inherited: BTreeSet<Located>,
    /// What this one condemns.
    pub(super) condemned: BTreeMap<Located, (Reason, u64)>,
    /// What is to be rewritten.
    pub(super) rewrite: Vec<Rewrite>,
    /// Packs named below this were weighed.
    pub(super) weighed: u64,
    /// What has gone, or would go.
    pub(super) gone: BTreeMap<Reason, Tally>,
    pub(super) rewritten: Tally,
}

/// The lineages that share keys, and what their checkpoints reach.
#[derive(Debug)]
pub(super) struct OneDomain {
    pub(super) domain: Arc<Domain>,
    pub(super) lineages: Vec<OneLineage>,
    /// `None`: it is not known, and so no pack may go.
    pub(super) marks: Option<Marks>,
}

/// Everything that was found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) domains: Vec<OneDomain>,
    pub(super) problems: Vec<String>,
    pub(super) more: bool,
}

/// Checkpoints of snapshots, by lineage.
pub(super) type Members = BTreeMap<(DomainId, LineageId), BTreeSet<u64>>;

/// What snapshots need.
pub(super) async fn members(request: &Request<'_>) -> Result<Members> {
    let mut members = Members::new();
    for snapshot in Snapshots::new(request.repository.clone()).list().await? {
        for member in &snapshot.members {
            members.entry((member.domain, member.lineage)).or_default().insert(member.sequence);
        }
    }
    Ok(members)
}

/// What pins and snapshots need of a lineage.
pub(super) async fn asked_for(log: &Log, members: &Members) -> Result<BTreeMap<u64, Why>> {
    let mut needed: BTreeMap<u64, Why> = pins(log).await?.iter().map(|pin| (pin.sequence, Why::Pinned)).collect();
    let of_snapshots = members.get(&(log.domain().keys.id, log.lineage())).into_iter().flatten();
    needed.extend(of_snapshots.map(|sequence| (*sequence, Why::Snapshot)));
    Ok(needed)
}

/// Looks at everything.
pub(super) async fn survey(request: &Request<'_>, role: &Role) -> Result<Survey> {
    let repository = request.repository;
    let members = members(request).await?;
    let mut survey = Survey { domains: Vec::new(), problems: Vec::new(), more: false };
    // an entry of the role's log has all names: those of collectors that died come first
    let mut names_left = request.options.names_max.saturating_sub(role.condemned.len());
    for id in domains(repository).await? {
        let Some(domain) = repository.domain_by_id(id).await? else { continue };
        let domain = Arc::new(domain);
        let mut found = OneDomain { domain: Arc::clone(&domain), lineages: Vec::new(), marks: None };
        let mut whole = true;
        let mut after = None;
        loop {
            let page = lineages(repository, &domain, after, 1000).await?;
            let Some(last) = page.last().copied() else { break };
            after = Some(last);
            for lineage in page {
                let log = Log::new(Arc::clone(repository.transport()), Arc::clone(&domain), lineage);
                match one(request, role, log, &members, &mut names_left).await {
                    Ok(Some(one)) => found.lineages.push(one),
                    Ok(None) => {}
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => {
                        whole = false;
                        survey.problems.push(format!("lineage {lineage} of domain {} can't be read: {error}", domain.keys.name));
                    }
                }
            }
        }
        if request.options.packs && whole {
            match Box::pin(sweep::sweep(request, &mut found, &mut names_left)).await {
                Ok(more) => survey.more |= more,
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    found.marks = None;
                    survey.problems.push(format!("no pack of domain {} was looked at: {error}", domain.keys.name));
                }
            }
        }
        survey.domains.push(found);
    }
    survey.more |= names_left == 0;
    Ok(survey)
}

async fn one(
    request: &Request<'_>,
    role: &Role,
    log: Log,
    members: &Members,
    names_left: &mut usize,
) -> Result<Option<OneLineage>> {
    let Some(history) = History::read(&log).await? else { return Ok(None) };
    let own = (log.domain().keys.id, log.lineage());
    let inherited = role.condemned.iter().filter_map(|name| locate(name));
    let inherited = inherited.filter(|(domain, lineage, _)| (*domain, *lineage) == own).map(|(.., located)| located).collect();
    let left_alone = (history.claim.owner != request.owner)
        .then(|| format!("it belongs to {} (held by {})", history.claim.owner, history.claim.holder));
    let looks = history.boundary.looks.clone();
    let mut one = OneLineage {
        left_alone,
        thinned: None,
        looks,
        inherited,
        condemned: BTreeMap::new(),
        rewrite: Vec::new(),
        weighed: 0,
        gone: BTreeMap::new(),
        rewritten: Tally::default(),
        history,
        log,
    };
    if one.left_alone.is_none() {
        let needed = asked_for(&one.log, members).await?;
        plan(request, &mut one, needed, *names_left).await?;
        let gone =
            one.thinned.iter().flat_map(|thinned| &thinned.gone).map(|gone| (Located::Record(*gone), (Reason::Thinned, 0)));
        one.condemned = gone.collect();
        *names_left = names_left.saturating_sub(one.condemned.len());
    }
    Ok(Some(one))
}

/// So many checkpoints are looked at whatever earlier looks say.
const POINTS_MIN: u64 = 4096;

async fn plan(request: &Request<'_>, one: &mut OneLineage, asked: BTreeMap<u64, Why>, names_left: usize) -> Result<()> {
    let history = &one.history;
    let retention = (request.retention)(&one.log.domain().keys.name, &history.name);
    let (Some(retention), Some(newest)) = (retention, history.newest) else { return Ok(()) };
    if !one.looks.add(history.head, request.now, newest.last_close) {
        one.left_alone = Some("this machine's clock has gone back".to_owned());
        return Ok(());
    }
    let mut needed = history.needed.clone();
    needed.extend(asked);
    let boundary = history.boundary.sequence.max(1);
    let old = request.now.minus(retention.keep_all.max(request.options.margin));
    let seen_then = one.looks.all().iter().rev().find(|look| look.at <= old).map(|look| look.head.max(boundary));
    let few = history.head - boundary <= POINTS_MIN;
    let upto = if few { history.head } else { seen_then.unwrap_or(history.head) };
    let upto = upto.min(boundary.saturating_add(u64::try_from(names_left).unwrap_or(u64::MAX)).max(boundary));
    let points = history.points(&one.log, upto).await?;
    let kept: Vec<_> = history.boundary.kept.values().map(|(_, kept)| *kept).collect();
    let condemned = one.inherited.iter().filter_map(|located| match located {
        Located::Record(sequence) => Some(*sequence),
        _ => None,
    });
    let thinned = thin(&Thinning {
        now: request.now,
        retention: &retention,
        margin: request.options.margin,
        boundary,
        kept: &kept,
        looks: &one.looks,
        upto,
        points: &points,
        newest: Point { sequence: newest.sequence, said: newest.last_close, quality: newest.quality },
        needed: &needed,
        condemned: &condemned.collect(),
        gone_max: names_left,
    });
    one.looks.forget_before(thinned.boundary);
    one.thinned = Some(thinned);
    Ok(())
}

impl OneLineage {
    /// The boundary that is to be.
    pub(super) fn boundary(&self) -> u64 {
        self.thinned.as_ref().map_or(self.history.boundary.sequence, |thinned| thinned.boundary)
    }

    /// What is to stay below it.
    pub(super) fn kept(&self) -> Vec<u64> {
        match &self.thinned {
            Some(thinned) => thinned.kept.iter().map(|(kept, _)| kept.sequence).collect(),
            None => self.history.boundary.kept.keys().copied().collect(),
        }
    }

    fn report(&self, planned: bool) -> OfLineage {
        let mut gone = self.gone.clone();
        let mut rewritten = self.rewritten;
        if planned {
            for (reason, bytes) in self.condemned.values() {
                gone.entry(*reason).or_default().add(*bytes);
            }
            for (_, _, free) in &self.rewrite {
                rewritten.add(*free);
            }
        }
        let kept = self.thinned.iter().flat_map(|thinned| &thinned.kept).map(|(kept, why)| Remains {
            sequence: kept.sequence,
            time: kept.quality.map(|_| kept.time),
            why: *why,
        });
        OfLineage {
            domain: self.log.domain().keys.id,
            domain_name: self.log.domain().keys.name.clone(),
            lineage: self.log.lineage(),
            name: self.history.name.clone(),
            head: self.history.head,
            boundary: self.boundary(),
            kept: kept.collect(),
            gone,
            rewritten,
            left_alone: self.left_alone.clone(),
        }
    }
}

impl Survey {
    /// Whether nothing is to be deleted, and nothing is left of earlier collectors.
    pub(super) fn is_idle(&self, role: &Role) -> bool {
        let lineages = self.domains.iter().flat_map(|domain| &domain.lineages);
        let busy = |one: &OneLineage| !one.condemned.is_empty() || !one.rewrite.is_empty();
        role.condemned.is_empty() && role.compacting.is_empty() && !lineages.into_iter().any(busy)
    }

    pub(super) fn report(&self, ended: Ended) -> Report {
        let planned = ended == Ended::Planned;
        let lineages = self.domains.iter().flat_map(|domain| &domain.lineages).map(|one| one.report(planned));
        Report { ended, lineages: lineages.collect(), problems: self.problems.clone(), more: self.more }
    }
}

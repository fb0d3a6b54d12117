// SPDX-License-Identifier: Apache-2.0
//! Carrying a plan out: durable first, checked again, then deleted.

use super::compact::{self, Inherited, Rewritten};
use super::mark::Marks;
use super::recheck::Second;
use super::role::Role;
use super::survey::{OneDomain, OneLineage, Survey, members};
use super::{Ended, Reason, Request};
use crate::error::Result;
use crate::forward::Forward;
use crate::log::Boundary;
use crate::name::{Located, Name, locate};
use crate::transport::settle::Settled;
use crate::transport::{Failure, Transport};
use crate::tree::{FramePlace, Object};
use futures::{StreamExt, stream};
use holdfast_core::collection::Kept;
use std::collections::{BTreeMap, BTreeSet};

/// Objects that are deleted at once.
const AT_ONCE: usize = 16;

/// What is known between the steps.
struct Carry<'a, 'r> {
    request: &'a Request<'r>,
    /// Condemned and not deleted yet.
    condemned: BTreeSet<String>,
    /// Rewrites that somebody may still finish.
    compacting: BTreeSet<String>,
    /// Packs that forwards of earlier collectors turned out to lead to.
    protected: BTreeSet<Name>,
    /// Packs that earlier collectors had rewritten and not deleted.
    finished: BTreeMap<Name, Forward>,
    problems: Vec<String>,
}

/// Carries a plan out.
pub(super) async fn carry(request: &Request<'_>, survey: &mut Survey, role: Role) -> Result<Ended> {
    let (own, rewrites) = (names(survey), rewrites(survey));
    let condemned: BTreeSet<String> = role.condemned.iter().cloned().chain(own).collect();
    let compacting: BTreeSet<String> = role.compacting.iter().cloned().chain(rewrites.iter().cloned()).collect();
    let inherited = role.condemned.clone();
    let Some(entry) = role.win(request, condemned.clone(), compacting.clone()).await? else { return Ok(Ended::Superseded) };
    let unfinished = role.compacting;
    let mut carry = Carry {
        request,
        condemned: condemned.clone(),
        compacting: compacting.clone(),
        protected: BTreeSet::new(),
        finished: BTreeMap::new(),
        problems: Vec::new(),
    };
    carry.settle(survey, &unfinished).await?;
    // from here on: what is needed now is seen, and what was condemned can't become needed
    let members = members(request).await?;
    for domain in &mut survey.domains {
        carry.domain(domain, &members).await?;
    }
    // what this collector condemned and did not delete, it won't delete any more
    carry.condemned.retain(|name| inherited.contains(name));
    if carry.condemned != condemned || carry.compacting != compacting {
        let (condemned, compacting) = (std::mem::take(&mut carry.condemned), std::mem::take(&mut carry.compacting));
        entry.win(request, condemned, compacting).await?;
    }
    survey.problems.append(&mut carry.problems);
    Ok(Ended::Done)
}

/// Records the present look where nothing is to be deleted: nobody needs a role for that.
pub(super) async fn remember(survey: &mut Survey) -> Result<()> {
    for one in survey.domains.iter().flat_map(|domain| &domain.lineages) {
        let second = Second { boundary: one.history.boundary.clone(), ..Second::default() };
        append(one, &second).await?;
    }
    Ok(())
}

fn names(survey: &Survey) -> Vec<String> {
    let mut names = Vec::new();
    for one in survey.domains.iter().flat_map(|domain| &domain.lineages) {
        let (domain, lineage) = (one.log.domain().keys.id, one.log.lineage());
        names.extend(one.condemned.keys().map(|located| located.name(domain, lineage).to_string()));
    }
    names
}

fn rewrites(survey: &Survey) -> Vec<String> {
    let mut names = Vec::new();
    for one in survey.domains.iter().flat_map(|domain| &domain.lineages) {
        names.extend(one.rewrite.iter().map(|(object, ..)| object.name(one.log.domain().keys.id).to_string()));
    }
    names
}

/// Wins the lineage's next boundary, if there is anything new to say: `None` if another was faster.
async fn append(one: &OneLineage, second: &Second) -> Result<Option<Boundary>> {
    let old = &second.boundary;
    // what an earlier collector condemned and this one keeps is safe from it once the boundary that it would need is taken
    let must = one.condemned_history(old);
    if second.stale || (one.thinned.is_none() && !must) {
        return Ok(Some(old.clone()));
    }
    let Some(thinned) = &one.thinned else { return put(one, Boundary { entry: old.entry + 1, ..old.clone() }).await };
    let mut new = Boundary { entry: old.entry + 1, sequence: thinned.boundary, kept: BTreeMap::new(), looks: one.looks.clone() };
    let planned = thinned.kept.iter().map(|(kept, _)| *kept);
    let rescued = second.rescued.keys().filter(|sequence| **sequence < thinned.boundary).map(|sequence| {
        let known = old.kept.get(sequence).map(|(_, kept)| *kept);
        known.unwrap_or(Kept {
            sequence: *sequence,
            time: one.looks.last().map_or_else(Default::default, |look| look.at),
            quality: None,
        })
    });
    for kept in planned.chain(rescued) {
        let hash = match old.kept.get(&kept.sequence) {
            Some((hash, _)) => *hash,
            None => one.log.read(kept.sequence).await?.hash,
        };
        new.kept.insert(kept.sequence, (hash, kept));
    }
    if !must && new.sequence == old.sequence.max(1) && new.kept == old.kept && new.looks == old.looks {
        return Ok(Some(old.clone()));
    }
    put(one, new).await
}

async fn put(one: &OneLineage, new: Boundary) -> Result<Option<Boundary>> {
    match one.log.boundaries().put(new.entry, &new.to_body()).await? {
        Settled::Won => Ok(Some(new)),
        Settled::Lost => Ok(None),
    }
}

impl Carry<'_, '_> {
    fn transport(&self) -> &dyn Transport {
        &**self.request.repository.transport()
    }

    /// Rewrites that earlier collectors had begun: each is finished or called off, once and for all.
    async fn settle(&mut self, survey: &Survey, unfinished: &BTreeSet<String>) -> Result<()> {
        for name in unfinished {
            let Some((domain, lineage, _)) = locate(name) else { continue };
            let Some(object) = Name::listed(name).as_ref().and_then(compact::pack_of) else { continue };
            let known = survey.domains.iter().find(|known| known.domain.keys.id == domain);
            let ours = known.and_then(|known| known.lineages.iter().find(|one| one.log.lineage() == lineage));
            let (Some(known), Some(_)) = (known, ours.filter(|one| one.left_alone.is_none())) else { continue };
            match compact::end(self.transport(), &known.domain, object).await? {
                Inherited::Void => drop(self.compacting.remove(name)),
                Inherited::Forwarded(forward) => {
                    self.protected.extend(forward.targets().map(|target| target.name(domain)));
                    self.finished.insert(object.name(domain), forward);
                }
            }
        }
        Ok(())
    }

    async fn domain(&mut self, domain: &mut OneDomain, members: &super::survey::Members) -> Result<()> {
        let mut marks = domain.marks.take();
        let mut records = Vec::new();
        for one in &domain.lineages {
            let second = Second::look(one, members).await?;
            // what the marks rest on has changed: what lies in packs is for the next time
            if !second.confirms() {
                marks = None;
            }
            let boundary = if one.left_alone.is_none() { append(one, &second).await? } else { Some(second.boundary.clone()) };
            if boundary.is_none() {
                marks = None;
            }
            records.push((second, boundary));
        }
        for (one, (second, boundary)) in domain.lineages.iter_mut().zip(&records) {
            if let (Some(boundary), None) = (boundary, &one.left_alone) {
                self.records(one, second, boundary).await?;
            }
        }
        // whoever condemned a record that is history again needs a boundary that this one has won, before it deletes any pack
        let fenced = domain.lineages.iter().zip(&records).all(|(one, (second, boundary))| {
            !one.condemned_history(&second.boundary) || boundary.as_ref().is_some_and(|won| won.entry > second.boundary.entry)
        });
        if let Some(mut marks) = marks {
            for one in domain.lineages.iter_mut().filter(|one| one.left_alone.is_none()) {
                self.packs(one, &mut marks, fenced).await?;
                self.rewrite(one).await?;
            }
            domain.marks = Some(marks);
        }
        Ok(())
    }

    /// Deletes records that are not history any more.
    async fn records(&mut self, one: &mut OneLineage, second: &Second, boundary: &Boundary) -> Result<()> {
        let won = boundary.entry > second.boundary.entry;
        let mut going = Vec::new();
        for located in one.condemned.keys().chain(&one.inherited) {
            let Located::Record(sequence) = *located else { continue };
            if !boundary.contains(sequence) && !second.rescued.contains_key(&sequence) {
                going.push(*located);
            } else if won {
                // whoever condemned it deletes records only after winning the boundary that this one has won
                self.condemned.remove(located.name(one.log.domain().keys.id, one.log.lineage()).as_str());
            }
        }
        going.sort_unstable();
        going.dedup();
        self.delete(one, going).await
    }

    /// Deletes packs that nothing reaches, and forwards of such. With `fenced`, what earlier collectors condemned and something reaches
    /// is safe from them.
    async fn packs(&mut self, one: &mut OneLineage, marks: &mut Marks, fenced: bool) -> Result<()> {
        let (domain, lineage) = (one.log.domain().keys.id, one.log.lineage());
        let mut going: Vec<Located> = Vec::new();
        for located in one.condemned.keys().chain(&one.inherited) {
            let (Located::Pack(sequence, nonce) | Located::Forward(sequence, nonce)) = *located else { continue };
            let name = located.name(domain, lineage);
            let reached = marks.reaches(lineage, sequence, nonce) || self.protected.contains(&name);
            if reached && fenced {
                self.condemned.remove(name.as_str());
            } else if !reached && one.is_weighed(sequence) {
                going.push(*located);
            }
        }
        going.sort_unstable();
        going.dedup();
        self.delete(one, going).await?;
        let finished: Vec<_> =
            self.finished.iter().filter_map(|(name, forward)| Some((locate(name.as_str())?, forward))).collect();
        let mut replaced = Vec::new();
        for ((_, _, located), forward) in finished.into_iter().filter(|(found, _)| (found.0, found.1) == (domain, lineage)) {
            let Located::Pack(sequence, nonce) = located else { continue };
            let Some(live) = marks.live(lineage, sequence, nonce) else { continue };
            let object = live.object;
            let covered = |(offset, sealed_len): &(u32, u32)| {
                let place = FramePlace { object, offset: u64::from(*offset), sealed_len: *sealed_len, plain_len: 0 };
                forward.place(&place).is_some()
            };
            if live.frames().iter().all(covered) {
                replaced.push(located);
            } else {
                self.problems
                    .push(format!("{} was rewritten without all that is needed of it: it stays", located.name(domain, lineage)));
            }
        }
        for located in replaced {
            one.condemned.insert(located, (Reason::Rewritten, 0));
            self.delete(one, vec![located]).await?;
            self.compacting.remove(located.name(domain, lineage).as_str());
        }
        Ok(())
    }

    /// Rewrites packs, and deletes each once its forward is there.
    async fn rewrite(&mut self, one: &mut OneLineage) -> Result<()> {
        for (object, live, free) in std::mem::take(&mut one.rewrite) {
            let Object::Pack { sequence, nonce, .. } = object else { continue };
            let name = object.name(one.log.domain().keys.id);
            match compact::rewrite(self.transport(), one.log.domain(), object, &live).await {
                Ok(Rewritten::Done { bytes }) => {
                    tracing::debug!(%name, bytes, free, "rewrote a pack");
                    let located = Located::Pack(sequence, nonce);
                    one.condemned.insert(located, (Reason::Rewritten, free));
                    self.delete(one, vec![located]).await?;
                    one.rewritten.add(free);
                    self.compacting.remove(name.as_str());
                }
                Ok(Rewritten::CalledOff) => drop(self.compacting.remove(name.as_str())),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => self.problems.push(format!("pack {name} was not rewritten: {error}")),
            }
        }
        Ok(())
    }

    async fn delete(&mut self, one: &mut OneLineage, going: Vec<Located>) -> Result<()> {
        let (domain, lineage) = (one.log.domain().keys.id, one.log.lineage());
        let transport = self.transport();
        let deletions = going.into_iter().map(|located| async move {
            let name = located.name(domain, lineage);
            let result = transport.delete(&name).await;
            (located, name, result)
        });
        let done: Vec<_> = stream::iter(deletions).buffer_unordered(AT_ONCE).collect().await;
        for (located, name, result) in done {
            match result {
                Ok(()) => {
                    let (reason, bytes) = one.condemned.get(&located).copied().unwrap_or((inherited_reason(located), 0));
                    tracing::debug!(%name, %reason, "deleted");
                    one.gone.entry(reason).or_default().add(bytes);
                    self.condemned.remove(name.as_str());
                }
                // a lock on the object, or no right to delete: it stays, and stays condemned
                Err(error) if error.failure == Failure::Refused => self.problems.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl OneLineage {
    /// Whether an earlier collector condemned what is history all the same.
    fn condemned_history(&self, boundary: &Boundary) -> bool {
        let head = self.history.head;
        self.inherited
            .iter()
            .any(|located| matches!(located, Located::Record(sequence) if *sequence <= head && boundary.contains(*sequence)))
    }
}

/// Why an object goes that an earlier collector condemned.
const fn inherited_reason(located: Located) -> Reason {
    match located {
        Located::Record(_) => Reason::Stray,
        Located::Pack(..) => Reason::Unreachable,
        Located::Forward(..) => Reason::Forward,
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Whether a store keeps the promises that a repository rests on. Asked before one is created, and whenever somebody wants to know.
//!
//! The log is the fence only where a conditional creation has exactly one winner, whoever else tries at the same moment, and whoever reads after
//! an answer reads what was answered. Some stores check the condition first and write later: there two writers win, and a history is lost.

use crate::error::{Result as StoreResult, StoreError};
use crate::name::{Name, probes_of};
use crate::seal::{fill_random, random};
use crate::transport::{Body, Created, Failure, Range, Transport, TransportError};
use holdfast_core::id::Nonce;
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Names that are raced for.
    pub rounds: u32,
    /// Who race for each.
    pub racers: u32,
    /// Bytes that each would write.
    pub body_bytes: u32,
}

impl Default for Options {
    /// A store that checks first and writes later shows it in nearly every round of sixteen.
    fn default() -> Self {
        Self { rounds: 12, racers: 16, body_bytes: 96 << 10 }
    }
}

/// What was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Races that had exactly one winner.
    pub races: u32,
    /// Creations whose answer left open what became of them; who read afterwards found one body all the same.
    pub open_answers: u32,
}

/// Why a store is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// It does not keep a promise.
    #[error("{location} can't hold a repository: {broken}")]
    Broken {
        /// Which store.
        location: String,
        /// What it did.
        broken: Broken,
    },
    /// It could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TransportError> for ProbeError {
    fn from(error: TransportError) -> Self {
        Self::Store(error.into())
    }
}

/// A promise that a store did not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Several creations of one name were told that they had won.
    #[error(
        "{winners} of {racers} that created one object at the same moment were told that they had won; it ignores If-None-Match, or checks it too early, so nothing would keep two writers apart"
    )]
    SeveralWinners {
        /// How many were.
        winners: u32,
        /// Of how many.
        racers: u32,
    },
    /// None was.
    #[error("of {racers} that created one object at the same moment none won")]
    NoWinner {
        /// How many there were.
        racers: u32,
    },
    /// The winner's bytes are not what lies there.
    #[error("what was read after a creation is not what its winner had written")]
    AnotherBody,
    /// A creation over an existing object was carried out.
    #[error("it replaced an object that existed, though it was told to create one (If-None-Match: *)")]
    Replaced,
    /// A range is not what it should be.
    #[error("it does not give back the range of an object that it was asked for")]
    WrongRange,
    /// A listing does not show what was written.
    #[error("a listing does not show what was written before it, in the order of names")]
    StaleListing,
    /// Bytes were taken whose hash is another than announced.
    #[error("it takes an object whose bytes don't have the SHA-256 that was announced")]
    Unchecked,
    /// What was deleted is still there.
    #[error("an object is still there after it was deleted")]
    Undeleted,
}

struct Probe<'a> {
    transport: &'a Arc<dyn Transport>,
    nonce: Nonce,
    options: Options,
    /// Names used so far.
    next: u64,
    findings: Findings,
}

/// Tries a store out. What it writes lies under `probes/` and is deleted, whatever comes out.
///
/// # Errors
/// If the store does not keep a promise, or does not answer.
pub async fn probe(transport: &Arc<dyn Transport>, options: Options) -> Result<Findings, ProbeError> {
    let mut probe = Probe { transport, nonce: Nonce::new(random()?), options, next: 0, findings: Findings::default() };
    let tried = probe.try_all().await;
    let swept = probe.sweep().await;
    tried?;
    swept?;
    Ok(probe.findings)
}

impl Probe<'_> {
    async fn try_all(&mut self) -> Result<(), ProbeError> {
        self.unchecked().await?;
        self.replacing().await?;
        for _ in 0..self.options.rounds {
            self.race().await?;
        }
        self.listing().await
    }

    fn broken(&self, broken: Broken) -> ProbeError {
        ProbeError::Broken { location: self.transport.location(), broken }
    }

    fn name(&mut self) -> Name {
        self.next += 1;
        Name::probe(self.nonce, self.next)
    }

    /// Random bytes, so that no two bodies are the same and none compresses away.
    fn body(&self) -> StoreResult<Body> {
        let mut bytes = vec![0; self.options.body_bytes as usize];
        fill_random(&mut bytes)?;
        Ok(Body::new(bytes.into()))
    }

    async fn race(&mut self) -> Result<(), ProbeError> {
        let name = self.name();
        let racers = self.options.racers;
        let start = Arc::new(Barrier::new(racers as usize));
        let mut race = JoinSet::new();
        for _ in 0..racers {
            let (start, transport, name, body) = (Arc::clone(&start), Arc::clone(self.transport), name.clone(), self.body()?);
            race.spawn(async move {
                start.wait().await;
                let answer = transport.create(&name, &body).await;
                (body, answer)
            });
        }
        let (mut winners, mut open) = (Vec::new(), Vec::new());
        for (body, answer) in race.join_all().await {
            match answer {
                Ok(Created::Yes) => winners.push(body),
                Ok(Created::Exists) => {}
                // what became of it is open: it may have won
                Err(error) if error.is_retryable() => open.push(body),
                Err(error) => return Err(error.into()),
            }
        }
        self.findings.open_answers += u32::try_from(open.len()).unwrap_or(u32::MAX);
        if winners.len() > 1 {
            let winners = u32::try_from(winners.len()).unwrap_or(u32::MAX);
            return Err(self.broken(Broken::SeveralWinners { winners, racers }));
        }
        let candidates = if winners.is_empty() { &open } else { &winners };
        for _ in 0..3 {
            match self.transport.get(&name, Range::All).await {
                Ok(found) if candidates.iter().any(|body| body.bytes == found) => {}
                Ok(_) => return Err(self.broken(Broken::AnotherBody)),
                Err(error) if error.is_not_found() => return Err(self.broken(Broken::NoWinner { racers })),
                Err(error) => return Err(error.into()),
            }
        }
        self.findings.races += 1;
        Ok(())
    }

    /// One after the other, and its ranges.
    async fn replacing(&mut self) -> Result<(), ProbeError> {
        let name = self.name();
        let (first, second) = (self.body()?, self.body()?);
        crate::transport::settle::create_unique(&**self.transport, &name, &first, crate::repository::PATIENCE).await?;
        let answer = self.transport.create(&name, &second).await;
        let found = self.transport.get(&name, Range::All).await?;
        if matches!(answer, Ok(Created::Yes)) || found == second.bytes {
            return Err(self.broken(Broken::Replaced));
        }
        if found != first.bytes {
            return Err(self.broken(Broken::AnotherBody));
        }
        let len = found.len() as u64;
        for (offset, wanted) in [(0, 1), (len / 3, len / 2), (len - 7, 1 << 20)] {
            let range = self.transport.get(&name, Range::From { offset, len: wanted }).await?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = usize::try_from((offset + wanted).min(len)).unwrap_or(usize::MAX);
            if range != found.slice(start..end) {
                return Err(self.broken(Broken::WrongRange));
            }
        }
        if self.transport.size(&name).await? != Some(len) {
            return Err(self.broken(Broken::AnotherBody));
        }
        match self.transport.get(&name, Range::From { offset: len + 1, len: 10 }).await {
            Err(error) if error.failure == Failure::BeyondEnd => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(self.broken(Broken::WrongRange)),
        }
    }

    /// Damage on the way must be noticed, and leave nothing.
    async fn unchecked(&mut self) -> Result<(), ProbeError> {
        let name = self.name();
        let mut body = self.body()?;
        body.sha256[0] ^= 1;
        let answer = self.transport.create(&name, &body).await;
        let exists = self.transport.size(&name).await?.is_some();
        match answer {
            Ok(_) => Err(self.broken(Broken::Unchecked)),
            Err(_) if exists => Err(self.broken(Broken::Unchecked)),
            // a bucket that doesn't exist, or that may not be written
            Err(error) if error.is_not_found() || error.message.contains("AccessDenied") => Err(error.into()),
            Err(error) if error.is_retryable() => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    /// Everything that was written is listed, in order, by pages too.
    async fn listing(&mut self) -> Result<(), ProbeError> {
        // the first name was refused, all others exist
        let expected: Vec<Name> = (2..=self.next).map(|number| Name::probe(self.nonce, number)).collect();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.transport.list(&probes_of(self.nonce), after.as_deref(), false, 5).await?;
            found.extend(page.objects.into_iter().map(|(name, _)| name));
            after = page.next;
            if after.is_none() || found.len() > expected.len() {
                break;
            }
        }
        if found == expected { Ok(()) } else { Err(self.broken(Broken::StaleListing)) }
    }

    async fn sweep(&self) -> Result<(), ProbeError> {
        for number in 1..=self.next {
            self.transport.delete(&Name::probe(self.nonce, number)).await?;
        }
        let last = Name::probe(self.nonce, self.next.max(1));
        if self.transport.size(&last).await?.is_some() { Err(self.broken(Broken::Undeleted)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;

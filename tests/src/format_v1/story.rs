// SPDX-License-Identifier: Apache-2.0
//! How the frozen repository came to be: its lineages, record by record, through the code that writes all repositories.

use super::scene::Scene;
use super::{Checkpoint, Expected, LABELS, Line, Lineage};
use crate::clock::Steps;
use crate::listing::{digest, listing, without_owners};
use anyhow::{Context, Result};
use holdfast_core::checkpoint::{Quality, Scope, ScopeRoot};
use holdfast_core::collection::Worth;
use holdfast_core::id::{HolderKey, OwnerId, RecordId, VolumeId};
use holdfast_core::policy::Retention;
use holdfast_store::capture::{Checkpointing, Clock, Dirt, Filter, Old, Request, Source, capture};
use holdfast_store::collect;
use holdfast_store::disk::Dir;
use holdfast_store::document::DocumentBuilder;
use holdfast_store::log::{Log, Selector};
use holdfast_store::name::Name;
use holdfast_store::reader::Reader;
use holdfast_store::record::{Record, RecordKind};
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::seal::{Domain, Kind};
use holdfast_store::snapshot::{Purpose, pin};
use holdfast_store::transport::memory::Memory;
use holdfast_store::transport::{Body, Transport};
use holdfast_store::write::{CheckpointMeta, Opening, Session, Takeover, Tuning};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::runtime::Runtime;

const DOMAIN: &str = "default";
/// The lineage that was thinned and compacted.
const COMPACTED: &str = "cache-0";
/// Its owner: whoever collects leaves all other lineages alone.
const COMPACTOR: OwnerId = OwnerId::new([2; 16]);
const PASSPHRASE: &str = "what was written once opens for ever";
/// Later than the files that are captured, or their times would not be trusted.
const BEGINNING: i64 = 1_900_000_000;

/// Writes a repository and what must come out of it into a directory that does not exist yet.
///
/// # Errors
/// If anything fails.
pub fn write(directory: &Path) -> Result<()> {
    let runtime = Runtime::new()?;
    let memory = Arc::new(Memory::default());
    let transport: Arc<dyn Transport> = memory.clone();
    let clock = Steps::from(BEGINNING);
    let repository = runtime.block_on(async {
        let repository = Repository::create(transport, b"this one was revoked", Kdf::QUICK, clock.now()).await?;
        repository.add_passphrase(PASSPHRASE.as_bytes(), Kdf::QUICK).await?;
        repository.revoke_slot(0).await?;
        anyhow::Ok(repository)
    })?;
    let domain = Arc::new(runtime.block_on(repository.domain(DOMAIN))?);
    let stage = Stage { memory: &memory, domain, runtime: &runtime, clock };
    let lineages = vec![stage.eventful()?, stage.interrupted()?, stage.compacted(&repository)?];
    save(directory, &repository, &memory, lineages)
}

/// Adds the lineages that a repository of an earlier day doesn't have; what is there stays as it is.
///
/// # Errors
/// If anything fails, or nothing is missing.
pub fn extend(directory: &Path) -> Result<()> {
    let runtime = Runtime::new()?;
    let memory = super::store()?;
    let transport: Arc<dyn Transport> = memory.clone();
    let repository = runtime.block_on(Repository::open(transport, &super::passphrase()?))?;
    let domain = Arc::new(runtime.block_on(repository.domain(DOMAIN))?);
    let stage = Stage { memory: &memory, domain, runtime: &runtime, clock: Steps::from(BEGINNING + 100_000) };
    let mut lineages = Expected::read()?.lineages;
    anyhow::ensure!(lineages.iter().all(|lineage| lineage.name != COMPACTED), "{COMPACTED} is there already");
    lineages.push(stage.compacted(&repository)?);
    save(directory, &repository, &memory, lineages)
}

fn save(directory: &Path, repository: &Repository, memory: &Memory, mut lineages: Vec<Lineage>) -> Result<()> {
    lineages.sort_by(|a, b| a.id.cmp(&b.id));
    let expected = Expected { repository: repository.id().to_string(), domain: DOMAIN.to_owned(), lineages };
    for (name, bytes) in memory.objects() {
        let path = directory.join("objects").join(name.as_str());
        fs::create_dir_all(path.parent().context("objects lie in directories")?)?;
        fs::write(path, bytes)?;
    }
    fs::write(directory.join("passphrase"), format!("{PASSPHRASE}\n"))?;
    fs::write(directory.join("expected.json"), json(&expected)?)?;
    fs::write(directory.join("vectors.json"), json(&super::vectors::compute()?)?)?;
    Ok(())
}

/// In lines, so that differences can be read, but not indented: most of the file would be spaces.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"")))?;
    text.push(b'\n');
    Ok(text)
}

struct Stage<'a> {
    memory: &'a Arc<Memory>,
    domain: Arc<Domain>,
    runtime: &'a Runtime,
    clock: Steps,
}

/// The listings of checkpoints, by sequence.
type Listings = BTreeMap<u64, Vec<String>>;

impl Stage<'_> {
    /// Folds, changes carried in records, a takeover, a number that was given up, a seal.
    fn eventful(&self) -> Result<Lineage> {
        let mut scene = Scene::new()?;
        let mut listings = Listings::new();
        let mut session = self.open("web-0", 1)?;
        self.checkpoint(&mut session, &scene, Quality::Clean, &mut listings)?;
        for _ in 0..5 {
            scene.advance()?;
            self.checkpoint(&mut session, &scene, Quality::Clean, &mut listings)?;
        }
        // the first holder is gone without a word
        let mut session = self.open("web-0", 2)?;
        scene.advance()?;
        self.checkpoint(&mut session, &scene, Quality::Clean, &mut listings)?;
        drop(session);
        self.give_up("web-0")?;
        let mut session = self.open("web-0", 3)?;
        scene.advance()?;
        self.checkpoint(&mut session, &scene, Quality::Fuzzy, &mut listings)?;
        session.seal("the end of the story", self.clock.now())?;
        self.tell("web-0", &listings)
    }

    /// Never folded, and a capture that was not finished.
    fn interrupted(&self) -> Result<Lineage> {
        let mut listings = Listings::new();
        let mut session = self.open("db-0", 4)?;
        let scene = Scene::new()?;
        for directory in ["data/many", "data/small"] {
            fs::remove_dir_all(scene.path(directory))?;
        }
        for file in ["data/pages.db", "data/stream.log", "data/sparse"] {
            fs::remove_file(scene.path(file))?;
        }
        scene.settle()?;
        self.checkpoint(&mut session, &scene, Quality::Clean, &mut listings)?;
        fs::create_dir_all(scene.path("data/many"))?;
        fs::write(scene.path("data/many/1001"), b"so far and no further")?;
        scene.settle()?;
        self.checkpoint(&mut session, &scene, Quality::Partial, &mut listings)?;
        drop(self.open("db-0", 5)?);
        self.tell("db-0", &listings)
    }

    /// Thinned, with packs that were rewritten: what remains is the newest state, and one that is pinned.
    fn compacted(&self, repository: &Repository) -> Result<Lineage> {
        let mut listings = Listings::new();
        let mut scene = Scene::new()?;
        let mut session = self.open(COMPACTED, 6)?;
        for _ in 0..7 {
            self.checkpoint(&mut session, &scene, Quality::Clean, &mut listings)?;
            scene.advance()?;
        }
        session.seal("nothing is added", self.clock.now())?;
        let log = self.log(COMPACTED);
        let third = *listings.keys().nth(2).context("checkpoints")?;
        self.runtime.block_on(pin(repository, &log, third, Purpose::Read, [6; 16], self.clock.now()))?;
        // every pack, whatever is dead of it: what is tried is the way by the forward
        let worth = Worth { dead_bytes: 1, live_percent: 100 };
        let request = collect::Request {
            repository,
            owner: COMPACTOR,
            holder: "the collector of the story".to_owned(),
            holder_key: HolderKey::new([8; 16]),
            now: self.clock.now(),
            retention: &|_: &str, name: &str| {
                (name == COMPACTED).then(|| Retention { keep_all: Duration::ZERO, tiers: Vec::new() })
            },
            options: collect::Options { margin: Duration::ZERO, rewrite: Some(worth), ..collect::Options::default() },
        };
        let report = self.runtime.block_on(collect::collect(&request))?;
        let rewritten: u64 = report.lineages.iter().map(|lineage| lineage.rewritten.objects).sum();
        anyhow::ensure!(rewritten > 0 && report.problems.is_empty(), "{report:#?}");
        self.tell(COMPACTED, &listings)
    }

    fn log(&self, lineage: &str) -> Log {
        let transport: Arc<dyn Transport> = self.memory.clone();
        Log::new(transport, Arc::clone(&self.domain), self.domain.keys.identity.lineage_id(lineage))
    }

    fn open(&self, lineage: &str, holder: u8) -> Result<Session> {
        let transport: Arc<dyn Transport> = self.memory.clone();
        let opening = Opening {
            reader: Arc::new(Reader::new(transport, Arc::clone(&self.domain), self.runtime.handle().clone(), None)),
            name: lineage.to_owned(),
            owner: if lineage == COMPACTED { COMPACTOR } else { OwnerId::new([1; 16]) },
            holder: format!("holder {holder}"),
            holder_key: HolderKey::new([holder; 16]),
            takeover: Takeover::SameOwner,
            watermark: None,
            back_to: None,
            // so small that a few changes show everything
            tuning: Tuning { fold_bytes: 24 << 10, fold_after: 4, encoders: 1, ..Tuning::default() },
            now: self.clock.now(),
        };
        Ok(self.runtime.block_on(Session::open(opening))?)
    }

    fn checkpoint(&self, session: &mut Session, scene: &Scene, quality: Quality, listings: &mut Listings) -> Result<()> {
        let paths = LABELS.map(|label| scene.path(label));
        let source = |(label, path): (&str, &std::path::PathBuf)| {
            let dir = Arc::new(Dir::open_root(path)?);
            anyhow::Ok(Source { label: label.to_owned(), dir, filter: Filter::default() })
        };
        let sources = LABELS.into_iter().zip(&paths).map(source).collect::<Result<Vec<_>>>()?;
        let dirt = LABELS.map(|label| (label.to_owned(), Dirt::all())).into();
        let request = Request {
            sources: &sources,
            dirt: &dirt,
            foreign: false,
            scratch: None,
            clock: &self.clock,
            cancel: &AtomicBool::new(false),
            observer: None,
            encoders: 1,
            clones: None,
            brief: false,
            partial_after: Duration::MAX,
        };
        let (roots, totals, reader) = (session.roots().to_vec(), *session.totals(), Arc::clone(session.reader()));
        let volume = Some(VolumeId::new([7; 16]));
        let mut sink = Checkpointing { session, scope: scope(), volume, partials: 0 };
        let outcome = capture(&request, &Old { roots: &roots, totals: &totals, reader: &reader }, &mut sink)?;
        let (interval, totals, problems) = (outcome.interval, outcome.totals, outcome.problems);
        let problems = problems.into_iter().map(|(_, problem)| problem).collect();
        let meta = CheckpointMeta { interval, quality, scope: scope(), totals, volume, problems, now: self.clock.now() };
        let done = session.commit(&outcome.roots, meta)?;
        let lines = listing(&[(LABELS[0], &paths[0]), (LABELS[1], &paths[1])])?;
        listings.insert(done.sequence, lines);
        Ok(())
    }

    /// A void: what a writer leaves that can't tell whether its record will arrive.
    fn give_up(&self, lineage: &str) -> Result<()> {
        let (log, domain) = (self.log(lineage), &self.domain);
        let head = self.runtime.block_on(async { log.read(log.head(0).await?).await })?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(std::io::Error::from)?;
        let sequence = head.record.sequence + 1;
        let record = Record {
            sequence,
            id: RecordId::new(id),
            previous: Some(head.hash),
            base: head.record.state(),
            written: self.clock.now(),
            kind: RecordKind::Void,
            ..head.record
        };
        let name = Name::record(domain.keys.id, log.lineage(), sequence);
        let document = DocumentBuilder::new(domain, Kind::Record, *log.lineage().as_bytes(), &name)?;
        let body = Body::new(document.finish(&record.to_body(Vec::new()))?);
        self.runtime.block_on(self.memory.create(&name, &body))?;
        Ok(())
    }

    /// What must come out of a lineage.
    fn tell(&self, lineage: &str, listings: &Listings) -> Result<Lineage> {
        let log = self.log(lineage);
        let (head, boundary) = self.runtime.block_on(async { anyhow::Ok((log.head(0).await?, log.boundary().await?)) })?;
        let history = (1..=head).filter(|sequence| boundary.contains(*sequence));
        let records = history.map(|sequence| line(&self.runtime.block_on(log.read_body(sequence))?, listings));
        let records = records.collect::<Result<_>>()?;
        let state = self.runtime.block_on(log.find(Selector::Newest, false))?.context("a state")?.sequence;
        let listing = listings[&state].clone();
        Ok(Lineage { name: lineage.to_owned(), id: log.lineage().to_string(), state, records, listing })
    }
}

fn line(record: &Record, listings: &Listings) -> Result<Line> {
    let kind = match record.kind {
        RecordKind::Claim(_) => "claim",
        RecordKind::Checkpoint(_) => "checkpoint",
        RecordKind::Void => "void",
        RecordKind::Seal { .. } => "seal",
    };
    let checkpoint = record.checkpoint().map(|checkpoint| {
        let lines = listings.get(&record.sequence).context("every checkpoint was listed")?;
        anyhow::Ok(Checkpoint {
            root: checkpoint.root.to_string(),
            quality: checkpoint.quality.to_string(),
            fold: checkpoint.fold == record.sequence,
            entries: lines.len(),
            listing: digest(lines),
            without_owners: digest(&without_owners(lines)),
        })
    });
    let (sequence, generation, base) = (record.sequence, record.generation, record.base);
    Ok(Line { sequence, kind: kind.to_owned(), generation, base, checkpoint: checkpoint.transpose()? })
}

fn scope() -> Scope {
    let root = |label: &str| ScopeRoot {
        label: label.to_owned(),
        path: format!("/srv/{label}"),
        include: Vec::new(),
        exclude: vec!["*.tmp".to_owned()],
    };
    Scope { roots: LABELS.map(root).into() }
}

// SPDX-License-Identifier: Apache-2.0
//! What was written with format 1 opens and restores, by this program and by an independent one.

use anyhow::{Context, Result, ensure};
use holdfast_core::checkpoint::Totals;
use holdfast_core::id::{LineageId, RootId};
use holdfast_store::capture::Filter;
use holdfast_store::disk::Dir;
use holdfast_store::log::{Log, Selector};
use holdfast_store::reader::Reader;
use holdfast_store::record::RecordKind;
use holdfast_store::repository::Repository;
use holdfast_store::restore::{Extra, Options, Progress, Restore, Target, prove, restore};
use holdfast_store::seal::Domain;
use holdfast_store::transport::Transport;
use holdfast_store::tree::RootItem;
use holdfast_tests::clock::Steps;
use holdfast_tests::format_v1::{self, Checkpoint, Expected, LABELS, Line, vectors};
use holdfast_tests::listing::{digest, listing, without_owners};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::runtime::Runtime;

struct Frozen {
    runtime: Runtime,
    transport: Arc<dyn Transport>,
    domain: Arc<Domain>,
    expected: Expected,
}

impl Frozen {
    fn open() -> Result<Self> {
        let (runtime, expected) = (Runtime::new()?, Expected::read()?);
        let transport: Arc<dyn Transport> = format_v1::store()?;
        let passphrase = format_v1::passphrase()?;
        let domain = runtime.block_on(async {
            let repository = Repository::open(Arc::clone(&transport), &passphrase).await?;
            assert_eq!(repository.id().to_string(), expected.repository);
            repository.existing_domain(&expected.domain).await?.context("the domain")
        })?;
        Ok(Self { runtime, transport, domain: Arc::new(domain), expected })
    }

    fn log(&self, lineage: LineageId) -> Log {
        Log::new(Arc::clone(&self.transport), Arc::clone(&self.domain), lineage)
    }

    fn reader(&self) -> Arc<Reader> {
        let (transport, domain) = (Arc::clone(&self.transport), Arc::clone(&self.domain));
        Arc::new(Reader::new(transport, domain, self.runtime.handle().clone(), None))
    }
}

/// Only root can give files to others; for anybody else owners are left out of what is compared.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn directories(at: &Path) -> Result<Vec<Target>> {
    let target = |label: &str| {
        let path = at.join(label);
        fs::create_dir_all(&path)?;
        Ok(Target { label: label.to_owned(), dir: Arc::new(Dir::open_root(&path)?), filter: Filter::default() })
    };
    LABELS.map(target).into_iter().collect()
}

fn restored(at: &Path) -> Result<Vec<String>> {
    listing(&LABELS.map(|label| (label, at.join(label))).each_ref().map(|(label, path)| (*label, path.as_path())))
}

fn restore_to(frozen: &Frozen, roots: &[RootItem], totals: &Totals, at: &Path) -> Result<RootId> {
    let (targets, reader, never) = (directories(at)?, frozen.reader(), AtomicBool::new(false));
    let options = Options { extra: Extra::Remove, special: true, owners: is_root(), ..Options::default() };
    let (cancel, progress) = (&never, &Progress::default());
    let stats = restore(&Restore { reader: &reader, roots, totals, targets: &targets, options: &options, cancel, progress })?;
    ensure!(stats.deviations.is_empty(), "{:?}", stats.deviations);
    Ok(prove(&reader, roots, totals, &targets, None, &Steps::from(0), &never)?.root)
}

/// Restores a checkpoint over whatever is in a place, and compares what is there then.
fn check_checkpoint(frozen: &Frozen, log: &Log, line: &Line, told: &Checkpoint, place: &Path) -> Result<Vec<String>> {
    let entry = frozen.runtime.block_on(log.read(line.sequence))?;
    let checkpoint = entry.record.checkpoint().context("a checkpoint")?;
    assert_eq!(checkpoint.root.to_string(), told.root);
    assert_eq!(checkpoint.quality.to_string(), told.quality);
    assert_eq!(checkpoint.fold == line.sequence, told.fold);
    let proven = restore_to(frozen, &checkpoint.roots, &checkpoint.totals, place)?;
    let lines = restored(place)?;
    if is_root() {
        assert_eq!(proven, checkpoint.root, "checkpoint {}: what is on disk is not what was captured", line.sequence);
        assert_eq!(digest(&lines), told.listing, "checkpoint {}: {lines:#?}", line.sequence);
    }
    let bare = without_owners(&lines);
    assert_eq!(
        (bare.len(), digest(&bare)),
        (told.entries, told.without_owners.clone()),
        "checkpoint {}: {bare:#?}",
        line.sequence
    );
    let sparse = place.join("data/one-hole");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(sparse)?);
    assert_eq!(blocks, 0, "a hole takes no space");
    Ok(lines)
}

#[test]
fn every_checkpoint_restores_to_what_was_captured() -> Result<()> {
    let frozen = Frozen::open()?;
    for lineage in &frozen.expected.lineages {
        let id = frozen.domain.keys.identity.lineage_id(&lineage.name);
        assert_eq!(id.to_string(), lineage.id);
        let log = frozen.log(id);
        assert_eq!(Some(frozen.runtime.block_on(log.head(0))?), lineage.records.last().map(|record| record.sequence));
        let (place, empty) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let newest = frozen.runtime.block_on(log.find(Selector::Newest, false))?.context("a state")?;
        assert_eq!(newest.sequence, lineage.state);
        for line in &lineage.records {
            let record = frozen.runtime.block_on(log.read_body(line.sequence))?;
            let kind = match record.kind {
                RecordKind::Claim(_) => "claim",
                RecordKind::Checkpoint(_) => "checkpoint",
                RecordKind::Void => "void",
                RecordKind::Seal { .. } => "seal",
            };
            assert_eq!((kind, record.generation, record.base), (&*line.kind, line.generation, line.base));
            assert_eq!((&record.name, line.checkpoint.is_some()), (&lineage.name, kind == "checkpoint"));
            let Some(told) = &line.checkpoint else { continue };
            check_checkpoint(&frozen, &log, line, told, place.path())?;
            if line.sequence == lineage.state {
                let lines = check_checkpoint(&frozen, &log, line, told, empty.path())?;
                assert_eq!(without_owners(&lines), without_owners(&lineage.listing));
            }
        }
    }
    Ok(())
}

#[test]
fn a_revoked_passphrase_opens_nothing() -> Result<()> {
    let (runtime, transport) = (Runtime::new()?, format_v1::store()?);
    let opened = |passphrase| runtime.block_on(Repository::open(transport.clone(), passphrase)).is_ok();
    assert!(!opened(b"this one was revoked") && !opened(b"") && opened(&format_v1::passphrase()?));
    Ok(())
}

#[test]
fn the_low_level_vectors_hold() -> Result<()> {
    let text = fs::read(format_v1::directory().join("vectors.json"))?;
    assert_eq!(vectors::compute()?, serde_json::from_slice(&text)?);
    Ok(())
}

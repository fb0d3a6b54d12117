// SPDX-License-Identifier: Apache-2.0
//! The frozen repository through the second implementation of the format, which was written from `docs/format.md` alone.

use anyhow::{Context, Result, ensure};
use holdfast_tests::format_v1::{self, Expected, LABELS, Lineage};
use holdfast_tests::listing::{digest, listing, without_owners};
use holdfast_tests::python;
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

fn reader(repository: &Path, arguments: &[&OsStr]) -> Result<String> {
    let passphrase: OsString = format_v1::directory().join("passphrase").into();
    let fixed = [repository.as_os_str(), "--passphrase-file".as_ref(), &passphrase];
    python::run("reader.py", &[&fixed[..], arguments].concat())
}

fn frozen(arguments: &[&str]) -> Result<String> {
    reader(&format_v1::directory().join("objects"), &arguments.iter().map(OsStr::new).collect::<Vec<_>>())
}

#[derive(Deserialize)]
struct Dump {
    sequence: u64,
    root: String,
    listing: Vec<String>,
}

#[test]
fn it_reads_every_checkpoint() -> Result<()> {
    if !python::is_available()? {
        return Ok(());
    }
    let expected = Expected::read()?;
    for lineage in &expected.lineages {
        let of = |sequence: &str| -> Result<Vec<Dump>> {
            let text = frozen(&["--domain", &expected.domain, "--lineage", &lineage.name, "--sequence", sequence, "dump"])?;
            text.lines().map(|line| serde_json::from_str(line).context("its dump is no JSON")).collect()
        };
        let checkpoints = lineage.records.iter().filter_map(|line| Some((line.sequence, line.checkpoint.as_ref()?)));
        let dumps = of("all")?;
        assert_eq!(dumps.len(), checkpoints.clone().count());
        for (dump, (sequence, checkpoint)) in dumps.iter().zip(checkpoints) {
            assert_eq!((dump.sequence, &dump.root), (sequence, &checkpoint.root));
            assert_eq!(digest(&dump.listing), checkpoint.listing, "checkpoint {sequence}: {:#?}", dump.listing);
        }
        let newest = of("latest")?;
        assert_eq!((newest[0].sequence, &newest[0].listing), (lineage.state, &lineage.listing));
    }
    Ok(())
}

fn log_lines(expected: &Expected, lineage: &Lineage) -> String {
    let head = lineage.records.last().map_or(0, |record| record.sequence);
    let mut text = format!("lineage {} of domain {}: head {head}, state {}\n", lineage.name, expected.domain, lineage.state);
    for line in &lineage.records {
        let root = line.checkpoint.as_ref().map(|checkpoint| format!(" {}", checkpoint.root)).unwrap_or_default();
        let (sequence, kind, generation, base) = (line.sequence, &line.kind, line.generation, line.base);
        text.push_str(&format!("  {sequence} {kind} generation {generation} base {base}{root}\n"));
    }
    text
}

#[test]
fn it_lists_the_logs_and_opens_every_pack() -> Result<()> {
    if !python::is_available()? {
        return Ok(());
    }
    let expected = Expected::read()?;
    let text = frozen(&["list"])?;
    let logs: String = expected.lineages.iter().map(|lineage| log_lines(&expected, lineage)).collect();
    let packs = text.strip_prefix(&logs).with_context(|| format!("{text}\ninstead of\n{logs}"))?;
    assert_eq!(packs.lines().filter(|line| line.ends_with("all open")).count(), packs.lines().count());
    assert!(packs.lines().count() >= 4, "{packs}");
    Ok(())
}

#[test]
fn it_restores_to_what_was_captured() -> Result<()> {
    if !python::is_available()? {
        return Ok(());
    }
    for lineage in Expected::read()?.lineages {
        let place = tempfile::tempdir()?;
        let target = place.path().to_str().context("a path of text")?;
        frozen(&["--lineage", &lineage.name, "restore", target])?;
        let roots = LABELS.map(|label| (label, place.path().join(label)));
        let lines = listing(&roots.each_ref().map(|(label, path)| (*label, path.as_path())))?;
        if rustix::process::geteuid().is_root() {
            assert_eq!(lines, lineage.listing);
        }
        assert_eq!(without_owners(&lines), without_owners(&lineage.listing));
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(place.path().join("data/one-hole"))?);
        assert_eq!(blocks, 0, "a hole takes no space");
    }
    Ok(())
}

#[test]
fn it_computes_the_low_level_vectors() -> Result<()> {
    if !python::is_available()? {
        return Ok(());
    }
    let vectors = format_v1::directory().join("vectors.json");
    ensure!(python::run("vectors.py", &[vectors.as_os_str()])?.contains("all vectors hold"));
    Ok(())
}

/// A reader that accepts everything would pass all of the above.
#[test]
fn it_refuses_what_was_changed() -> Result<()> {
    if !python::is_available()? {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let objects = format_v1::store()?.objects();
    for (name, bytes) in &objects {
        let path = place.path().join(name.as_str());
        fs::create_dir_all(path.parent().context("a directory")?)?;
        fs::write(path, bytes)?;
    }
    reader(place.path(), &["list".as_ref()])?;
    for folder in ["/keys/", "/log/", "/packs/"] {
        let (name, bytes) = objects.iter().find(|(name, _)| name.as_str().contains(folder)).context("one of each")?;
        let mut changed = bytes.to_vec();
        changed[100] ^= 1;
        fs::write(place.path().join(name.as_str()), changed)?;
        assert!(reader(place.path(), &["list".as_ref()]).is_err(), "a bit of {name}");
        fs::write(place.path().join(name.as_str()), bytes)?;
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! What is in a checkpoint, and what is on a disk, as files.

use holdfast_store::capture::Filter;
use holdfast_store::disk::Dir;
use holdfast_store::log::Log;
use holdfast_store::reader::Reader;
use holdfast_store::restore::{Options, Progress, Restore, Target, restore};
use holdfast_store::seal::Domain;
use holdfast_store::transport::Transport;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The files of a lineage's checkpoint, restored from the store alone.
pub(crate) async fn files_of(
    transport: Arc<dyn Transport>,
    domain: Arc<Domain>,
    lineage: &str,
    sequence: u64,
) -> BTreeMap<String, Vec<u8>> {
    let log = Log::new(Arc::clone(&transport), Arc::clone(&domain), domain.keys.identity.lineage_id(lineage));
    let entry = log.read(sequence).await.expect("a record");
    let reader = Arc::new(Reader::new(transport, domain, tokio::runtime::Handle::current(), None));
    let restoring = tokio::task::spawn_blocking(move || {
        let into = tempfile::tempdir().expect("a directory");
        let checkpoint = entry.record.checkpoint().expect("a checkpoint");
        reader.know(&entry);
        let dir = Arc::new(Dir::open_root(into.path()).expect("a directory"));
        let request = Restore {
            reader: &reader,
            roots: &checkpoint.roots,
            totals: &checkpoint.totals,
            targets: &[Target { label: "data".to_owned(), dir, filter: Filter::default() }],
            options: &Options::default(),
            cancel: &AtomicBool::new(false),
            progress: &Progress::default(),
        };
        restore(&request).expect("restored");
        files(into.path())
    });
    restoring.await.expect("restored")
}

/// So many bytes that don't compress. The generator is Knuth's (MMIX).
pub(crate) fn noise(len: usize, seed: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// All files beneath, by path.
pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).expect("beneath").display().to_string();
                found.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

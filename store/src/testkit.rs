// SPDX-License-Identifier: Apache-2.0
//! What several tests of this crate share: a model store with a domain, real directories, and an oracle that knows nothing of trees.

use crate::capture::{CaptureError, Checkpointing, Clock, Clones, Dirt, Filter, Old, Outcome, Request, Source, capture};
use crate::disk::{Dir, xattr};
use crate::log::Log;
use crate::reader::Reader;
use crate::repository::{Kdf, Repository};
use crate::restore::{Extra, Options, Progress, Restore, RestoreError, Stats, Target, restore};
use crate::scratch::Scratch;
use crate::seal::Domain;
use crate::transport::Transport;
use crate::transport::memory::Memory;
use crate::write::{Acknowledged, CheckpointMeta, Opening, Session, Takeover, Tuning};
use holdfast_core::checkpoint::{Quality, Scope};
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::time::Timestamp;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(crate) mod mounted;

/// The system's clock.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the tests' own shell")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn error(&self) -> Duration {
        Duration::ZERO
    }
}

/// The system's clock, so much ahead: to it, what was written now is that old.
#[derive(Debug)]
pub(crate) struct Ahead(pub(crate) Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.0)
    }

    fn error(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) struct Lab {
    pub(crate) memory: Arc<Memory>,
    pub(crate) domain: Arc<Domain>,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) tuning: Tuning,
    pub(crate) scratch: Option<Arc<Scratch>>,
    pub(crate) partial_after: Duration,
    pub(crate) clones: Option<Arc<Clones>>,
    pub(crate) brief: bool,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where captures put what is too long for memory.
    pub(crate) lists: Option<PathBuf>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let memory = Arc::new(Memory::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let transport: Arc<dyn Transport> = memory.clone();
        let domain = runtime.block_on(async {
            let repository = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("a store");
            Arc::new(repository.domain("default").await.expect("keys"))
        });
        let tuning = Tuning { pack_bytes: 1 << 20, node_pack_bytes: 256 << 10, encoders: 2, ..Tuning::default() };
        Self {
            memory,
            domain,
            runtime,
            tuning,
            scratch: None,
            partial_after: Duration::from_secs(3600),
            clones: None,
            brief: false,
            clock: Arc::new(SystemClock),
            lists: None,
        }
    }

    pub(crate) fn reader(&self) -> Arc<Reader> {
        let transport: Arc<dyn Transport> = self.memory.clone();
        Arc::new(Reader::new(transport, Arc::clone(&self.domain), self.runtime.handle().clone(), self.scratch.clone()))
    }

    pub(crate) fn open(&self, holder: u8) -> Session {
        let opening = Opening {
            reader: self.reader(),
            name: "web-0".to_owned(),
            owner: OwnerId::new([1; 16]),
            holder: format!("holder {holder}"),
            holder_key: HolderKey::new([holder; 16]),
            takeover: Takeover::SameOwner,
            watermark: None,
            back_to: None,
            tuning: self.tuning.clone(),
            now: SystemClock.now(),
        };
        self.runtime.block_on(Session::open(opening)).expect("a claim")
    }

    pub(crate) fn log(&self) -> Log {
        let transport: Arc<dyn Transport> = self.memory.clone();
        Log::new(transport, Arc::clone(&self.domain), self.domain.keys.identity.lineage_id("web-0"))
    }

    /// Captures a directory into a session's next checkpoint.
    pub(crate) fn capture(&self, session: &mut Session, path: &Path, dirt: Dirt, foreign: bool) -> (Outcome, Acknowledged) {
        self.capture_filtered(session, path, dirt, foreign, Filter::default())
    }

    pub(crate) fn capture_filtered(
        &self,
        session: &mut Session,
        path: &Path,
        dirt: Dirt,
        foreign: bool,
        filter: Filter,
    ) -> (Outcome, Acknowledged) {
        let outcome = self.compose(session, path, dirt, foreign, filter);
        let meta = CheckpointMeta {
            interval: outcome.interval,
            quality: if outcome.unstable == 0 { Quality::Clean } else { Quality::Fuzzy },
            scope: Scope::default(),
            totals: outcome.totals,
            volume: None,
            problems: outcome.problems.iter().map(|(_, problem)| problem.clone()).collect(),
            now: SystemClock.now(),
        };
        let done = session.commit(&outcome.roots, meta).expect("a commit");
        self.clones.iter().for_each(|clones| clones.committed());
        (outcome, done)
    }

    /// Captures a directory, and leaves it at that.
    pub(crate) fn compose(&self, session: &mut Session, path: &Path, dirt: Dirt, foreign: bool, filter: Filter) -> Outcome {
        self.try_compose(session, path, dirt, foreign, filter).expect("a capture")
    }

    pub(crate) fn try_compose(
        &self,
        session: &mut Session,
        path: &Path,
        dirt: Dirt,
        foreign: bool,
        filter: Filter,
    ) -> Result<Outcome, CaptureError> {
        let dir = Arc::new(Dir::open_root(path).expect("a directory"));
        let sources = [Source { label: "data".to_owned(), dir, filter }];
        let dirt = BTreeMap::from([("data".to_owned(), dirt)]);
        let cancel = AtomicBool::new(false);
        let request = Request {
            sources: &sources,
            dirt: &dirt,
            foreign,
            scratch: self.lists.clone(),
            clock: &*self.clock,
            cancel: &cancel,
            observer: None,
            encoders: 2,
            clones: self.clones.as_deref(),
            brief: self.brief,
            partial_after: self.partial_after,
        };
        let (roots, totals, reader) = (session.roots().to_vec(), *session.totals(), Arc::clone(session.reader()));
        let mut sink = Checkpointing { session, scope: Scope::default(), volume: None, partials: 0 };
        capture(&request, &Old { roots: &roots, totals: &totals, reader: &reader }, &mut sink)
    }

    /// Restores a checkpoint, read from the store alone.
    pub(crate) fn restore(&self, sequence: u64, path: &Path, options: &Options) -> Result<Stats, RestoreError> {
        let entry = self.runtime.block_on(self.log().read(sequence)).expect("a record");
        let checkpoint = entry.record.checkpoint().expect("a checkpoint");
        restore(&Restore {
            reader: &self.reader(),
            roots: &checkpoint.roots,
            totals: &checkpoint.totals,
            targets: &[target(path)],
            options,
            cancel: &AtomicBool::new(false),
            progress: &Progress::default(),
        })
    }
}

pub(crate) fn target(path: &Path) -> Target {
    let dir = Arc::new(Dir::open_root(path).expect("a directory"));
    Target { label: "data".to_owned(), dir, filter: Filter::default() }
}

pub(crate) fn exact() -> Options {
    Options { extra: Extra::Remove, special: true, ..Options::default() }
}

/// Everything a user could tell of a tree, by path.
pub(crate) fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut links = BTreeMap::new();
    walk(root, root, &mut found, &mut links);
    for (names, text) in links.into_values() {
        let names: Vec<String> = names;
        let group = names.join("=");
        names.iter().for_each(|name| drop(found.insert(name.clone(), format!("{text} links {group}"))));
    }
    found
}

type LinkGroups = BTreeMap<u64, (Vec<String>, String)>;

fn walk(root: &Path, path: &Path, found: &mut BTreeMap<String, String>, links: &mut LinkGroups) {
    let meta = fs::symlink_metadata(path).expect("an entry");
    let name = format!("{:?}", path.strip_prefix(root).expect("beneath"));
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        format!("dir {:?}", attributes(path))
    } else if kind.is_symlink() {
        format!("link to {:?}", fs::read_link(path).expect("a link"))
    } else if kind.is_file() {
        format!("file {} {:?} {:?}", meta.len(), attributes(path), content(path))
    } else {
        format!("special {} {} {} {}", kind.is_fifo(), kind.is_socket(), kind.is_char_device(), meta.rdev())
    };
    let text = format!("{:o} {}:{} {}.{} {what}", meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
    if !kind.is_dir() && meta.nlink() > 1 {
        links.entry(meta.ino()).or_insert((Vec::new(), text)).0.push(name);
    } else {
        found.insert(name, text);
    }
    if kind.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| walk(root, entry, found, links));
    }
}

fn attributes(path: &Path) -> xattr::List {
    xattr::read(fs::File::open(path).expect("readable")).expect("attributes")
}

/// The bytes with their holes: stretches of data and a hash of each.
fn content(path: &Path) -> Vec<(u64, u64, u64)> {
    use rustix::fs::SeekFrom;
    use std::hash::Hasher;
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(path).expect("readable");
    let mut stretches = Vec::new();
    let mut offset = 0;
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(offset)) {
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).expect("an end");
        let mut bytes = vec![0; usize::try_from(end - start).expect("small")];
        file.read_exact_at(&mut bytes, start).expect("readable");
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&bytes);
        stretches.push((start, end, hasher.finish()));
        offset = end;
    }
    stretches
}

/// So many rounds of chance, times `HOLDFAST_TEST_TIMES`: few while one works, many where there is time.
pub(crate) fn rounds(few: u64) -> u64 {
    let times = std::env::var("HOLDFAST_TEST_TIMES").map_or(1, |times| times.parse().expect("HOLDFAST_TEST_TIMES is a number"));
    few * times
}

/// xorshift64*, Vigna 2014.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits") % sides
    }

    /// Bytes of which about half compress away.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            self.roll(2);
            bytes.extend_from_slice(&(self.0 & 0x0f0f_0f0f_ffff_0f0f).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

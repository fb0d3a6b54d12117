// SPDX-License-Identifier: Apache-2.0
//! What differs between two states of one domain, in the order of the paths. Reads only what differs.

use super::links::{Changed, changed};
use super::list::damaged;
use super::merge::Merge;
use super::{DEPTH_MAX, Item, Path, State, content, entries, join};
use crate::stream::{Halt, Sink};
use holdfast_proto::v1::{self, Change};
use holdfast_store::StoreError;
use holdfast_store::tree::{Body, Entry, Inode, MapRef};

/// Two states.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) one: &'a State,
    pub(crate) two: &'a State,
}

struct Walk<'a> {
    pair: Pair<'a>,
    paths: &'a [Path],
    sink: &'a Sink<v1::DiffFilesResponse>,
    levels: Vec<Level>,
    /// Hard-linked inodes of the root at hand that differ.
    changed: Changed,
    seen: u64,
}

struct Level {
    path: Vec<u8>,
    roots: (Option<usize>, Option<usize>),
    merge: Merge,
}

/// Sends what differs.
pub(crate) fn diff(pair: Pair<'_>, paths: &[Path], sink: &Sink<v1::DiffFilesResponse>) -> Result<(), Halt> {
    let none = || Changed::These(std::collections::BTreeSet::new());
    let mut walk = Walk { pair, paths, sink, levels: Vec::new(), changed: none(), seen: 0 };
    let (one, two) = (walk.pair.one, walk.pair.two);
    let mut labels: Vec<&str> = one.roots.iter().chain(&two.roots).map(|root| root.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    for label in labels {
        let index = |state: &State| state.roots.iter().position(|root| root.label == label);
        let roots = (index(one), index(two));
        let links = |state: &State, root: Option<usize>| root.map_or(MapRef::Empty, |root| state.roots[root].links.clone());
        walk.changed = changed(&walk.pair, &links(one, roots.0), &links(two, roots.1))?;
        let sides = (roots.0.map(|root| one.root(root)), roots.1.map(|root| two.root(root)));
        walk.visit(label.as_bytes().to_vec(), roots, sides)?;
        walk.run()?;
    }
    Ok(())
}

impl Pair<'_> {
    /// Whether metadata, and whether content of two inodes differ.
    pub(super) fn compare(&self, a: &Inode, b: &Inode) -> Result<(bool, bool), StoreError> {
        // of attributes that lie in a chunk the id is compared, not the place
        let xattrs = self.one.xattrs_key(a) != self.two.xattrs_key(b);
        let metadata = (a.mode, a.uid, a.gid, a.mtime) != (b.mode, b.uid, b.gid, b.mtime) || xattrs;
        let content = match (&a.body, &b.body) {
            (Body::File { size: x, content: one }, Body::File { size: y, content: two }) => {
                !content::same(&self.two.reader, (*x, one), (*y, two))?
            }
            (Body::Directory { .. }, Body::Directory { .. }) => false,
            (x, y) => x != y,
        };
        Ok((metadata, content))
    }
}

impl State {
    /// What extended attributes are compared by.
    fn xattrs_key<'i>(&self, inode: &'i Inode) -> &'i [u8] {
        use holdfast_store::tree::Xattrs;
        match &inode.xattrs {
            Xattrs::None => &[],
            Xattrs::Inline(list) => list,
            Xattrs::Chunk { id, .. } => id.as_bytes(),
        }
    }
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Halt> {
        while let Some(level) = self.levels.last_mut() {
            let Some((name, left, right)) = level.merge.next(&self.pair.two.reader)? else {
                self.levels.pop();
                continue;
            };
            let (path, roots) = (join(&level.path, name.as_bytes()), level.roots);
            if !self.wants(&path) || self.is_same(left.as_ref(), right.as_ref()) {
                continue;
            }
            let item = |state: &State, root: Option<usize>, entry: Option<Entry>| match (root, entry) {
                (Some(root), Some(entry)) => state.item(root, entry).map(Some),
                _ => Ok(None),
            };
            let sides = (item(self.pair.one, roots.0, left)?, item(self.pair.two, roots.1, right)?);
            self.visit(path, roots, sides)?;
        }
        Ok(())
    }

    /// Whether an entry needs no look: it is equal, and so is everything that its ids don't cover.
    fn is_same(&self, one: Option<&Entry>, two: Option<&Entry>) -> bool {
        match (one, two) {
            (Some(Entry::Link(a)), Some(Entry::Link(b))) => a == b && !self.changed.contains(*a),
            (Some(Entry::Inode(a)), Some(Entry::Inode(b))) => a == b && !self.has_links(Some(a), Some(b)),
            _ => false,
        }
    }

    /// Whether names of changed inodes may lie beneath.
    fn has_links(&self, one: Option<&Inode>, two: Option<&Inode>) -> bool {
        let links = |inode: Option<&Inode>| matches!(inode.map(|inode| &inode.body), Some(Body::Directory { sums, .. }) if sums.links > 0);
        !self.changed.is_empty() && (links(one) || links(two))
    }

    /// Tells of a file, if it differs, and enters it, if it is a directory.
    fn visit(
        &mut self,
        path: Vec<u8>,
        roots: (Option<usize>, Option<usize>),
        sides: (Option<Item>, Option<Item>),
    ) -> Result<(), Halt> {
        self.seen += 1;
        if self.seen > self.pair.one.entries_max().saturating_add(self.pair.two.entries_max()) {
            return Err(damaged("it has more entries than it says").into());
        }
        if !self.wants(&path) {
            return Ok(());
        }
        if self.is_chosen(&path) {
            self.tell(&path, &sides)?;
        }
        let inode = |side: &'_ Option<Item>| side.as_ref().map(|item| item.inode.clone());
        let (one, two) = (inode(&sides.0), inode(&sides.1));
        let map = |inode: &Option<Inode>| inode.as_ref().and_then(entries).cloned().unwrap_or(MapRef::Empty);
        let (left, right) = (map(&one), map(&two));
        let all = self.has_links(one.as_ref(), two.as_ref());
        if left.same(&right) && !all {
            return Ok(());
        }
        if self.levels.len() >= DEPTH_MAX {
            return Err(damaged("its directories lie too deep inside one another").into());
        }
        let merge = Merge::new(&self.pair.two.reader, &left, &right, all)?;
        self.levels.push(Level { path, roots, merge });
        Ok(())
    }

    fn tell(&self, path: &[u8], sides: &(Option<Item>, Option<Item>)) -> Result<(), Halt> {
        let (metadata, content) = match sides {
            (Some(a), Some(b)) => {
                let (metadata, content) = self.pair.compare(&a.inode, &b.inode)?;
                (metadata || a.group.is_some() != b.group.is_some(), content)
            }
            _ => (false, false),
        };
        let change = match sides {
            (None, None) => return Ok(()),
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            (Some(_), Some(_)) if metadata || content => Change::Modified,
            _ => return Ok(()),
        };
        let describe =
            |state: &State, side: &Option<Item>| side.as_ref().map(|item| state.describe(path.to_vec(), item)).transpose();
        let mut message = v1::DiffFilesResponse {
            path: path.to_vec().into(),
            one: describe(self.pair.one, &sides.0)?,
            two: describe(self.pair.two, &sides.1)?,
            content,
            metadata,
            ..v1::DiffFilesResponse::default()
        };
        message.set_change(change);
        self.sink.send(message)
    }

    /// Whether a path was asked for.
    fn is_chosen(&self, path: &[u8]) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|wanted| wanted.text.is_empty() || is_at_or_below(path, &wanted.text))
    }

    /// Whether a path, or something beneath it, was asked for.
    fn wants(&self, path: &[u8]) -> bool {
        self.is_chosen(path) || self.paths.iter().any(|wanted| is_at_or_below(&wanted.text, path))
    }
}

fn is_at_or_below(path: &[u8], of: &[u8]) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// Paths that a caller may choose.
pub(crate) const PATHS_MAX: usize = 1000;

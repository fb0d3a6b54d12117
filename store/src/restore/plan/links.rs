// SPDX-License-Identifier: Apache-2.0
//! Inodes with several names: made once, under their numbers, and given their names by links.

use super::{Planner, Result, Stop};
use crate::disk::Dir;
use crate::error::StoreError;
use crate::restore::window::Finish;
use crate::tree::{Body, Cursor, Directory, Entry, LinkItem, Links, MapRef, Name};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Planner<'_> {
    /// Makes every inode that has several names, once, under its number.
    pub(super) fn stage_links(&mut self, staging: &Arc<Dir>, links: &MapRef<Links>) -> Result<()> {
        let wanted = if self.wants_all(&[]) { None } else { Some(self.wanted_groups()?) };
        let mut cursor = Cursor::new(&**self.request.reader, links)?;
        while let Some(LinkItem { group, inode, .. }) = cursor.next(&**self.request.reader)? {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&group)) {
                continue;
            }
            let Some(name) = Name::new(format!("{group:016x}").as_bytes()) else { continue };
            self.create(staging, &name, &inode)?;
        }
        self.send()
    }

    /// The groups that selected names belong to.
    pub(super) fn wanted_groups(&mut self) -> Result<BTreeSet<u64>> {
        let mut groups = BTreeSet::new();
        let roots = self.request.roots;
        if let Some(root) = roots.iter().find(|root| root.label == self.label) {
            self.gather_groups(&root.entries(), &mut Vec::new(), &mut groups)?;
        }
        Ok(groups)
    }

    pub(super) fn gather_groups(&self, map: &MapRef<Directory>, path: &mut Vec<Name>, groups: &mut BTreeSet<u64>) -> Result<()> {
        let mut cursor = Cursor::new(&**self.request.reader, map)?;
        while let Some((name, entry)) = cursor.next(&**self.request.reader)? {
            path.push(name);
            if self.wants(path) {
                match &entry {
                    Entry::Link(group) => drop(groups.insert(*group)),
                    Entry::Inode(inode) => {
                        if let Body::Directory { map, .. } = &inode.body {
                            self.gather_groups(map, path, groups)?;
                        }
                    }
                }
            }
            path.pop();
        }
        Ok(())
    }

    pub(super) fn link(&mut self, dir: &Arc<Dir>, name: &Name, group: u64, exists: bool) -> Result<()> {
        if exists {
            self.replace(dir, name)?;
        }
        let number = Name::new(format!("{group:016x}").as_bytes()).ok_or(Stop::Ended)?;
        let damaged =
            || StoreError::damaged("tree", format_args!("a name refers to the hard link {group}, which does not exist"));
        let staging = self.staging.clone().ok_or_else(damaged)?;
        self.window.finishes.push(Finish::Link {
            dir: Arc::clone(dir),
            name: name.clone(),
            path: self.path.clone(),
            staging,
            group: number,
        });
        self.window.entries += 1;
        self.send_if_full()
    }
}

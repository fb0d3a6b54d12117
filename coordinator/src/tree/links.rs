// SPDX-License-Identifier: Apache-2.0
//! Which hard-linked inodes differ between two states of a root: their names don't show it.

use super::diff::Pair;
use holdfast_store::StoreError;
use holdfast_store::tree::diff::{Diff, Difference};
use holdfast_store::tree::{LinkItem, Links, MapRef};
use std::collections::BTreeSet;

/// Groups that are remembered one by one; more, and each name is looked at.
const GROUPS_MAX: usize = 1 << 20;

/// The groups whose inode differs.
#[derive(Debug)]
pub(super) enum Changed {
    These(BTreeSet<u64>),
    /// Too many to remember.
    Any,
}

impl Changed {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::These(groups) if groups.is_empty())
    }

    pub(super) fn contains(&self, group: u64) -> bool {
        match self {
            Self::These(groups) => groups.contains(&group),
            Self::Any => true,
        }
    }
}

/// Compares the links of two states of one root.
pub(super) fn changed(pair: &Pair<'_>, one: &MapRef<Links>, two: &MapRef<Links>) -> Result<Changed, StoreError> {
    let reader = &*pair.two.reader;
    let mut diff = Diff::new(reader, one, two)?;
    let mut groups = BTreeSet::new();
    while let Some(difference) = diff.next(reader)? {
        let group = match difference {
            Difference::Added(LinkItem { group, .. }) | Difference::Removed(LinkItem { group, .. }) => group,
            Difference::Changed(a, b) => {
                let (metadata, content) = pair.compare(&a.inode, &b.inode)?;
                if !metadata && !content {
                    continue;
                }
                a.group
            }
        };
        if groups.len() == GROUPS_MAX {
            return Ok(Changed::Any);
        }
        groups.insert(group);
    }
    Ok(Changed::These(groups))
}

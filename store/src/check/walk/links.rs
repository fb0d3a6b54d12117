// SPDX-License-Identifier: Apache-2.0
//! Hard links: names on one side, inodes on the other.

use std::collections::HashSet;

/// Groups of one root that are held against their names; of more, none is.
const GROUPS_MAX: usize = 1 << 20;

/// Hard links of the root at hand.
#[derive(Debug, Default)]
pub(super) struct LinkCount {
    /// Groups that names belong to.
    named: HashSet<u64>,
    /// Groups that have an inode.
    made: HashSet<u64>,
    /// Not everything was gone through, or there is too much of it.
    pub(super) incomplete: bool,
}

impl LinkCount {
    /// A name of a group was met, or its inode.
    pub(super) fn note(&mut self, group: u64, made: bool) {
        let groups = if made { &mut self.made } else { &mut self.named };
        if groups.len() < GROUPS_MAX {
            groups.insert(group);
        } else {
            self.incomplete = true;
        }
    }

    /// How names and inodes don't belong together.
    pub(super) fn wrong(&self) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        if !self.incomplete && self.named.difference(&self.made).next().is_some() {
            wrong.push("a name belongs to a group of hard links that has no inode");
        }
        if !self.incomplete && self.made.difference(&self.named).next().is_some() {
            wrong.push("an inode with several names has none");
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_inodes_belong_together() {
        let mut links = LinkCount::default();
        links.note(7, true);
        assert_eq!(links.wrong().len(), 1, "an inode without a name");
        links.note(7, false);
        links.note(7, false);
        assert_eq!(links.wrong(), [""; 0]);
        links.note(8, false);
        assert_eq!(links.wrong().len(), 1, "a name without an inode");
        links.incomplete = true;
        assert_eq!(links.wrong(), [""; 0]);
    }
}

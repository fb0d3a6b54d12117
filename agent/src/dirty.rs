// SPDX-License-Identifier: Apache-2.0
//! What may have changed since the last capture: paths while they are few, everything when they are many.

use holdfast_store::capture::Dirt;
use holdfast_store::tree::Name;
use std::collections::BTreeMap;

/// Paths remembered singly; more become "everything".
const PATHS_MAX: usize = 20_000;

/// What may have changed, by label.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    by_label: BTreeMap<String, Dirt>,
    paths: usize,
}

impl Dirty {
    /// A path may have changed; `rescan`: and everything beneath it.
    pub(crate) fn add(&mut self, label: &str, path: &[Name], rescan: bool) {
        self.paths += 1;
        if self.paths > PATHS_MAX {
            return self.everything_beneath(label);
        }
        self.by_label.entry(label.to_owned()).or_default().add(path, rescan);
    }

    fn everything_beneath(&mut self, label: &str) {
        self.by_label.insert(label.to_owned(), Dirt::all());
    }

    /// Everything may have changed.
    pub(crate) fn everything<'l>(&mut self, labels: impl Iterator<Item = &'l str>) {
        labels.for_each(|label| self.everything_beneath(label));
    }

    /// Paths that were told, some of them perhaps more than once.
    pub(crate) const fn len(&self) -> u64 {
        self.paths as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_label.is_empty()
    }

    /// Hands over what there is.
    pub(crate) fn take(&mut self) -> BTreeMap<String, Dirt> {
        self.paths = 0;
        std::mem::take(&mut self.by_label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Name> {
        text.split('/').map(|part| Name::new(part.as_bytes()).expect("a name")).collect()
    }

    #[test]
    fn paths_are_gathered_and_too_many_become_everything() {
        let mut dirty = Dirty::default();
        assert!(dirty.is_empty());
        dirty.add("data", &path("a/b"), false);
        dirty.add("data", &path("a/c"), true);
        dirty.add("logs", &[], true);
        let taken = dirty.take();
        assert!(dirty.is_empty());
        assert_eq!(taken["logs"], Dirt::all());
        let a = &taken["data"].names[&path("a")[0]];
        assert!(!a.rescan && a.names[&path("c")[0]].rescan && !a.names[&path("b")[0]].rescan);
        for i in 0..=PATHS_MAX {
            dirty.add("data", &path(&format!("f{i}")), false);
        }
        assert_eq!(dirty.take()["data"], Dirt::all());
    }
}

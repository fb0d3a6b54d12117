// SPDX-License-Identifier: Apache-2.0
//! What could not be captured: remembered until it can be, since a capture that has no reason to look there says nothing of it.

use crate::config::StatePath;
use crate::dirty::Dirty;
use holdfast_core::checkpoint::Problem;
use holdfast_store::tree::Name;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What file systems make at their root for their own repair: nobody's state, and not for everybody to read.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// What could not be captured when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// How many files and directories.
    pub count: u64,
    /// The first of them.
    pub path: PathBuf,
    /// What is in the way of that one.
    pub what: String,
}

/// What could not be captured, and is to be looked at by every capture.
#[derive(Debug, Default)]
pub(crate) struct Uncaptured {
    /// A capture names so many, and counts the others.
    named: Vec<(String, Problem)>,
    /// Those that were counted only, by the last capture that compared everything.
    unnamed: u64,
    /// The capture under way compares everything.
    everything: bool,
}

impl Uncaptured {
    /// A capture begins: it looks at them again.
    pub(crate) fn began(&mut self, everything: bool, dirty: &mut Dirty) {
        self.everything = everything;
        for (label, problem) in &self.named {
            let names: Option<Vec<Name>> = problem.path.split(|byte| *byte == b'/').map(Name::new).collect();
            if let Some(names) = names {
                dirty.add(label, &names, true);
            }
        }
    }

    /// It has found these, and `count` in all. Whether everything is to be compared, since it is not known any more which there are.
    pub(crate) fn ended(&mut self, found: Vec<(String, Problem)>, count: u64) -> bool {
        let unnamed = count.saturating_sub(found.len() as u64);
        if !self.everything && found.is_empty() && self.unnamed > 0 {
            return true;
        }
        self.named = found;
        self.named.retain(|(_, problem)| problem.path != LOST_AND_FOUND);
        self.unnamed = if self.everything { unnamed } else { self.unnamed.max(unnamed) };
        false
    }

    /// What is to be told of them.
    pub(crate) fn told(&self, paths: &[StatePath]) -> Option<Problems> {
        let (label, first) = self.named.first()?;
        let root = paths.iter().find(|path| path.label == *label).map_or(Path::new(""), |path| &path.path);
        let path = root.join(std::ffi::OsStr::from_bytes(&first.path));
        Some(Problems { count: self.named.len() as u64 + self.unnamed, path, what: first.what.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_store::capture::Filter;

    fn found(paths: &[&str]) -> Vec<(String, Problem)> {
        let problem = |path: &&str| Problem { path: path.as_bytes().to_vec(), what: "denied".to_owned() };
        paths.iter().map(|path| ("data".to_owned(), problem(path))).collect()
    }

    fn told(uncaptured: &Uncaptured) -> Option<(u64, String)> {
        let path = StatePath {
            label: "data".to_owned(),
            path: PathBuf::from("/var/lib/web"),
            include: Vec::new(),
            exclude: Vec::new(),
            filter: Filter::default(),
            read_only: false,
        };
        let told = uncaptured.told(&[path])?;
        assert_eq!(told.what, "denied");
        Some((told.count, told.path.display().to_string()))
    }

    #[test]
    fn what_is_in_the_way_is_looked_at_until_it_is_not() {
        let (mut uncaptured, mut dirty) = (Uncaptured::default(), Dirty::default());
        assert!(!uncaptured.ended(found(&["a/key", "b"]), 2));
        assert_eq!(told(&uncaptured), Some((2, "/var/lib/web/a/key".to_owned())));
        uncaptured.began(false, &mut dirty);
        let taken = dirty.take();
        let name = |name: &str| Name::new(name.as_bytes()).expect("a name");
        assert!(taken["data"].names[&name("a")].names[&name("key")].rescan && taken["data"].names[&name("b")].rescan);
        assert!(!uncaptured.ended(found(&["b"]), 1));
        assert_eq!(told(&uncaptured), Some((1, "/var/lib/web/b".to_owned())));
        assert!(!uncaptured.ended(Vec::new(), 0));
        assert_eq!(told(&uncaptured), None);
    }

    #[test]
    fn those_that_are_only_counted_are_told_until_everything_was_compared() {
        let (mut uncaptured, mut dirty) = (Uncaptured::default(), Dirty::default());
        uncaptured.began(true, &mut dirty);
        assert!(!uncaptured.ended(found(&["a", "b"]), 40));
        assert_eq!(told(&uncaptured).map(|(count, _)| count), Some(40));
        uncaptured.began(false, &mut dirty);
        assert!(!uncaptured.ended(found(&["b"]), 1));
        assert_eq!(told(&uncaptured), Some((39, "/var/lib/web/b".to_owned())));
        uncaptured.began(false, &mut dirty);
        assert!(uncaptured.ended(Vec::new(), 0), "which are left, only a comparison tells");
        assert_eq!(told(&uncaptured).map(|(count, _)| count), Some(39), "until then it is as it was");
        uncaptured.began(true, &mut dirty);
        assert!(!uncaptured.ended(found(&["c"]), 1));
        assert_eq!(told(&uncaptured), Some((1, "/var/lib/web/c".to_owned())));
    }

    #[test]
    fn what_file_systems_keep_for_themselves_is_no_state() {
        let mut uncaptured = Uncaptured::default();
        uncaptured.ended(found(&["lost+found"]), 1);
        assert_eq!(told(&uncaptured), None);
        uncaptured.ended(found(&["lost+found", "sub/lost+found"]), 2);
        assert_eq!(told(&uncaptured), Some((1, "/var/lib/web/sub/lost+found".to_owned())));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a grant covers, told by an object's name alone.

use holdfast_core::id::{DomainId, LineageId, Nonce};
use holdfast_store::name;

/// The objects of one lineage, and for reading those of the lineages that it was forked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    domain: DomainId,
    lineage: LineageId,
    ancestors: Vec<LineageId>,
    write: bool,
}

/// What somebody wants to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Read,
    Create,
}

/// What an object below a lineage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record,
    Pack,
    Forward,
    Boundary,
    Pin,
}

/// The folders below a lineage that may be listed.
const FOLDERS: [&str; 5] = ["log/", "packs/", "forwards/", "boundaries/", "pins/"];

impl Scope {
    pub(crate) const fn new(domain: DomainId, lineage: LineageId, ancestors: Vec<LineageId>, write: bool) -> Self {
        Self { domain, lineage, ancestors, write }
    }

    /// Whether an object may be read or created. A writer makes records, packs and pins of its own lineage; boundaries and forwards are the
    /// collector's, and everything else is the coordinator's.
    pub(crate) fn allows(&self, wish: Wish, object: &str) -> bool {
        let Some((lineage, rest)) = self.below(object) else { return false };
        let Some(kind) = kind(rest) else { return false };
        match wish {
            Wish::Read => self.reads(lineage),
            Wish::Create => self.write && lineage == self.lineage && matches!(kind, Kind::Record | Kind::Pack | Kind::Pin),
        }
    }

    /// Whether a prefix may be listed, from that name on.
    pub(crate) fn allows_list(&self, prefix: &str, after: &str) -> bool {
        let Some((lineage, rest)) = self.below(prefix) else { return false };
        let folder = FOLDERS.iter().any(|folder| rest.starts_with(folder));
        // a name to begin after tells nothing of other lineages, but it has no business being elsewhere
        let near = after.is_empty() || after.starts_with(prefix);
        folder && near && plain(prefix) && plain(after) && self.reads(lineage)
    }

    fn reads(&self, lineage: LineageId) -> bool {
        lineage == self.lineage || self.ancestors.contains(&lineage)
    }

    /// The lineage of this domain that a name lies below, and the rest of the name.
    fn below<'a>(&self, object: &'a str) -> Option<(LineageId, &'a str)> {
        let rest = object.strip_prefix(&name::lineages_of(self.domain))?;
        let (lineage, rest) = rest.split_once('/')?;
        Some((lineage.parse().ok()?, rest))
    }
}

fn plain(text: &str) -> bool {
    text.len() <= 200 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'/' | b'-'))
}

/// What a name is, if it is exactly one that the format gives.
fn kind(rest: &str) -> Option<Kind> {
    let (folder, name) = rest.split_once('/')?;
    let in_folder = |name: &str| {
        let (sequence, nonce) = name.split_once('/').unwrap_or_default();
        is_number(sequence) && nonce.parse::<Nonce>().is_ok()
    };
    let (kind, exact) = match folder {
        "log" => (Kind::Record, is_number(name)),
        "packs" => (Kind::Pack, in_folder(name)),
        "forwards" => (Kind::Forward, in_folder(name)),
        "boundaries" => (Kind::Boundary, is_number(name)),
        "pins" => (Kind::Pin, is_number(name.strip_suffix("-withdrawn").unwrap_or(name))),
        _ => return None,
    };
    exact.then_some(kind)
}

fn is_number(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "01010101010101010101010101010101";
    const OWN: &str = "2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b";
    const ANCESTOR: &str = "03030303030303030303030303030303";
    const FOREIGN: &str = "04040404040404040404040404040404";

    fn scope(write: bool) -> Scope {
        let id = |byte| LineageId::new([byte; 16]);
        Scope::new(DomainId::new([1; 16]), id(0x2b), vec![id(3)], write)
    }

    fn object(lineage: &str, rest: &str) -> String {
        format!("domains/{DOMAIN}/lineages/{lineage}/{rest}")
    }

    #[test]
    fn a_grant_covers_its_lineage_and_nothing_else() {
        let (number, nonce) = ("00000000000000ff", "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a");
        let pack = format!("packs/{number}/{nonce}");
        // name, read, create with a write grant
        let table = [
            (object(OWN, &format!("log/{number}")), true, true),
            (object(OWN, &pack), true, true),
            (object(OWN, &format!("pins/{number}")), true, true),
            (object(OWN, &format!("pins/{number}-withdrawn")), true, true),
            (object(OWN, &format!("boundaries/{number}")), true, false),
            (object(OWN, &format!("forwards/{number}/{nonce}")), true, false),
            (object(ANCESTOR, &format!("log/{number}")), true, false),
            (object(ANCESTOR, &pack), true, false),
            (object(FOREIGN, &format!("log/{number}")), false, false),
            (object(FOREIGN, &pack), false, false),
            (object(OWN, "log/ff"), false, false),
            (object(OWN, &format!("log/{number}/x")), false, false),
            (object(OWN, &format!("log/{number}-withdrawn")), false, false),
            (object(OWN, &format!("packs/{number}")), false, false),
            (object(OWN, &format!("packs/{number}/{nonce}/x")), false, false),
            (object(OWN, &format!("other/{number}")), false, false),
            (object(OWN, &format!("../{FOREIGN}/log/{number}")), false, false),
            (object(OWN, ""), false, false),
            (object(&OWN.to_uppercase(), &format!("log/{number}")), false, false),
            (format!("domains/{DOMAIN}/keys/{number}"), false, false),
            (format!("domains/{FOREIGN}/lineages/{OWN}/log/{number}"), false, false),
            (format!("snapshots/{number}"), false, false),
            (format!("collections/{number}"), false, false),
            (format!("keys/{DOMAIN}/{number}/{number}"), false, false),
            ("repository".to_owned(), false, false),
            (String::new(), false, false),
        ];
        for (name, read, create) in table {
            assert_eq!(scope(true).allows(Wish::Read, &name), read, "read {name}");
            assert_eq!(scope(true).allows(Wish::Create, &name), create, "create {name}");
            assert_eq!(scope(false).allows(Wish::Read, &name), read, "read {name}");
            assert!(!scope(false).allows(Wish::Create, &name), "create {name} with a grant to read");
        }
    }

    #[test]
    fn listings_stay_in_their_folder() {
        let log = object(OWN, "log/");
        let table = [
            (log.clone(), String::new(), true),
            (log.clone(), object(OWN, "log/00000000000000ff"), true),
            (object(OWN, "packs/00000000000000ff/"), String::new(), true),
            (object(ANCESTOR, "log/"), String::new(), true),
            (log, object(FOREIGN, "log/00000000000000ff"), false),
            (object(FOREIGN, "log/"), String::new(), false),
            (object(OWN, ""), String::new(), false),
            (object(OWN, "log/../../"), String::new(), false),
            (format!("domains/{DOMAIN}/lineages/"), String::new(), false),
            ("domains/".to_owned(), String::new(), false),
            (String::new(), String::new(), false),
        ];
        for (prefix, after, may) in table {
            assert_eq!(scope(false).allows_list(&prefix, &after), may, "{prefix} after {after}");
        }
    }
}

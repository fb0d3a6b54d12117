// SPDX-License-Identifier: Apache-2.0
//! The objects of a bucket in the order of their keys, and pages of listings of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::record::Meta;

/// What a listing tells of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Bytes of the body.
    pub(crate) size: u64,
    /// MD5 of the body: the ETag.
    pub(crate) md5: [u8; 16],
    /// Seconds since 1970.
    pub(crate) modified: u64,
}

impl From<&Meta> for Entry {
    fn from(meta: &Meta) -> Self {
        Self { size: meta.size, md5: meta.md5, modified: meta.modified }
    }
}

/// Which page of a listing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    /// Keys that go on with it after the prefix are shown as one common prefix.
    pub(crate) delimiter: Option<&'a str>,
    /// Where the page begins.
    pub(crate) from: Begin,
    /// Keys and common prefixes on the page.
    pub(crate) limit: usize,
    /// Keys that start so are left out: a fault.
    pub(crate) omit: &'a [String],
}

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Begin {
    #[default]
    Start,
    AfterKey(String),
    /// After every key that starts so.
    AfterPrefix(String),
}

impl Begin {
    fn bound(self, prefix: &str) -> Option<Bound<String>> {
        let start = || Some(Bound::Included(prefix.to_owned()));
        match self {
            Self::AfterKey(key) if key.as_str() >= prefix => Some(Bound::Excluded(key)),
            Self::AfterPrefix(group) => {
                let next = successor(&group)?;
                if next.as_str() < prefix { start() } else { Some(Bound::Included(next)) }
            }
            Self::Start | Self::AfterKey(_) => start(),
        }
    }
}

/// A page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, Entry)>,
    pub(crate) prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<Begin>,
}

impl Page {
    fn len(&self) -> usize {
        self.objects.len() + self.prefixes.len()
    }
}

/// The page of these objects that the query asks for.
pub(crate) fn page(objects: &BTreeMap<String, Entry>, query: &Query<'_>) -> Page {
    let mut page = Page::default();
    let mut from = query.from.clone();
    if query.limit == 0 {
        return page;
    }
    // each round ends at a common prefix, whose keys are jumped over
    'rounds: while let Some(start) = from.clone().bound(query.prefix) {
        for (key, entry) in objects.range((start, Bound::Unbounded)) {
            if !key.starts_with(query.prefix) {
                break 'rounds;
            }
            if query.omit.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            if page.len() == query.limit {
                page.next = Some(from);
                break 'rounds;
            }
            if let Some(group) = group(key, query) {
                page.prefixes.push(group.to_owned());
                from = Begin::AfterPrefix(group.to_owned());
                continue 'rounds;
            }
            page.objects.push((key.clone(), *entry));
            from = Begin::AfterKey(key.clone());
        }
        break;
    }
    page
}

/// The common prefix that the query shows instead of a key.
fn group<'k>(key: &'k str, query: &Query<'_>) -> Option<&'k str> {
    let delimiter = query.delimiter?;
    let at = key[query.prefix.len()..].find(delimiter)?;
    Some(&key[..query.prefix.len() + at + delimiter.len()])
}

/// The first text after all that start with this one; `None` if there is none. UTF-8 sorts as its characters do.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // the range steps over the surrogates
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(keys: &[&str]) -> BTreeMap<String, Entry> {
        let entry = Entry { size: 1, md5: [0; 16], modified: 0 };
        keys.iter().map(|key| ((*key).to_owned(), entry)).collect()
    }

    fn shown(page: &Page) -> Vec<&str> {
        let mut shown: Vec<&str> = page.objects.iter().map(|(key, _)| key.as_str()).collect();
        shown.extend(page.prefixes.iter().map(String::as_str));
        shown.sort_unstable();
        shown
    }

    fn all(keys: &BTreeMap<String, Entry>, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut from = Begin::Start;
        loop {
            let page = page(keys, &Query { prefix, delimiter, from, limit, omit: &[] });
            assert!(page.len() <= limit);
            found.extend(shown(&page).into_iter().map(str::to_owned));
            match page.next {
                Some(next) => from = next,
                None => return found,
            }
        }
    }

    #[test]
    fn pages_of_every_size_show_the_same() {
        let keys = objects(&["a", "b/1", "b/2", "b/2/3", "b0", "c/", "c/\u{10ffff}", "c/\u{10ffff}/x", "c0", "d"]);
        for (prefix, delimiter) in [
            ("", None),
            ("", Some("/")),
            ("b", Some("/")),
            ("b/", Some("/")),
            ("c/", Some("/")),
            ("zz", None),
            ("", Some("\u{10ffff}")),
        ] {
            let whole = all(&keys, prefix, delimiter, 1000);
            for limit in 1..12 {
                assert_eq!(all(&keys, prefix, delimiter, limit), whole, "{prefix:?} {delimiter:?} by {limit}");
            }
        }
        assert_eq!(all(&keys, "", Some("/"), 3), ["a", "b/", "b0", "c/", "c0", "d"]);
        assert_eq!(all(&keys, "b/", Some("/"), 3), ["b/1", "b/2", "b/2/"]);
    }

    #[test]
    fn a_page_that_shows_all_has_no_successor() {
        let keys = objects(&["a", "b/1", "b/2"]);
        let query = Query { delimiter: Some("/"), limit: 2, ..Query::default() };
        assert_eq!(page(&keys, &query).next, None);
        assert_eq!(page(&keys, &Query { limit: 1, ..query.clone() }).next, Some(Begin::AfterKey("a".into())));
        assert_eq!(page(&keys, &Query { limit: 0, ..query }), Page::default());
    }

    #[test]
    fn a_start_before_the_prefix_changes_nothing() {
        let keys = objects(&["a", "b", "c"]);
        for from in [Begin::AfterKey("a".into()), Begin::AfterPrefix("a".into())] {
            let page = page(&keys, &Query { prefix: "b", from, limit: 9, ..Query::default() });
            assert_eq!(shown(&page), ["b"]);
        }
    }

    #[test]
    fn omitted_keys_are_not_shown() {
        let keys = objects(&["a/1", "a/2", "b/1"]);
        let omit = ["a/2".to_owned(), "b".to_owned()];
        let query = Query { limit: 9, omit: &omit, ..Query::default() };
        assert_eq!(shown(&page(&keys, &query)), ["a/1"]);
        assert_eq!(shown(&page(&keys, &Query { delimiter: Some("/"), ..query })), ["a/"]);
    }

    #[test]
    fn successors_step_over_surrogates_and_the_last_character() {
        assert_eq!(successor("a/").as_deref(), Some("a0"));
        assert_eq!(successor("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(successor("\u{10ffff}"), None);
        assert_eq!(successor(""), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The conditions of a GET or HEAD, in the order of RFC 9110, 13.2.2.

use http::HeaderMap;
use http::header::ETAG;
use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

/// The conditions of a GET or HEAD.
#[derive(Debug, Default)]
pub(super) struct Conditions<'a> {
    pub(super) matches: Option<&'a ETagCondition>,
    pub(super) none_match: Option<&'a ETagCondition>,
    pub(super) modified_since: Option<&'a Timestamp>,
    pub(super) unmodified_since: Option<&'a Timestamp>,
}

impl Conditions<'_> {
    /// Judges an object that exists. Refuses with 412 or 304.
    pub(super) fn check(&self, etag: &ETag, modified: &Timestamp) -> S3Result<()> {
        let failed = match (self.matches, self.unmodified_since) {
            (Some(ETagCondition::ETag(wanted)), _) => !wanted.strong_cmp(etag),
            (Some(ETagCondition::Any), _) | (None, None) => false,
            (None, Some(since)) => modified > since,
        };
        if failed {
            return Err(S3Error::new(S3ErrorCode::PreconditionFailed));
        }
        let unchanged = match (self.none_match, self.modified_since) {
            (Some(ETagCondition::ETag(known)), _) => known.weak_cmp(etag),
            (Some(ETagCondition::Any), _) => true,
            (None, Some(since)) => modified <= since,
            (None, None) => false,
        };
        if unchanged { Err(not_modified(etag)) } else { Ok(()) }
    }
}

fn not_modified(etag: &ETag) -> S3Error {
    let mut answer = S3Error::new(S3ErrorCode::NotModified);
    if let Ok(value) = etag.to_http_header() {
        answer.set_headers(HeaderMap::from_iter([(ETAG, value)]));
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    fn status(conditions: &Conditions<'_>) -> u16 {
        let checked = conditions.check(&ETag::Strong("a".into()), &at(100));
        checked.map_or_else(|error| error.status_code().unwrap().as_u16(), |()| 200)
    }

    #[test]
    fn tags() {
        let tag = |text: &str| ETagCondition::ETag(ETag::Strong(text.into()));
        let weak = ETagCondition::ETag(ETag::Weak("a".into()));
        for (given, matches, none_match) in
            [(tag("a"), 200, 304), (tag("b"), 412, 200), (ETagCondition::Any, 200, 304), (weak, 412, 304)]
        {
            assert_eq!(status(&Conditions { matches: Some(&given), ..Conditions::default() }), matches, "{given:?}");
            assert_eq!(status(&Conditions { none_match: Some(&given), ..Conditions::default() }), none_match, "{given:?}");
        }
    }

    #[test]
    fn times_count_to_the_second_and_less_than_tags() {
        for (since, modified, unmodified) in [(at(99), 200, 412), (at(100), 304, 200), (at(101), 304, 200)] {
            assert_eq!(status(&Conditions { modified_since: Some(&since), ..Conditions::default() }), modified);
            assert_eq!(status(&Conditions { unmodified_since: Some(&since), ..Conditions::default() }), unmodified);
        }
        let (early, other) = (at(99), ETagCondition::ETag(ETag::Strong("b".into())));
        let changed = Conditions { none_match: Some(&other), modified_since: Some(&early), ..Conditions::default() };
        assert_eq!(status(&changed), 200);
        let same = Conditions { matches: Some(&ETagCondition::Any), unmodified_since: Some(&early), ..Conditions::default() };
        assert_eq!(status(&same), 200);
    }
}

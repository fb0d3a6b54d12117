// SPDX-License-Identifier: Apache-2.0
//! The checksums that a writer promised for a body, and whether it kept its word.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Sha1};
use s3s::dto::Checksum as Checksums;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::refusal;

const MD5: &str = "content-md5";
const TRAILER: &str = "x-amz-trailer";
/// Header and bytes of the checksums that S3 knows.
const ALGORITHMS: [(&str, usize); 5] = [
    ("x-amz-checksum-crc32", 4),
    ("x-amz-checksum-crc32c", 4),
    ("x-amz-checksum-crc64nvme", 8),
    ("x-amz-checksum-sha1", 20),
    ("x-amz-checksum-sha256", 32),
];

/// The checksums that were promised for a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Promised {
    /// Header and value.
    checksums: Vec<(&'static str, String)>,
    /// Headers that come after the body.
    trailers: Vec<&'static str>,
    md5: Option<[u8; 16]>,
}

impl Promised {
    /// Reads the headers of a PUT.
    pub(super) fn read(headers: &HeaderMap) -> S3Result<Self> {
        let mut promised = Self::default();
        if let Some(value) = headers.get(MD5) {
            let md5 = decode(value).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            promised.md5 = Some(md5.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidDigest))?);
        }
        let trailers = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
        let trailers: Vec<&str> = trailers.flat_map(|value| value.split(',')).map(str::trim).collect();
        for (header, length) in ALGORITHMS {
            if let Some(value) = headers.get(header) {
                promised.checksums.push((header, well_formed(header, value, length)?));
            }
            if trailers.iter().any(|name| name.eq_ignore_ascii_case(header)) {
                promised.trailers.push(header);
            }
        }
        Ok(promised)
    }

    /// What must be computed to check them.
    pub(super) fn digests(&self) -> ChecksumHasher {
        let named = |header| self.trailers.contains(&header) || self.checksums.iter().any(|(name, _)| *name == header);
        ChecksumHasher {
            crc32: named("x-amz-checksum-crc32").then(Crc32::new),
            crc32c: named("x-amz-checksum-crc32c").then(Crc32c::new),
            crc64nvme: named("x-amz-checksum-crc64nvme").then(Crc64Nvme::new),
            sha1: named("x-amz-checksum-sha1").then(Sha1::new),
            // computed for every body
            sha256: None,
        }
    }

    /// Adds what came after the body. A trailer that was announced must have come.
    pub(super) fn add_trailers(&mut self, trailers: &HeaderMap) -> S3Result<()> {
        for header in std::mem::take(&mut self.trailers) {
            let missing = || refusal::named("MalformedTrailerError", StatusCode::BAD_REQUEST);
            let length = ALGORITHMS.iter().find(|(name, _)| *name == header).map_or(0, |(_, length)| *length);
            let value = trailers.get(header).ok_or_else(missing)?;
            self.checksums.push((header, well_formed(header, value, length)?));
        }
        Ok(())
    }

    /// Compares with what was received.
    pub(super) fn check(&self, md5: [u8; 16], received: &Checksums) -> S3Result<()> {
        if self.md5.is_some_and(|promised| promised != md5) {
            return Err(bad_digest(MD5));
        }
        let wrong = self.checksums.iter().find(|(header, value)| get(received, header) != Some(value));
        wrong.map_or(Ok(()), |(header, _)| Err(bad_digest(header)))
    }

    /// The checksum that a reader gets: the first that the writer gave.
    pub(super) fn kept(self) -> Option<(String, String)> {
        self.checksums.into_iter().next().map(|(header, value)| (header.to_owned(), value))
    }
}

fn get<'a>(checksums: &'a Checksums, header: &str) -> Option<&'a String> {
    match header {
        "x-amz-checksum-crc32" => checksums.checksum_crc32.as_ref(),
        "x-amz-checksum-crc32c" => checksums.checksum_crc32c.as_ref(),
        "x-amz-checksum-crc64nvme" => checksums.checksum_crc64nvme.as_ref(),
        "x-amz-checksum-sha1" => checksums.checksum_sha1.as_ref(),
        "x-amz-checksum-sha256" => checksums.checksum_sha256.as_ref(),
        _ => None,
    }
}

/// The checksum of this header as s3s sends it.
pub(super) fn single(header: &str, value: String) -> Checksums {
    let mut checksums = Checksums::default();
    let field = match header {
        "x-amz-checksum-crc32" => &mut checksums.checksum_crc32,
        "x-amz-checksum-crc32c" => &mut checksums.checksum_crc32c,
        "x-amz-checksum-crc64nvme" => &mut checksums.checksum_crc64nvme,
        "x-amz-checksum-sha1" => &mut checksums.checksum_sha1,
        "x-amz-checksum-sha256" => &mut checksums.checksum_sha256,
        _ => return checksums,
    };
    *field = Some(value);
    checksums
}

fn decode(value: &HeaderValue) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_bytes()).ok()
}

/// The value, if it is a checksum of this length.
fn well_formed(header: &'static str, value: &HeaderValue, length: usize) -> S3Result<String> {
    let invalid = || S3Error::with_message(S3ErrorCode::InvalidRequest, format!("the value of {header} is no checksum"));
    let bytes = decode(value).filter(|bytes| bytes.len() == length).ok_or_else(invalid)?;
    Ok(STANDARD.encode(bytes))
}

fn bad_digest(header: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::BadDigest, format!("the body doesn't have the {header} that was given"))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use s3s::crypto::{Md5, Sha256};

    use super::*;

    fn headers(given: &[(&'static str, String)]) -> HeaderMap {
        let given = given.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        given.collect()
    }

    fn check(promised: &Promised, body: &[u8]) -> S3Result<()> {
        let mut digests = promised.digests();
        digests.sha256 = Some(Sha256::new());
        digests.update(body);
        promised.check(Md5::checksum(body), &digests.finalize())
    }

    fn right(body: &[u8]) -> Vec<(&'static str, String)> {
        vec![
            ("x-amz-checksum-crc32", STANDARD.encode(Crc32::checksum(body))),
            ("x-amz-checksum-crc32c", STANDARD.encode(Crc32c::checksum(body))),
            ("x-amz-checksum-crc64nvme", STANDARD.encode(Crc64Nvme::checksum(body))),
            ("x-amz-checksum-sha1", STANDARD.encode(Sha1::checksum(body))),
            ("x-amz-checksum-sha256", STANDARD.encode(Sha256::checksum(body))),
            ("content-md5", STANDARD.encode(Md5::checksum(body))),
        ]
    }

    #[test]
    fn each_checksum_is_checked() {
        for given in right(b"body") {
            let promised = Promised::read(&headers(std::slice::from_ref(&given))).unwrap();
            assert!(check(&promised, b"body").is_ok(), "{given:?}");
            let refused = check(&promised, b"another").unwrap_err();
            assert_eq!(refused.code(), &S3ErrorCode::BadDigest, "{given:?}");
        }
    }

    #[test]
    fn each_trailer_is_checked_and_must_come() {
        for (name, value) in right(b"body").into_iter().filter(|(name, _)| *name != MD5) {
            let announced = headers(&[(TRAILER, format!("x-other, {}", name.to_uppercase()))]);
            let mut promised = Promised::read(&announced).unwrap();
            let missing = promised.add_trailers(&HeaderMap::new()).unwrap_err();
            assert_eq!(missing.code().as_str(), "MalformedTrailerError");

            let mut promised = Promised::read(&announced).unwrap();
            let digests = promised.digests();
            promised.add_trailers(&headers(&[(name, value.clone())])).unwrap();
            assert!(digests.crc32.is_some() == (name == "x-amz-checksum-crc32"));
            assert!(check(&promised, b"body").is_ok(), "{name}");
            assert!(check(&promised, b"another").is_err(), "{name}");
            assert_eq!(promised.kept(), Some((name.to_owned(), value)));
        }
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        for (name, value) in
            [("x-amz-checksum-crc32", "AAAAAAA="), ("x-amz-checksum-sha256", "?"), (MD5, "AAAA"), (MD5, "not base64")]
        {
            assert!(Promised::read(&headers(&[(name, value.to_owned())])).is_err(), "{name}: {value}");
        }
    }
}

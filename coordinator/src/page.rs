// SPDX-License-Identifier: Apache-2.0
//! Page tokens: where a listing goes on. Opaque, and bound to the request that they came from.

use crate::status;
use aws_lc_rs::hmac;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

/// Where a listing goes on.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Position {
    /// SHA-256 of the request without its page.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) request: Vec<u8>,
    /// The checkpoint that was listed, if one was.
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
    /// SHA-256 of its record.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) record: Vec<u8>,
    /// After this.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) after: Vec<u8>,
}

const TAG_LEN: usize = 16;
/// Tokens hold a path of 4096 bytes at most, twice as many hex digits, and little else.
const TOKEN_MAX: usize = 16 << 10;

/// Makes and reads tokens. The key comes from the repository, so that one coordinator reads what another made.
#[derive(Debug)]
pub(crate) struct Pages(hmac::Key);

impl Pages {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"holdfast page tokens v1").as_ref()))
    }

    /// The token for the page after a position. `request`: what was asked, with page fields left empty.
    pub(crate) fn token(&self, request: &impl Message, position: Position) -> String {
        let mut bytes = Position { request: fingerprint(request), ..position }.encode_to_vec();
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(&tag.as_ref()[..TAG_LEN]);
        hex::encode(bytes)
    }

    /// The position of a token; `None` if it is empty, and so the first page is meant.
    pub(crate) fn position(&self, request: &impl Message, token: &str) -> Result<Option<Position>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let foreign = || status::invalid("page_token", "is none that this request was answered with");
        let bytes =
            hex::decode(token).ok().filter(|bytes| token.len() <= TOKEN_MAX && bytes.len() >= TAG_LEN).ok_or_else(foreign)?;
        let (body, tag) = bytes.split_at(bytes.len() - TAG_LEN);
        let expected = hmac::sign(&self.0, body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..TAG_LEN], tag).map_err(|_| foreign())?;
        let position = Position::decode(body).map_err(|_| foreign())?;
        if position.request != fingerprint(request) {
            return Err(foreign());
        }
        Ok(Some(position))
    }
}

fn fingerprint(request: &impl Message) -> Vec<u8> {
    let mut hash = Sha256::new_with_prefix(std::any::type_name_of_val(request).as_bytes());
    hash.update(request.encode_to_vec());
    hash.finalize().to_vec()
}

/// How many to answer with: what was asked for, if that is something, up to a limit.
pub(crate) fn size(asked: u32, default: usize, most: usize) -> usize {
    if asked == 0 { default } else { usize::try_from(asked).unwrap_or(most).min(most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::v1::{LineageRef, ListLineagesRequest};

    #[test]
    fn a_token_fits_its_request_only() {
        let pages = Pages::new(&[1; 32]);
        let request = LineageRef { domain: "a".to_owned(), lineage: "b".to_owned() };
        let token = pages.token(&request, Position { after: b"x".to_vec(), ..Position::default() });
        assert_eq!(pages.position(&request, &token).expect("its own").expect("a position").after, b"x");
        assert_eq!(Pages::new(&[1; 32]).position(&request, "").expect("the first page"), None);
        assert!(pages.position(&LineageRef { domain: "b".to_owned(), ..request.clone() }, &token).is_err());
        assert!(pages.position(&ListLineagesRequest { domain: "a".to_owned(), ..Default::default() }, &token).is_err());
        assert!(Pages::new(&[2; 32]).position(&request, &token).is_err());
        for nonsense in ["x", "00", &token[2..], &token.replace('0', "1")] {
            assert!(pages.position(&request, nonsense).is_err(), "{nonsense}");
        }
    }
}

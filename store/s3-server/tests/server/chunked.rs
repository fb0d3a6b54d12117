// SPDX-License-Identifier: Apache-2.0
//! Bodies framed as clients frame them over TLS: chunks that are not signed, with a checksum after them. Signed and
//! sent by hand, because over plain HTTP the SDK signs its chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use hmac::{Hmac, KeyInit, Mac};
use s3s::crypto::{Checksum, Crc32, Sha256};

use crate::kit::{Kit, Raw, SECRET, send};

const BODY: &[u8] = b"some bytes in two chunks";

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The head of a PUT of `/bucket/k` with these headers besides the usual ones, signed.
fn signed(kit: &Kit, headers: &[(&str, &str)], length: usize) -> String {
    #[expect(clippy::disallowed_methods, reason = "the signature is checked against the system's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let date = DateTime::from_secs(now as i64).fmt(DateTimeFormat::DateTime).unwrap().replace(['-', ':'], "");
    let (day, host) = (&date[..8], kit.server.address().to_string());
    let digest = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let mut all = vec![("host", host.as_str()), ("x-amz-content-sha256", digest), ("x-amz-date", &date)];
    all.extend(headers);
    all.sort_unstable();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = all.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("PUT\n/bucket/k\n\n{lines}\n{names}\n{digest}");
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let canonical = hex::encode(Sha256::checksum(canonical.as_bytes()));
    let start = format!("AWS4{SECRET}").into_bytes();
    let key = [day, "us-east-1", "s3", "aws4_request"].iter().fold(start, |key, text| hmac(&key, text));
    let signature = hex::encode(hmac(&key, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}")));
    format!(
        "PUT /bucket/k HTTP/1.1\r\n{}authorization: AWS4-HMAC-SHA256 Credential=key/{scope}, SignedHeaders={names}, \
         Signature={signature}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
        lines.replace('\n', "\r\n")
    )
}

/// Sends a body framed like this, said to hold [`BODY`] and to be followed by a CRC-32.
async fn put(kit: &Kit, framed: &str) -> Raw {
    let length = BODY.len().to_string();
    let headers = [("x-amz-decoded-content-length", length.as_str()), ("x-amz-trailer", "x-amz-checksum-crc32")];
    let head = signed(kit, &headers, framed.len());
    send(&kit.server, format!("{head}{framed}").as_bytes()).await.unwrap()
}

fn trailer(body: &[u8]) -> String {
    format!("x-amz-checksum-crc32:{}\r\n\r\n", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, Crc32::checksum(body)))
}

const CHUNKS: &str = "a\r\nsome bytes\r\nE\r\n in two chunks\r\n";

#[tokio::test]
async fn the_checksum_after_the_body_must_be_right() {
    let kit = Kit::start().await;
    assert_eq!(put(&kit, &format!("{CHUNKS}0\r\n{}", trailer(BODY))).await.status, 200);
    assert_eq!(kit.get("k").await.as_bytes(), BODY);
    let wrong = put(&kit, &format!("{}0\r\n{}", CHUNKS.replace("two", "2wo"), trailer(BODY))).await;
    assert_eq!(wrong.status, 400);
    assert!(String::from_utf8(wrong.body).unwrap().contains("BadDigest"));
    assert_eq!(kit.get("k").await.as_bytes(), BODY, "what was there stays");
}

#[tokio::test]
async fn a_body_without_its_end_leaves_nothing() {
    let kit = Kit::start().await;
    let right = trailer(BODY);
    for (framed, code) in [
        // each is a complete HTTP request
        (CHUNKS.to_owned(), "MalformedTrailerError"),
        (format!("{CHUNKS}0\r\n\r\n"), "MalformedTrailerError"),
        (format!("{CHUNKS}0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"), "InvalidRequest"),
        ("a\r\nsome bytes\r\n".to_owned(), "IncompleteBody"),
        (format!("a\r\nsome bytes\r\n0\r\n{}", trailer(b"some bytes")), "IncompleteBody"),
        ("a\r\nsome by".to_owned(), "IncompleteBody"),
        (format!("{CHUNKS}3\r\n...\r\n0\r\n{right}"), "IncompleteBody"),
        (format!("a\r\nsome bytes in two chunks\r\n0\r\n{right}"), "IncompleteBody"),
        (format!("nonsense\r\n0\r\n{right}"), "IncompleteBody"),
    ] {
        let answer = put(&kit, &framed).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 400, "{framed}: {text}");
        assert!(text.contains(&format!("<Code>{code}</Code>")), "{framed}: {text}");
        assert_eq!(kit.files(), (vec![], vec![]), "{framed}");
    }
}

#[tokio::test]
async fn a_chunk_that_would_fill_the_memory_is_refused() {
    let kit = Kit::start().await;
    let length = (1_u64 << 31).to_string();
    let headers = [("x-amz-decoded-content-length", length.as_str()), ("x-amz-trailer", "x-amz-checksum-crc32")];
    let framed = format!("80000000\r\n{}", "x".repeat(1000));
    let head = signed(&kit, &headers, framed.len());
    let answer = send(&kit.server, format!("{head}{framed}").as_bytes()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8(answer.body).unwrap().contains("InvalidChunkSizeError"));
    assert_eq!(kit.files(), (vec![], vec![]));
}

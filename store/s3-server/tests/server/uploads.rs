// SPDX-License-Identifier: Apache-2.0
//! What is kept of an upload, and what is not.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ObjectCannedAcl, ServerSideEncryption, StorageClass};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kit::{BUCKET, Kit, SECRET, client, head_of, receive, refusal, send, status};
use crate::proxy::Proxy;

/// A body that comes in pieces, so that the SDK sends its checksum after it.
pub(crate) fn streamed(pieces: usize, piece: &'static [u8]) -> ByteStream {
    let frames = (0..pieces).map(move |_| Ok::<_, std::io::Error>(Frame::data(piece.into())));
    let body = StreamBody::new(futures::stream::iter(frames));
    let length = (pieces * piece.len()) as u64;
    ByteStream::from_body_1_x(WithLength { body, length }.boxed())
}

struct WithLength<B> {
    body: B,
    length: u64,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for WithLength<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.length)
    }
}

fn assert_nothing(kit: &Kit) {
    assert_eq!(kit.files(), (vec![], vec![]));
}

type Wrong = fn(PutObjectFluentBuilder) -> PutObjectFluentBuilder;

#[tokio::test]
async fn a_wrong_checksum_leaves_nothing() {
    let kit = Kit::start().await;
    let wrong: [(&str, Wrong); 5] = [
        ("md5", |put| put.content_md5("AAAAAAAAAAAAAAAAAAAAAA==")),
        ("sha256", |put| put.checksum_sha256("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
        ("crc32", |put| put.checksum_crc32("AAAAAA==")),
        ("crc32c", |put| put.checksum_crc32_c("AAAAAA==")),
        ("crc64nvme", |put| put.checksum_crc64_nvme("AAAAAAAAAAA=")),
    ];
    for (name, wrong) in wrong {
        let put = kit.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"hello"));
        assert_eq!(refusal(wrong(put).send().await), (400, "BadDigest".to_owned()), "{name}");
        assert_eq!(kit.head("k").await, 404, "{name}");
        assert_nothing(&kit);
    }
    // what was there stays
    assert_eq!(kit.put("k", "before").await, 200);
    for (name, wrong) in wrong {
        let put = kit.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"hello"));
        assert_eq!(status(&wrong(put).send().await), 400, "{name}");
        assert_eq!(kit.get("k").await, "before", "{name}");
    }
}

#[tokio::test]
async fn every_checksum_of_the_sdk_is_taken_and_given_back() {
    let kit = Kit::start().await;
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        for (key, body) in [("whole", ByteStream::from(b"hello".repeat(100_000))), ("streamed", streamed(100_000, b"hello"))] {
            let key = format!("{key}/{algorithm}");
            let put = kit.client.put_object().bucket(BUCKET).key(&key).checksum_algorithm(algorithm.clone()).body(body);
            put.send().await.unwrap();
            let get = kit.client.get_object().bucket(BUCKET).key(&key).checksum_mode(ChecksumMode::Enabled);
            let answer = get.send().await.unwrap();
            let given = [
                answer.checksum_crc32(),
                answer.checksum_crc32_c(),
                answer.checksum_crc64_nvme(),
                answer.checksum_sha1(),
                answer.checksum_sha256(),
            ];
            assert_eq!(given.iter().flatten().count(), 1, "{key}");
            assert_eq!(answer.content_encoding(), None, "{key}: aws-chunked is how it came");
            assert_eq!(answer.body.collect().await.unwrap().to_vec(), b"hello".repeat(100_000), "{key}");
        }
    }
}

#[tokio::test]
async fn a_body_that_changes_on_the_way_leaves_nothing() {
    let kit = Kit::start().await;
    let proxy = Proxy::start(kit.server.address(), b"payload", b"paYload").await;
    // clients of their own have connections of their own
    let put = || client(&proxy.endpoint(), SECRET).put_object().bucket(BUCKET).key("k");
    // over HTTP the SDK signs every chunk of a body that it doesn't know
    assert_eq!(status(&put().body(streamed(1000, b"some payload")).send().await), 400);
    assert_nothing(&kit);
    // and the digest of one that it knows
    let signed = put().body(ByteStream::from_static(b"the payload")).send().await;
    assert_eq!(refusal(signed), (400, "XAmzContentSHA256Mismatch".to_owned()));
    assert_nothing(&kit);
    assert_eq!(status(&put().body(streamed(1000, b"nothing to change")).send().await), 200);
}

#[tokio::test]
async fn a_body_that_ends_early_leaves_nothing() {
    let kit = Kit::start().await;
    let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(presigning).await.unwrap();
    let head = head_of(&put, "content-length: 100000\r\n");
    let mut stream = TcpStream::connect(kit.server.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b'x'; 50_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(receive(stream).await.is_none_or(|answer| answer.status == 400));
    // the SDK's way of framing, cut between two chunks by a proxy
    let proxy = Proxy::cutting(kit.server.address(), b"last").await;
    let through = client(&proxy.endpoint(), SECRET);
    let body = streamed(20_000, b"not the lastt");
    assert_eq!(status(&through.put_object().bucket(BUCKET).key("k").body(body).send().await), 400);
    assert_eq!(kit.head("k").await, 404);
    let directory = kit.directory.clone();
    kit.server.shutdown().await;
    assert_eq!(crate::kit::files(directory.path()), (vec![], vec![]));
}

#[tokio::test]
async fn a_client_that_stalls_is_told_so() {
    let kit = Kit::start_with(|config| config.limits.stall = Duration::from_millis(100)).await;
    let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(presigning).await.unwrap();
    let head = head_of(&put, "content-length: 100\r\n");
    let answer = send(&kit.server, format!("{head}some").as_bytes()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8(answer.body).unwrap().contains("RequestTimeout"));
    assert_nothing(&kit);
}

#[tokio::test]
async fn an_object_may_be_as_large_as_the_limit() {
    let kit = Kit::start_with(|config| config.limits.object_bytes = 1000).await;
    assert_eq!(kit.put("fits", &"x".repeat(1000)).await, 200);
    let body = ByteStream::from(vec![b'x'; 1001]);
    let refused = kit.client.put_object().bucket(BUCKET).key("k").body(body).send().await;
    assert_eq!(refusal(refused), (400, "EntityTooLarge".to_owned()));
    // a body of which more than fits is on its way is read before it is refused
    let refused = kit.client.put_object().bucket(BUCKET).key("k").body(vec![b'x'; 4 << 20].into()).send().await;
    assert_eq!(refusal(refused), (400, "EntityTooLarge".to_owned()));
    assert_eq!(kit.keys().await, ["fits"]);
}

#[tokio::test]
async fn metadata_come_back() {
    let kit = Kit::start().await;
    let put = kit.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x"));
    let put = put.metadata("put-id", "u1").metadata("note", "a b").content_type("text/x").content_encoding("gzip");
    let put = put.content_language("de").content_disposition("inline").cache_control("no-store");
    put.storage_class(StorageClass::Standard).send().await.unwrap();
    let head = kit.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    let expected = HashMap::from([("put-id".to_owned(), "u1".to_owned()), ("note".to_owned(), "a b".to_owned())]);
    assert_eq!(head.metadata(), Some(&expected));
    assert_eq!((head.content_type(), head.content_encoding()), (Some("text/x"), Some("gzip")));
    assert_eq!((head.content_language(), head.content_disposition()), (Some("de"), Some("inline")));
    assert_eq!((head.cache_control(), head.content_length()), (Some("no-store"), Some(1)));

    let too_much = kit.client.put_object().bucket(BUCKET).key("k").metadata("m", "x".repeat(2048));
    assert_eq!(refusal(too_much.send().await), (400, "MetadataTooLarge".to_owned()));
}

#[tokio::test]
async fn what_would_be_ignored_is_refused() {
    let kit = Kit::start().await;
    let refused: [(&str, Wrong); 6] = [
        ("if-none-match", |put| put.if_none_match("\"0123\"")),
        ("encryption", |put| put.server_side_encryption(ServerSideEncryption::Aes256)),
        ("acl", |put| put.acl(ObjectCannedAcl::PublicRead)),
        ("class", |put| put.storage_class(StorageClass::Glacier)),
        ("tags", |put| put.tagging("a=b")),
        ("both conditions", |put| put.if_none_match("*").if_match("\"0123\"")),
    ];
    for (name, wrong) in refused {
        let put = kit.client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"hello"));
        assert_eq!(refusal(wrong(put).send().await), (501, "NotImplemented".to_owned()), "{name}");
    }
    assert_nothing(&kit);
}

#[tokio::test]
async fn any_key_is_a_key() {
    let kit = Kit::start().await;
    let long = "k".repeat(1024);
    let segment = format!("{}/x", "s".repeat(300));
    let keys = ["file", "file/x", "file/x/y", "é +%2e%2e?#&=", "dd/../x", "a//b", "..", "a/", "a\u{10ffff}", &long, &segment];
    for key in keys {
        assert_eq!(kit.put(key, key).await, 200, "{key}");
    }
    for key in keys {
        assert_eq!(kit.get(key).await, key);
    }
    let mut sorted = keys.map(str::to_owned);
    sorted.sort();
    assert_eq!(kit.keys().await, sorted);
    assert_eq!(kit.put(&"k".repeat(1025), "").await, 400);
}

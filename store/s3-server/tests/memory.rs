// SPDX-License-Identifier: Apache-2.0
//! What an object takes of the server's memory doesn't depend on how large it is. Alone in its process, because that
//! is what is measured.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use holdfast_s3_server::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: usize = 1 << 20;
const OBJECT: usize = 192 * MIB;
/// Buffers of the sockets, of the file and of hyper, with room.
const ALLOWED: usize = 24 * MIB;

/// Bytes of memory of this process: now and at most so far.
fn memory() -> (usize, usize) {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let read = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    (read("VmRSS"), read("VmHWM"))
}

async fn connect(server: &Server, request: &PresignedRequest, length: usize) -> TcpStream {
    let uri: http::Uri = request.uri().parse().unwrap();
    let (path, host) = (uri.path_and_query().unwrap(), uri.authority().unwrap());
    let head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", request.method());
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_large_object_takes_no_more_memory_than_a_small_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { buckets: vec!["bucket".into()], durable: false, ..Config::new(directory.path(), "key", "secret") };
    let server = Server::start(config).await.unwrap();
    let client = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .force_path_style(true)
        .build();
    let client = Client::from_conf(client);
    let presigning = PresigningConfig::expires_in(Duration::from_secs(600)).unwrap();
    let put = client.put_object().bucket("bucket").key("k").presigned(presigning.clone()).await.unwrap();
    let get = client.get_object().bucket("bucket").key("k").presigned(presigning).await.unwrap();
    let mut buffer = vec![b'x'; MIB];
    let (before, _) = memory();

    let mut stream = connect(&server, &put, OBJECT).await;
    for _ in 0..OBJECT / MIB {
        stream.write_all(&buffer).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut stream = connect(&server, &get, 0).await;
    let mut received = 0;
    while let length @ 1.. = stream.read(&mut buffer).await.unwrap() {
        received += length;
    }
    assert!(received > OBJECT);
    let (_, most) = memory();
    let grown = most.saturating_sub(before);
    assert!(grown < ALLOWED, "{} MiB more for {} MiB", grown / MIB, OBJECT / MIB);
    server.shutdown().await;
}

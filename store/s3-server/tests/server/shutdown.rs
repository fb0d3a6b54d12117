// SPDX-License-Identifier: Apache-2.0
//! Ending in good order.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kit::{BUCKET, Kit, files, head_of, receive, until};

/// A PUT of ten bytes, of which five were sent and have arrived.
async fn half_sent(kit: &Kit) -> TcpStream {
    let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(presigning).await.unwrap();
    let mut stream = TcpStream::connect(kit.server.address()).await.unwrap();
    let head = head_of(&put, "content-length: 10\r\n");
    stream.write_all(format!("{head}01234").as_bytes()).await.unwrap();
    until(|| !kit.files().1.is_empty()).await;
    stream
}

#[tokio::test]
async fn requests_under_way_may_end() {
    let kit = Kit::start().await;
    let mut stream = half_sent(&kit).await;
    let address = kit.server.address();
    let ending = kit.server.shutdown();
    let sending = async {
        // as soon as nobody is accepted any more, the server is on its way out
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"56789").await.unwrap();
        receive(stream).await.unwrap().status
    };
    let ((), status) = tokio::join!(ending, sending);
    assert_eq!(status, 200);
    assert_eq!(files(kit.directory.path()).0.len(), 1);
}

#[tokio::test]
async fn but_not_forever() {
    let kit = Kit::start_with(|config| config.limits.drain = Duration::from_millis(50)).await;
    let stream = half_sent(&kit).await;
    let directory = kit.directory.clone();
    kit.server.shutdown().await;
    assert!(receive(stream).await.is_none());
    assert_eq!(files(directory.path()), (vec![], vec![]));
}

#[tokio::test]
async fn idle_connections_do_not_keep_it() {
    let kit = Kit::start_with(|config| {
        config.limits.drain = Duration::from_secs(600);
        config.limits.stall = Duration::from_secs(600);
    });
    let kit = kit.await;
    assert_eq!(kit.put("k", "x").await, 200);
    let silent = TcpStream::connect(kit.server.address()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), kit.server.shutdown()).await.unwrap();
    assert!(receive(silent).await.is_none());
}

#[tokio::test]
async fn more_connections_than_places_wait_for_one() {
    let kit = Kit::start_with(|config| config.limits.connections = 1).await;
    let silent = TcpStream::connect(kit.server.address()).await.unwrap();
    let put = kit.put("k", "x");
    let making_room = async {
        // the PUT can't have been counted: the silent connection has the place
        tokio::task::yield_now().await;
        assert_eq!(kit.server.counters().total(), 0);
        drop(silent);
    };
    let (status, ()) = tokio::join!(put, making_room);
    assert_eq!(status, 200);
}

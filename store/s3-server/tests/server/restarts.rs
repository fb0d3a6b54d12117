// SPDX-License-Identifier: Apache-2.0
//! What a restart keeps and what it removes; crashes are copies of the directory at a bad moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use holdfast_s3_server::{Error, Fault, Gate, Outcome, Server};
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kit::{BUCKET, Kit, client, config, files, head_of, receive, until};

/// What a power cut at this moment would leave.
fn crash_image(directory: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let image = tempfile::tempdir().unwrap();
    copy(directory, image.path());
    image
}

#[tokio::test]
async fn objects_stay_as_they_are() {
    let kit = Kit::start_with(|config| config.durable = true).await;
    for key in ["a", "a/b", "é"] {
        let put = kit.client.put_object().bucket(BUCKET).key(key).metadata("m", "of it").content_type("text/x");
        put.body(ByteStream::from(key.as_bytes().to_vec())).send().await.unwrap();
    }
    kit.client.delete_object().bucket(BUCKET).key("a/b").send().await.unwrap();
    let before = kit.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    fs::write(kit.directory.path().join("temp").join("99"), "left by a crash").unwrap();

    let kit = kit.restart().await;
    let after = kit.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(before.contents(), after.contents());
    assert_eq!(kit.keys().await, ["a", "é"]);
    assert_eq!(kit.get("é").await, "é");
    let head = kit.client.head_object().bucket(BUCKET).key("é").send().await.unwrap();
    assert_eq!(head.metadata().unwrap()["m"], "of it");
    assert_eq!(kit.server.damaged(), []);
    assert_eq!(kit.files().1.len(), 0);
    assert_eq!(kit.create("a", "another").await, 412, "conditions know what was there before");
}

#[tokio::test]
async fn a_crash_between_upload_and_rename_leaves_nothing() {
    let kit = Kit::start_with(|config| config.durable = true).await;
    let gate = Gate::shut();
    kit.script.nth(Method::PUT, "held", 1, Fault::ApplyLater(gate.clone()));
    assert_eq!(kit.put("kept", "before").await, 200);
    assert_eq!(kit.put("held", "complete, but not renamed").await, 0);
    assert_eq!(kit.files().1.len(), 1);
    let image = crash_image(kit.directory.path());
    gate.open();
    assert_eq!(gate.outcomes(1).await, [Outcome::Applied]);
    let later = crash_image(kit.directory.path());

    for (image, keys) in [(image, &["kept"][..]), (later, &["held", "kept"])] {
        assert!(!files(image.path()).0.is_empty());
        let server = Server::start(config(image.path())).await.unwrap();
        assert_eq!(files(image.path()).1.len(), 0);
        assert_eq!(server.damaged(), []);
        let client = client(&server.endpoint(), crate::kit::SECRET);
        let page = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
        let found: Vec<_> = page.contents().iter().map(|object| object.key().unwrap()).collect();
        assert_eq!(found, keys);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_of_an_upload_leaves_nothing() {
    let kit = Kit::start().await;
    let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(presigning).await.unwrap();
    let mut stream = TcpStream::connect(kit.server.address()).await.unwrap();
    stream.write_all(head_of(&put, "content-length: 10\r\n").as_bytes()).await.unwrap();
    stream.write_all(b"01234").await.unwrap();
    let half = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() == 5);
    until(|| kit.files().1.iter().any(&half)).await;
    let image = crash_image(kit.directory.path());
    stream.write_all(b"56789").await.unwrap();
    assert_eq!(receive(stream).await.unwrap().status, 200);
    assert_eq!(kit.get("k").await, "0123456789");

    let server = Server::start(config(image.path())).await.unwrap();
    assert_eq!(files(image.path()), (vec![], vec![]));
    assert_eq!(server.damaged(), []);
    server.shutdown().await;
}

#[tokio::test]
async fn damaged_files_are_reported_and_can_be_replaced() {
    let kit = Kit::start().await;
    let mut paths = Vec::new();
    for key in ["cut", "flipped", "fine", "renamed"] {
        let before = kit.files().0;
        assert_eq!(kit.put(key, key).await, 200);
        paths.push(kit.files().0.into_iter().find(|path| !before.contains(path)).unwrap());
    }
    let directory = kit.directory.clone();
    kit.server.shutdown().await;
    let whole = fs::read(&paths[0]).unwrap();
    fs::write(&paths[0], &whole[..whole.len() - 1]).unwrap();
    let mut flipped = fs::read(&paths[1]).unwrap();
    flipped[20] ^= 1;
    fs::write(&paths[1], flipped).unwrap();
    let elsewhere = paths[3].with_file_name("00");
    fs::rename(&paths[3], &elsewhere).unwrap();
    fs::write(directory.path().join("buckets").join("stray"), "no bucket").unwrap();

    let server = Server::start(config(directory.path())).await.unwrap();
    let mut found: Vec<_> = server.damaged().iter().map(|damaged| damaged.path.clone()).collect();
    found.sort();
    let mut expected = [paths[0].clone(), paths[1].clone(), elsewhere, directory.path().join("buckets").join("stray")];
    expected.sort();
    assert_eq!(found, expected);
    let client = client(&server.endpoint(), crate::kit::SECRET);
    let page = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(page.contents().len(), 1);
    client.put_object().bucket(BUCKET).key("cut").if_none_match("*").send().await.unwrap();
    server.shutdown().await;
    let server = Server::start(config(directory.path())).await.unwrap();
    assert_eq!(server.damaged().len(), 3);
}

#[tokio::test]
async fn a_directory_and_an_address_have_one_server() {
    let kit = Kit::start().await;
    let second = Server::start(config(kit.directory.path())).await;
    assert!(matches!(second, Err(Error::InUse { .. })));
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = holdfast_s3_server::Config { listen: kit.server.address(), ..config(elsewhere.path()) };
    assert!(matches!(Server::start(taken).await, Err(Error::Listen { .. })));
    let unnamed = holdfast_s3_server::Config { buckets: vec!["../x".into()], ..config(elsewhere.path()) };
    assert!(matches!(Server::start(unnamed).await, Err(Error::BucketName(_))));
    let kit = kit.restart().await;
    assert_eq!(kit.put("k", "x").await, 200);
}

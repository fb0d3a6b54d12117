// SPDX-License-Identifier: Apache-2.0
//! A server on a directory of its own, a client of it, and what tests ask both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresignedRequest;
use aws_sdk_s3::primitives::ByteStream;
use holdfast_s3_server::{Config, Script, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const SECRET: &str = "the secret";
/// How long anything may take: for tests that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Kit {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) script: Arc<Script>,
    pub(crate) directory: Arc<TempDir>,
}

pub(crate) fn config(directory: &Path) -> Config {
    Config { buckets: vec![BUCKET.to_owned()], durable: false, ..Config::new(directory, "key", SECRET) }
}

impl Kit {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Arc::new(tempfile::tempdir().unwrap()), change).await
    }

    async fn start_on(directory: Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        let script = Arc::new(Script::new());
        let mut config = config(directory.path());
        config.faults = Some(script.clone());
        change(&mut config);
        let server = Server::start(config).await.unwrap();
        let client = client(&server.endpoint(), SECRET);
        Self { server, client, script, directory }
    }

    /// Ends the server in good order and starts another on its directory.
    pub(crate) async fn restart(self) -> Self {
        self.server.shutdown().await;
        Self::start_on(self.directory, |_| {}).await
    }

    pub(crate) async fn put(&self, key: &str, body: &str) -> u16 {
        let body = ByteStream::from(body.as_bytes().to_vec());
        status(&self.client.put_object().bucket(BUCKET).key(key).body(body).send().await)
    }

    pub(crate) async fn create(&self, key: &str, body: &str) -> u16 {
        let body = ByteStream::from(body.as_bytes().to_vec());
        status(&self.client.put_object().bucket(BUCKET).key(key).if_none_match("*").body(body).send().await)
    }

    /// The status of a HEAD.
    pub(crate) async fn head(&self, key: &str) -> u16 {
        status(&self.client.head_object().bucket(BUCKET).key(key).send().await)
    }

    pub(crate) async fn get(&self, key: &str) -> String {
        let answer = self.client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        String::from_utf8(answer.body.collect().await.unwrap().to_vec()).unwrap()
    }

    pub(crate) async fn etag(&self, key: &str) -> String {
        let answer = self.client.head_object().bucket(BUCKET).key(key).send().await.unwrap();
        answer.e_tag.unwrap()
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let page = self.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
        page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    }

    /// The files of objects and of uploads under way.
    pub(crate) fn files(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        files(self.directory.path())
    }
}

pub(crate) fn files(directory: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let list = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    (list(directory.join("buckets").join(BUCKET)), list(directory.join("temp")))
}

/// A client that tries once and reports what it met.
pub(crate) fn client(endpoint: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("key", secret, None, None, "test"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The HTTP status of an answer; 0 if there was none.
pub(crate) fn status<T, E>(result: &Result<T, SdkError<E>>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(error) => error.raw_response().map_or(0, |answer| answer.status().as_u16()),
    }
}

/// Status and error code of an answer.
pub(crate) fn refusal<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E>>) -> (u16, String) {
    let status = status(&result);
    (status, result.err().and_then(|error| error.code().map(str::to_owned)).unwrap_or_default())
}

/// Waits, without sleeping, for what another task is about to do.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.expect("it never came to be");
}

/// An HTTP answer, read by hand.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The head of a presigned request, with its signed headers and these.
pub(crate) fn head_of(request: &PresignedRequest, more: &str) -> String {
    let uri: http::Uri = request.uri().parse().unwrap();
    let path = uri.path_and_query().unwrap();
    let host = uri.authority().unwrap();
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", request.method());
    for (name, value) in request.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{head}{more}connection: close\r\n\r\n")
}

/// Sends bytes as they are and reads what comes back; `None` if nothing does.
pub(crate) async fn send(server: &Server, bytes: &[u8]) -> Option<Raw> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    receive(stream).await
}

pub(crate) async fn receive(mut stream: TcpStream) -> Option<Raw> {
    let mut bytes = Vec::new();
    // a reset is an end too
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the connection stays open");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().unwrap();
    Some(Raw { status, head, body: bytes.split_off(end + 4) })
}

// SPDX-License-Identifier: Apache-2.0
//! A network that changes or cuts what a client sends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Clone, Copy)]
enum Harm {
    /// The first occurrence in each connection becomes the other.
    Replace(&'static [u8], &'static [u8]),
    /// The connection to the server ends before the last occurrence that is seen at once.
    Cut(&'static [u8]),
}

pub(crate) struct Proxy {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr, from: &'static [u8], to: &'static [u8]) -> Self {
        Self::with(server, Harm::Replace(from, to)).await
    }

    /// Ends the connection to the server where the text is seen.
    pub(crate) async fn cutting(server: SocketAddr, at: &'static [u8]) -> Self {
        Self::with(server, Harm::Cut(at)).await
    }

    async fn with(server: SocketAddr, harm: Harm) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                let ((from_client, mut to_client), (mut from_server, to_server)) = (client.into_split(), server.into_split());
                connections.spawn(async move { forward(from_client, to_server, harm).await });
                connections.spawn(async move { drop(copy(&mut from_server, &mut to_client).await) });
            }
        });
        Self { address, _tasks: tasks }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn forward(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, harm: Harm) {
    let mut buffer = vec![0; 64 * 1024];
    let mut done = false;
    while let Ok(length @ 1..) = client.read(&mut buffer).await {
        let bytes = &mut buffer[..length];
        let find = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text);
        let mut end = length;
        match harm {
            Harm::Replace(from, to) if !done => {
                if let Some(at) = find(from) {
                    bytes[at..at + to.len()].copy_from_slice(to);
                    done = true;
                }
            }
            Harm::Replace(..) => {}
            Harm::Cut(text) => {
                if let Some(at) = find(text) {
                    (end, done) = (at, true);
                }
            }
        }
        if server.write_all(&buffer[..end]).await.is_err() || (done && end < length) {
            return;
        }
    }
}

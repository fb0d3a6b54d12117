// SPDX-License-Identifier: Apache-2.0
//! An HTTP server that ends when it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// How long answers under way may take once the server is to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A listener, not yet served.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Listens on the address; port 0 is any free port.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Starts to serve.
    pub(crate) fn serve(self, router: Router) -> Server {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(self.listener, router).with_graceful_shutdown(stopped).await.map_err(Error::Serve) });
        Server { task, stop }
    }
}

/// A server at work; it ends at once when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    task: JoinSet<Result<(), Error>>,
    stop: CancellationToken,
}

impl Server {
    /// Waits for the server to end, which it does by itself only when it fails.
    pub(crate) async fn ended(&mut self) -> Result<(), Error> {
        self.task.join_next().await.unwrap_or(Ok(Ok(())))?
    }

    /// Ends the server, after the answers under way.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        self.stop.cancel();
        tokio::time::timeout(FAREWELL, self.ended()).await.unwrap_or(Ok(()))
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Serving: over TCP, and to a client in this process.

use crate::access::{Access, Gatekeeper};
use crate::error::CoordinatorError;
use crate::service::{Api, Offer, SERVICES};
use crate::session::SESSIONS_MAX;
use futures::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Identity, Server, ServerTlsConfig};
use tonic_health::server::HealthReporter;
use tower::limit::GlobalConcurrencyLimitLayer;

/// What is under way when a server ends is waited for so long.
const DRAIN: Duration = Duration::from_secs(10);
/// Clients at once, and calls that have not been answered at once. Each agent is a client: there is room for all sessions there can be, and others.
const CONNECTIONS_MAX: usize = SESSIONS_MAX + 2048;
const CALLS_MAX: usize = 1024;
/// Streams of one connection.
const STREAMS_MAX: u32 = 256;
/// A client that does not answer a ping for as long is gone.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Who has not agreed on a key by then is sent away.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Objects are megabytes long: with the usual 64 KiB in flight a client 20 ms away would get 3 MiB/s.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes on their way in a pipe, and pipes that wait to be served.
const PIPE_BYTES: usize = 1 << 20;
const PIPES: usize = 4;

/// Serves one client in this process; dropped, it ends.
#[derive(Debug)]
pub struct InProcess {
    tasks: JoinSet<()>,
    stop: DropGuard,
}

impl InProcess {
    /// Ends in good order: open streams are told, what else is under way is waited for.
    pub async fn end(self) {
        let Self { mut tasks, stop } = self;
        drop(stop);
        while tasks.join_next().await.is_some() {}
    }
}

/// Serves what a listener accepts until `stop` resolves; over TLS, if there is a certificate.
pub(crate) async fn serve(
    api: Api,
    access: &Access,
    listener: TcpListener,
    identity: Option<Identity>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), CoordinatorError> {
    let address = listener.local_addr()?;
    if matches!(access, Access::Open) && !address.ip().is_loopback() {
        return Err(CoordinatorError::Unguarded { address });
    }
    tracing::info!(%address, "serving");
    let ending = api.stop.clone();
    let gate = Gatekeeper::new(access);
    let serving = run_encrypted(api.offer(&gate), identity, ending.clone(), accepted(listener));
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = stop => ending.cancel(),
    }
    serving.await
}

/// Connections, as many as may be.
pub(crate) fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<Counted>> + Send {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stream::unfold((listener, room), |(listener, room)| async {
        let permit = Arc::clone(&room).acquire_owned().await.ok()?;
        let connection = match listener.accept().await {
            Ok((stream, _)) => stream.set_nodelay(true).map(|()| Counted { stream, _permit: permit }),
            Err(error) => {
                // out of descriptors, most likely: it passes, but not at once
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(error)
            }
        };
        Some((connection, (listener, room)))
    })
    // a connection that failed is no reason to serve no others
    .filter(|connection| std::future::ready(connection.is_ok()))
}

/// Serves connections until the api's token is cancelled, and then what is under way, for a while.
async fn run<IO>(
    api: Api,
    gate: &Gatekeeper,
    connections: impl Stream<Item = io::Result<IO>> + Send,
) -> Result<(), CoordinatorError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    run_offer(api.offer(gate), api.stop.clone(), connections).await
}

/// As [`run`], whatever is offered.
pub(crate) async fn run_offer<IO>(
    offer: Offer,
    stop: CancellationToken,
    connections: impl Stream<Item = io::Result<IO>> + Send,
) -> Result<(), CoordinatorError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    Box::pin(run_encrypted(offer, None, stop, connections)).await
}

async fn run_encrypted<IO>(
    offer: Offer,
    identity: Option<Identity>,
    stop: CancellationToken,
    connections: impl Stream<Item = io::Result<IO>> + Send,
) -> Result<(), CoordinatorError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (ended, health) = (stop.clone(), offer.health);
    let mut server = Server::builder();
    if let Some(identity) = identity {
        server = server.tls_config(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE))?;
    }
    let serving = server
        .http2_keepalive_interval(Some(KEEP_ALIVE.0))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.1))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .layer(GlobalConcurrencyLimitLayer::new(CALLS_MAX))
        .add_routes(offer.routes)
        .serve_with_incoming_shutdown(connections, async move { ended.cancelled().await });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = stop.cancelled() => farewell(health).await,
    }
    match tokio::time::timeout(DRAIN, serving).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            tracing::warn!("some calls were still under way when the coordinator ended");
            Ok(())
        }
    }
}

/// Those who watch the health are told, and their streams end.
async fn farewell(mut health: HealthReporter) {
    for service in SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        health.clear_service_status(service).await;
    }
}

/// Serves one client over a pipe. A connection that breaks is made anew by the client's next call.
pub(crate) fn in_process(api: Api) -> Result<(Channel, InProcess), CoordinatorError> {
    let (pipes, served) = mpsc::channel::<io::Result<DuplexStream>>(PIPES);
    let connector = tower::service_fn(move |_: http::Uri| {
        let pipes = pipes.clone();
        async move {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let ended = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the coordinator has ended");
            pipes.send(Ok(far)).await.map_err(ended)?;
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    let channel = Endpoint::from_static("http://in-process")
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector_lazy(connector);
    let stop = api.stop.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // who is in this process needs no token
        if let Err(error) = run(api, &Gatekeeper::new(&Access::Open), ReceiverStream::new(served)).await {
            tracing::error!(error = %error, "a client in this process is not served any more");
        }
    });
    Ok((channel, InProcess { tasks, stop: stop.drop_guard() }))
}

/// Waits for the work that goes on when its callers have gone.
pub(crate) async fn join(tasks: &tokio_util::task::TaskTracker, stop: &CancellationToken) {
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(tasks = tasks.len(), "some work was still under way when the coordinator ended");
    }
}

/// A connection that counts among those at once until it ends.
pub(crate) struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Counted {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

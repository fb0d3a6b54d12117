// SPDX-License-Identifier: Apache-2.0
//! The server: accepting connections, and ending them in good order.

mod patience;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::Api;
use crate::config::{Config, Limits};
use crate::error::Error;
use crate::faults::Counters;
use crate::front::Front;
use crate::store::{Damaged, Late, Store, StoreError};
use patience::Patient;

/// Bytes of the XML of a request: 1000 keys of 1 KiB, escaped.
const XML: usize = 8 << 20;
/// How long to wait before accepting again when there was no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server. Dropping it ends it at once; [`shutdown`](Self::shutdown) ends it in good order.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    damaged: Vec<Damaged>,
    counters: Arc<Counters>,
    store: Arc<Store>,
    tasks: JoinSet<()>,
    stop: DropGuard,
}

impl Server {
    /// Takes the directory, creates the buckets and listens. When this returns, connections are accepted.
    ///
    /// # Errors
    ///
    /// If the directory can't be used or another server uses it, a bucket's name is not allowed, or the address can't
    /// be listened on. Damaged objects are no error: see [`damaged`](Self::damaged).
    pub async fn start(config: Config) -> Result<Self, Error> {
        let (root, durable, clock) = (config.directory.clone(), config.durable, config.clock.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open(&root, durable, clock)).await;
        let (store, damaged) = opened.map_err(|_| Error::Interrupted)??;
        let store = Arc::new(store);
        create_buckets(&store, &config).await?;
        let failed = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let stop = CancellationToken::new();
        let counters = Arc::new(Counters::default());
        let front = Arc::new(front(&config, &store, &counters, &stop));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, front, stop.clone(), config.limits));
        Ok(Self { address, damaged, counters, store, tasks, stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a client's endpoint. Buckets are in the path, not in the name of the host.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Files that were found damaged by the start. They are left where they are and not served.
    #[must_use]
    pub fn damaged(&self) -> &[Damaged] {
        &self.damaged
    }

    /// How often what was asked for.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Accepts no more, lets requests under way end within [`Limits::drain`](crate::Limits::drain), cuts off what is
    /// left, abandons what a fault holds. When this returns nothing runs any more, and the directory can be used again.
    pub async fn shutdown(self) {
        let Self { store, mut tasks, stop, .. } = self;
        drop(stop);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the server ended badly");
            }
        }
        store.close().await;
    }
}

async fn create_buckets(store: &Arc<Store>, config: &Config) -> Result<(), Error> {
    for name in &config.buckets {
        if !s3s::path::check_bucket_name(name) {
            return Err(Error::BucketName(name.clone()));
        }
        match store.create_bucket(name.clone()).await {
            Ok(()) | Err(StoreError::BucketExists) => {}
            Err(StoreError::Io { source, .. }) => {
                return Err(Error::Directory { path: config.directory.join("buckets").join(name), source });
            }
            Err(StoreError::TooManyBuckets) => return Err(Error::TooManyBuckets(name.clone())),
            Err(_) => return Err(Error::Interrupted),
        }
    }
    Ok(())
}

fn front(config: &Config, store: &Arc<Store>, counters: &Arc<Counters>, stop: &CancellationToken) -> Front {
    let late = Late::new(Arc::clone(store), stop.clone(), config.limits.held);
    let mut builder = S3ServiceBuilder::new(Api::new(Arc::clone(store), late, config.limits.object_bytes));
    builder.set_auth(SimpleAuth::from_single(config.access_key.clone(), config.secret_key.expose()));
    let mut bounds = S3Config::default();
    bounds.xml_max_body_size = XML;
    // forms are parsed before they are refused
    bounds.post_object_max_file_size = 0;
    bounds.form_max_field_size = 4096;
    bounds.form_max_fields_size = 65_536;
    bounds.form_max_parts = 100;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(bounds))));
    Front {
        service: builder.build(),
        faults: config.faults.clone(),
        counters: Arc::clone(counters),
        stall: config.limits.stall,
        stop: stop.clone(),
    }
}

async fn accept(listener: TcpListener, front: Arc<Front>, stop: CancellationToken, limits: Limits) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    while let Some((stream, place)) = next(&listener, &places, &stop).await {
        connections.spawn(serve(stream, Arc::clone(&front), stop.clone(), limits.stall, place));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut off");
        connections.shutdown().await;
    }
}

/// The next connection, when there is a place for it; `None` when the server is to stop.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accepted = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, place)),
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepted).await.flatten()
}

async fn serve(stream: TcpStream, front: Arc<Front>, stop: CancellationToken, stall: Duration, place: OwnedSemaphorePermit) {
    let _place = place;
    // answers are small, and the client waits for each
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection is slower than it could be");
    }
    let service = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { front.serve(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(stall)
        .serve_connection(TokioIo::new(Patient::new(stream, stall)), service);
    let mut connection = Box::pin(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

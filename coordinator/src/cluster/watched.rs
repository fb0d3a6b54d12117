// SPDX-License-Identifier: Apache-2.0
//! What is known of the cluster from watches: stores that follow its objects, and bells that ring when something changes.

use super::metrics::Metrics;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{Store, reflector, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Rings for one who waits; rung while nobody does, it is remembered once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<Notify>);

impl Bell {
    /// Something has changed.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the bell, but no longer than this.
    pub(crate) async fn heard(&self, within: Duration) {
        tokio::time::timeout(within, self.0.notified()).await.ok();
    }
}

/// The objects of a kind, in all namespaces, as they are: a watch that fails begins anew after a growing pause. To understand them one by
/// one keeps what is wrong with one from the others, and compiles in a fraction of the time that a watch for each kind takes.
pub(crate) fn watch(
    client: &Client,
    kind: &ApiResource,
    config: watcher::Config,
) -> BoxStream<'static, watcher::Result<Event<DynamicObject>>> {
    watcher(Api::<DynamicObject>::all_with(client.clone(), kind), config).default_backoff().boxed()
}

/// Follows the objects of a kind, in all namespaces, until `stop`; of those that can't be understood the others don't notice anything.
pub(crate) fn follow<K>(
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
    metrics: &Metrics,
    client: &Client,
    config: watcher::Config,
    bells: &[Bell],
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Debug + Unpin + Send + Sync,
{
    let (reader, writer) = store();
    let events = watch(client, &ApiResource::erase::<K>(&Default::default()), config);
    let metrics = metrics.clone();
    let understood = events.try_filter_map(move |event| {
        let known = understood(event, &metrics);
        async move { Ok(known) }
    });
    let stream = reflector(writer, understood);
    let (stop, bells) = (stop.clone(), bells.to_vec());
    tasks.spawn(async move {
        stop.run_until_cancelled(drive(stream, bells)).await;
    });
    reader
}

async fn drive<K>(stream: impl Stream<Item = watcher::Result<Event<K>>>, bells: Vec<Bell>) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            // the first listing is told when it is whole
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(_) => bells.iter().for_each(Bell::ring),
            // it is tried again, with growing pauses
            Err(error) => tracing::warn!(%error, "a watch was interrupted"),
        }
    }
}

fn understood<K>(event: Event<DynamicObject>, metrics: &Metrics) -> Option<Event<K>>
where
    K: Resource<DynamicType: Default> + DeserializeOwned,
{
    let known = |object: DynamicObject| {
        let understood = parse::<K>(object);
        if understood.is_none() {
            metrics.not_understood(&K::kind(&Default::default()));
        }
        understood
    };
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(known(object)?),
        Event::Apply(object) => Event::Apply(known(object)?),
        Event::Delete(object) => Event::Delete(known(object)?),
    })
}

/// An object of its kind; of one that can't be understood the log tells.
pub(crate) fn parse<K>(mut object: DynamicObject) -> Option<K>
where
    K: Resource<DynamicType: Default> + DeserializeOwned,
{
    // half of an object, and nobody reads it
    object.metadata.managed_fields = None;
    let name = full_name(&object);
    match object.try_parse() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(kind = %K::kind(&Default::default()), %name, %error, "an object can't be understood");
            None
        }
    }
}

/// What an object is called, with its namespace.
pub(crate) fn full_name<K: Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

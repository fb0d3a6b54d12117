// SPDX-License-Identifier: Apache-2.0
//! Watches, as streams of what is there and what is gone: what a watch missed is found out by its next list.

use crate::cluster::watched;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;

/// An object, so that two of the same name are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ObjectKey {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl ObjectKey {
    fn of<K: Resource>(object: &K) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        Self { namespace, name: object.name_any(), uid: object.uid().unwrap_or_default() }
    }
}

/// What was seen.
#[derive(Debug)]
pub(super) enum Seen<K> {
    /// It is there, or has changed.
    Is(ObjectKey, Box<K>),
    /// It is gone.
    Gone(ObjectKey),
    /// Everything that there is has been told.
    Listed,
}

struct Following<S> {
    events: S,
    there: HashSet<ObjectKey>,
    listing: Option<HashSet<ObjectKey>>,
}

/// What is there and what changes, for ever: a watch that fails begins anew after a growing pause. What an object was stays, where what it
/// has become can't be understood.
pub(super) fn follow<K>(client: &Client, config: watcher::Config) -> impl Stream<Item = Seen<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send,
{
    let events = watched::watch(client, &ApiResource::erase::<K>(&()), config);
    told(events, K::kind(&()).into_owned()).filter_map(|seen| async {
        Some(match seen {
            Seen::Is(key, object) => Seen::Is(key, Box::new(watched::parse(*object)?)),
            Seen::Gone(key) => Seen::Gone(key),
            Seen::Listed => Seen::Listed,
        })
    })
}

fn told(
    events: BoxStream<'static, watcher::Result<watcher::Event<DynamicObject>>>,
    kind: String,
) -> BoxStream<'static, Seen<DynamicObject>> {
    let following = Following { events, there: HashSet::new(), listing: None };
    let batches = stream::unfold((following, kind), |(mut following, kind)| async move {
        let event = following.events.next().await?;
        let seen = match event {
            Ok(event) => following.take(event),
            Err(error) => {
                tracing::warn!(%kind, %error, "a watch has failed and begins anew");
                Vec::new()
            }
        };
        Some((stream::iter(seen), (following, kind)))
    });
    batches.flatten().boxed()
}

impl<S> Following<S> {
    fn take<K: Resource>(&mut self, event: watcher::Event<K>) -> Vec<Seen<K>> {
        match event {
            watcher::Event::Init => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                let key = ObjectKey::of(&object);
                // one of the same name with another UID is another: the first is gone, whether anybody said so or not
                let same_name = |other: &&ObjectKey| other.namespace == key.namespace && other.name == key.name && **other != key;
                let replaced: Vec<ObjectKey> = match self.there.contains(&key) {
                    true => Vec::new(),
                    false => self.there.iter().filter(same_name).cloned().collect(),
                };
                for old in &replaced {
                    self.there.remove(old);
                }
                self.there.insert(key.clone());
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.clone());
                }
                replaced.into_iter().map(Seen::Gone).chain([Seen::Is(key, Box::new(object))]).collect()
            }
            watcher::Event::Delete(object) => {
                let key = ObjectKey::of(&object);
                if self.there.remove(&key) { vec![Seen::Gone(key)] } else { Vec::new() }
            }
            watcher::Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let missed: Vec<ObjectKey> = self.there.difference(&listed).cloned().collect();
                self.there = listed;
                missed.into_iter().map(Seen::Gone).chain([Seen::Listed]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};

    fn pod(name: &str, uid: &str) -> Pod {
        let mut pod = Pod::default();
        (pod.metadata.name, pod.metadata.uid) = (Some(name.to_owned()), Some(uid.to_owned()));
        pod
    }

    #[test]
    fn what_a_watch_missed_is_found_out() {
        let mut following = Following { events: (), there: HashSet::new(), listing: None };
        let mut take = |event: watcher::Event<Pod>| -> Vec<String> {
            let tell = |seen: &Seen<Pod>| match seen {
                Seen::Is(key, _) => format!("+{}", key.uid),
                Seen::Gone(key) => format!("-{}", key.uid),
                Seen::Listed => "listed".to_owned(),
            };
            following.take(event).iter().map(tell).collect()
        };
        assert!(take(Init).is_empty());
        assert_eq!(take(InitApply(pod("web-0", "a"))), ["+a"]);
        assert_eq!(take(InitApply(pod("web-1", "b"))), ["+b"]);
        assert_eq!(take(InitDone), ["listed"]);
        assert_eq!(take(Apply(pod("web-0", "c"))), ["-a", "+c"], "made anew while nobody looked");
        assert_eq!(take(Delete(pod("web-0", "a"))), [] as [&str; 0], "late");
        take(Init);
        take(InitApply(pod("web-0", "c")));
        assert_eq!(take(InitDone), ["-b", "listed"]);
        assert_eq!(take(Delete(pod("web-0", "c"))), ["-c"]);
    }
}

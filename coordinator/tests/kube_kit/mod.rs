// SPDX-License-Identifier: Apache-2.0
//! A small API server in memory, for the tests of what speaks to Kubernetes: objects with versions, conditional writes, server-side apply as far
//! as lists with keys are merged by them, selectors, watches that go on, a log of all requests, and faults.
//!
//! It validates nothing and tracks no field managers: what depends on those is tried on a real cluster.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod store;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use store::{Change, Store};
use tokio::sync::watch;

pub use store::Key;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
/// Looks at a request's method, path and body first; what it returns is the answer.
type Hook = Box<dyn Fn(&Method, &str, &Value) -> Option<(StatusCode, Value)> + Send>;

/// One request, as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Value,
}

#[derive(Default)]
struct Inner {
    store: Store,
    log: Vec<Asked>,
    hooks: Vec<Hook>,
}

/// The server; clones are the same.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self { inner: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl ApiServer {
    /// A client of it.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Puts an object there as somebody else would; its kind's plural must be given.
    pub fn put(&self, plural: &str, object: Value) {
        let key = Key::of(plural, &object);
        self.inner().store.replace(&key, object);
        self.tell();
    }

    pub fn delete(&self, key: &Key) {
        self.inner().store.delete(key);
        self.tell();
    }

    /// What is there now.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.inner().store.get(&Key::new(plural, namespace, name)).cloned()
    }

    pub fn list(&self, plural: &str) -> Vec<Value> {
        self.inner().store.all(plural).into_iter().cloned().collect()
    }

    /// The requests so far that would change something.
    pub fn writes(&self) -> Vec<Asked> {
        self.inner().log.iter().filter(|asked| asked.method != Method::GET).cloned().collect()
    }

    /// The paths that were read so far.
    pub fn reads(&self) -> Vec<String> {
        self.inner().log.iter().filter(|asked| asked.method == Method::GET).map(|asked| asked.path.clone()).collect()
    }

    pub fn forget_requests(&self) {
        self.inner().log.clear();
    }

    /// Adds a hook: those added last are asked first.
    pub fn on(&self, hook: impl Fn(&Method, &str, &Value) -> Option<(StatusCode, Value)> + Send + 'static) {
        self.inner().hooks.insert(0, Box::new(hook));
    }

    /// Waits until `found` finds something in what the store holds.
    pub async fn until<T>(&self, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = found(self) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await.expect("it should have happened by now")
    }

    fn tell(&self) {
        let version = self.inner().store.version();
        self.changed.send_replace(version);
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap();
        let body: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let asked = Asked { method: parts.method.clone(), path: path.clone(), query: query.clone(), body: body.clone() };
        let hooked = {
            let mut inner = self.inner();
            inner.log.push(asked);
            inner.hooks.iter().find_map(|hook| hook(&parts.method, &path, &body))
        };
        if let Some((status, body)) = hooked {
            return plain(status, &body);
        }
        let content = parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        self.perform(&parts.method, &Place::of(&path), &Query::of(&query), &content, body)
    }

    fn perform(&self, method: &Method, place: &Place, query: &Query, content: &str, body: Value) -> Answer {
        let key = Key::new(&place.plural, &place.namespace, &place.name);
        let done = match (method.as_str(), place.name.is_empty()) {
            ("GET", true) if query.watch => return self.watch(place, query),
            ("GET", true) => Ok(self.listing(place, query)),
            ("GET", false) => self.inner().store.get(&key).cloned().ok_or_else(|| not_found(&key)),
            // everything but storing it
            ("POST", true) if query.dry_run => Ok(body),
            ("POST", true) => self.inner().store.create(&place.plural, &place.namespace, body),
            ("PUT", false) => self.inner().store.update(&key, body, &place.sub),
            ("PATCH", false) => {
                let apply = content.contains("apply-patch");
                self.inner().store.patch(&key, &body, &place.sub, apply)
            }
            ("DELETE", false) => self.inner().store.delete(&key).ok_or_else(|| not_found(&key)),
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "no such method".to_owned())),
        };
        self.tell();
        match done {
            Ok(object) => plain(StatusCode::OK, &object),
            Err((status, reason, message)) => plain(status, &failure(status, reason, &message)),
        }
    }

    fn listing(&self, place: &Place, query: &Query) -> Value {
        let inner = self.inner();
        let items: Vec<&Value> =
            inner.store.all(&place.plural).into_iter().filter(|object| query.selects(&place.namespace, object)).collect();
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": inner.store.version().to_string() }, "items": items })
    }

    /// Changes since a version, for ever.
    fn watch(&self, place: &Place, query: &Query) -> Answer {
        let state = (self.clone(), self.changed.subscribe(), query.since, place.clone(), query.clone());
        let lines = stream::unfold(state, |(server, mut changed, since, place, query)| async move {
            loop {
                changed.borrow_and_update();
                let (changes, upto) = server.inner().store.since(&place.plural, since);
                let lines: Vec<u8> = changes
                    .iter()
                    .filter_map(|change| line(change, &place.namespace, &query))
                    .flat_map(|line| [line.to_string().into_bytes(), b"\n".to_vec()].concat())
                    .collect();
                if !lines.is_empty() {
                    return Some((Bytes::from(lines), (server, changed, upto, place, query)));
                }
                changed.changed().await.ok()?;
            }
        });
        let body = StreamBody::new(lines.map(|bytes| Ok::<_, Infallible>(http_body::Frame::data(bytes))));
        Response::new(BodyExt::boxed_unsync(body))
    }
}

/// What a watch says of a change: an object that is selected no more has gone.
fn line(change: &Change, namespace: &str, query: &Query) -> Option<Value> {
    let (was, is) =
        (change.before.as_ref().is_some_and(|old| query.selects(namespace, old)), query.selects(namespace, &change.object));
    let kind = match (was, is && !change.deleted) {
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
        (false, false) => return None,
    };
    Some(json!({ "type": kind, "object": change.object }))
}

fn plain(status: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(status).header("content-type", "application/json").body(BodyExt::boxed_unsync(body)).unwrap()
}

/// The object that says no.
pub fn failure(status: StatusCode, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status.as_u16() })
}

fn not_found(key: &Key) -> store::Refusal {
    (StatusCode::NOT_FOUND, "NotFound", format!("{} {:?} not found", key.plural, key.name))
}

/// What a path means.
#[derive(Debug, Clone, Default)]
struct Place {
    plural: String,
    namespace: String,
    name: String,
    sub: String,
}

impl Place {
    fn of(path: &str) -> Self {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "api" { 2 } else { 3 });
        let mut namespace = "";
        // a namespace itself has no more behind its name
        if parts[0] == "namespaces" && parts.len() > 2 {
            namespace = parts[1];
            parts.drain(..2);
        }
        let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
        Self { plural: part(0), namespace: namespace.to_owned(), name: part(1), sub: part(2) }
    }
}

#[derive(Debug, Clone, Default)]
struct Query {
    watch: bool,
    dry_run: bool,
    since: u64,
    labels: Vec<(String, Option<String>)>,
    name: Option<String>,
}

impl Query {
    fn of(query: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = value.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",").replace('+', " ");
            match key {
                "watch" => found.watch = value == "true" || value == "1",
                "dryRun" => found.dry_run = value == "All",
                "resourceVersion" => found.since = value.parse().unwrap_or(0),
                "labelSelector" => {
                    let pair = |term: &str| match term.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.trim_start_matches('=').to_owned())),
                        None => (term.to_owned(), None),
                    };
                    found.labels = value.split(',').map(pair).collect();
                }
                "fieldSelector" => found.name = value.strip_prefix("metadata.name=").map(str::to_owned),
                _ => {}
            }
        }
        found
    }

    fn selects(&self, namespace: &str, object: &Value) -> bool {
        let meta = &object["metadata"];
        let labelled = |(key, wanted): &(String, Option<String>)| match (meta["labels"][key].as_str(), wanted) {
            (Some(value), Some(wanted)) => value == wanted,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        (namespace.is_empty() || meta["namespace"] == namespace)
            && self.name.as_ref().is_none_or(|name| meta["name"] == *name)
            && self.labels.iter().all(labelled)
    }
}

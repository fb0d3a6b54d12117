// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::kube_kit::{ApiServer, Key, failure};
use crate::cluster::watched::follow;
use crate::session::Guest;
use ::http::{Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use holdfast_proto::v1::{LineageRef, StatusReport};
use holdfast_store::name::Name;
use holdfast_store::transport::memory::Memory;
use holdfast_store::transport::{Body, Created, Failure, Page, Range, Transport, TransportError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinSet;

/// A store that can be away, and can be careless: then it tells everybody that he has won.
#[derive(Debug, Default)]
struct Moody {
    memory: Memory,
    away: AtomicBool,
    careless: AtomicBool,
    lists: AtomicUsize,
}

impl Moody {
    fn here(&self) -> Result<(), TransportError> {
        let away = TransportError {
            operation: "try",
            object: "it".to_owned(),
            message: "no answer".to_owned(),
            failure: Failure::Unavailable,
        };
        if self.away.load(Ordering::SeqCst) { Err(away) } else { Ok(()) }
    }
}

#[async_trait]
impl Transport for Moody {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        self.here()?;
        if Body::new(body.bytes.clone()).sha256 != body.sha256 {
            let message = "the hash is another".to_owned();
            return Err(TransportError { operation: "create", object: name.to_string(), message, failure: Failure::Refused });
        }
        let created = self.memory.create(name, body).await?;
        Ok(if self.careless.load(Ordering::SeqCst) { Created::Yes } else { created })
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.here()?;
        self.memory.get(name, range).await
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.here()?;
        self.memory.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        self.here()?;
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.memory.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        self.here()?;
        self.memory.delete(name).await
    }

    fn location(&self) -> String {
        "a store of the test".to_owned()
    }
}

struct Shop {
    server: ApiServer,
    store: Arc<Moody>,
    context: Arc<Context>,
    table: watch::Receiver<Repositories>,
}

impl Shop {
    fn new() -> Self {
        let (server, store) = (ApiServer::default(), Arc::new(Moody::default()));
        let (sender, table) = watch::channel(Repositories::default());
        let connected = Arc::clone(&store);
        let context = Context {
            client: server.client(),
            clock: Clock::new(),
            owner: OwnerId::new([1; 16]),
            metrics: Metrics::default(),
            connect: Arc::new(move |_| {
                let transport: Arc<dyn Transport> = connected.clone();
                async move { transport }.boxed()
            }),
            own_identity: false,
            table: sender,
            known: Mutex::default(),
        };
        let shop = Self { server, store, context: Arc::new(context), table };
        let spec = json!({ "s3": { "bucket": "states", "credentialsSecretRef": { "name": "s3" } }, "passphrase": { "name": "holdfast" } });
        shop.server.put(
            "staterepositories",
            json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRepository",
            "metadata": { "name": "default", "namespace": "shop" }, "spec": spec }),
        );
        shop
    }

    fn secret(&self, name: &str, data: &[(&str, &str)]) {
        use base64::Engine;
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let data: BTreeMap<_, _> = data.iter().map(|(key, text)| (*key, encoded(text))).collect();
        self.server.put(
            "secrets",
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "shop" }, "data": data }),
        );
    }

    fn secrets(&self) {
        self.secret("s3", &[("AWS_ACCESS_KEY_ID", "access"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
        self.secret("holdfast", &[("passphrase", "correct horse\n")]);
    }

    fn object(&self) -> Value {
        self.server.get("staterepositories", "shop", "default").expect("it is there")
    }

    async fn reconcile(&self) {
        let object: DeserializeGuard<StateRepository> = serde_json::from_value(self.object()).expect("a guard takes anything");
        reconcile(Arc::new(object), Arc::clone(&self.context)).await.expect("reconciled");
    }

    /// The Ready condition's status and reason.
    fn ready(&self) -> (String, String) {
        let object = self.object();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
        (ready["status"].as_str().unwrap_or_default().to_owned(), ready["reason"].as_str().unwrap_or_default().to_owned())
    }

    fn coordinator(&self) -> Option<Coordinator> {
        self.table.borrow().coordinator(&RepositoryKey::new("shop", "default")).ok().cloned()
    }

    async fn open(&self) -> Coordinator {
        self.secrets();
        self.reconcile().await;
        assert_eq!(self.ready(), ("True".to_owned(), "Ready".to_owned()));
        self.coordinator().expect("it is in the table")
    }
}

fn is_running(coordinator: &Coordinator) -> bool {
    !coordinator.shared.stop.is_cancelled()
}

#[tokio::test]
async fn it_says_what_is_missing_and_opens_when_it_is_there() {
    let shop = Shop::new();
    let missing = || ("False".to_owned(), "SecretMissing".to_owned());
    shop.reconcile().await;
    assert_eq!(shop.ready(), missing());
    shop.secret("s3", &[("AWS_ACCESS_KEY_ID", "access")]);
    shop.reconcile().await;
    assert_eq!(shop.ready(), missing());
    assert!(
        shop.object()["status"]["conditions"][0]["message"].as_str().is_some_and(|text| text.contains("AWS_SECRET_ACCESS_KEY"))
    );
    shop.open().await;
    let status = &shop.object()["status"];
    assert_eq!((&status["observedGeneration"], status["repositoryId"].as_str().map(str::len)), (&json!(1), Some(32)));
    assert!(!shop.object().to_string().contains("correct horse"), "no secret is repeated");
    // the second look counts, the third has nothing to say
    shop.reconcile().await;
    assert_eq!(shop.object()["status"]["lineages"], 0);
    assert!(shop.object()["status"]["storedBytes"].as_i64().is_some_and(|bytes| bytes > 0));
    shop.server.forget_requests();
    shop.reconcile().await;
    assert_eq!(shop.server.writes(), [], "a settled object is not written");
}

#[tokio::test]
async fn a_lineage_is_counted_as_soon_as_its_agent_reports_a_checkpoint() {
    let shop = Shop::new();
    let coordinator = shop.open().await;
    shop.reconcile().await;
    assert_eq!(shop.object()["status"]["lineages"], 0);
    // begun long before the next count would be due
    let names = LineageRef { domain: "shop".to_owned(), lineage: "statefulset/web/0".to_owned() };
    let place = coordinator.shared.catalog.begin(Some(names.clone()), "lineage").await.expect("a place");
    let record = Body::new(Bytes::from_static(b"its claim"));
    shop.store.memory.create(&Name::record(place.key().0, place.key().1, 1), &record).await.expect("created");
    let guest = Guest {
        key: place.key(),
        names,
        instance: [7; 16],
        holder: "pod web-0".to_owned(),
        version: "0.1.0".to_owned(),
        barriers: false,
    };
    let seat = coordinator.shared.desk.open(guest).expect("a seat");
    shop.reconcile().await;
    assert_eq!(shop.object()["status"]["lineages"], 0, "listing costs money, and so far nobody says that there is one more");
    seat.stored(StatusReport { sequence: 2, ..StatusReport::default() });
    shop.reconcile().await;
    assert_eq!(shop.object()["status"]["lineages"], 1);
    // from here on it is known
    shop.store.lists.store(0, Ordering::SeqCst);
    shop.reconcile().await;
    assert_eq!((shop.store.lists.load(Ordering::SeqCst), &shop.object()["status"]["lineages"]), (0, &json!(1)));
}

#[tokio::test]
async fn a_store_that_does_not_fence_is_refused() {
    let shop = Shop::new();
    shop.store.careless.store(true, Ordering::SeqCst);
    shop.secrets();
    shop.reconcile().await;
    assert_eq!(shop.ready(), ("False".to_owned(), "StoreDoesNotFence".to_owned()));
    assert!(shop.coordinator().is_none());
    shop.store.careless.store(false, Ordering::SeqCst);
    shop.reconcile().await;
    assert_eq!(shop.ready().0, "True");
    // another process believes what was proven, and tries it out anew when the place changes
    shop.store.careless.store(true, Ordering::SeqCst);
    shop.context.known().clear();
    shop.reconcile().await;
    assert_eq!(shop.ready().0, "True");
    let mut object = shop.object();
    object["spec"]["s3"]["endpoint"] = json!("https://elsewhere.example.org");
    shop.server.put("staterepositories", object);
    shop.reconcile().await;
    assert_eq!(shop.ready().1, "StoreDoesNotFence");
}

#[tokio::test]
async fn other_secrets_open_it_anew_and_wrong_ones_end_it() {
    let shop = Shop::new();
    let first = shop.open().await;
    shop.secret("s3", &[("AWS_ACCESS_KEY_ID", "access"), ("AWS_SECRET_ACCESS_KEY", "another")]);
    shop.reconcile().await;
    let second = shop.coordinator().expect("it is open");
    assert!(!is_running(&first) && is_running(&second));
    shop.secret("holdfast", &[("passphrase", "wrong")]);
    shop.reconcile().await;
    assert_eq!(shop.ready(), ("False".to_owned(), "WrongPassphrase".to_owned()));
    assert!(shop.coordinator().is_none() && !is_running(&second));
}

#[tokio::test]
async fn a_store_that_is_away_ends_nobody() {
    let shop = Shop::new();
    let coordinator = shop.open().await;
    shop.store.away.store(true, Ordering::SeqCst);
    shop.reconcile().await;
    assert_eq!(shop.ready(), ("False".to_owned(), "StoreUnreachable".to_owned()));
    assert!(is_running(&coordinator) && shop.coordinator().is_some());
    shop.store.away.store(false, Ordering::SeqCst);
    shop.reconcile().await;
    assert_eq!(shop.ready().0, "True");
    assert!(is_running(&coordinator), "it is the same");
}

#[tokio::test]
async fn what_is_deleted_ends_and_what_is_broken_stops_no_other() {
    let shop = Shop::new();
    shop.secrets();
    let broken = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRepository", "metadata": { "name": "broken", "namespace": "shop" }, "spec": 7 });
    shop.server.put("staterepositories", broken);
    let (stop, mut tasks, bell) = (CancellationToken::new(), JoinSet::new(), Bell::default());
    let followed = follow::<StateRepository>(
        &mut tasks,
        &stop,
        &shop.context.metrics,
        &shop.context.client,
        Default::default(),
        std::slice::from_ref(&bell),
    );
    tasks.spawn(run(Arc::clone(&shop.context), bell, stop.clone()));
    shop.server.until(|_| (shop.ready().0 == "True").then_some(())).await;
    let mut table = shop.table.clone();
    table.wait_for(|table| table.len() == 2).await.expect("both are known");
    let coordinator = shop.coordinator().expect("it is open");
    shop.server.delete(&Key::new("staterepositories", "shop", "default"));
    table.wait_for(|table| table.len() == 1).await.expect("one has gone");
    shop.server.put("staterepositories", json!({ "metadata": { "name": "x", "namespace": "shop" } }));
    stop.cancel();
    tasks.join_all().await;
    drop(followed);
    assert!(!is_running(&coordinator));
}

#[tokio::test]
async fn without_credentials_it_is_opened_by_consent_only() {
    let shop = Shop::new();
    shop.secrets();
    let mut object = shop.object();
    object["spec"]["s3"].as_object_mut().expect("a map").remove("credentialsSecretRef");
    shop.server.put("staterepositories", object);
    shop.reconcile().await;
    assert_eq!(shop.ready(), ("False".to_owned(), "CredentialsMissing".to_owned()));
}

#[tokio::test]
async fn a_failure_of_the_api_server_is_no_failure_of_the_repository() {
    let shop = Shop::new();
    shop.open().await;
    let before = shop.object();
    shop.server.on(|method, path, _| {
        let away = failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "away");
        (*method == Method::GET && path.contains("/secrets/")).then_some((StatusCode::INTERNAL_SERVER_ERROR, away))
    });
    let object: DeserializeGuard<StateRepository> = serde_json::from_value(before.clone()).expect("an object");
    let object = Arc::new(object);
    let error = reconcile(Arc::clone(&object), Arc::clone(&shop.context)).await.expect_err("no answer");
    on_error(object, &error, Arc::clone(&shop.context));
    assert_eq!(shop.object(), before);
    assert!(shop.coordinator().is_some_and(|coordinator| is_running(&coordinator)));
    assert!(shop.context.metrics.text().contains(r#"reconcile_errors_total{kind="StateRepository"} 1"#));
}

// SPDX-License-Identifier: Apache-2.0
//! Why a pod does not start: what its gate waits for, as Events on the pod.

use super::SlotView;
use super::events::{Events, News};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What still waits is told again this often; whoever tells drops what was told a moment ago.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Between two looks, however much changes.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells for ever, or until nobody decides about slots any more.
pub(crate) async fn tell(mut slots: watch::Receiver<Arc<Vec<SlotView>>>, pods: Store<Pod>, events: Events) {
    loop {
        let rows = Arc::clone(&slots.borrow_and_update());
        news(&rows, &pods).into_iter().for_each(|news| events.tell(news));
        tokio::time::sleep(PAUSE).await;
        if let Ok(Err(_)) = tokio::time::timeout(AGAIN_AFTER, slots.changed()).await {
            return;
        }
    }
}

/// One for each pod that waits.
fn news(rows: &[SlotView], pods: &Store<Pod>) -> Vec<News> {
    let waiting = rows.iter().filter_map(|row| Some((row, row.waiting.as_ref()?)));
    let told = waiting.filter_map(|(row, (pod, why))| {
        let is = |known: &Pod| known.name_any() == *pod && known.namespace().as_deref() == Some(&row.namespace);
        let about = pods.find(is)?.object_ref(&());
        let note = format!("the application waits for its state: {}", why.message);
        Some(News { about, is_warning: why.is_warning, reason: why.reason, action: "Wait", note })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kube_kit::ApiServer;
    use crate::cluster::metrics::Metrics;
    use crate::cluster::watched::follow;
    use crate::cluster::{RepositoryKey, WaitingFor};
    use serde_json::json;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_pod_that_waits_is_told_of() {
        let server = ApiServer::default();
        for name in ["web-0", "web-1"] {
            server.put("pods", json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" } }));
        }
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let store = follow(&mut tasks, &stop, &Metrics::default(), &server.client(), Default::default(), &[]);
        store.wait_until_ready().await.expect("a listing");
        let row = |pod: &str, why: WaitingFor| SlotView {
            namespace: "shop".to_owned(),
            object: None,
            repository: RepositoryKey::new("shop", "default"),
            lineage: String::new(),
            holder: None,
            waiting: Some((pod.to_owned(), why)),
        };
        let held = || WaitingFor::normal("SlotHeld", "web-2 holds it");
        let rows = [
            row("web-0", held()),
            row("gone", held()),
            SlotView { waiting: None, ..row("web-0", held()) },
            row("web-1", WaitingFor::warning("Diverged", "choose")),
        ];
        let told = news(&rows, &store);
        let told_of = |news: &News| (news.is_warning, news.reason, news.note.clone());
        assert_eq!(
            told.iter().map(told_of).collect::<Vec<_>>(),
            [
                (false, "SlotHeld", "the application waits for its state: web-2 holds it".to_owned()),
                (true, "Diverged", "the application waits for its state: choose".to_owned()),
            ]
        );
        assert!(told[0].about.uid.is_some(), "without it kubectl describe does not find the Event");
        stop.cancel();
        tasks.join_all().await;
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Following an object until it has succeeded or failed, and what that means for whoever waits.

use super::refused;
use crate::exit;
use crate::output::note;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::core::Resource;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::Instant;

/// The object is looked at this often.
const EVERY: Duration = Duration::from_millis(500);
/// The condition that tells.
const SUCCEEDED: &str = "Succeeded";

/// Where an object stands.
pub(super) struct Stand<K> {
    pub(super) object: K,
    /// `None`: it goes on, and it was waited for long enough.
    pub(super) succeeded: Option<bool>,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Waits until an object has succeeded or failed, and says what it says meanwhile.
pub(super) async fn settled<K>(
    api: &Api<K>,
    name: &str,
    conditions: impl Fn(&K) -> &[Condition],
    within: Option<Duration>,
) -> anyhow::Result<Stand<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let until = within.map(|within| Instant::now() + within);
    let mut ticks = tokio::time::interval(EVERY);
    let mut said = String::new();
    loop {
        ticks.tick().await;
        let object = api.get(name).await.map_err(refused)?;
        let found = conditions(&object).iter().find(|condition| condition.type_ == SUCCEEDED);
        let (status, reason, message) = found.map_or_else(
            || ("Unknown", String::new(), "no coordinator has looked at it yet".to_owned()),
            |found| (found.status.as_str(), found.reason.clone(), found.message.clone()),
        );
        let succeeded = match status {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        if succeeded.is_some() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Stand { succeeded, reason, message, object });
        }
        if !reason.is_empty() && said != message {
            note(&message);
            said = message;
        }
    }
}

/// The exit code of what did not succeed, by its reason.
pub(super) fn code(reason: &str) -> u8 {
    match reason {
        "DisruptionBudget" | "ImageDiffers" | "OnlyFuzzy" | "OtherRestore" | "NoController" | "ForeignLineage"
        | "Unprotected" | "ClaimInUse" | "ClaimNotEmpty" | "ClaimEnding" | "ClaimUnusable" => exit::DECIDE,
        "StoreUnreachable" | "RepositoryNotReady" => exit::STORE,
        "Damaged" | "NotAsItWas" => exit::DAMAGED,
        "SnapshotNotFound" | "SnapshotNotTaken" | "LineageNotFound" | "RestoreNotFound" | "PolicyNotFound"
        | "NothingSelected" | "NothingStored" | "NothingToUndo" | "ClaimNotFound" | "PathNotFound" => exit::NOT_FOUND,
        "Invalid" | "NamespaceRefused" | "SeveralNamespaces" | "SeveralRepositories" | "TooMany" => exit::USAGE,
        _ => exit::FAILED,
    }
}

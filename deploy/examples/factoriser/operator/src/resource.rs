// SPDX-License-Identifier: Apache-2.0
//! `RSACracker`: a number to be factorised, and by how many workers.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A number to be factorised, and by how many workers.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "factoriser.example",
    version = "v1",
    kind = "RSACracker",
    plural = "rsacrackers",
    namespaced,
    status = "RSACrackerStatus",
    derive = "PartialEq",
    doc = "A number to be factorised, and by how many workers.",
    printcolumn(name = "Number", type_ = "integer", json_path = ".spec.numberToFactor"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".spec.workerCount"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyWorkers")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.numberToFactor == oldSelf.numberToFactor", "another number is another RSACracker"))]
pub struct RSACrackerSpec {
    /// How many workers share the search. It may change at any time.
    #[schemars(range(min = 1, max = 64))]
    pub worker_count: i32,
    /// The number.
    #[schemars(range(min = 2, max = 1_000_000_000_000_i64))]
    pub number_to_factor: i64,
    /// Candidates that each worker tries in a second at most; 0: as many as it can.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub rate: i64,
    /// Labels that the pods of master and workers get besides their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub pod_labels: BTreeMap<String, String>,
}

/// How the search is.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RSACrackerStatus {
    /// The spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many workers are ready.
    #[serde(default)]
    pub ready_workers: i32,
}

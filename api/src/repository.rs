// SPDX-License-Identifier: Apache-2.0
//! `StateRepository`: where state goes, and with which keys.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns have types, and reasons are columns")]

use crate::text::AgeText;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A prefix of a bucket, and the secrets that open it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StateRepository",
    plural = "staterepositories",
    shortname = "hfrepo",
    category = "holdfast",
    namespaced,
    status = "StateRepositoryStatus",
    derive = "PartialEq",
    doc = "Where state goes: a prefix of an S3 bucket, and the secrets that open it.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.s3.bucket"),
    printcolumn(name = "Lineages", type_ = "integer", json_path = ".status.lineages"),
    printcolumn(name = "Verified", type_ = "date", json_path = ".status.lastVerifiedTime"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.s3.bucket == oldSelf.s3.bucket && self.s3.prefix == oldSelf.s3.prefix",
        "bucket and prefix can't be changed, since everything under them would be lost from sight: create another StateRepository"),
    validation = ("self.domain == oldSelf.domain", "domain can't be changed, since its keys open what is stored: create another StateRepository")
)]
pub struct StateRepositorySpec {
    /// The bucket.
    pub s3: S3Spec,
    /// The Secret, and its key, with the passphrase that opens the repository. Whoever loses it loses everything.
    pub passphrase: SecretKeySpec,
    /// What shares keys: nothing is deduplicated across domains. Left empty: the namespace's name.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub domain: String,
    /// Everything new is read back and verified this often, and a part of the old.
    #[serde(default = "daily")]
    pub verify_every: AgeText,
    /// Agents may not reach the store themselves: the coordinator passes their bytes on.
    #[serde(default)]
    pub relay: bool,
}

fn daily() -> AgeText {
    AgeText::from("1d")
}

/// A prefix of a bucket.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Spec {
    /// The bucket's name.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// What every object's name begins with. Left empty: nothing.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// The region.
    #[serde(default = "default_region")]
    #[schemars(length(max = 64))]
    pub region: String,
    /// The URL of the store, for stores that are not AWS. Left empty: the region's.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub endpoint: String,
    /// The bucket is named in the path of URLs, not in their host.
    #[serde(default)]
    pub path_style: bool,
    /// The Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Left out: the coordinator's own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretSpec>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// A Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct SecretKeySpec {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "passphrase".to_owned()
}

/// How a repository is.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct StateRepositoryStatus {
    /// The spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: it can be read and written, and does what conditional writes promise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Its identity, from the repository itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// How many lineages it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineages: Option<i32>,
    /// How many bytes it holds, as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,
    /// When everything that was new had last been verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified_time: Option<Time>,
}

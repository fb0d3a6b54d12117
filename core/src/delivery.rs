// SPDX-License-Identifier: Apache-2.0
//! Deliveries: what a pod is told that only writes states into a volume and ends, and what it says then.

use serde::{Deserialize, Serialize};

/// The variable of its environment that holds a [`Delivery`] as JSON.
pub const VARIABLE: &str = "HOLDFAST_DELIVERY";
/// Where the volume is mounted.
pub const DIRECTORY: &str = "/volume";
/// Parcels of one delivery: what is said of all of them must fit where kubelets pick up a last word.
pub const PARCELS_MAX: usize = 16;

/// What such a pod is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// Of this structure: [`Delivery::VERSION`].
    pub version: u32,
    /// The UID of the StateRestore: what an earlier pod of it has begun, a later one goes on with.
    pub restore: String,
    /// Files are given to their recorded owners, as far as the pod's user may.
    pub owners: bool,
    /// The states, one after the other.
    pub parcels: Vec<Parcel>,
}

impl Delivery {
    /// The version that this program writes and reads.
    pub const VERSION: u32 = 1;
}

/// One replica's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parcel {
    /// The StateLineage.
    pub lineage: String,
    /// The checkpoint.
    pub sequence: u64,
    /// Where it goes, below the volume's root; empty: there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// Only these, each with the label of its state path; empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// The last word of such a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of each parcel that is there, in their order.
    #[serde(default)]
    pub delivered: Vec<Delivered>,
    /// Why it will never be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Why it is not there yet: it is tried again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// What one parcel proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// The root computed from the disk; empty: only chosen paths are there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// How many files are not as they were, and could not be.
    pub deviations: u64,
    /// The lengths of the files together.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Why something can't be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// What kind of reason.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// What kind of reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The volume holds something else.
    ClaimNotEmpty,
    /// A path is not in the checkpoint.
    PathNotFound,
    /// What lies on the disk is not what was asked for.
    NotAsItWas,
    /// The pod does not understand what it is told.
    Invalid,
}

impl Reason {
    /// As conditions have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClaimNotEmpty => "ClaimNotEmpty",
            Self::PathNotFound => "PathNotFound",
            Self::NotAsItWas => "NotAsItWas",
            Self::Invalid => "Invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_fits_a_last_word() {
        let delivered = Delivered { root: "f".repeat(64), deviations: u64::MAX, bytes: u64::MAX, took_ms: u64::MAX };
        let report = Report { delivered: vec![delivered; PARCELS_MAX], ..Report::default() };
        let text = serde_json::to_string(&report).expect("JSON");
        assert!(text.len() <= 4096, "{}", text.len());
        assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report);
    }
}

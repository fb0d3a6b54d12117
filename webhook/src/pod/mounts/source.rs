// SPDX-License-Identifier: Apache-2.0
//! What a volume is made of, and whether it can hold state.

use crate::raw;
use crate::reason::Refusal;
use serde_json::Value;

/// Why a volume can't hold state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// What is said.
    pub(super) kind: Refusal,
    /// What the volume is.
    pub(super) what: &'static str,
}

/// Volumes that Kubernetes writes, and the application reads.
const WRITTEN_BY_OTHERS: &[&str] = &["configMap", "secret", "downwardAPI", "projected", "image", "gitRepo"];

/// Why a volume can't hold state, if it can't.
pub(super) fn refused(volume: &Value) -> Option<Refused> {
    if raw::at(volume, &["hostPath"]).is_some() {
        return Some(Refused { kind: Refusal::HostPath, what: "hostPath" });
    }
    let what = WRITTEN_BY_OTHERS.iter().find(|what| raw::at(volume, &[what]).is_some())?;
    Some(Refused { kind: Refusal::NotState, what })
}

/// How much memory a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// At most so many bytes.
    Sized(u64),
    /// As much as there is.
    Unbounded,
}

/// Whether a volume is memory.
pub(super) fn memory(volume: &Value) -> Option<Memory> {
    let directory = raw::at(volume, &["emptyDir"])?;
    if raw::text(directory, &["medium"])? != "Memory" {
        return None;
    }
    let limit = raw::at(directory, &["sizeLimit"]).and_then(raw::quantity);
    let bytes = limit.and_then(|thousandths| u64::try_from(thousandths / 1000).ok());
    Some(bytes.map_or(Memory::Unbounded, Memory::Sized))
}

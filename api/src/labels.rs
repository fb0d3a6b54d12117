// SPDX-License-Identifier: Apache-2.0
//! The labels and annotations that Holdfast reads and writes. Nobody spells them out anywhere else.

/// Label of a workload or of its pod template: the name of the [`StatePolicy`](crate::StatePolicy) in its namespace
/// that protects it. The only one people write.
pub const POLICY: &str = "holdfast.dev/policy";

/// Label of a pod: the name of the lineage it was granted.
pub const LINEAGE: &str = "holdfast.dev/lineage";

/// Label of objects that a snapshot or a restore made: its name.
pub const SNAPSHOT: &str = "holdfast.dev/snapshot";

/// Label of a StateSnapshot: the name of the StatePolicy whose schedule made it.
pub const SCHEDULED_BY: &str = "holdfast.dev/scheduled-by";

/// Label of objects that a restore made beside the original: the UID of its StateRestore.
pub const RESTORE: &str = "holdfast.dev/restore";

/// Annotation of a workload: its template carries the policy label because the workload did. Without it, a label on
/// the template is its author's, and stays when the workload's goes.
pub const CARRIED: &str = "holdfast.dev/policy-carried";

/// Annotation of a workload: the `maxSurge/maxUnavailable` that it had before the webhook took the surge away.
pub const SURGE: &str = "holdfast.dev/surge-removed";

/// Annotation of a pod: what the webhook added, at which revision, as JSON.
pub const INJECTED: &str = "holdfast.dev/injected";

/// Annotation of a pod: a digest of the policy it was injected with.
pub const POLICY_DIGEST: &str = "holdfast.dev/policy-digest";

/// Annotation of a namespace or workload: `disabled` keeps the webhook away, whatever the labels say.
pub const INJECT: &str = "holdfast.dev/inject";

/// Annotation of a StateLineage, by people: what becomes of a state that another cluster owns (`adopt`, `fork`, `fresh`), or of a disk and a store that
/// disagree (`adopt-disk`, `prefer-store`). It is taken away once it was followed.
pub const CHOOSE: &str = "holdfast.dev/choose";

/// Annotation of a pod whose agent was given another image and is not known to be back: which, instead of which, and since when, as JSON.
pub const AGENT_UPGRADE: &str = "holdfast.dev/agent-upgrade";

/// Label of the coordinator's pod that leads: its Service sends agents there.
pub const LEADER: &str = "holdfast.dev/leader";

/// Label of what the coordinator has the API server try to create, to learn whether it reaches the webhook: a word that nobody else knows.
pub const PROBE: &str = "holdfast.dev/probe";

/// Annotation by which the webhook answers a probe: its word.
pub const PROBED: &str = "holdfast.dev/probed";

/// The name of the agent's container.
pub const AGENT_CONTAINER: &str = "holdfast-agent";

/// The name of the container that ends when the state is there.
pub const GATE_CONTAINER: &str = "holdfast-gate";

/// The audience of the tokens with which agents identify themselves.
pub const TOKEN_AUDIENCE: &str = "holdfast.dev/coordinator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ours_and_fit_kubernetes() {
        let keys = [
            POLICY,
            LINEAGE,
            SNAPSHOT,
            SCHEDULED_BY,
            RESTORE,
            CARRIED,
            SURGE,
            INJECTED,
            POLICY_DIGEST,
            INJECT,
            CHOOSE,
            LEADER,
            PROBE,
            PROBED,
            AGENT_UPGRADE,
        ];
        for (index, key) in keys.iter().enumerate() {
            let name = key.strip_prefix("holdfast.dev/").expect("our prefix");
            assert!(name.len() <= 63 && name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{key}");
            assert!(!keys[..index].contains(key), "{key} means two things");
        }
    }
}

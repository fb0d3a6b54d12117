// SPDX-License-Identifier: Apache-2.0
//! What ours ask for and may use. A pod that is Guaranteed stays so; a pod without any requests becomes Burstable, since
//! an agent without a memory limit could make the kernel kill the application instead.

use super::parts::Parts;
use crate::raw;
use holdfast_core::policy::Policy;
use serde_json::{Value, json};

/// What the agent asks for, whatever its limits: in thousandths of a core, and in bytes.
const AGENT_REQUEST: (u32, u64) = (10, 32 << 20);

/// What the gate may use: it waits for one line.
const GATE_LIMIT: (u32, u64) = (100, 32 << 20);

/// What the gate asks for. It has ended before the application starts, so it adds nothing to what the pod asks for.
const GATE_REQUEST: (u32, u64) = (10, 16 << 20);

/// Of the disk space that an agent may use, what is set aside for it.
const SCRATCH_REQUEST_BYTES: u64 = 64 << 20;

/// The resources of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// The agent's.
    pub(crate) agent: Value,
    /// The gate's.
    pub(crate) gate: Value,
    /// The agent's memory limit, in bytes.
    pub(crate) memory_bytes: u64,
}

/// What ours ask for and may use.
pub(crate) fn choose(parts: &Parts<'_>, policy: &Policy, volume_bytes: u64) -> Share {
    let budgets = &policy.budgets;
    // pages of a volume that is memory are charged to whoever writes them, and a restore writes all
    let memory_bytes = budgets.memory_bytes.saturating_add(volume_bytes);
    let agent_limit = (budgets.cpu_millis, memory_bytes);
    let whole_pod = raw::at(parts.pod, &["spec", "resources"]).is_some();
    let (mut agent, gate) = if whole_pod {
        // requests of containers must fit into the pod's, which its author has counted without us
        (resources((0, 0), agent_limit), resources((0, 0), GATE_LIMIT))
    } else if is_guaranteed(parts) {
        (resources(agent_limit, agent_limit), resources(GATE_LIMIT, GATE_LIMIT))
    } else {
        let request = (AGENT_REQUEST.0.min(agent_limit.0), AGENT_REQUEST.1.min(agent_limit.1));
        (resources(request, agent_limit), resources(GATE_REQUEST, GATE_LIMIT))
    };
    if all_bound_their_disk(parts) {
        agent["limits"]["ephemeral-storage"] = json!(bytes(budgets.scratch_bytes));
        agent["requests"]["ephemeral-storage"] = json!(bytes(budgets.scratch_bytes.min(SCRATCH_REQUEST_BYTES)));
    }
    Share { agent, gate, memory_bytes: budgets.memory_bytes }
}

fn resources(requests: (u32, u64), limits: (u32, u64)) -> Value {
    let both = |(cpu_millis, memory): (u32, u64)| json!({"cpu": millis(cpu_millis), "memory": bytes(memory)});
    json!({"requests": both(requests), "limits": both(limits)})
}

/// Whether every container has limits of processor and memory, and asks for all of them.
fn is_guaranteed(parts: &Parts<'_>) -> bool {
    let asks_for_all = |container: &Value, what: &str| {
        let amount = |side: &str| raw::at(container, &["resources", side, what]).and_then(raw::quantity);
        let limit = amount("limits").filter(|limit| *limit > 0);
        // a request that isn't written is the limit
        limit.is_some() && amount("requests").or(limit) == limit
    };
    let mut all = parts.everybody();
    all.all(|container| asks_for_all(container, "cpu") && asks_for_all(container, "memory"))
}

/// The kubelet adds up the limits of those containers that have one, and evicts the pod when all of it uses more: a
/// limit of ours alone would bound the application.
fn all_bound_their_disk(parts: &Parts<'_>) -> bool {
    let mut all = parts.everybody();
    all.all(|container| raw::at(container, &["resources", "limits", "ephemeral-storage"]).is_some())
}

/// Bytes, as the API server would write them.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let decimal = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let mut all = units.into_iter().chain(decimal);
    let fits = all.find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    fits.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// Thousandths of a core, as the API server would write them.
fn millis(millis: u32) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_the_api_server_writes_them() {
        for (amount, written) in [(64 << 20, "64Mi"), (1536 << 20, "1536Mi"), (10_000_000, "10M"), (0, "0"), (1001, "1001")] {
            assert_eq!(bytes(amount), written);
        }
        assert_eq!((millis(500), millis(2000), millis(0)), ("500m".to_owned(), "2".to_owned(), "0".to_owned()));
    }
}

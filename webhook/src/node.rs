// SPDX-License-Identifier: Apache-2.0
//! Which nodes can run sidecar containers.

use crate::around::OldNode;
use k8s_openapi::api::core::v1::Node;

/// The first minor version of Kubernetes 1 whose kubelets run sidecar containers without being told to.
const FIRST_MINOR: u32 = 29;

/// Leaves of a node what is looked at here.
pub(crate) fn trim(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    node.spec = None;
    if let Some(status) = &mut node.status {
        let info = status.node_info.take();
        *status = k8s_openapi::api::core::v1::NodeStatus { node_info: info, ..Default::default() };
    }
}

/// What is too old about a node, if it is.
pub(crate) fn too_old(node: &Node) -> Option<OldNode> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    let is_old = info.operating_system != "windows" && minor(&info.kubelet_version)? < FIRST_MINOR;
    let name = node.metadata.name.clone().unwrap_or_default();
    is_old.then(|| OldNode { name, version: info.kubelet_version.clone() })
}

/// The minor version of `v1.34.4+k3s1`. Nothing is said of what isn't understood.
fn minor(version: &str) -> Option<u32> {
    let (major, rest) = version.trim_start_matches('v').split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (major == "1").then(|| rest[..digits].parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_kubelets_are_found() {
        let table =
            [("v1.28.9", true), ("v1.29.0", false), ("v1.34.4+k3s1", false), ("v1.9", true), ("1.28-eks", true), ("x", false)];
        for (version, old) in table {
            let node = json!({"metadata": {"name": "n"}, "status": {"nodeInfo": {"architecture": "", "bootID": "",
                "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": version,
                "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": ""}}});
            let mut node: Node = serde_json::from_value(node).expect("a node");
            trim(&mut node);
            assert_eq!(too_old(&node).is_some(), old, "{version}");
        }
    }
}

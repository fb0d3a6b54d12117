// SPDX-License-Identifier: Apache-2.0
//! What a decision rests on besides the object: gathered from caches beforehand, so that deciding is pure.

use holdfast_core::policy::Policy;

/// The same for every request to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The agent's image, as kubelets are to pull it.
    pub agent_image: String,
    /// Where agents find the coordinator.
    pub coordinator: String,
    /// The namespace that Holdfast itself runs in.
    pub own_namespace: String,
}

impl Settings {
    /// The port that agents reach the coordinator at.
    pub(crate) fn coordinator_port(&self) -> u16 {
        port_of(&self.coordinator)
    }
}

/// The port of a URL.
#[must_use]
pub fn port_of(url: &str) -> u16 {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    // the colons of an address in brackets are not a port's
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let written = after.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    written.unwrap_or(if scheme == "http" { 80 } else { 443 })
}

/// What is known of the object's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its annotation says that nothing is injected.
    pub disabled: bool,
    /// It enforces Pod Security `restricted`.
    pub restricted: bool,
    /// Users of its pods are assigned by the cluster (OpenShift).
    pub assigns_users: bool,
}

/// What is known of the policy that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: there is none.
    Missing,
    /// It can't be used: the first thing that is wrong with it.
    Unusable(String),
    /// What it says.
    Usable(Box<Policy>),
}

/// A node that is too old for sidecar containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldNode {
    /// Its name.
    pub name: String,
    /// Its kubelet's version.
    pub version: String,
}

/// Everything that a decision about one object rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// The object's namespace.
    pub namespace: Namespace,
    /// The policy that its label names.
    pub policy: Known,
    /// The port of the store that the policy's repository is in; `None`: there is no such repository yet.
    pub store_port: Option<u16>,
    /// A node that can't run what would be added.
    pub old_node: Option<OldNode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found() {
        let table = [
            ("https://s3.example", 443),
            ("http://minio.minio.svc:9000/x:1", 9000),
            ("http://minio", 80),
            ("https://[::1]:7420", 7420),
            ("https://[::1]", 443),
            ("", 443),
        ];
        for (url, port) in table {
            assert_eq!(port_of(url), port, "{url}");
        }
    }
}

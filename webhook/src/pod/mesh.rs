// SPDX-License-Identifier: Apache-2.0
//! Where the agent starts among the init containers. Sidecars start in the order of the list and stop in the reverse: so
//! the agent comes right after a mesh's proxy, without which it has no network when it keeps the last changes, and before
//! everything else, which must find its state restored.

use super::mounts::Mounts;
use super::parts::Parts;
use crate::raw;
use crate::reason::{Refusal, Said, say};
use serde_json::Value;

/// A mesh that leads a pod's traffic through a proxy.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// Init containers that lead it there, or wait until it is so.
    inits: &'static [&'static str],
    /// The proxy.
    proxy: &'static str,
    /// A proxy of this name is a mesh's only beside one of `inits`.
    needs_init: bool,
    /// The annotation with the ports that don't go through it.
    exclusion: &'static str,
}

const MESHES: &[Mesh] = &[
    Mesh {
        inits: &["istio-init", "istio-validation"],
        proxy: "istio-proxy",
        needs_init: false,
        exclusion: "traffic.sidecar.istio.io/excludeOutboundPorts",
    },
    Mesh {
        inits: &["linkerd-init", "linkerd-network-validator"],
        proxy: "linkerd-proxy",
        needs_init: false,
        exclusion: "config.linkerd.io/skip-outbound-ports",
    },
    Mesh {
        inits: &["kuma-init", "kuma-validation"],
        proxy: "kuma-sidecar",
        needs_init: false,
        exclusion: "traffic.kuma.io/exclude-outbound-ports",
    },
    Mesh {
        inits: &["consul-connect-inject-init"],
        proxy: "consul-dataplane",
        needs_init: false,
        exclusion: "consul.hashicorp.com/transparent-proxy-exclude-outbound-ports",
    },
    Mesh { inits: &["proxyinit"], proxy: "envoy", needs_init: true, exclusion: "appmesh.k8s.aws/egressIgnoredPorts" },
];

impl Mesh {
    fn owns(&self, container: &Value) -> bool {
        let name = raw::name(container);
        name == self.proxy || self.inits.contains(&name)
    }

    fn is_among(&self, inits: &[&Value], containers: &[Value]) -> bool {
        let has_init = inits.iter().any(|init| self.inits.contains(&raw::name(init)));
        let mut all = inits.iter().copied().chain(containers);
        has_init || (!self.needs_init && all.any(|container| raw::name(container) == self.proxy))
    }
}

/// The meshes that a pod is in.
pub(crate) fn present(inits: &[&Value], containers: &[Value]) -> Vec<&'static Mesh> {
    MESHES.iter().filter(|mesh| mesh.is_among(inits, containers)).collect()
}

/// Whether a container is a mesh's, and not the application's.
pub(crate) fn is_mesh(parts: &Parts<'_>, container: &Value) -> bool {
    parts.meshes.iter().any(|mesh| mesh.owns(container))
}

/// The index among the others' init containers at which ours go.
pub(crate) fn place(
    parts: &Parts<'_>,
    mounts: &Mounts<'_>,
    coordinator_port: u16,
    store_port: Option<u16>,
) -> Result<usize, Said<Refusal>> {
    for mesh in &parts.meshes {
        check_passable(mesh, parts, coordinator_port, store_port)?;
    }
    let last = parts.inits.iter().rposition(|init| is_mesh(parts, init));
    let Some(last) = last else { return Ok(0) };
    for early in parts.inits[..last].iter().filter(|init| !is_mesh(parts, init)) {
        if let Some(volume) = mounts.touched_by(early) {
            let words = [("container", raw::name(early)), ("volume", volume), ("mesh", raw::name(parts.inits[last]))];
            return Err(say(Refusal::InitBeforeMesh, &words));
        }
    }
    Ok(last + 1)
}

/// An ordinary container's proxy runs neither while the agent restores nor while it keeps the last changes.
fn check_passable(mesh: &Mesh, parts: &Parts<'_>, coordinator_port: u16, store_port: Option<u16>) -> Result<(), Said<Refusal>> {
    let Some(proxy) = parts.containers.iter().find(|container| raw::name(container) == mesh.proxy) else { return Ok(()) };
    let ports = [coordinator_port, store_port.unwrap_or(443)];
    let excluded = raw::annotation(parts.pod, mesh.exclusion).unwrap_or_default();
    if ports.iter().all(|port| is_listed(*port, excluded)) {
        return Ok(());
    }
    let wanted = ports.map(|port| port.to_string()).join(",");
    let words = [("container", raw::name(proxy)), ("annotation", mesh.exclusion), ("ports", wanted.as_str())];
    Err(say(Refusal::MeshProxy, &words))
}

/// Whether a port is in a list such as `443, 9000-9100`.
fn is_listed(port: u16, list: &str) -> bool {
    list.split(',').any(|item| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let number = |text: &str| text.trim().parse::<u16>();
        matches!((number(first), number(last)), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn ports_are_listed_alone_and_in_ranges() {
        for (list, port, listed) in
            [("7420,443", 443, true), ("7420, 443", 443, true), ("1-500", 443, true), ("", 443, false), ("44,4433", 443, false)]
        {
            assert_eq!(is_listed(port, list), listed, "{list}");
        }
    }
}

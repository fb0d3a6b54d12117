// SPDX-License-Identifier: Apache-2.0
//! Where the state is: which of the application's volumes cover the declared paths, as the agent is to see them.

use super::mesh::is_mesh;
use super::parts::{Parts, STATE_VOLUMES};
use super::policy_of;
use crate::raw;
use crate::reason::{Refusal, Said, Warning, say};
use holdfast_core::policy::{Call, Policy, Provision, Quiesce, StatePath};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

mod paths;
mod source;

use paths::is_inside;

/// Where the agent's image has its own files.
const RESERVED: &[&str] = &["/scratch", "/holdfast-agent"];

/// A volume that is made for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provisioned {
    /// As the pod is to list it.
    pub(crate) volume: Value,
    /// The index of the container that mounts it.
    pub(crate) container: usize,
    /// Where.
    pub(crate) path: String,
}

/// What the agent mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounts<'a> {
    /// The mounts that cover the state, by their paths.
    pub(crate) mirrored: BTreeMap<String, Value>,
    /// Variables that those refer to.
    pub(crate) variables: Vec<&'a Value>,
    /// The labels of paths that nobody may write.
    pub(crate) read_only: BTreeSet<String>,
    /// Volumes to add.
    pub(crate) provisioned: Vec<Provisioned>,
    /// The containers that see any of the state.
    pub(crate) containers: Vec<&'a Value>,
    /// The size of volumes that are memory: what is restored into them counts as the agent's.
    pub(crate) memory_bytes: u64,
    /// The volumes that are mirrored.
    volumes: BTreeSet<&'a str>,
}

/// A container and its mount that covers a path.
type Cover<'a> = (&'a Value, &'a Value);

/// Finds every declared path among the application's mounts.
pub(crate) fn plan<'a>(
    parts: &Parts<'a>,
    policy: &Policy,
    warnings: &mut Vec<Said<Warning>>,
) -> Result<Mounts<'a>, Said<Refusal>> {
    let sidecars = parts.inits.iter().copied().filter(|init| raw::is_sidecar(init));
    let applications: Vec<&Value> = sidecars.chain(parts.containers).filter(|container| !is_mesh(parts, container)).collect();
    let mut mounts = Mounts::default();
    for path in &policy.paths {
        check_devices(&applications, &path.path)?;
        match cover(parts, &applications, &path.path)? {
            Some(covers) => mounts.mirror_path(parts, path, &covers, warnings)?,
            None => mounts.provision(parts, path, warnings)?,
        }
        warn_of_inner(parts, &applications, &path.path, warnings);
    }
    for socket in sockets(policy) {
        let covers = cover(parts, &applications, socket)?;
        let covers = covers.ok_or_else(|| say(Refusal::SocketUncovered, &[("path", socket)]))?;
        mounts.mirror(&covers, socket)?;
    }
    Ok(mounts)
}

/// The sockets that hooks speak to.
fn sockets(policy: &Policy) -> impl Iterator<Item = &str> {
    let hooks = match &policy.consistency.quiesce {
        Quiesce::Hooks(hooks) => Some(hooks),
        Quiesce::Nothing | Quiesce::Freeze => None,
    };
    let calls = hooks.into_iter().flat_map(|hooks| std::iter::once(&hooks.before).chain(&hooks.after));
    calls.filter_map(|hook| match &hook.call {
        Call::Socket { path, .. } => Some(path.as_str()),
        Call::Http { .. } | Call::Signal { .. } => None,
    })
}

/// A raw device has no files.
fn check_devices(applications: &[&Value], path: &str) -> Result<(), Said<Refusal>> {
    for container in applications {
        let devices = raw::list(container, &["volumeDevices"]).iter();
        let mut at = devices.filter_map(|device| raw::text(device, &["devicePath"]));
        if at.any(|device| paths::covers(device, path)) {
            return Err(say(Refusal::BlockVolume, &[("path", path), ("container", raw::name(container))]));
        }
    }
    Ok(())
}

/// What a mount shows, wherever it is.
fn view(mount: &Value) -> [Option<&str>; 4] {
    ["name", "mountPath", "subPath", "subPathExpr"].map(|field| raw::text(mount, &[field]))
}

/// The mounts that cover a path, one for each container that has one. All must show the same.
fn cover<'a>(parts: &Parts<'a>, applications: &[&'a Value], path: &str) -> Result<Option<Vec<Cover<'a>>>, Said<Refusal>> {
    let mut found: Vec<Cover<'a>> = Vec::new();
    for &container in applications {
        let over =
            parts.mounts(container).filter(|mount| raw::text(mount, &["mountPath"]).is_some_and(|at| paths::covers(at, path)));
        // the innermost is what is seen there
        let innermost = over.max_by_key(|mount| raw::text(mount, &["mountPath"]).map_or(0, str::len));
        let Some(mount) = innermost else { continue };
        // whoever shows the same as the first shows the same as all before
        if let Some((other, _)) = found.first().filter(|(_, other)| view(other) != view(mount)) {
            let words = [("one", raw::name(other)), ("other", raw::name(container)), ("path", path)];
            return Err(say(Refusal::PathAmbiguous, &words));
        }
        found.push((container, mount));
    }
    Ok((!found.is_empty()).then_some(found))
}

/// Volumes within a state path are other filesystems, which a capture doesn't enter.
fn warn_of_inner(parts: &Parts<'_>, applications: &[&Value], path: &str, warnings: &mut Vec<Said<Warning>>) {
    let mut named = BTreeSet::new();
    for mount in applications.iter().flat_map(|container| parts.mounts(container)) {
        let (volume, inside) = (raw::name(mount), raw::text(mount, &["mountPath"]).unwrap_or_default());
        let holds_state = parts.volume(volume).is_none_or(|volume| source::refused(volume).is_none());
        if is_inside(inside, path) && holds_state && named.insert(inside) {
            warnings.push(say(Warning::MountInside, &[("volume", volume), ("inside", inside), ("path", path)]));
        }
    }
}

impl<'a> Mounts<'a> {
    fn mirror_path(
        &mut self,
        parts: &Parts<'a>,
        path: &StatePath,
        covers: &[Cover<'a>],
        warnings: &mut Vec<Said<Warning>>,
    ) -> Result<(), Said<Refusal>> {
        self.add_containers(covers.iter().map(|(container, _)| *container));
        let Some((_, mount)) = covers.first() else { return Ok(()) };
        let volume = parts.volume(raw::name(mount));
        if let Some(refusal) = volume.and_then(source::refused) {
            let words = [("volume", raw::name(mount)), ("path", path.path.as_str()), ("type", refusal.what)];
            return Err(say(refusal.kind, &words));
        }
        let is_new = self.mirror(covers, &path.path)?;
        if is_read_only(covers) {
            self.read_only.insert(path.label.clone());
            warnings.push(say(Warning::ReadOnly, &[("path", &path.path)]));
        }
        match volume.filter(|_| is_new).and_then(source::memory) {
            Some(source::Memory::Sized(bytes)) => self.memory_bytes = self.memory_bytes.saturating_add(bytes),
            Some(source::Memory::Unbounded) => warnings.push(say(Warning::MemoryVolume, &[("volume", raw::name(mount))])),
            None => {}
        }
        Ok(())
    }

    /// Mounts for the agent what the application has there; whether it did not already.
    fn mirror(&mut self, covers: &[Cover<'a>], path: &str) -> Result<bool, Said<Refusal>> {
        let Some((container, mount)) = covers.first() else { return Ok(false) };
        let at = raw::text(mount, &["mountPath"]).unwrap_or_default();
        if RESERVED.iter().any(|reserved| paths::covers(reserved, at) || paths::covers(at, reserved)) {
            return Err(say(Refusal::PathReserved, &[("volume", raw::name(mount)), ("path", at)]));
        }
        self.add_variables(container, mount)?;
        let mut mirror = Map::new();
        for field in ["name", "mountPath", "subPath", "subPathExpr"] {
            if let Some(value) = raw::at(mount, &[field]) {
                mirror.insert(field.to_owned(), value.clone());
            }
        }
        if is_read_only(covers) {
            mirror.insert("readOnly".to_owned(), json!(true));
        }
        self.volumes.insert(raw::name(mount));
        let _ = path;
        Ok(self.mirrored.insert(at.to_owned(), Value::Object(mirror)).is_none())
    }

    fn add_containers(&mut self, containers: impl Iterator<Item = &'a Value>) {
        let known: BTreeSet<*const Value> = self.containers.iter().map(|known| std::ptr::from_ref(*known)).collect();
        self.containers.extend(containers.filter(|container| !known.contains(&std::ptr::from_ref(*container))));
    }

    /// The variables of a `subPathExpr` are those of its container: the agent needs the same.
    fn add_variables(&mut self, container: &'a Value, mount: &'a Value) -> Result<(), Said<Refusal>> {
        let expression = raw::text(mount, &["subPathExpr"]).unwrap_or_default();
        for variable in paths::variables(expression) {
            let env = raw::list(container, &["env"]).iter().rfind(|env| raw::name(env) == variable);
            let is_plain = |env: &Value| {
                let value = raw::text(env, &["value"]);
                // what it refers to would have to be taken over, too
                let is_written = value.is_some_and(|value| !value.contains("$("));
                is_written || raw::at(env, &["valueFrom", "fieldRef"]).is_some()
            };
            let Some(env) = env.filter(|env| is_plain(env)) else {
                let words = [("volume", raw::name(mount)), ("variable", variable), ("container", raw::name(container))];
                return Err(say(Refusal::SubPathVariable, &words));
            };
            if !self.variables.iter().any(|known| raw::name(known) == variable) {
                self.variables.push(env);
            }
        }
        Ok(())
    }

    fn provision(&mut self, parts: &Parts<'a>, path: &StatePath, warnings: &mut Vec<Said<Warning>>) -> Result<(), Said<Refusal>> {
        let Some(provision) = &path.provision else {
            let policy = policy_of(parts.pod).unwrap_or_default();
            let words = [("path", path.path.as_str()), ("label", &path.label), ("policy", policy)];
            return Err(say(Refusal::PathUncovered, &words));
        };
        let (index, container) = the_container(parts).ok_or_else(|| say(Refusal::ProvisionAmbiguous, &[("path", &path.path)]))?;
        let name = format!("{STATE_VOLUMES}{}", path.label);
        self.add_containers(std::iter::once(container));
        self.mirrored.insert(path.path.clone(), json!({"name": name, "mountPath": path.path}));
        self.provisioned.push(Provisioned { volume: volume(&name, provision), container: index, path: path.path.clone() });
        warnings.push(say(Warning::Provisioned, &[("path", &path.path), ("container", raw::name(container))]));
        Ok(())
    }

    /// The volume with state that a container of others mounts.
    pub(crate) fn touched_by(&self, container: &'a Value) -> Option<&'a str> {
        raw::list(container, &["volumeMounts"]).iter().map(raw::name).find(|name| self.volumes.contains(name))
    }

    /// Init containers that come after the gate see the state restored, and may still spoil it.
    pub(crate) fn warn_of_inits(&self, parts: &Parts<'a>, index: usize, warnings: &mut Vec<Said<Warning>>) {
        for init in parts.inits.iter().skip(index).filter(|init| !raw::is_sidecar(init)) {
            if let Some(volume) = self.touched_by(init) {
                warnings.push(say(Warning::InitTouchesState, &[("container", raw::name(init)), ("volume", volume)]));
            }
        }
    }
}

fn is_read_only(covers: &[Cover<'_>]) -> bool {
    covers.iter().all(|(_, mount)| raw::at(mount, &["readOnly"]).and_then(Value::as_bool) == Some(true))
}

/// The container that a path is provisioned in: the only one, or the one that is named as the default.
fn the_container<'a>(parts: &Parts<'a>) -> Option<(usize, &'a Value)> {
    let own = |container: &Value| !is_mesh(parts, container);
    let mut applications = parts.containers.iter().enumerate().filter(|(_, container)| own(container));
    match raw::annotation(parts.pod, "kubectl.kubernetes.io/default-container") {
        Some(name) => applications.find(|(_, container)| raw::name(container) == name),
        None => applications.next().filter(|_| applications.next().is_none()),
    }
}

fn volume(name: &str, provision: &Provision) -> Value {
    match provision {
        Provision::EphemeralVolume { size_bytes, storage_class } => {
            let storage = super::resources::bytes(*size_bytes);
            let mut claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}});
            if let Some(class) = storage_class {
                claim["storageClassName"] = json!(class);
            }
            json!({"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}})
        }
        Provision::EmptyDir { size_limit_bytes } => match size_limit_bytes {
            Some(bytes) => json!({"name": name, "emptyDir": {"sizeLimit": super::resources::bytes(*bytes)}}),
            None => json!({"name": name, "emptyDir": {}}),
        },
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What each call needs, in the words of RBAC: so that whoever may do something with kubectl may do it here, and nobody else.

use crate::cluster::identity::Right;

/// The right that a call needs in the repository's namespace; `None`: there is no such call, or nobody has it by right.
pub(super) fn right_of(path: &str) -> Option<Right> {
    let right = |verb, resource| Some(Right { verb, resource, subresource: None });
    match path.strip_prefix("/holdfast.v1.")? {
        "LineageService/ListLineages" => right("list", "statelineages"),
        "LineageService/GetLineage" | "LineageService/ListCheckpoints" | "LineageService/GetCheckpoint" => {
            right("get", "statelineages")
        }
        "LineageService/FlushLineage" => right("update", "statelineages"),
        // who may see that there is a state may not therefore read it
        "FileService/ListFiles" | "FileService/GetFile" | "FileService/ReadFile" | "FileService/DiffFiles" => {
            Some(Right { verb: "get", resource: "statelineages", subresource: Some("files") })
        }
        "SnapshotService/CreateSnapshot" => right("create", "statesnapshots"),
        "SnapshotService/GetSnapshot" => right("get", "statesnapshots"),
        "SnapshotService/ListSnapshots" => right("list", "statesnapshots"),
        "SnapshotService/WatchSnapshots" => right("watch", "statesnapshots"),
        "SnapshotService/DeleteSnapshot" => right("delete", "statesnapshots"),
        "RestoreService/CreateRestore" | "RestoreService/ReportRestore" => right("create", "staterestores"),
        "RestoreService/GetRestore" => right("get", "staterestores"),
        "RestoreService/WatchRestore" => right("watch", "staterestores"),
        "RestoreService/ListRestores" => right("list", "staterestores"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifest::{Grant, grants};
    use prost::Message;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_call_of_people_needs_a_right() {
        let mut calls = 0;
        for path in paths() {
            let by_other_means = ["AgentService", "ObjectService"].iter().any(|service| path.contains(service));
            assert_eq!(right_of(&path).is_none(), by_other_means, "{path}");
            calls += 1;
        }
        assert!(calls > 15, "{calls}");
        assert_eq!(right_of("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), None);
        let read = right_of("/holdfast.v1.FileService/ReadFile").expect("a right").to_string();
        assert_eq!(read, "get statelineages/files");
    }
    #[test]
    fn the_roles_of_people_hold_every_right() {
        let mut granted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Grant { role, verb, resource, .. } in grants("coordinator/people.yaml") {
            granted.entry(role).or_default().insert(format!("{verb} {resource}"));
        }
        let (view, edit) = (&granted["holdfast-view"], &granted["holdfast-edit"]);
        assert!(
            view.iter()
                .all(|right| !right.contains('/') && ["get ", "list ", "watch "].iter().any(|verb| right.starts_with(verb)))
        );
        for path in paths().filter(|path| right_of(path).is_some()) {
            let right = right_of(&path).expect("a right").to_string();
            assert!(view.contains(&right) || edit.contains(&right), "{path} needs {right}, which nobody is given");
        }
    }

    /// All calls that there are.
    fn paths() -> impl Iterator<Item = String> {
        let set = prost_types::FileDescriptorSet::decode(holdfast_proto::DESCRIPTORS).expect("descriptors");
        let ours = set.file.into_iter().filter(|file| file.package() == "holdfast.v1");
        ours.flat_map(|file| file.service).flat_map(|service| {
            let name = service.name().to_owned();
            service.method.into_iter().map(move |method| format!("/holdfast.v1.{name}/{}", method.name()))
        })
    }
}

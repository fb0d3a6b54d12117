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
    use prost::Message;

    #[test]
    fn every_call_of_people_needs_a_right() {
        let set = prost_types::FileDescriptorSet::decode(holdfast_proto::DESCRIPTORS).expect("descriptors");
        let mut calls = 0;
        for file in set.file.iter().filter(|file| file.package() == "holdfast.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/holdfast.v1.{}/{}", service.name(), method.name());
                    let by_other_means = ["AgentService", "ObjectService"].contains(&service.name());
                    assert_eq!(right_of(&path).is_none(), by_other_means, "{path}");
                    calls += 1;
                }
            }
        }
        assert!(calls > 15, "{calls}");
        assert_eq!(right_of("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), None);
        let read = right_of("/holdfast.v1.FileService/ReadFile").expect("a right").to_string();
        assert_eq!(read, "get statelineages/files");
    }
}

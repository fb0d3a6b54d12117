// SPDX-License-Identifier: Apache-2.0
//! Files.

use super::{Text, time};
use holdfast_proto::v1;
use serde::Serialize;

/// A file as it was.
#[derive(Debug, Serialize)]
pub(crate) struct FileView {
    path: Text,
    kind: &'static str,
    /// Octal: `0644`.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<AttributeView>,
}

#[derive(Debug, Serialize)]
struct AttributeView {
    name: Text,
    value: Text,
}

/// The word for a kind of file.
const fn kind(kind: v1::FileKind) -> &'static str {
    match kind {
        v1::FileKind::Unspecified => "unknown",
        v1::FileKind::Regular => "file",
        v1::FileKind::Directory => "directory",
        v1::FileKind::Symlink => "symlink",
        v1::FileKind::Fifo => "fifo",
        v1::FileKind::Socket => "socket",
        v1::FileKind::CharacterDevice => "character-device",
        v1::FileKind::BlockDevice => "block-device",
    }
}

impl From<&v1::File> for FileView {
    fn from(file: &v1::File) -> Self {
        let attribute = |one: &v1::ExtendedAttribute| AttributeView { name: (&*one.name).into(), value: (&*one.value).into() };
        let device = matches!(file.kind(), v1::FileKind::CharacterDevice | v1::FileKind::BlockDevice);
        Self {
            path: Text::from(&*file.path),
            kind: kind(file.kind()),
            mode: format!("{:04o}", file.mode & 0o7777),
            uid: file.uid,
            gid: file.gid,
            size: file.size,
            modified: time(file.modified.as_ref()),
            target: (!file.target.is_empty()).then(|| Text::from(&*file.target)),
            link_group: (!file.link_group.is_empty()).then(|| file.link_group.clone()),
            device: device.then_some(file.device),
            xattrs: file.xattrs.iter().map(attribute).collect(),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What was captured of a file, told by ids.

use crate::key::Identity;
use crate::tree::{Content, MapRef};
use holdfast_core::id::NodeId;

/// The content of a large file as the tree has it. Equal versions are equal bytes and holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Version {
    size: u64,
    /// The root of the map of its extents; `None`: it has no bytes.
    map: Option<NodeId>,
}

impl Version {
    /// Length of its encoding in bytes.
    pub(in super::super) const ENCODED: usize = 8 + 1 + 32;

    /// For comparing with what was kept elsewhere.
    pub(in super::super) fn encode(&self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        if let Some(id) = &self.map {
            bytes[8] = 1;
            bytes[9..].copy_from_slice(id.as_bytes());
        }
        bytes
    }

    /// The version of a content with extents, or without bytes.
    pub(in super::super) fn of(identity: &Identity, size: u64, content: &Content) -> Option<Self> {
        let map = match content {
            Content::None => None,
            Content::Extents { map: MapRef::Node(node), .. } => Some(node.id),
            Content::Extents { map: MapRef::Inline(leaf), .. } => Some(identity.node_id(&leaf.canonical())),
            _ => return None,
        };
        Some(Self { size, map })
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The state as a Merkle tree of ordered maps (`docs/format.md`, section 6).
//!
//! [`inode`] is what is known of one file, [`kind`] the four kinds of maps, [`node`] their pieces and the bytes of these, [`hints`] the part
//! that no id covers. [`editor`] changes a map, [`cursor`] walks one, [`diff`] compares two.

pub mod cursor;
pub mod diff;
pub mod editor;
pub mod hints;
pub mod inode;
pub mod kind;
pub mod node;
pub mod place;
pub mod visit;

pub use cursor::Cursor;
pub use editor::Editor;
pub use inode::{Body, Content, Entry, Inode, Mtime, Stamp, Xattrs};
pub use kind::{ContentMap, Directory, Extent, LinkItem, Links, MapKind, Name, RootItem, Roots};
pub use node::{At, Child, MapRef, Node, NodeRef, NodeStore, StoredNode};
pub use place::{Frame, FramePlace, Object, Place};
pub use visit::Visitor;

#[cfg(test)]
pub(crate) mod tests;

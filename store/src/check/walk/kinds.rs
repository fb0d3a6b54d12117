// SPDX-License-Identifier: Apache-2.0
//! What lies in each kind of map.

use super::{Walk, Walked};
use crate::error::Result;
use crate::tree::{ContentMap, Directory, Entry, Extent, LinkItem, Links};

impl Walked for Directory {
    fn item(walk: &mut Walk<'_>, (name, entry): &Self::Item) -> Result<()> {
        match entry {
            Entry::Link(group) => {
                walk.links.note(*group, false);
                Ok(())
            }
            Entry::Inode(inode) => {
                let parent = walk.path.len();
                walk.path.push(b'/');
                walk.path.extend_from_slice(name.as_bytes());
                let walked = walk.inode(inode);
                walk.path.truncate(parent);
                walked
            }
        }
    }
}

impl Walked for ContentMap {
    fn item(walk: &mut Walk<'_>, extent: &Extent) -> Result<()> {
        if extent.end() > walk.size {
            walk.shape(format_args!("chunk {}", extent.id), "an extent ends beyond its file");
        }
        walk.chunk(&extent.place, extent.len, &extent.id)
    }
}

impl Walked for Links {
    fn item(walk: &mut Walk<'_>, item: &LinkItem) -> Result<()> {
        walk.links.note(item.group, true);
        let parent = walk.path.len();
        if !item.path.is_empty() {
            walk.path.push(b'/');
            walk.path.extend_from_slice(&item.path);
        }
        let walked = walk.inode(&item.inode);
        walk.path.truncate(parent);
        walked
    }
}

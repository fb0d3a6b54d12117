// SPDX-License-Identifier: Apache-2.0
//! What a directory holds, one line per entry: an oracle that knows nothing of trees. `tests/python/reader.py dump` writes the same lines.

use anyhow::{Context, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What RFC 3986 leaves as it is, and the slash.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');

/// Bytes as text: what is not a letter, a digit or one of `_.-~/` as `%XX`.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    percent_encode(bytes, QUOTED).to_string()
}

/// SHA-256 of all lines: what stands for a listing where it would be too long.
#[must_use]
pub fn digest(lines: &[String]) -> String {
    hex::encode(Sha256::digest(lines.join("\n")))
}

/// A line before it is known which other names its inode has.
struct Found {
    text: String,
    inode: Option<(u64, u64)>,
}

/// The same lines without owners: whoever is not root can't restore them.
#[must_use]
pub fn without_owners(lines: &[String]) -> Vec<String> {
    let bare = |line: &String| {
        let fields = line.splitn(5, ' ').enumerate();
        fields.map(|(index, field)| if index == 3 { "-" } else { field }).collect::<Vec<_>>().join(" ")
    };
    lines.iter().map(bare).collect()
}

/// The lines of these directories, each under its label.
///
/// # Errors
/// If something can't be read.
pub fn listing(roots: &[(&str, &Path)]) -> Result<Vec<String>> {
    let mut found = BTreeMap::new();
    for (label, root) in roots {
        walk(label.as_bytes().to_vec(), root, &mut found)?;
    }
    let mut first: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for (path, Found { inode, .. }) in &found {
        if let Some(inode) = inode {
            first.entry(*inode).or_insert_with(|| path.clone());
        }
    }
    let line = |(path, Found { text, inode }): (&Vec<u8>, &Found)| {
        let same = inode.and_then(|inode| first.get(&inode)).map(|first| format!(" same:{}", quote(first)));
        format!("{} {text}{}", quote(path), same.unwrap_or_default())
    };
    Ok(found.iter().map(line).collect())
}

fn walk(name: Vec<u8>, path: &Path, found: &mut BTreeMap<Vec<u8>, Found>) -> Result<()> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    let text = describe(path, &meta).with_context(|| format!("read {}", path.display()))?;
    let inode = (!meta.is_dir() && meta.nlink() > 1).then(|| (meta.dev(), meta.ino()));
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let below = [&name[..], b"/", entry.file_name().as_bytes()].concat();
            walk(below, &entry.path(), found)?;
        }
    }
    found.insert(name, Found { text, inode });
    Ok(())
}

fn describe(path: &Path, meta: &Metadata) -> Result<String> {
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "character",
        () => "block",
    };
    let (mode, uid, gid) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
    let mut text = format!("{what} {mode:04o} {uid}:{gid} {}.{:09}", meta.mtime(), meta.mtime_nsec());
    if kind.is_file() {
        write!(text, " {}", meta.len())?;
        if meta.len() > 0 {
            write!(text, " {}", hex::encode(Sha256::digest(fs::read(path)?)))?;
        }
    } else if kind.is_symlink() {
        write!(text, " {}", quote(fs::read_link(path)?.as_os_str().as_bytes()))?;
    }
    if kind.is_file() || kind.is_dir() {
        for (name, value) in holdfast_store::disk::xattr::read(File::open(path)?)? {
            write!(text, " {}={}", quote(&name), hex::encode(value))?;
        }
    }
    Ok(text)
}

// SPDX-License-Identifier: Apache-2.0
//! Markers: what a state root says about itself, as an extended attribute of its directory (or a file, where there are none).

use holdfast_core::disk::{Found, Marker, MarkerState};
use holdfast_store::disk::{Dir, OWN_NAMES, xattr};
use holdfast_store::tree::Name;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io;

const ATTRIBUTE: &[u8] = b"user.holdfast.marker";
const FILE: &[u8] = OWN_NAMES[0];
const FILE_NEW: &[u8] = OWN_NAMES[1];

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    lineage: String,
    generation: u64,
    volume: String,
    state: String,
    #[serde(default)]
    sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its Holdfast marker can't be understood; it was made by a newer version, or damaged",
    )
}

fn decode(bytes: &[u8]) -> io::Result<Marker> {
    let written: Written = serde_json::from_slice(bytes).map_err(|_| invalid())?;
    let state = match written.state.as_str() {
        "ready" => MarkerState::Ready,
        "restoring" => MarkerState::Restoring(written.sequence),
        _ => return Err(invalid()),
    };
    let (Ok(lineage), Ok(volume)) = (written.lineage.parse(), written.volume.parse()) else { return Err(invalid()) };
    // who marked it matters only to that one
    let holder = written.holder.and_then(|holder| holder.parse().ok());
    Ok(Marker { lineage, generation: written.generation, volume, state, holder })
}

fn encode(marker: &Marker) -> io::Result<Vec<u8>> {
    let (state, sequence) = match marker.state {
        MarkerState::Ready => ("ready", 0),
        MarkerState::Restoring(sequence) => ("restoring", sequence),
    };
    let (lineage, volume) = (marker.lineage.to_string(), marker.volume.to_string());
    let holder = marker.holder.map(|holder| holder.to_string());
    let written = Written { lineage, generation: marker.generation, volume, state: state.to_owned(), sequence, holder };
    Ok(serde_json::to_vec(&written)?)
}

fn unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTSUP | Errno::PERM))
}

/// The marker of a state root, if it has one.
///
/// # Errors
/// If it can't be read or understood: then nothing may be assumed about the directory.
pub fn read(dir: &Dir) -> io::Result<Option<Marker>> {
    match xattr::value(dir.fd(), ATTRIBUTE) {
        Ok(Some(bytes)) => return decode(&bytes).map(Some),
        Ok(None) => {}
        Err(error) if unsupported(&error) => {}
        Err(error) => return Err(error),
    }
    let Some(name) = Name::new(FILE) else { return Ok(None) };
    match dir.open_file(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(fd) => {
            let mut bytes = vec![0; 4096];
            let read = rustix::io::pread(&fd, &mut bytes[..], 0)?;
            decode(&bytes[..read]).map(Some)
        }
    }
}

/// Marks a state root, durably.
///
/// # Errors
/// If it can't be written.
pub fn write(dir: &Dir, marker: &Marker) -> io::Result<()> {
    let bytes = encode(marker)?;
    match xattr::set(dir.fd(), ATTRIBUTE, &bytes) {
        Err(error) if unsupported(&error) => write_file(dir, &bytes)?,
        other => other?,
    }
    rustix::fs::fsync(dir.fd())?;
    Ok(())
}

/// Takes the marker away; that there was none is no error.
///
/// # Errors
/// If it stays.
pub fn remove(dir: &Dir) -> io::Result<()> {
    match xattr::remove(dir.fd(), ATTRIBUTE) {
        Err(error) if !unsupported(&error) => return Err(error),
        _ => {}
    }
    match rustix::fs::unlinkat(dir.fd(), FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::fsync(dir.fd())?)
}

fn write_file(dir: &Dir, bytes: &[u8]) -> io::Result<()> {
    let Some(name) = Name::new(FILE_NEW) else { return Ok(()) };
    match rustix::fs::unlinkat(dir.fd(), FILE_NEW, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = dir.open_with(&name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = &rest[written..];
    }
    rustix::fs::fsync(&fd)?;
    Ok(rustix::fs::renameat(dir.fd(), FILE_NEW, dir.fd(), FILE)?)
}

/// A state root as it is found. One that is only read has no marker, whatever is written on it.
///
/// # Errors
/// If it can't be read.
pub fn find(label: &str, dir: &Dir, read_only: bool) -> io::Result<Found> {
    let mut is_empty = true;
    dir.names(|name| {
        is_empty &= OWN_NAMES.contains(&name);
        Ok(())
    })?;
    let marker = if read_only { None } else { read(dir)? };
    Ok(Found { label: label.to_owned(), marker, is_empty, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::{HolderKey, LineageId, VolumeId};
    use std::path::Path;

    fn marker(state: MarkerState) -> Marker {
        Marker {
            lineage: LineageId::new([1; 16]),
            generation: 7,
            volume: VolumeId::new([2; 16]),
            state,
            holder: Some(HolderKey::new([3; 16])),
        }
    }

    fn check(path: &Path) {
        let dir = Dir::open_root(path).expect("a directory");
        assert_eq!(read(&dir).expect("readable"), None);
        for state in [MarkerState::Restoring(9), MarkerState::Ready] {
            write(&dir, &marker(state)).expect("writable");
            assert_eq!(read(&dir).expect("readable"), Some(marker(state)));
        }
        let found = find("data", &dir, false).expect("readable");
        assert!(found.is_empty, "a marker is not content");
        remove(&dir).expect("removed");
        assert_eq!(read(&dir).expect("readable"), None);
        std::fs::create_dir(path.join("lost+found")).expect("a directory");
        assert!(find("data", &dir, false).expect("readable").is_empty, "nor is lost+found");
        std::fs::write(path.join("x"), b"").expect("a file");
        assert!(!find("data", &dir, false).expect("readable").is_empty);
    }

    #[test]
    fn markers_are_kept_in_attributes() {
        let directory = tempfile::tempdir().expect("a directory");
        check(directory.path());
    }

    #[test]
    fn or_in_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = Dir::open_root(directory.path()).expect("a directory");
        write_file(&dir, &encode(&marker(MarkerState::Ready)).expect("JSON")).expect("writable");
        assert_eq!(read(&dir).expect("readable"), Some(marker(MarkerState::Ready)));
        assert!(find("data", &dir, false).expect("readable").is_empty);
        remove(&dir).expect("removed");
        assert_eq!(read(&dir).expect("readable"), None);
    }

    #[test]
    fn what_cannot_be_understood_is_no_missing_marker() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = Dir::open_root(directory.path()).expect("a directory");
        write_file(&dir, b"{\"state\":\"levitating\"}").expect("writable");
        assert!(read(&dir).is_err());
    }
}

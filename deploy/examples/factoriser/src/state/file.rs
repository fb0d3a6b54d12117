// SPDX-License-Identifier: Apache-2.0
//! Files that are replaced whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// What was found where a JSON file was expected.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// The file, whole.
    Whole(T),
    /// No file.
    Nothing,
    /// A file that isn't what it should be, and why not.
    Torn(String),
}

/// Reads a JSON file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Found<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or_else(|error| Found::Torn(error.to_string()), Found::Whole)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Replaces a file of the directory by this JSON: at any time, and after any crash, there is the old file or the new one.
pub(crate) fn replace<T: Serialize>(dir: &Path, name: &str, content: &T) -> Result<(), Error> {
    let path = dir.join(name);
    let write = || {
        let temporary = temporary(dir, name);
        let mut text = serde_json::to_vec_pretty(content)?;
        text.push(b'\n');
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(Error::file("write", &path))
}

/// Removes what a crash in [`replace`] may have left behind.
pub(crate) fn clear(dir: &Path, name: &str) -> Result<(), Error> {
    let path = temporary(dir, name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn temporary(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.tmp"))
}

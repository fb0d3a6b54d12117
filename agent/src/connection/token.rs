// SPDX-License-Identifier: Apache-2.0
//! Who one is, as a coordinator is told: a token, or a file that somebody renews.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// A file is read again after so long at the latest: requests between are many.
const FRESH: Duration = Duration::from_secs(30);
/// Longer is no token.
const TOKEN_BYTES_MAX: usize = 64 << 10;

type Value = MetadataValue<Ascii>;

/// A source of tokens. Clones are the same source.
#[derive(Clone)]
pub struct Tokens(Source);

#[derive(Clone)]
enum Source {
    None,
    Fixed(Value),
    File(Arc<TokenFile>),
}

struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<(Instant, Value)>>,
}

/// There is no token to be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It has line ends, or is empty.
    #[error("the coordinator's token has characters that no token has")]
    Characters,
    /// The file can't be read.
    #[error("the token for the coordinator can't be read from {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Tokens {
    /// Nothing is sent.
    #[must_use]
    pub const fn none() -> Self {
        Self(Source::None)
    }

    /// Always this one.
    ///
    /// # Errors
    /// If it can't be sent.
    pub fn fixed(token: &str) -> Result<Self, TokenError> {
        value(token).map(|value| Self(Source::Fixed(value)))
    }

    /// What the file holds: read again for each session, and now and then.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(Source::File(Arc::new(TokenFile { path: path.to_owned(), last: Mutex::default() })))
    }

    /// Reads the file again, if it is one.
    ///
    /// # Errors
    /// If it can't be read, or holds no token. The last one that was read stays.
    pub fn renew(&self) -> Result<(), TokenError> {
        match &self.0 {
            Source::None | Source::Fixed(_) => Ok(()),
            Source::File(file) => file.read().map(|_| ()),
        }
    }

    /// Adds it to a request.
    pub(crate) fn put(&self, metadata: &mut MetadataMap) {
        let value = match &self.0 {
            Source::None => None,
            Source::Fixed(value) => Some(value.clone()),
            Source::File(file) => file.current(),
        };
        if let Some(value) = value {
            metadata.insert("authorization", value);
        }
    }
}

impl TokenFile {
    fn read(&self) -> Result<Value, TokenError> {
        let failed = |source| TokenError::File { path: self.path.clone(), source };
        let text = std::fs::read_to_string(&self.path).map_err(failed)?;
        let value = value(text.trim())?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    /// A token that was good is better than none: whether it still is, the coordinator says.
    fn current(&self) -> Option<Value> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some((read, value)) if read.elapsed() < FRESH => Some(value),
            last => self.read().ok().or(last.map(|(_, value)| value)),
        }
    }
}

impl From<Option<MetadataValue<Ascii>>> for Tokens {
    fn from(value: Option<Value>) -> Self {
        Self(value.map_or(Source::None, Source::Fixed))
    }
}

fn value(token: &str) -> Result<Value, TokenError> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Characters);
    }
    let mut value = Value::try_from(format!("Bearer {token}")).map_err(|_| TokenError::Characters)?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::None => f.write_str("Tokens(none)"),
            Source::Fixed(_) => f.write_str("Tokens(…)"),
            Source::File(file) => write!(f, "Tokens({})", file.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(tokens: &Tokens) -> Option<String> {
        let mut metadata = MetadataMap::new();
        tokens.put(&mut metadata);
        metadata.get("authorization").map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn a_file_is_read_again_and_a_lost_one_is_remembered() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let tokens = Tokens::file(&path);
        assert!(matches!(tokens.renew(), Err(TokenError::File { .. })));
        assert_eq!(sent(&tokens), None);
        std::fs::write(&path, "first\n").expect("a file");
        assert_eq!(sent(&tokens).as_deref(), Some("Bearer first"));
        std::fs::write(&path, "second").expect("a file");
        assert_eq!(sent(&tokens).as_deref(), Some("Bearer first"), "requests between sessions don't read");
        tokens.renew().expect("a token");
        assert_eq!(sent(&tokens).as_deref(), Some("Bearer second"));
        std::fs::write(&path, "").expect("a file");
        assert!(matches!(tokens.renew(), Err(TokenError::Characters)));
        assert_eq!(sent(&tokens).as_deref(), Some("Bearer second"));
        assert!(!format!("{tokens:?}").contains("second"));
    }
}

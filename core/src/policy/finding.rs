// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a policy, said so that one knows what to write instead.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It may be meant, but it costs something that people don't expect.
    Warning,
    /// It can't be used.
    Error,
}

impl Severity {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which field, as one would write it: `spec.paths[0].exclude[2]`.
    pub field: String,
    /// How bad it is.
    pub severity: Severity,
    /// What to write instead, in one sentence.
    pub sentence: String,
}

impl Finding {
    /// It can't be used.
    #[must_use]
    pub fn error(field: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { field: field.into(), severity: Severity::Error, sentence: sentence.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity.word(), self.field, self.sentence)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Who opens a session, what it hears until it is welcomed, and what it is offered.

use super::SessionError;
use crate::{AgentError, gate};
use holdfast_proto::v1;
use std::fmt;
use std::sync::Arc;

/// Who opens a session, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The domain's name and the lineage's; `None`: the coordinator knows from the token whose state this keeps.
    pub lineage: Option<(String, String)>,
    /// Who this is, for people.
    pub holder: String,
}

impl Who {
    /// Somebody who names the lineage.
    #[must_use]
    pub fn of(domain: &str, lineage: &str, holder: &str) -> Self {
        Self { lineage: Some((domain.to_owned(), lineage.to_owned())), holder: holder.to_owned() }
    }

    /// Somebody whose token names it.
    #[must_use]
    pub fn by_token(holder: &str) -> Self {
        Self { lineage: None, holder: holder.to_owned() }
    }
}

/// The same caller, whatever happens to its sessions.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) who: Who,
    pub(super) instance: [u8; 16],
    /// The newest session that there was.
    session: String,
    resume: bool,
}

impl Caller {
    /// A caller with a number of its own.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(who: Who) -> Result<Self, AgentError> {
        Ok(Self { who, instance: gate::random()?, session: String::new(), resume: false })
    }

    pub(super) fn welcomed(&mut self, session: String) {
        (self.session, self.resume) = (session, true);
    }

    /// A session that can't be gone on with is asked for anew, by token; and the other way round.
    pub(super) fn refused(&mut self, error: &SessionError) {
        if !error.is_silence() {
            self.resume = !self.resume;
        }
    }

    pub(super) fn resumes(&self) -> bool {
        self.resume && !self.session.is_empty()
    }

    pub(super) fn resume(&self) -> String {
        if self.resume { self.session.clone() } else { String::new() }
    }
}

/// What is heard until a session is open.
#[derive(Debug)]
pub enum Notice {
    /// The coordinator will open it, but not yet.
    Waiting {
        /// One of a closed set.
        reason: String,
        /// For people.
        message: String,
    },
    /// There is none; it will be tried again.
    Failed(SessionError),
}

/// Where notices go. Clones lead to the same place.
#[derive(Clone)]
pub struct Notices(Arc<dyn Fn(Notice) + Send + Sync>);

impl Notices {
    /// To this function; it must not block.
    pub fn new(tell: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn tell(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}

/// What the coordinator said about a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The lineage's last holder is gone, though it may not have sealed it.
    pub take_over: bool,
    /// What was decided about the disk.
    pub start: Start,
}

/// What was decided about the disk that a start finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: the policy decides.
    AsConfigured,
    /// The disk's state is the state from now on.
    AdoptDisk,
    /// The store's state is; the disk's is captured first.
    PreferStore,
    /// The disk is left as it is, whatever it is.
    Fresh,
}

impl From<v1::Start> for Start {
    fn from(start: v1::Start) -> Self {
        match start {
            v1::Start::Unspecified => Self::AsConfigured,
            v1::Start::AdoptDisk => Self::AdoptDisk,
            v1::Start::PreferStore => Self::PreferStore,
            v1::Start::Fresh => Self::Fresh,
        }
    }
}

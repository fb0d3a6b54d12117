// SPDX-License-Identifier: Apache-2.0
//! The process beside an application: watches its state, captures changes, restores, keeps the gate.
//!
//! [`prepare`] decides whose disk this is and restores it if it must be; only then may the application start. [`Agent::run`] then
//! captures what changes until it is told to end. The agent never stops or slows the application: if the store is gone it waits, remembers what
//! is to be compared, and says so in its [`Status`].

pub mod clock;
pub mod config;
pub mod connection;
pub mod delivery;
pub mod error;
pub mod governor;
pub mod grant;
pub mod history;
pub mod lock;
pub mod marker;
pub mod pod;
pub mod quiesce;
pub mod remote;
pub mod scratch;
pub mod session;
pub mod status;

mod agent;
mod capture;
mod dirty;
mod gate;
mod problems;
mod thread;
mod watch;

pub use agent::{Agent, Command, Cut, Grip, Rests, Word};
pub use config::{AgentConfig, StatePath};
pub use connection::Connection;
pub use error::AgentError;
pub use gate::{Prepared, prepare};
pub use problems::Problems;
pub use remote::RemoteTransport;
pub use session::{Session, Who, rests_alone};
pub use status::{Phase, Restored, Status};

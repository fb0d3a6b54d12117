// SPDX-License-Identifier: Apache-2.0
//! Holdfast's Kubernetes types: the policy and its friends, what is said of them, and what they mean.
//!
//! The types here are the wire: what people write and what the API server stores. What they mean is in
//! [`holdfast_core::policy`]; [`StatePolicySpec::resolve`] leads from one to the other.

pub mod check;
pub mod crds;
pub mod explain;
pub mod labels;
pub mod lineage;
pub mod policy;
pub mod quantity;
pub mod repository;
pub mod restore;
pub mod snapshot;
pub mod text;

pub use check::check_yaml;
pub use explain::explain;
pub use lineage::{StateLineage, StateLineageSpec, StateLineageStatus};
pub use policy::{StatePolicy, StatePolicySpec, StatePolicyStatus};
pub use repository::{StateRepository, StateRepositorySpec, StateRepositoryStatus};
pub use restore::{StateRestore, StateRestoreSpec, StateRestoreStatus};
pub use snapshot::{StateSnapshot, StateSnapshotSpec, StateSnapshotStatus};

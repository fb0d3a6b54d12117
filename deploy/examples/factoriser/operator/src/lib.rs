// SPDX-License-Identifier: Apache-2.0
//! The example's operator. [`resource`] is what a user writes, [`plan`] decides what must be there, [`reconcile`] sees to it.

pub mod plan;
pub mod reconcile;
pub mod resource;

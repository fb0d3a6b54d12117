// SPDX-License-Identifier: Apache-2.0
//! The pure domain of Holdfast.
//!
//! Nothing here awaits, reads a clock, draws a random number or touches a disk: `now` is an argument, and what must
//! be done is returned as a value. So the same code runs in production, in property tests and in the simulator.

pub mod barrier;
pub mod cadence;
pub mod checkpoint;
pub mod collection;
pub mod delivery;
pub mod disk;
pub mod gallop;
pub mod id;
pub mod lag;
pub mod lineage;
pub mod object;
pub mod pod;
pub mod policy;
pub mod slot;
pub mod time;

// SPDX-License-Identifier: Apache-2.0
//! Small cases by hand, and thousands of worlds by seed.

mod bank;
mod cases;
mod world;

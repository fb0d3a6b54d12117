// SPDX-License-Identifier: Apache-2.0
//! What tests that span crates share. Nothing here is part of the product.

pub mod clock;
pub mod format_v1;
pub mod listing;
pub mod markdown;
pub mod program;
pub mod project;
pub mod python;

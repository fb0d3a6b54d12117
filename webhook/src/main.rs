// SPDX-License-Identifier: Apache-2.0
//! The admission webhook's process.

fn main() -> anyhow::Result<()> {
    holdfast_webhook::run()
}

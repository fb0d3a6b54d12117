// SPDX-License-Identifier: Apache-2.0
//! The coordinator's process in a cluster.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}

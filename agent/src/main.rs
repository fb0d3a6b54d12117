// SPDX-License-Identifier: Apache-2.0
//! The agent's process in a pod.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}

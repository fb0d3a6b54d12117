// SPDX-License-Identifier: Apache-2.0
//! Compiles the definitions without protoc.

use prost::Message as _;
use std::path::PathBuf;

const FILES: [&str; 7] = [
    "holdfast/v1/agent.proto",
    "holdfast/v1/common.proto",
    "holdfast/v1/file.proto",
    "holdfast/v1/lineage.proto",
    "holdfast/v1/object.proto",
    "holdfast/v1/restore.proto",
    "holdfast/v1/snapshot.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=holdfast");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("holdfast.bin"), descriptors.encode_to_vec())?;
    // ordered maps and shared bytes: the same message always has the same encoding, and bodies are not copied
    // keys and tokens must not reach a log by way of `{:?}`: src/redacted.rs prints these messages
    let secret = ["holdfast.v1.Grant", "holdfast.v1.DomainKeys", "holdfast.v1.KeyEpoch"];
    tonic_prost_build::configure().btree_map(".").bytes(".").skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}

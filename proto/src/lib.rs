// SPDX-License-Identifier: Apache-2.0
//! Holdfast's gRPC interface: what `holdfast/v1/*.proto` generates, and conversions to and from the domain's types.

pub mod barrier;
pub mod problem;
mod redacted;

/// Version 1 of the interface.
pub mod v1 {
    #![allow(
        missing_docs,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::nursery,
        clippy::allow_attributes_without_reason,
        reason = "generated; the definitions carry the documentation"
    )]
    tonic::include_proto!("holdfast.v1");
}

/// The definitions themselves, for server reflection: an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/holdfast.bin"));

/// The version of the agents' protocol that this code speaks.
pub const AGENT_PROTOCOL: u32 = 1;

/// The request header that carries a grant's token, base64.
pub const GRANT_HEADER: &str = "holdfast-grant-bin";

/// The request header by which people and tools name a repository of a cluster: `<namespace>/<name>`.
pub const REPOSITORY_HEADER: &str = "holdfast-repository";

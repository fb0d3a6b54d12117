// SPDX-License-Identifier: Apache-2.0
//! Why a coordinator can't serve.

/// A coordinator can't serve, or not any longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The connection, or the listener, failed.
    #[error("serve clients")]
    Transport(#[from] tonic::transport::Error),
    /// The system refused.
    #[error("serve clients")]
    Io(#[from] std::io::Error),
    /// Everybody could call.
    #[error("{address} can be reached from other machines, and no token is asked for: set a token, or listen on 127.0.0.1")]
    Unguarded {
        /// Where it would have listened.
        address: std::net::SocketAddr,
    },
    /// It has been stopped.
    #[error("the coordinator has been stopped")]
    Ended,
}

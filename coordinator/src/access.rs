// SPDX-License-Identifier: Apache-2.0
//! Who may call.

use crate::status;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use holdfast_proto::problem::Reason;
use sha2::{Digest, Sha256};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Who may call.
#[derive(Clone)]
pub enum Access {
    /// Everybody: for what never leaves this machine.
    Open,
    /// Whoever sends `authorization: Bearer` with this token.
    Token(String),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// Lets a call in or not. Of the token only a hash is kept: equally long ones are compared, in constant time.
#[derive(Clone, Debug)]
pub(crate) struct Gatekeeper(Option<[u8; 32]>);

impl Gatekeeper {
    pub(crate) fn new(access: &Access) -> Self {
        match access {
            Access::Open => Self(None),
            Access::Token(token) => Self(Some(Sha256::digest(token.as_bytes()).into())),
        }
    }
}

impl Interceptor for Gatekeeper {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.0 else { return Ok(request) };
        let header = request.metadata().get("authorization").map(|value| value.as_encoded_bytes());
        let given = header.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        let hash: [u8; 32] = Sha256::digest(given.unwrap_or_default()).into();
        match (given, verify_slices_are_equal(&hash, expected)) {
            (Some(_), Ok(())) => Ok(request),
            (None, _) => Err(status::because(Reason::Unauthenticated, "send the header `authorization: Bearer TOKEN`")),
            _ => Err(status::because(Reason::Unauthenticated, "the token is not this coordinator's")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let mut gate = Gatekeeper::new(&Access::Token("secret".to_owned()));
        let table = [
            (None, false),
            (Some("Bearer secret"), true),
            (Some("bearer secret"), true),
            (Some("Bearer secre"), false),
            (Some("secret"), false),
            (Some("Bearer "), false),
        ];
        for (header, may) in table {
            let mut request = Request::new(());
            if let Some(header) = header {
                request.metadata_mut().insert("authorization", header.parse().expect("a header"));
            }
            assert_eq!(gate.call(request).is_ok(), may, "{header:?}");
        }
        assert!(Gatekeeper::new(&Access::Open).call(Request::new(())).is_ok());
        assert!(!format!("{:?}", Access::Token("secret".to_owned())).contains("secret"));
    }
}

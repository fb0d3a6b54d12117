// SPDX-License-Identifier: Apache-2.0
//! How messages that hold secrets are printed: without them.

use crate::v1::{DomainKeys, Grant, KeyEpoch};
use std::fmt;

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lineage", &self.lineage)
            .field("lineage_id", &self.lineage_id)
            .field("write", &self.write)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DomainKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainKeys").finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEpoch").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{CreateRestoreResponse, Welcome};

    #[test]
    fn no_secret_is_printed() {
        let secret = || bytes::Bytes::from_static(b"SECRET");
        let keys =
            DomainKeys { identity: secret(), epochs: vec![KeyEpoch { epoch: 1, secret: secret() }], ..DomainKeys::default() };
        let grant = Grant { token: secret(), keys: Some(keys.clone()), ..Grant::default() };
        let welcome = Welcome { grant: Some(grant.clone()), ..Welcome::default() };
        let created = CreateRestoreResponse { grant: Some(grant.clone()), ..CreateRestoreResponse::default() };
        for text in [
            format!("{grant:?}"),
            format!("{keys:#?}"),
            format!("{welcome:?}"),
            format!("{created:?}"),
            format!("{:?}", keys.epochs),
        ] {
            assert!(!text.contains("SECRET") && !text.contains("83, 69"), "{text}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The collector's role: a log of its own. Whoever creates the next entry holds it, and every entry repeats what earlier ones condemned.

use super::Request;
use crate::error::{Result, StoreError};
use crate::record::{refuse_unknown, wire};
use crate::register::Register;
use crate::repository::Repository;
use crate::transport::settle::Settled;
use prost::Message;
use std::collections::BTreeSet;

/// The newest entry of the role's log.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    /// Its number; 0: nobody has ever held the role.
    pub(super) number: u64,
    /// Names that may be deleted at any moment.
    pub(super) condemned: BTreeSet<String>,
    /// Packs that somebody may be rewriting.
    pub(super) compacting: BTreeSet<String>,
}

fn register(repository: &Repository) -> Register<'_> {
    Register::collections(&**repository.transport(), repository.own_domain())
}

impl Role {
    /// Reads the newest entry; `known` is one that exists, or 0.
    pub(super) async fn read(repository: &Repository, known: u64) -> Result<Self> {
        let register = register(repository);
        let number = register.last(known).await?;
        if number == 0 {
            return Ok(Self::default());
        }
        let object = register.name(number);
        let wire =
            wire::Collection::decode(&*register.read(number).await?).map_err(|error| StoreError::damaged(&object, error))?;
        refuse_unknown(&object, wire.format, &wire.features)?;
        let (condemned, compacting) = (wire.condemned.into_iter().collect(), wire.compacting.into_iter().collect());
        Ok(Self { number, condemned, compacting })
    }

    /// Tries to win the entry after this one; `None`: another collector has.
    pub(super) async fn win(
        &self,
        request: &Request<'_>,
        condemned: BTreeSet<String>,
        compacting: BTreeSet<String>,
    ) -> Result<Option<Self>> {
        let wire = wire::Collection {
            format: crate::seal::FORMAT_VERSION.into(),
            features: Vec::new(),
            holder_key: request.holder_key.as_bytes().to_vec(),
            owner: request.owner.as_bytes().to_vec(),
            holder: request.holder.clone(),
            condemned: condemned.iter().cloned().collect(),
            compacting: compacting.iter().cloned().collect(),
        };
        let number = self.number + 1;
        let won = register(request.repository).put(number, &wire.encode_to_vec()).await? == Settled::Won;
        Ok(won.then_some(Self { number, condemned, compacting }))
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A lineage before it is granted: whether the repository has it already, from another cluster, and what a person has chosen then.

use crate::catalog::{self, Place};
use crate::shared::Shared;
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_proto::v1::LineageRef;
use holdfast_store::error::StoreError;
use holdfast_store::lineages::Lineage;
use holdfast_store::reader::Reader;
use holdfast_store::write::{Opening, Session, Takeover, Tuning};
use std::sync::Arc;
use tonic::Status;

/// How a lineage stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is this cluster's, or nobody's yet.
    Ours,
    /// Another cluster owns it: for people.
    Foreign(String),
}

/// What becomes of another cluster's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// This cluster takes it over: the other one's agents are fenced.
    Adopt,
    /// A history of its own begins empty.
    Fresh,
}

impl Foreign {
    /// What a person wrote.
    pub(super) fn read(choice: &str) -> Option<Self> {
        Some(match choice {
            "adopt" => Self::Adopt,
            "fresh" => Self::Fresh,
            _ => return None,
        })
    }
}

/// The name of a lineage that this cluster keeps beside another's of the same name.
pub(super) fn own_name(lineage: &str, owner: OwnerId) -> String {
    let owner = owner.to_string();
    format!("{lineage}@{}", &owner[..8])
}

/// Looks who owns a lineage.
pub(super) async fn look(shared: &Shared, names: &LineageRef) -> Result<Standing, Status> {
    let place = shared.catalog.begin(Some(names.clone()), "lineage").await?;
    let Some(found) = read(&place).await? else { return Ok(Standing::Ours) };
    if found.claim.owner == shared.owner {
        return Ok(Standing::Ours);
    }
    let state = match &found.newest {
        Some(newest) => format!("checkpoint {}", newest.record.sequence),
        None => "no checkpoint".to_owned(),
    };
    Ok(Standing::Foreign(format!(
        "the repository holds lineage {} of another cluster ({}, last written by {}, {state})",
        catalog::text(names),
        found.claim.owner,
        found.claim.holder,
    )))
}

/// Whether a lineage's last holder has sealed it.
pub(super) async fn is_sealed(shared: &Shared, names: &LineageRef) -> Result<bool, Status> {
    let place = shared.catalog.lineage(Some(names.clone()), "lineage").await?;
    Ok(read(&place).await?.is_some_and(|lineage| lineage.is_sealed()))
}

async fn read(place: &Place) -> Result<Option<Lineage>, Status> {
    Lineage::read(place.log.clone()).await.map_err(crate::status::store)
}

/// Takes another cluster's lineage over: a claim for this cluster's owner, sealed at once, so that the pod's agent goes on from it as from its own.
pub(super) async fn adopt(shared: &Shared, names: &LineageRef) -> Result<(), Status> {
    let place = shared.catalog.begin(Some(names.clone()), "lineage").await?;
    let (runtime, transport) = (tokio::runtime::Handle::current(), Arc::clone(place.log.transport()));
    let reader = Arc::new(Reader::new(transport, Arc::clone(place.domain()), runtime, None));
    let opening = Opening {
        reader,
        name: names.lineage.clone(),
        owner: shared.owner,
        holder: "the coordinator, which adopts it".to_owned(),
        holder_key: HolderKey::new(shared.random_id()?),
        takeover: Takeover::Anybody,
        watermark: None,
        back_to: None,
        tuning: Tuning::default(),
        now: shared.clock.now(),
    };
    let session = Session::open(opening).await.map_err(crate::status::store)?;
    let now = shared.clock.now();
    let sealed = tokio::task::spawn_blocking(move || session.seal("adopted", now)).await.map_err(|_| crate::status::lost())?;
    match sealed {
        // somebody was faster: whose it is now is looked at again
        Ok(_) | Err(StoreError::Fenced { .. }) => Ok(()),
        Err(error) => Err(crate::status::of_store(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_words() {
        let read = ["adopt", "fresh", "adopt-disk", "", "Adopt"].map(Foreign::read);
        assert_eq!(read, [Some(Foreign::Adopt), Some(Foreign::Fresh), None, None, None]);
        let own = own_name("statefulset/web/0", OwnerId::new([0xab; 16]));
        assert_eq!(own, "statefulset/web/0@abababab");
    }
}

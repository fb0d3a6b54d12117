// SPDX-License-Identifier: Apache-2.0
//! What the members of a snapshot ran as. It is much, and seldom asked for: it is read from the register each time.

use super::Snapshots;
use crate::error::Result;
use crate::record::wire;

/// What the members of a snapshot ran as, and ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setting {
    /// Objects of Kubernetes.
    pub manifests: Vec<Manifest>,
    /// The images of the members' containers.
    pub images: Vec<Image>,
}

/// An object of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// As Kubernetes writes it: `apps/v1`.
    pub api_version: String,
    /// As Kubernetes writes it: `Deployment`.
    pub kind: String,
    /// Where it was.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The object, without what the cluster had added to it; empty: only its name is recorded.
    pub json: Vec<u8>,
}

/// The image of a member's container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// The member's name.
    pub lineage: String,
    /// The container's name.
    pub container: String,
    /// As the pod asked for it.
    pub image: String,
    /// As the node resolved it: a name with a digest.
    pub digest: String,
}

impl Setting {
    pub(super) fn to_wire(&self) -> (Vec<wire::Manifest>, Vec<wire::Image>) {
        let manifest = |manifest: &Manifest| {
            let Manifest { api_version, kind, namespace, name, json } = manifest.clone();
            wire::Manifest { api_version, kind, namespace, name, json }
        };
        let image = |image: &Image| {
            let Image { lineage, container, image, digest } = image.clone();
            wire::Image { lineage, container, image, digest }
        };
        (self.manifests.iter().map(manifest).collect(), self.images.iter().map(image).collect())
    }

    fn of_wire(wire: wire::Snapshot) -> Self {
        let manifest =
            |wire::Manifest { api_version, kind, namespace, name, json }| Manifest { api_version, kind, namespace, name, json };
        let image = |wire::Image { lineage, container, image, digest }| Image { lineage, container, image, digest };
        Self {
            manifests: wire.manifests.into_iter().map(manifest).collect(),
            images: wire.images.into_iter().map(image).collect(),
        }
    }
}

impl Snapshots {
    /// What the members of the snapshot with this number ran as; nothing, where it was taken outside of a cluster.
    ///
    /// # Errors
    /// If the store fails, or the entry is damaged.
    pub async fn setting(&self, number: u64) -> Result<Setting> {
        self.read_wire(number).await.map(Setting::of_wire)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The slots as others see them.

use super::actor::Actor;
use super::facts::Named;
use crate::cluster::{RepositoryKey, SlotView};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Actor {
    /// Tells how slots are, if that has changed.
    pub(super) fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let now = self.rows();
        self.told.send_if_modified(|told| {
            let changed = **told != now;
            if changed {
                *told = Arc::new(now);
            }
            changed
        });
    }

    fn rows(&self) -> Vec<SlotView> {
        let mut rows: BTreeMap<Named, SlotView> = BTreeMap::new();
        for (of, record) in &self.records {
            let workload = self.workloads.get(&record.workload);
            let holder = workload.and_then(|workload| workload.slots().find(|(slot, _)| **slot == record.slot)?.1);
            let name = |uid: &str| self.pods.get(uid).map(|facts| facts.name.clone()).unwrap_or_default();
            let row = SlotView {
                namespace: of.0.clone(),
                object: Some(of.1.clone()),
                repository: RepositoryKey::new(&of.0, &record.repository),
                lineage: record.lineage.clone(),
                holder: holder.map(|id| (name(&id.0), id.0.clone())),
                waiting: None,
            };
            rows.insert(of.clone(), row);
        }
        let mut others = Vec::new();
        for (uid, guest) in &self.guests {
            let (Some(waiting), Some(facts)) = (&guest.waiting, self.pods.get(uid)) else { continue };
            let waiting = Some((guest.pod.name.clone(), waiting.clone()));
            let of = guest.slot().map(|slot| (facts.workload.namespace.clone(), facts.workload.lineage(slot).object()));
            if let Some(row) = of.and_then(|of| rows.get_mut(&of)) {
                row.waiting = waiting;
                continue;
            }
            let namespace = facts.workload.namespace.clone();
            let policy = self.policies.get(&(namespace.clone(), facts.policy.clone()));
            let repository = RepositoryKey::new(&namespace, policy.map(|policy| policy.repository.as_str()).unwrap_or_default());
            others.push(SlotView { namespace, object: None, repository, lineage: String::new(), holder: None, waiting });
        }
        others.sort_by(|one, two| one.waiting.as_ref().map(|(pod, _)| pod).cmp(&two.waiting.as_ref().map(|(pod, _)| pod)));
        rows.into_values().chain(others).collect()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The name of a lineage's record in a cluster, where it follows from the lineage's own: whoever makes the record, and whoever tells people of it without
//! seeing it, must come to the same.

/// Longest value of a label, and so of the name of a StateLineage, which pods bear as one.
pub const LABEL_MAX: usize = 63;

/// The slot of a state that all replicas share.
pub const SHARED: &str = "shared";

/// The name of the StateLineage of a lineage like `statefulset/web/0`: `statefulset-web-0`. `None` where dashes could be read in two ways, as with slots
/// that are names themselves, or where it would be too long for a label: whoever makes the record gives it a name with a hash then.
#[must_use]
pub fn plain(lineage: &str) -> Option<String> {
    // behind an @ stands the cluster, where another one has the name
    let (name, _) = lineage.split_once('@').unwrap_or((lineage, ""));
    let (_, slot) = name.rsplit_once('/')?;
    let is_clear = slot == SHARED || (!slot.is_empty() && slot.bytes().all(|byte| byte.is_ascii_digit()));
    (is_clear && name.len() <= LABEL_MAX).then(|| name.replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_read_in_one_way_has_a_plain_name() {
        assert_eq!(plain("statefulset/web/0").as_deref(), Some("statefulset-web-0"));
        assert_eq!(plain("statefulset/web/1@c1c1c1c1").as_deref(), Some("statefulset-web-1"));
        assert_eq!(plain("deployment/web/shared").as_deref(), Some("deployment-web-shared"));
        for unclear in ["daemonset/log/node-7", "statefulset/web/", "web", ""] {
            assert_eq!(plain(unclear), None, "{unclear}");
        }
        let of = |length: usize| plain(&format!("statefulset/{}/0", "x".repeat(length)));
        assert_eq!(of(49).map(|name| name.len()), Some(LABEL_MAX));
        assert_eq!(of(50), None);
    }
}

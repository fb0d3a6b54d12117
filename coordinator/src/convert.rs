// SPDX-License-Identifier: Apache-2.0
//! From the repository's types to those of the wire.

use holdfast_core::checkpoint as core;
use holdfast_core::time::Timestamp;
use holdfast_proto::v1;
use holdfast_store::log::{Entry, Mark};
use holdfast_store::seal::Domain;
use holdfast_store::snapshot::{Consistency, Snapshot};

/// A moment.
pub(crate) fn time(moment: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(moment.nanos().rem_euclid(1_000_000_000)).unwrap_or(0);
    prost_types::Timestamp { seconds: moment.nanos().div_euclid(1_000_000_000), nanos }
}

/// A moment that a caller named; `None` if it lies outside of what can be told (1677 to 2262), or is none.
pub(crate) fn moment(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let nanos = i64::from(time.nanos);
    if !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    time.seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Timestamp::from_nanos)
}

/// How far a checkpoint is one moment.
pub(crate) const fn quality(quality: core::Quality) -> v1::Quality {
    match quality {
        core::Quality::Clean => v1::Quality::Clean,
        core::Quality::Fuzzy => v1::Quality::Fuzzy,
        core::Quality::Partial => v1::Quality::Partial,
    }
}

/// What is known of a checkpoint from a timeline.
pub(crate) fn mark(lineage: &v1::LineageRef, mark: &Mark) -> v1::Checkpoint {
    v1::Checkpoint {
        lineage: Some(lineage.clone()),
        sequence: mark.sequence,
        quality: quality(mark.quality).into(),
        last_close: Some(time(mark.last_close)),
        ..v1::Checkpoint::default()
    }
}

/// A checkpoint in full; `None` if the record is none.
pub(crate) fn checkpoint(lineage: &v1::LineageRef, entry: &Entry) -> Option<v1::Checkpoint> {
    let checkpoint = entry.record.checkpoint()?;
    let path = |root: &core::ScopeRoot| v1::StatePath {
        label: root.label.clone(),
        path: root.path.clone(),
        include: root.include.clone(),
        exclude: root.exclude.clone(),
    };
    let problem = |problem: &core::Problem| v1::Problem { path: problem.path.clone().into(), what: problem.what.clone() };
    Some(v1::Checkpoint {
        lineage: Some(lineage.clone()),
        sequence: entry.record.sequence,
        record: entry.hash.to_string(),
        root: checkpoint.root.to_string(),
        generation: entry.record.generation,
        quality: quality(checkpoint.quality).into(),
        first_open: Some(time(checkpoint.interval.first_open)),
        last_close: Some(time(checkpoint.interval.last_close)),
        clock_error_ns: u64::try_from(checkpoint.interval.clock_error.as_nanos()).unwrap_or(u64::MAX),
        totals: Some(totals(&checkpoint.totals)),
        paths: checkpoint.scope.roots.iter().map(path).collect(),
        problems: checkpoint.problems.iter().map(problem).collect(),
    })
}

/// What a checkpoint holds.
pub(crate) const fn totals(totals: &core::Totals) -> v1::Totals {
    let core::Totals { files, directories, others, links, bytes, problems } = *totals;
    v1::Totals { files, directories, others, links, bytes, problems }
}

/// A snapshot as the register has it: of its members what is needed to find them. `domain` names a member's domain.
pub(crate) fn snapshot(snapshot: &Snapshot, domain: impl Fn(holdfast_core::id::DomainId) -> String) -> v1::Snapshot {
    let member = |member: &holdfast_store::snapshot::Member| v1::SnapshotMember {
        checkpoint: Some(v1::Checkpoint {
            lineage: Some(v1::LineageRef { domain: domain(member.domain), lineage: member.name.clone() }),
            sequence: member.sequence,
            record: member.record.to_string(),
            root: member.root.to_string(),
            ..v1::Checkpoint::default()
        }),
        flushed: false,
        pause_ns: member.pause.map(nanos),
    };
    v1::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        created: Some(time(snapshot.created)),
        consistency: match snapshot.consistency {
            Consistency::Crash => v1::Consistency::Crash,
            Consistency::Hooks => v1::Consistency::Hooks,
            Consistency::Frozen => v1::Consistency::Frozen,
        }
        .into(),
        members: snapshot.members.iter().map(member).collect(),
        labels: snapshot.labels.clone(),
        skew_ns: snapshot.skew.map_or(0, nanos),
        bytes: 0,
    }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Between the earliest and the latest end of a member's capture, in nanoseconds.
pub(crate) fn skew(members: &[v1::SnapshotMember]) -> u64 {
    let ends = members.iter().filter_map(|member| moment(member.checkpoint.as_ref()?.last_close.as_ref()?));
    let (first, last) = ends.fold((i64::MAX, i64::MIN), |(first, last), end| (first.min(end.nanos()), last.max(end.nanos())));
    u64::try_from(last.saturating_sub(first)).unwrap_or(0)
}

/// A domain's keys, for whoever is granted them.
pub(crate) fn keys(domain: &Domain) -> v1::DomainKeys {
    let bytes = bytes::Bytes::copy_from_slice;
    let epoch = |(epoch, secret): (&u32, &holdfast_store::key::Secret)| v1::KeyEpoch {
        epoch: u64::from(*epoch),
        secret: bytes(secret.expose()),
    };
    v1::DomainKeys {
        repository: bytes(domain.repository.as_bytes()),
        domain: bytes(domain.keys.id.as_bytes()),
        identity: bytes(domain.keys.identity.secret().expose()),
        epochs: domain.keys.secrets.iter().map(epoch).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_1970_are_told_as_protobuf_wants_them() {
        let half = time(Timestamp::from_nanos(-500_000_000));
        assert_eq!((half.seconds, half.nanos), (-1, 500_000_000));
        assert_eq!(moment(&half), Some(Timestamp::from_nanos(-500_000_000)));
        assert_eq!(moment(&prost_types::Timestamp { seconds: 0, nanos: -1 }), None);
        assert_eq!(moment(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }
}

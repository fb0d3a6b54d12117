// SPDX-License-Identifier: Apache-2.0
//! Lineages that begin with a checkpoint of another one.

use super::*;
use crate::record::Origin;

/// A fork has the state of its origin, whoever takes it over before it has a checkpoint, and neither of the two is touched by the other.
#[test]
fn a_fork_begins_with_a_checkpoint_of_another_lineage() {
    let world = World::new();
    let mut original = world.open(1);
    commit(&mut original, 1, &[("large", Some(bytes(1, 50_000)))]);
    let forked = commit(&mut original, 2, &[("small", Some(bytes(2, 100)))]);
    commit(&mut original, 3, &[("large", None), ("later", Some(bytes(3, 10)))]);
    let origin = Origin { lineage: world.log().lineage(), sequence: forked.sequence, record: forked.record };
    let opening = |holder| Opening { name: "copy-0".to_owned(), ..world.opening(holder) };
    let open = |opening| world.runtime.block_on(Session::open(opening)).expect("a claim");
    let wrong = Origin { record: original.head().expect("a head").hash, ..origin };
    let refused = world.runtime.block_on(Session::fork(opening(2), wrong));
    assert!(matches!(refused, Err(StoreError::Missing { .. })), "another record than was pinned");
    let first = world.runtime.block_on(Session::fork(opening(2), origin)).expect("a fork");
    assert_eq!((first.base(), first.root(), first.generation()), (0, Some(forked.root), 1));
    drop(first);
    // claimed twice more before anything is committed
    drop(open(opening(3)));
    let mut third = world.runtime.block_on(Session::fork(opening(4), origin)).expect("what an earlier try began");
    assert_eq!((third.root(), third.generation()), (Some(forked.root), 3));
    let roots = third.roots().to_vec();
    let begun = third.commit(&roots, meta(4, Quality::Clean)).expect("a commit");
    assert_eq!((begun.root, begun.sequence, begun.uploaded_bytes < 10_000), (forked.root, 4, true), "packs are not copied");
    let newer = commit(&mut third, 5, &[("own", Some(bytes(5, 20_000)))]);
    let again = open(opening(5));
    assert_eq!((again.base(), again.root()), (newer.sequence, Some(newer.root)));
    let copy = Log::new(Arc::clone(world.log().transport()), Arc::clone(&world.domain), again.lineage());
    let read = |sequence| {
        let entry = world.runtime.block_on(copy.read(sequence)).expect("a record");
        read_files(&world.reader(), &entry.record.checkpoint().expect("a checkpoint").roots[0].entries())
    };
    assert_eq!(read(begun.sequence), world.files(forked.sequence));
    assert_eq!(read(newer.sequence).into_keys().collect::<Vec<_>>(), ["large", "own", "small"]);
    let base = world.runtime.block_on(copy.read_body(begun.sequence)).expect("a record").base;
    assert_eq!(base, 0, "a base is of the same lineage");
    let more = commit(&mut original, 6, &[("later", Some(bytes(6, 10)))]);
    assert_eq!(world.files(more.sequence).into_keys().collect::<Vec<_>>(), ["later", "small"], "the original goes on");
}

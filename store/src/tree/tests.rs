// SPDX-License-Identifier: Apache-2.0
//! Maps against ordered maps of the standard library.

use super::editor::NodeSink;
use super::*;
use crate::error::{Result, StoreError};
use crate::key::{Identity, Secret};
use holdfast_core::checkpoint::Totals;
use holdfast_core::id::{ChunkId, LineageId, NodeId, Nonce};
use proptest::prelude::*;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Keeps nodes in memory and counts.
pub(crate) struct Shelf {
    identity: Identity,
    nodes: HashMap<NodeId, Arc<dyn Any + Send + Sync>>,
    pub(crate) saved: usize,
    loaded: std::cell::Cell<usize>,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        let identity = Identity::new(Secret::new([3; 32]));
        Self { identity, nodes: HashMap::new(), saved: 0, loaded: std::cell::Cell::new(0) }
    }
}

impl NodeStore for Shelf {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn load<K: MapKind>(&self, node: &NodeRef<K>) -> Result<Arc<Node<K>>> {
        self.loaded.set(self.loaded.get() + 1);
        let found = self.nodes.get(&node.id).cloned().and_then(|any| any.downcast().ok());
        found.ok_or_else(|| StoreError::damaged("shelf", "no such node"))
    }
}

impl NodeSink for Shelf {
    fn save<K: MapKind>(&mut self, node: &Arc<Node<K>>) -> Result<NodeRef<K>> {
        let id = self.identity.node_id(&node.canonical());
        self.saved += 1;
        self.nodes.insert(id, Arc::clone(node) as Arc<dyn Any + Send + Sync>);
        Ok(NodeRef { id, level: node.level(), entries: node.entries(), at: At::Memory(Arc::clone(node)) })
    }
}

fn file(size: u64) -> Inode {
    Inode {
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Mtime { seconds: 1_700_000_000, nanos: 5 },
        xattrs: Xattrs::None,
        body: Body::File { size, content: Content::None },
        stamp: Stamp::default(),
    }
}

fn item(key: u32, size: u64) -> (Name, Entry) {
    (Name::new(format!("{key:06}").as_bytes()).expect("a name"), Entry::Inode(Box::new(file(size))))
}

fn apply(shelf: &mut Shelf, map: MapRef<Directory>, edits: &BTreeMap<u32, Option<u64>>) -> MapRef<Directory> {
    let mut editor = Editor::new(map);
    for (key, size) in edits {
        match size {
            Some(size) => editor.put(shelf, item(*key, *size)).expect("memory"),
            None => editor.remove(shelf, format!("{key:06}").as_bytes()).expect("memory"),
        }
    }
    editor.finish(shelf).expect("memory")
}

fn build(shelf: &mut Shelf, content: &BTreeMap<u32, u64>) -> MapRef<Directory> {
    apply(shelf, MapRef::Empty, &content.iter().map(|(key, size)| (*key, Some(*size))).collect())
}

fn items(shelf: &Shelf, map: &MapRef<Directory>) -> Vec<(Name, Entry)> {
    let mut cursor = Cursor::new(shelf, map).expect("memory");
    std::iter::from_fn(|| cursor.next(shelf).expect("memory")).collect()
}

fn id(map: &MapRef<Directory>) -> Vec<u8> {
    let mut bytes = Vec::new();
    map.encode(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever the edits, the map is the one that would have been built from its content at once; nothing depends on history.
    #[test]
    fn edits_and_history_agree(
        start in prop::collection::btree_map(0_u32..3000, 0_u64..4, 0..1500),
        rounds in prop::collection::vec(prop::collection::btree_map(0_u32..3100, prop::option::of(0_u64..4), 0..40), 1..4),
    ) {
        let mut shelf = Shelf::new();
        let mut model = start;
        let mut map = build(&mut shelf, &model);
        for edits in rounds {
            let before = map.clone();
            let expected: Vec<_> = edits.iter().filter(|(key, size)| model.get(key).copied() != **size).map(|(key, _)| *key).collect();
            map = apply(&mut shelf, map, &edits);
            for (key, size) in &edits {
                match size {
                    Some(size) => model.insert(*key, *size),
                    None => model.remove(key),
                };
            }
            let fresh = build(&mut shelf, &model);
            prop_assert_eq!(id(&map), id(&fresh));
            prop_assert_eq!(items(&shelf, &map), model.iter().map(|(key, size)| item(*key, *size)).collect::<Vec<_>>());
            prop_assert_eq!(map.entries(), model.len() as u64);
            let mut diff = diff::Diff::new(&shelf, &before, &map).expect("memory");
            let mut found = Vec::new();
            while let Some(difference) = diff.next(&shelf).expect("memory") {
                let (name, _) = match &difference {
                    diff::Difference::Added(item) | diff::Difference::Removed(item) | diff::Difference::Changed(item, _) => item,
                };
                found.push(String::from_utf8_lossy(name.as_bytes()).parse::<u32>().expect("digits"));
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn seeking_finds_what_scanning_finds(content in prop::collection::btree_map(0_u32..3000, 0_u64..4, 0..2000), keys in prop::collection::btree_set(0_u32..3100, 1..20)) {
        let mut shelf = Shelf::new();
        let map = build(&mut shelf, &content);
        let mut cursor = Cursor::new(&shelf, &map).expect("memory");
        for key in keys {
            cursor.seek(&shelf, format!("{key:06}").as_bytes()).expect("memory");
            let expected = content.range(key..).next().map(|(key, size)| item(*key, *size));
            prop_assert_eq!(cursor.peek(&shelf).expect("memory").cloned(), expected);
        }
    }
}

/// The figures of RFC 0001: one edit in a large map writes a handful of nodes and reads as few.
#[test]
fn one_edit_costs_the_height_of_the_tree() {
    let mut shelf = Shelf::new();
    let content: BTreeMap<u32, u64> = (0..100_000).map(|key| (key * 7, 1)).collect();
    let map = build(&mut shelf, &content);
    let MapRef::Node(root) = &map else { panic!("a large map has a root node") };
    assert_eq!(root.level, 2);
    assert!((1_300..1_900).contains(&shelf.saved), "{} nodes", shelf.saved);
    let (mut worst, mut total) = (0, 0);
    for round in 0..200_u32 {
        shelf.saved = 0;
        shelf.loaded.set(0);
        let key = round * 3_499;
        let edit = BTreeMap::from([(key, if round % 3 == 0 { None } else { Some(2) })]);
        apply(&mut shelf, map.clone(), &edit);
        assert!(shelf.loaded.get() <= 40, "{} nodes read", shelf.loaded.get());
        worst = worst.max(shelf.saved);
        total += shelf.saved;
    }
    assert!(worst <= 20 && total <= 200 * 6, "at most {worst}, {total} in 200 edits");
    shelf.saved = 0;
    let same = apply(&mut shelf, map.clone(), &BTreeMap::from([(7 * 500, Some(1))]));
    assert_eq!((id(&same) == id(&map), shelf.saved), (true, 0), "an edit that changes nothing writes nothing");
}

fn pack(sequence: u64, large: bool) -> Object {
    Object::Pack { lineage: LineageId::new([1; 16]), sequence, epoch: 1, nonce: Nonce::new([2; 16]), large }
}

fn stored(object: Object, offset: u64) -> Arc<Frame> {
    Frame::stored(FramePlace { object, offset, sealed_len: 500, plain_len: 900 })
}

fn round_trip<K: MapKind>(node: &Node<K>, home: Object) -> (Node<K>, u64) {
    let frame = stored(home, 64);
    let mut hints = Vec::new();
    let resolve = |frame: &Arc<Frame>| frame.place().copied();
    let young = node.hints(hints::Home { object: home, frame: &frame, resolve: &resolve }, &mut hints).expect("places are known");
    (Node::decode(&node.canonical(), &hints, home, &frame).expect("what was written"), young)
}

/// One of everything.
pub(crate) fn varied_leaf() -> Node<Directory> {
    let place = |sequence, large| Place { frame: stored(pack(sequence, large), 777), inner: 5 };
    let chunk = ChunkId::new([9; 32]);
    let name = |text: &[u8]| Name::new(text).expect("a name");
    let inode = |body| Entry::Inode(Box::new(Inode { body, ..file(0) }));
    let extent = |start, len| Extent { start, len, id: chunk, place: place(7, false) };
    let inner = Node::Leaf(vec![(name(b"x"), Entry::Link(4)), (name(b"y"), inode(Body::Fifo))]);
    let extents = MapRef::Inline(Arc::new(Node::Leaf(vec![extent(0, 4096), extent(8192, 4096)])));
    let far = Object::Pack { lineage: LineageId::new([8; 16]), sequence: 99, epoch: 2, nonce: Nonce::new([3; 16]), large: false };
    let stamp = Stamp { ctime: Mtime { seconds: -1, nanos: 999_999_999 }, inode: u64::MAX };
    let old = Inode { mtime: Mtime { seconds: -1, nanos: 500_000_000 }, stamp, mode: 0o7777, uid: u32::MAX, ..file(0) };
    let long_xattrs = Xattrs::Chunk { len: 300, id: chunk, place: Place { frame: stored(far, 1 << 40), inner: u32::MAX } };
    Node::Leaf(vec![
        (name(b"\x01\xff\n"), Entry::Inode(Box::new(old))),
        (name(b"chunk"), inode(Body::File { size: 1 << 20, content: Content::Chunk { id: chunk, place: place(5, true) } })),
        (name(b"device"), inode(Body::BlockDevice(u32::MAX, 0))),
        (
            name(b"directory"),
            inode(Body::Directory {
                map: MapRef::Inline(Arc::new(inner)),
                sums: Totals { files: 7, bytes: 9, ..Totals::default() },
            }),
        ),
        (name(b"inline"), inode(Body::File { size: 3, content: Content::Inline(b"abc"[..].into()) })),
        (name(b"link"), Entry::Link(u64::MAX)),
        (name(b"sparse"), inode(Body::File { size: 1 << 62, content: Content::Extents { map: extents, block: 12 } })),
        (name(b"symlink"), inode(Body::Symlink(b"../target"[..].into()))),
        (name(b"xattrs"), Entry::Inode(Box::new(Inode { xattrs: long_xattrs, ..file(0) }))),
        (
            name(b"xattrs2"),
            Entry::Inode(Box::new(Inode {
                xattrs: Xattrs::Inline(inode::encode_xattrs(&[(b"user.a".to_vec(), b"1".to_vec())]).into()),
                ..file(0)
            })),
        ),
    ])
}

#[test]
fn nodes_round_trip_with_their_hints() {
    let leaf = varied_leaf();
    let (again, young) = round_trip(&leaf, pack(3, false));
    assert_eq!(again, leaf);
    assert_eq!(young, 7, "the youngest small object; large ones and other lineages don't count");
    let reference = |level, young| NodeRef::<Directory> {
        id: NodeId::new([level; 32]),
        level,
        entries: 5,
        at: At::Stored(StoredNode { place: Place { frame: stored(pack(2, true), 9), inner: 1 }, len: 7, young }),
    };
    let children =
        vec![Child { key: b"a"[..].into(), node: reference(0, 4) }, Child { key: b"b"[..].into(), node: reference(0, 12) }];
    let inner = Node::Inner(1, children);
    let (again, young) = round_trip(&inner, pack(3, false));
    assert_eq!(again, inner);
    assert_eq!(young, 12);
}

/// Every accepted byte string is the one that would be written, and none makes the decoder panic.
#[test]
fn damaged_nodes_are_refused_or_canonical() {
    let leaf = varied_leaf();
    let frame = stored(pack(3, false), 64);
    let resolve = |frame: &Arc<Frame>| frame.place().copied();
    let mut hints = Vec::new();
    leaf.hints(hints::Home { object: pack(3, false), frame: &frame, resolve: &resolve }, &mut hints).expect("places");
    let canonical = leaf.canonical();
    for bit in 0..canonical.len() * 8 {
        let mut flipped = canonical.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(node) = Node::<Directory>::decode(&flipped, &hints, pack(3, false), &frame) {
            assert_eq!(node.canonical(), flipped, "bit {bit}");
        }
    }
    for bit in 0..hints.len() * 8 {
        let mut flipped = hints.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(node) = Node::<Directory>::decode(&canonical, &flipped, pack(3, false), &frame) {
            assert_eq!(node.canonical(), canonical, "hints don't change the state: bit {bit}");
        }
    }
    for len in 0..canonical.len() {
        assert!(Node::<Directory>::decode(&canonical[..len], &hints, pack(3, false), &frame).is_err(), "{len} bytes");
    }
    for len in 0..hints.len() {
        assert!(Node::<Directory>::decode(&canonical, &hints[..len], pack(3, false), &frame).is_err(), "{len} bytes of hints");
    }
}

#[test]
fn second_encodings_of_one_state_are_refused() {
    let check = |item: (Name, Entry)| {
        let node = Node::<Directory>::Leaf(vec![item]);
        let frame = stored(pack(3, false), 64);
        let resolve = |frame: &Arc<Frame>| frame.place().copied();
        let mut hints = Vec::new();
        node.hints(hints::Home { object: pack(3, false), frame: &frame, resolve: &resolve }, &mut hints).expect("places");
        assert!(Node::<Directory>::decode(&node.canonical(), &hints, pack(3, false), &frame).is_err(), "{node:?}");
    };
    let place = Place { frame: stored(pack(1, false), 64), inner: 0 };
    let name = Name::new(b"f").expect("a name");
    let with = |size, content| (name.clone(), Entry::Inode(Box::new(Inode { body: Body::File { size, content }, ..file(0) })));
    let id = ChunkId::new([1; 32]);
    let extents = |list: &[(u64, u32)]| {
        let list = list.iter().map(|(start, len)| Extent { start: *start, len: *len, id, place: place.clone() }).collect();
        Content::Extents { map: MapRef::Inline(Arc::new(Node::Leaf(list))), block: 0 }
    };
    check(with(10, Content::Chunk { id, place: place.clone() }));
    check(with(100, extents(&[(0, 100)])));
    check(with(100, extents(&[(0, 60), (60, 41)])));
    check(with(100, Content::Extents { map: MapRef::Empty, block: 0 }));
    check(with(65, Content::Inline(vec![0; 65].into())));
    check((
        name.clone(),
        Entry::Inode(Box::new(Inode { xattrs: Xattrs::Chunk { len: 10, id, place: place.clone() }, ..file(0) })),
    ));
    check((name.clone(), Entry::Inode(Box::new(Inode { xattrs: Xattrs::Inline(vec![0].into()), ..file(0) }))));
    check((name.clone(), Entry::Inode(Box::new(Inode { body: Body::Symlink(vec![].into()), ..file(0) }))));
    check((name.clone(), Entry::Inode(Box::new(Inode { mode: 0o10000, ..file(0) }))));
}

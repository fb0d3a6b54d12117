# SPDX-License-Identifier: Apache-2.0
"""The tree of a checkpoint: sections 5 and 6 of docs/format.md, written from that text alone."""
from collections import namedtuple
from functools import lru_cache
from sealed import Bytes, MIB, Object, hex16, mac, need, one, proto, zigzag

DIRECTORY, CONTENT, LINKS, ROOTS = 1, 2, 3, 4
Ref = namedtuple("Ref", "level id entries place length")                 # a node that is not inlined
Place = namedtuple("Place", "object offset sealed length inner")         # object: ("record", Object), or how a pack is named
Inode = namedtuple("Inode", "type mode uid gid mtime xattrs size content")  # content: bytes, a map, or two numbers


class State:
    """The tree of one checkpoint: its `roots` are (label, (inode, links)) pairs, its maps are walked with `walk`."""
    def __init__(self, domain, lineage, record):
        self.domain, self.lineage = domain, lineage
        self.root, canonical, hints = (one(record.inside, field, b"") for field in (1, 2, 3))
        need(mac(self.domain.node_key, canonical) == self.root, "root id")
        self.roots = self.parse(Bytes(canonical), Bytes(hints), Place(("record", record.object), 0, 0, 0, 0), ROOTS, 0)
        need(len(self.roots) <= 64, "too many roots")

    @lru_cache(maxsize=64)
    def frame(self, object, offset, sealed, length, lookups=16):
        domain = self.domain
        if object[0] == "record":
            at = object[1].start + offset
            return object[1].open(offset, object[1].raw[at:at + sealed], length)
        lineage, sequence, epoch, nonce = object
        at = f"domains/{domain.id.hex()}/lineages/{lineage.hex()}/"
        name = f"{at}packs/{hex16(sequence)}/{nonce.hex()}"
        if (raw := domain.repository.read(name)) is not None:
            pack = Object(domain, name, 2, lineage, raw, nonce)
            need(pack.epoch == epoch, f"{name}: epoch")
            return pack.open(offset, raw[offset:offset + sealed], length)
        forward = domain.repository.read(name := f"{at}forwards/{hex16(sequence)}/{nonce.hex()}")
        need(forward is not None and lookups, f"lost: {name}")
        for move in map(proto, Object(domain, name, 7, lineage, forward).body[1]):
            if one(move, 1) == offset:
                return self.frame((lineage, one(move, 2), one(move, 3), one(move, 4)), one(move, 5), sealed, length, lookups - 1)
        raise ValueError(f"lost: offset {offset} of {name}")

    def bytes(self, place, length):
        plain = self.frame(*place[:4])
        need(place.inner + length <= len(plain), "a place outside its frame")
        return plain[place.inner:place.inner + length]

    def chunk(self, id, length, place):
        data = self.bytes(place, length)
        need(mac(self.domain.chunk_key, data) == id, "chunk id")
        return data

    def node(self, ref, kind, top):
        c = Bytes(self.bytes(ref.place, ref.length))
        canonical = c.text()
        need(mac(self.domain.node_key, canonical) == ref.id, "node id")
        need(ref.level or not top or len(canonical) > 256, "a small map that is not inlined")
        return self.parse(Bytes(canonical), c, ref.place, kind, ref.level)

    def parse(self, c, h, holder, kind, level):
        """The entries of a node, from its canonical bytes and its hints."""
        need(level < 16 and c.byte() == kind and c.byte() == level, "kind or level of a node")
        objects = [holder.object]
        for _ in range(c_objects := h.u()):
            flags = h.byte()
            need(flags < 4, "flags of an object")
            lineage = h.take(16) if flags & 1 else holder.object[0] if holder.object[0] != "record" else self.lineage
            objects.append((lineage, h.u(), h.u(2**32), h.take(16)))
        frames = [holder] + [Place(objects[h.u(c_objects + 1)], h.u(), h.u(), h.u(), 0) for _ in range(h.u())]
        entries = self.entries(c, h, frames, kind, level)
        c.done(), h.done()
        return entries

    def entries(self, c, h, frames, kind, level):
        count, end, found = c.u(185), 0, []
        need(count, "an empty node")
        for _ in range(count):
            if level:
                found.append((c.text(), self.ref(c, h, frames, level - 1)))
            elif kind == DIRECTORY:
                name, type = c.text(), c.byte()
                need(0 < len(name) < 1024 and name not in (b".", b"..") and b"/" not in name and b"\0" not in name, "a name")
                found.append((name, c.u() if type == 7 else self.inode(c, h, frames, type)))
            elif kind == CONTENT:
                start = end + c.u()
                length, end = (n := c.u(MIB + 1)), start + n
                need(length, "an empty extent")
                found.append((end.to_bytes(8, "big"), (start, length, c.take(32), self.place(h, frames))))
            elif kind == LINKS:
                group, type = c.take(8), c.byte()
                need(type not in (1, 7), "type of a links entry")
                found.append((group, self.inode(c, h, frames, type)))
                h.u(), h.text()
            else:
                label = c.text()
                need(0 < len(label) < 64, "a label")
                found.append((label, (self.inode(c, h, frames, 1), self.map(c, h, frames, LINKS))))
        need(all(a[0] < b[0] for a, b in zip(found, found[1:])), "keys do not ascend")
        return found

    def inode(self, c, h, frames, type):
        need(type < 7, "type of an inode")
        mode, uid, gid, seconds, nanos = c.u(0o10000), c.u(2**32), c.u(2**32), zigzag(c.u()), c.u(10**9)
        h.u(), h.u(), h.u()
        form, xattrs = c.byte(), {}
        if form == 1:
            start = c.at
            xattrs = self.xattrs(c)
            need(c.at - start <= 256, "a list of xattrs that is not inlined")
        elif form == 2:
            length, id = c.u(MIB + 1), c.take(32)
            xattrs = self.xattrs(listed := Bytes(self.chunk(id, length, self.place(h, frames))))
            need(length > 256 and not listed.rest(), "a list of xattrs")
        need(form < 3, "form of xattrs")
        size, content = 0, None
        if type == 0:
            size = c.u(2**63)
            content = self.content(c, h, frames, size)
        elif type == 1:
            [h.u() for _ in range(5)]
            content = self.map(c, h, frames, DIRECTORY)
        elif type == 2:
            content = c.text()
            need(0 < len(content) < 4096 and b"\0" not in content, "target of a symlink")
        elif type > 4:
            content = c.u(2**32), c.u(2**32)
        return Inode(type, mode, uid, gid, seconds * 10**9 + nanos, xattrs, size, content)

    def xattrs(self, c):
        found = [(c.text(), c.text()) for _ in range(c.u())]
        need(found and all(a[0] < b[0] for a, b in zip(found, found[1:])), "a list of xattrs")
        need(all(0 < len(n) < 256 and b"\0" not in n and len(v) <= 65536 for n, v in found), "an xattr")
        return dict(found)

    def content(self, c, h, frames, size):
        """What a file holds: bytes from 0, or the map of its extents."""
        form = c.byte()
        need(form < 4 and (form == 1) <= (0 < size <= 64) and (form == 2) <= (64 < size <= MIB), "form of a content")
        if form == 1:
            return c.take(size)
        if form == 2:
            return [(b"", (0, size, c.take(32), self.place(h, frames)))]
        if form == 3:
            h.byte()
            return self.map(c, h, frames, CONTENT)
        return []

    def extents(self, inode):
        """The pieces of a file that hold data, as (offset, bytes); the rest of it are holes."""
        if isinstance(inode.content, bytes):
            yield 0, inode.content
            return
        end = 0
        for _, (start, length, id, place) in self.walk(inode.content, CONTENT):
            need(end <= start and start + length <= inode.size, "an extent over another, or beyond the size")
            yield start, self.chunk(id, length, place)
            end = start + length

    def place(self, h, frames):
        return frames[h.u(len(frames))]._replace(inner=h.u())

    def ref(self, c, h, frames, level):
        id, entries, place = c.take(32), c.u(), self.place(h, frames)
        length, _young = h.u(), h.u()
        return Ref(level, id, entries, place, length)

    def map(self, c, h, frames, kind):
        form = c.byte()
        if form == 1:
            leaf = Bytes(c.text())
            need(leaf.rest() <= 256 and leaf.byte() == kind and leaf.byte() == 0, "an inlined leaf")
            entries = self.entries(leaf, h, frames, kind, 0)
            leaf.done()
            return entries
        need(form in (0, 2), "form of a map")
        return self.ref(c, h, frames, c.byte()) if form else []

    def walk(self, map, kind, top=True):
        """The entries of a map in order, checked against what refers to them."""
        if isinstance(map, list):
            yield from map
            return
        last, count = None, 0
        for key, value in self.node(map, kind, top):
            for leaf_key, leaf in self.walk(value, kind, False) if map.level else [(key, value)]:
                need(last is None or last < leaf_key, "keys do not ascend")
                last, count = leaf_key, count + 1
                yield leaf_key, leaf
            need(last == key, "a child does not end where its parent says")
        need(count == map.entries, "a child has not the number of entries that its parent says")

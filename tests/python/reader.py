#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lists, checks, dumps and restores a Holdfast repository kept as plain files. Written from docs/format.md alone: whatever
these programs do not know, the text does not say. Here is the log (section 7); sealed.py and tree.py have the rest."""
import argparse, hashlib, itertools, json, os, stat
from collections import Counter
from pathlib import Path
from urllib.parse import quote
from sealed import Object, Repository, expand, hex16, mac, need, one, proto, record_name
from tree import DIRECTORY, LINKS, State

PARTIAL, KINDS = 3, {10: "claim", 11: "checkpoint", 12: "void", 13: "seal"}
TYPES = ("file", "directory", "symlink", "fifo", "socket", "character", "block")


class Record:
    def __init__(self, lineage, sequence, object):
        self.object, body = object, object.body
        need(one(body, 1) == 1 and not body[2], f"record {sequence}: format or features {body[2]}")
        need(one(body, 3) == lineage.id and one(body, 4) == sequence, f"record {sequence}: not of this name")
        self.sequence, self.generation, self.base = sequence, one(body, 5), one(body, 8)
        self.previous, self.name, self.hash = one(body, 7, b""), one(body, 17, b"").decode(), hashlib.sha256(object.raw).digest()
        (field,) = [f for f in KINDS if body[f]]
        self.kind, self.inside = KINDS[field], proto(one(body, field))
        self.whole = self.kind == "checkpoint" and one(self.inside, 7) != PARTIAL
        self.fold = one(self.inside, 8) if self.kind == "checkpoint" else 0


class Lineage:
    def __init__(self, domain, id):
        self.domain, self.id, self.at = domain, id, f"domains/{domain.id.hex()}/lineages/{id.hex()}"
        boundary, kept = 0, {}
        for k in itertools.count(1):
            if (entry := self.object(f"boundaries/{hex16(k)}", 5)) is None:
                break
            need(one(entry.body, 1) >= boundary, "a boundary goes back")
            boundary, kept = one(entry.body, 1), {one(m, 1): one(m, 2) for m in map(proto, entry.body[2])}
        self.records = {}
        for sequence in itertools.chain(sorted(s for s in kept if s < boundary), itertools.count(max(boundary, 1))):
            if (object := self.object("log/" + record_name(sequence), 1)) is None:
                need(sequence > max(boundary, 1) or sequence not in kept, f"record {sequence} is missing")
                break
            record = self.records[sequence] = Record(self, sequence, object)
            need(sequence >= boundary or kept[sequence] == record.hash, f"record {sequence}: not the one that the boundary lists")
            if before := self.records.get(sequence - 1):
                need(record.previous == before.hash and object.epoch >= before.object.epoch, f"record {sequence}: chain")
                claim = record.kind == "claim"
                repair = claim and one(record.inside, 3) == 6
                need(repair or record.generation == before.generation + claim, f"record {sequence}: generation")
        self.head = max(self.records)
        self.name = self.records[self.head].name
        key = expand(domain.identity, b"lineage id", 32)
        need(id == mac(key, self.name.encode())[:16], "lineage id")

    @classmethod
    def all(cls, domain):
        folder = domain.repository.path / "domains" / domain.id.hex() / "lineages"
        return [cls(domain, bytes.fromhex(p.name)) for p in sorted(folder.iterdir())] if folder.exists() else []

    def object(self, name, kind):
        name = f"{self.at}/{name}"
        raw = self.domain.repository.read(name)
        return None if raw is None else Object(self.domain, name, kind, self.id, raw)

    def newest(self):
        sequence = self.head
        while sequence and not self.records[sequence].whole:
            sequence = self.records[sequence].base
        need(sequence, "no checkpoint yet")
        return self.records[sequence]


class Checkpoint:
    """One state, read whole. `found` has its inodes by path, with the group of those that are hard-linked."""
    def __init__(self, lineage, record):
        self.state, self.found, self.names, self.totals = State(lineage.domain, lineage.id, record), {}, {}, Counter()
        told = proto(one(record.inside, 11, b""))
        self.told = Counter(dict(zip(("files", "directories", "others", "links", "bytes"), (one(told, f) for f in range(1, 6)))))
        for label, (inode, links) in self.state.roots:
            groups = {(label, key): value for key, value in self.state.walk(links, LINKS)}
            self.found[label] = inode, None
            self.directory(label, label, inode, groups)
            need(groups.keys() == {g for g in self.names if g[0] == label}, "a group without inode, or an inode without name")
            self.totals["bytes"] += sum(inode.size for inode in groups.values())
        need(self.totals == self.told, f"totals: {self.totals} instead of {self.told}")

    def directory(self, label, path, inode, groups):
        need(path.count(b"/") <= 4096, "too deep")
        for name, value in self.state.walk(inode.content, DIRECTORY):
            below, group = path + b"/" + name, None
            if isinstance(value, int):
                group = label, value.to_bytes(8, "big")
                self.names.setdefault(group, []).append(below)
                value, kind = groups[group], "links"
            else:
                self.totals["bytes"] += value.size
                kind = {0: "files", 1: "directories"}.get(value.type, "others")
            self.totals[kind] += 1
            need(self.totals <= self.told, "more than the totals say")
            self.found[below] = value, group
            if value.type == 1:
                self.directory(label, below, value, groups)

    def lines(self):
        for path, (inode, group) in sorted(self.found.items()):
            line = [quote(path), TYPES[inode.type], f"{inode.mode:04o}", f"{inode.uid}:{inode.gid}"]
            line.append(f"{inode.mtime // 10**9}.{inode.mtime % 10**9:09}")
            if inode.type == 0:
                line += [str(inode.size)] + ([self.digest(inode)] if inode.size else [])
            elif inode.type == 2:
                line.append(quote(inode.content))
            elif inode.type > 4:
                line.append("%d:%d" % inode.content)
            line += [f"{quote(name)}={value.hex()}" for name, value in inode.xattrs.items()]
            yield " ".join(line + (["same:" + quote(min(self.names[group]))] if group else []))

    def digest(self, inode):
        hash, at = hashlib.sha256(), 0
        for offset, data in [*self.state.extents(inode), (inode.size, b"")]:
            hash.update(bytes(offset - at) + data)
            at = offset + len(data)
        return hash.hexdigest()

    def restore(self, target):
        for path, (inode, group) in self.found.items():
            at, first = os.path.join(target, path), self.names[group][0] if group else path
            if first != path:
                os.link(os.path.join(target, first), at, follow_symlinks=False)
                continue
            self.create(at, inode)
            if os.geteuid() == 0:
                os.chown(at, inode.uid, inode.gid, follow_symlinks=False)
            for name, value in inode.xattrs.items():
                os.setxattr(at, name, value, follow_symlinks=False)
            if inode.type != 2:
                os.chmod(at, inode.mode)
        for path, (inode, _) in reversed(self.found.items()):   # what is in a directory comes before it, since it moves its mtime
            os.utime(os.path.join(target, path), ns=(inode.mtime, inode.mtime), follow_symlinks=False)

    def create(self, at, inode):
        if inode.type == 1:
            os.makedirs(at)
        elif inode.type == 2:
            os.symlink(inode.content, at)
        elif inode.type == 0:
            with open(at, "xb") as file:
                file.truncate(inode.size)
                for offset, data in self.state.extents(inode):
                    os.pwrite(file.fileno(), data, offset)
        else:
            kind = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)[inode.type - 3]
            os.mknod(at, kind | inode.mode, os.makedev(*inode.content) if inode.content else 0)


def show(repository, domains, lineages):
    for lineage in lineages:
        print(f"lineage {lineage.name} of domain {lineage.domain.name}: head {lineage.head}, state {lineage.newest().sequence}")
        for record in lineage.records.values():
            root = " " + one(record.inside, 1).hex() if record.kind == "checkpoint" else ""
            print(f"  {record.sequence} {record.kind} generation {record.generation} base {record.base}{root}")
    for domain in domains:
        folder = repository.path / "domains" / domain.id.hex() / "lineages"
        for path in sorted(folder.glob("*/packs/*/*")):
            lineage, nonce = bytes.fromhex(path.parts[-4]), bytes.fromhex(path.name)
            frames = Object(domain, str(path.relative_to(repository.path)), 2, lineage, path.read_bytes(), nonce).check_pack()
            print(f"pack {path.parts[-2]}/{path.name}: {frames} frames, all open")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--passphrase-file", type=Path, required=True)
    parser.add_argument("--domain", help="only this domain")
    parser.add_argument("--lineage", help="only this lineage")
    parser.add_argument("--sequence", default="latest", help="a number, latest, or all (to dump)")
    parser.add_argument("command", choices=("list", "dump", "restore"))
    parser.add_argument("target", nargs="?")
    told = parser.parse_args()
    repository = Repository(told.repository, told.passphrase_file.read_bytes().rstrip(b"\r\n"))
    domains = [d for d in repository.domains() if told.domain in (None, d.name)]
    lineages = [l for d in domains for l in Lineage.all(d) if told.lineage in (None, l.name)]
    if told.command == "list":
        return show(repository, domains, lineages)
    need(len(lineages) == 1, f"{len(lineages)} lineages match; say --domain and --lineage")
    (lineage,) = lineages
    records = [lineage.newest()] if told.sequence == "latest" else [r for r in lineage.records.values() if r.kind == "checkpoint"]
    chosen = [r for r in records if told.sequence in ("latest", "all", str(r.sequence))]
    if told.command == "restore":
        need(told.target and len(chosen) == 1, "restore needs a target and the number of a checkpoint")
        return Checkpoint(lineage, chosen[0]).restore(os.fsencode(told.target))
    for record in chosen:
        checkpoint = Checkpoint(lineage, record)
        print(json.dumps({"sequence": record.sequence, "root": checkpoint.state.root.hex(), "listing": list(checkpoint.lines())}))


if __name__ == "__main__":
    main()

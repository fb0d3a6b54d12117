#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lists, checks, dumps and restores a Holdfast repository kept as plain files. Written from docs/format.md alone: whatever
these programs do not know, the text does not say. Here is the log (section 7); sealed.py has what is below it (2 to 5), tree.py
and checkpoint.py the states (6 and 11)."""
import argparse, hashlib, itertools, json, os
from pathlib import Path
from checkpoint import Checkpoint
from sealed import Object, Repository, expand, hex16, mac, need, one, proto, record_name

PARTIAL, KINDS = 3, {10: "claim", 11: "checkpoint", 12: "void", 13: "seal"}


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

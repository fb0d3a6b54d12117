#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes the low-level vectors of format version 1 (docs/format.md, section 11) and compares them with a file of them."""
import json, sys
from types import SimpleNamespace
from sealed import AESGCM, Object, expand, hex16, le, mac, need, record_name


def same(found, told, what):
    need(found == told, f"{what}: {found} instead of {told}")


def padme(length):
    e = length.bit_length() - 1
    s = e.bit_length()
    mask = (1 << e - s) - 1 if e > s else 0
    return (length + mask) & ~mask


def sealed(v):
    """Opens the frame with the code that opens all frames, then seals the payload again."""
    header, repository, domain = (bytes.fromhex(v[field]) for field in ("header", "repository", "domain"))
    keys = SimpleNamespace(repository=SimpleNamespace(id=repository), id=domain, secrets={v["epoch"]: bytes.fromhex(v["secret"])})
    scope, frame, payload = (bytes.fromhex(v[field]) for field in ("scope", "frame", "payload"))
    body = b"" if v["kind"] == 2 else empty_body(keys, header, v)
    object = Object(keys, v["name"], v["kind"], scope, header + body, bytes.fromhex(v["nonce"]))
    same(object.open(v["offset"], frame), payload, "an opened frame")
    again = object.aead.encrypt(bytes(4) + le(v["offset"]), bytes([v["codec"]]) + payload, object.aad + le(v["offset"]) + object.name)
    same(again, frame, "a sealed frame")


def empty_body(keys, header, v):
    """An empty body, sealed: a document is not opened without one."""
    info = b"holdfast object v1" + keys.repository.id + keys.id + header[12:16] + bytes([v["kind"]])
    key = expand(mac(header[16:48], keys.secrets[v["epoch"]]), info, 48)[:32]
    aad = keys.repository.id + keys.id + header + le(2**64 - 1) + v["name"].encode()
    body = AESGCM(key).encrypt(bytes(4) + le(2**64 - 1), b"\0", aad)
    return le(len(body), 4) + body


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        v = json.load(file)
    master, identity = bytes.fromhex(v["master_identity"]), bytes.fromhex(v["identity"])
    same(mac(expand(master, b"domain id", 32), v["domain_name"].encode())[:16].hex(), v["domain_id"], "domain id")
    same(mac(expand(identity, b"lineage id", 32), v["lineage_name"].encode())[:16].hex(), v["lineage_id"], "lineage id")
    for field, info in (("chunks", b"chunk id"), ("nodes", b"node id")):
        for data, id in v[field]:
            same(mac(expand(identity, info, 32), bytes.fromhex(data)).hex(), id, field)
    for kind, level, key, hash in v["cuts"]:
        found = mac(expand(identity, b"node boundary", 32), bytes([kind, level]) + bytes.fromhex(key))
        same(int.from_bytes(found[:4], "little"), hash, "cut")
    for sequence, name in v["records"]:
        same(record_name(sequence), name, "name of a record")
    domain, lineage, nonce = "22" * 16, "33" * 16, "44" * 16
    below = f"domains/{domain}/lineages/{lineage}"
    names = [f"{below}/packs/{hex16(26)}/{nonce}", f"{below}/boundaries/{hex16(1)}", f"{below}/pins/{hex16(2)}-withdrawn"]
    same(names + [f"domains/{domain}/keys/{hex16(3)}"], v["names"], "names")
    for length, padded in v["padded"]:
        same(padme(length), padded, "size class")
    for vector in v["sealed"]:
        sealed(vector)
    print("all vectors hold")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Keys and sealed objects of a repository kept as plain files: sections 1 to 4 of docs/format.md, written from that text alone."""
import hashlib, hmac, itertools, json
from collections import defaultdict
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB = 1 << 20


def need(holds, what):
    if not holds:
        raise ValueError(what)

def mac(key, data): return hmac.digest(key, data, "sha256")
def le(number, size=8): return number.to_bytes(size, "little")
def hex16(number): return f"{number:016x}"
def record_name(sequence): return hex16(2**64 - 1 - sequence)
def one(message, field, otherwise=0): return message[field][-1] if message[field] else otherwise
def zigzag(number): return number >> 1 ^ -(number & 1)

def expand(prk, info, size):
    blocks = list(itertools.accumulate(range(1, 1 + -(-size // 32)), lambda t, i: mac(prk, t + info + bytes([i])), initial=b""))
    return b"".join(blocks)[:size]


class Bytes:
    """A cursor that refuses what is cut off, left over, or longer than it needs to be."""
    def __init__(self, data): self.data, self.at = data, 0
    def rest(self): return len(self.data) - self.at
    def done(self): need(self.rest() == 0, "bytes left over")
    def take(self, size):
        need(size <= self.rest(), "cut off")
        self.at += size
        return self.data[self.at - size:self.at]
    def byte(self): return self.take(1)[0]
    def text(self): return self.take(self.u())
    def z(self): return zigzag(self.u())
    def u(self, below=2**64):
        value, shift = 0, 0
        while (byte := self.byte()) & 128:
            value, shift = value | (byte & 127) << shift, shift + 7
        value |= byte << shift
        need(value < below and (byte or not shift), "a varint out of range, or too long")
        return value


def proto(data):
    c, fields = Bytes(data), defaultdict(list)
    while c.rest():
        tag = c.u()
        take = {0: c.u, 1: lambda: c.take(8), 2: c.text, 5: lambda: c.take(4)}.get(tag & 7)
        need(take, "unknown wire type")
        fields[tag >> 3].append(take())
    return fields


class Object:
    """A sealed object: its header checked, its key derived; a document's body opened."""
    def __init__(self, domain, name, kind, scope, raw, nonce=None):
        header, self.name, self.raw, self.start = raw[:64], b"" if kind == 2 else name.encode(), raw, 0
        need(header[:12] == b"HOLDFAST" + bytes([1, kind, 0, 0]) and header[16:32] == scope, f"{name}: header")
        need(nonce in (None, header[32:48]) and len(raw) <= 16 * MIB, f"{name}: nonce or size")
        self.epoch, self.context = int.from_bytes(header[12:16], "little"), domain.repository.id + domain.id
        info = b"holdfast object v1" + self.context + header[12:16] + bytes([kind])
        keys = expand(mac(header[16:48], domain.secrets[self.epoch]), info, 48)
        need(keys[32:] == header[48:], f"{name}: key check")
        self.aead, self.aad = AESGCM(keys[:32]), self.context + header
        if kind != 2:
            self.start = 68 + int.from_bytes(raw[64:68], "little")
            self.body = proto(self.open(2**64 - 1, raw[68:self.start], limit=MIB if kind == 1 else 8 * MIB))

    def open(self, offset, sealed, length=None, limit=MIB):
        plain = self.aead.decrypt(bytes(4) + le(offset), sealed, self.aad + le(offset) + self.name)
        codec, payload = plain[0], plain[1:]
        if codec == 1:
            told = zstandard.get_frame_parameters(payload)
            need(told.content_size <= limit and told.window_size <= 8 * MIB and told.dict_id == 0, "a Zstandard frame too large")
            unpack = zstandard.ZstdDecompressor().decompressobj()
            payload, shorter = unpack.decompress(payload), len(payload) < told.content_size
            need(shorter and not unpack.unused_data and len(payload) == told.content_size, "not one Zstandard frame")
        need(codec < 2 and len(payload) <= limit and length in (None, len(payload)), "codec or length")
        return payload

    def check_pack(self):
        """Finds and opens all frames of a pack without the tree; returns how many there are."""
        tail = Bytes(self.open(2**64 - 3, self.raw[-25:], 8))
        table, size, at, frames = int.from_bytes(tail.take(4), "little"), int.from_bytes(tail.take(4), "little"), 64, 0
        c = Bytes(self.open(2**64 - 2, self.raw[table:table + size]))
        while c.rest():
            need(c.byte() < 2, "contents of a frame")
            sealed, length, at, frames = (s := c.u()), c.u(1 + MIB), at + s, frames + 1
            self.open(at - sealed, self.raw[at - sealed:at], length)
        need(at == table, "the table does not follow the frames")
        return frames


class Domain:
    def __init__(self, repository, id, secrets=None, identity=None):
        self.repository, self.id, self.secrets, self.identity, self.name = repository, id, secrets, identity, ""
        if secrets is None:
            self.secrets = {}
            for epoch in itertools.count(1):
                name = f"domains/{id.hex()}/keys/{hex16(epoch)}"
                if (raw := repository.read(name)) is None:
                    break
                body = Object(repository.own, name, 4, id, raw).body
                need(one(body, 2) == epoch and self.identity in (None, one(body, 4)), f"{name}: epoch or identity")
                self.secrets[epoch], self.identity, self.name = one(body, 3), one(body, 4), one(body, 1, b"").decode()
            need(id == mac(expand(repository.own.identity, b"domain id", 32), self.name.encode())[:16], "domain id")
        self.chunk_key, self.node_key = (expand(self.identity, info, 32) for info in (b"chunk id", b"node id"))


class Repository:
    def __init__(self, path, passphrase):
        self.path = path
        raw = self.read("repository")
        about, self.own, secrets = json.loads(raw), None, {}
        need(about["holdfast"] == "repository" and about["format"] == 1 and about["features"] == [], "not format 1")
        self.id = bytes.fromhex(about["id"])
        for epoch in itertools.count(1):
            for slot in itertools.count():
                name = f"keys/{self.id.hex()}/{hex16(epoch)}/{hex16(slot)}"
                if (slot_raw := self.read(name)) is None:
                    break
                if epoch in secrets or self.read(name + "-withdrawn"):
                    continue
                s = json.loads(slot_raw)
                need(s["kdf"] == "scrypt" and 14 <= s["log2_n"] <= 20 and 8 <= s["r"] <= 16 and 1 <= s["p"] <= 16, "scrypt")
                salt, nonce, wrapped = (bytes.fromhex(s[field]) for field in ("salt", "nonce", "wrapped"))
                kek = hashlib.scrypt(passphrase, salt=salt, n=1 << s["log2_n"], r=s["r"], p=s["p"], maxmem=2**31 - 1, dklen=32)
                aad = b"holdfast key slot v1" + hashlib.sha256(raw).digest() + le(epoch) + le(slot)
                try:
                    plain = AESGCM(kek).decrypt(nonce, wrapped, aad)
                    secrets[epoch], identity = plain[:32], plain[32:]
                except Exception:   # not this slot's passphrase
                    continue
            if slot == 0:
                break
        need(secrets, "no key slot opens with this passphrase")
        self.own = Domain(self, bytes(16), secrets, identity)

    def read(self, name):
        return (self.path / name).read_bytes() if (self.path / name).is_file() else None
    def domains(self):
        return [Domain(self, id) for p in sorted((self.path / "domains").iterdir()) if any(id := bytes.fromhex(p.name))]

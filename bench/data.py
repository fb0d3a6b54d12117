# SPDX-License-Identifier: Apache-2.0
"""The data that the benchmark protects: the same bytes at every run."""

import hashlib
import os
import random
import stat

MIB = 1 << 20
PAGE = 4096


def text(rng, length):
    """Bytes that compress about as well as logs and JSON do (near 3:1)."""
    words = [f"{rng.randrange(1 << 24):x}".encode() for _ in range(2000)]
    parts, size = [], 0
    while size < length:
        line = b'{"at":%d,"user":"%s","path":"/%s/%s","took":%d}\n' % (
            rng.randrange(10**9), rng.choice(words), rng.choice(words), rng.choice(words), rng.randrange(10**4))
        parts.append(line)
        size += len(line)
    return b"".join(parts)[:length]


def big(root, total):
    """Large files: half random (compressed media), half text."""
    rng = random.Random(1)
    sizes = [8, 16, 32, 64, 128]
    made = index = 0
    block = text(rng, 8 * MIB)
    while made < total:
        size = min(sizes[index % len(sizes)] * MIB, total - made)
        with open(os.path.join(root, f"file{index:03}.bin"), "wb") as out:
            left = size
            while left:
                part = min(left, 4 * MIB)
                if index % 2:
                    out.write(rng.randbytes(part))
                else:
                    # text that does not repeat: a rotation and a stamp for each kilobyte
                    at = rng.randrange(4 * MIB)
                    piece = bytearray(block[at:at + part])
                    for offset in range(0, part, 1024):
                        piece[offset:offset + 8] = rng.randbytes(8)
                    out.write(piece)
                left -= part
        made += size
        index += 1


def pages(root, total):
    """One file of 4 KiB pages as a database writes them: a header, half full of records, the rest zeros."""
    rng = random.Random(2)
    with open(os.path.join(root, "pages.db"), "wb") as out:
        for first in range(0, total, 4 * MIB):
            piece = bytearray()
            for page in range(first // PAGE, min(first + 4 * MIB, total) // PAGE):
                body = rng.randbytes(1500) + b"record " * 120
                piece += (b"PAGE%12d" % page + body).ljust(PAGE, b"\0")
            out.write(piece)


def dirty(root, share, seed):
    """Overwrites a share of the pages at random, in place."""
    path = os.path.join(root, "pages.db")
    count = os.path.getsize(path) // PAGE
    rng = random.Random(seed)
    with open(path, "r+b") as out:
        for page in rng.sample(range(count), max(1, int(count * share))):
            out.seek(page * PAGE)
            out.write(b"PAGE%12d" % page + rng.randbytes(2000))


def small(root, files):
    """Small files of 200 to 2000 bytes, 100 in a directory."""
    rng = random.Random(3)
    block = text(rng, MIB)
    for directory in range((files + 99) // 100):
        path = os.path.join(root, f"{directory // 100:03}", f"{directory % 100:02}")
        os.makedirs(path, exist_ok=True)
        for index in range(min(100, files - directory * 100)):
            size = rng.randrange(200, 2000)
            at = rng.randrange(MIB - 2048)
            with open(os.path.join(path, f"record-{index:02}.json"), "wb") as out:
                out.write(b"%016x" % rng.randrange(1 << 63) + block[at:at + size])


def change(root, number):
    """Appends a line to one of the small files, another one for each number; says which."""
    directories = sorted(os.listdir(root))
    upper = os.path.join(root, directories[len(directories) // 2])
    inner = sorted(os.listdir(upper))
    path = os.path.join(upper, inner[number * 37 % len(inner)], "record-00.json")
    with open(path, "ab") as out:
        out.write(b'{"changed":%d}\n' % number)
    return path


def checksum(root):
    """Of a tree: all names, kinds and modes, of files also times and every byte. To compare a restored tree with its source."""
    total = hashlib.sha256()
    _add(total, root, b"")
    return total.hexdigest()


def _add(total, path, below):
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        if entry.name.startswith(".holdfast"):
            continue  # its own notes, if the file system has no attributes
        name = below + b"/" + os.fsencode(entry.name)
        info = entry.stat(follow_symlinks=False)
        total.update(b"%d %s %o\n" % (len(name), name, info.st_mode))
        if stat.S_ISDIR(info.st_mode):
            _add(total, entry.path, name)
        elif stat.S_ISREG(info.st_mode):
            total.update(b"%d %d\n" % (info.st_size, info.st_mtime_ns))
            with open(entry.path, "rb", buffering=0) as source:
                while piece := source.read(MIB):
                    total.update(piece)
        elif stat.S_ISLNK(info.st_mode):
            total.update(os.fsencode(os.readlink(entry.path)))

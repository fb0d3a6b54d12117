# SPDX-License-Identifier: Apache-2.0
"""One state, read whole: what is listed of it (docs/format.md, section 11), and how it comes back to a disk."""
import hashlib, os, stat
from collections import Counter
from urllib.parse import quote
from sealed import need, one, proto
from tree import DIRECTORY, LINKS, State

TYPES = ("file", "directory", "symlink", "fifo", "socket", "character", "block")


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

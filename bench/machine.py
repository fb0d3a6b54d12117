# SPDX-License-Identifier: Apache-2.0
"""The machine: what it is, whether there is room, and an XFS of one's own."""

import os
import shutil
import time

from processes import Failed

GIB = 1 << 30


def field(path, name):
    """The first value of that name in a file of /proc."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return "unknown"


def file_system(path):
    """The type of the file system that a path is on, and its options that say how careful it is."""
    path, best = os.path.realpath(path), ("", "unknown")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            words = line.split()
            point, kind = words[4], words[words.index("-") + 1]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]


def describe(work):
    """What figures depend on."""
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": field("/proc/cpuinfo", "model name"),
        "memory_gib": round(memory, 1),
        "kernel": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
        "file_system": file_system(work),
        "load": round(os.getloadavg()[0], 2),
    }


def room(path, need, entries):
    """Refuses to begin what the disk can't hold."""
    disk, inodes = shutil.disk_usage(path).free, os.statvfs(path).f_favail
    if need * 1.1 + GIB / 4 > disk:
        raise Failed(f"this needs about {need * 1.1 / GIB:.1f} GiB of disk, and {path} has {disk / GIB:.1f} GiB")
    if os.statvfs(path).f_files and entries > inodes:
        raise Failed(f"this needs {entries} inodes, and {path} has {inodes}")


class Xfs:
    """An XFS with reflinks in a file, mounted while it is needed."""

    def __init__(self, work, size, processes):
        self.image, self.point = os.path.join(work, "xfs.img"), os.path.join(work, "xfs")
        self.size, self.processes = size, processes

    @staticmethod
    def lacks():
        """Why there can be none here; empty if there can."""
        if os.geteuid():
            return "that needs root"
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        missing = [name for name in ("mkfs.xfs", "mount", "umount") if not shutil.which(name, path=path)]
        return f"there is no {', '.join(missing)}" if missing else ""

    def __enter__(self):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        os.makedirs(self.point, exist_ok=True)
        with open(self.image, "wb") as image:
            image.truncate(self.size)
        try:
            self.processes.run([shutil.which("mkfs.xfs", path=path), "-q", "-f", "-m", "reflink=1", self.image])
            self.processes.run([shutil.which("mount", path=path), "-o", "loop", self.image, self.point])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        unmount(self.point, self.processes)
        if not os.path.ismount(self.point):
            if os.path.exists(self.image):
                os.remove(self.image)
            if os.path.isdir(self.point):
                os.rmdir(self.point)


def unmount(point, processes):
    """Unmounts what is mounted there, if anything is."""
    for lazy in ([], ["-l"]):
        if not os.path.ismount(point):
            return
        try:
            processes.run(["umount", *lazy, point], timeout=60)
        except Failed as error:
            print(f"  {error}", flush=True)

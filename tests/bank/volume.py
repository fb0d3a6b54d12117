# SPDX-License-Identifier: Apache-2.0
"""A file system of a certain kind: in a file, mounted as long as it is needed."""
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from processes import Unmet, must

MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]}
# the file is as large as what was ever written to it
SIZE = 4 << 30
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextlib.contextmanager
def volume(kind, processes):
    """A directory on a file system of this kind; without a kind, on that of temporary files."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bank-volume-") as work:
        if not kind:
            yield Path(work)
            return
        must(os.geteuid() == 0, "mounting needs root")
        words = MAKE[kind]
        make, missing = shutil.which(words[0], path=PATH), f"there is no {words[0]}"
        must(make, missing)
        image, point = Path(work, "image"), Path(work, "mounted")
        point.mkdir()
        with open(image, "wb") as file:
            file.truncate(SIZE)
        processes.run([make, *words[1:], image])
        processes.run(["mount", "-o", "loop", image, point])
        try:
            yield point
        finally:
            leave(point, processes)


def leave(point, processes):
    """Unmounts it; should somebody still be in there, as soon as that has gone."""
    try:
        processes.run(["umount", point])
    except Unmet as busy:
        print(f"        {busy}", flush=True)
        processes.run(["umount", "-l", point])

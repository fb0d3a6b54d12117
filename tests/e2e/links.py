# SPDX-License-Identifier: Apache-2.0
"""Programs of this machine in images of their own: each with what it is linked with."""
import shutil
from pathlib import Path

from kube import ROOT, text_of


def linked(path):
    """The libraries that a program or a library is linked with."""
    return [word for word in text_of(["ldd", str(path)]).split() if word.startswith("/")]


def put(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def put_linked(paths, root):
    """Puts files where they are on this machine, with the libraries of all of them."""
    for path in sorted({str(path) for path in paths} | {word for path in paths for word in linked(path)}):
        put(Path(path), root / path.lstrip("/"))


def put_shell(applets, root):
    for applet in applets:
        put(Path(shutil.which("busybox")), root / "bin" / applet)


def put_start(script, root):
    """What a container begins with, of this directory."""
    put(ROOT / "tests/e2e" / script, root / "start")

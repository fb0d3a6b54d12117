# SPDX-License-Identifier: Apache-2.0
"""The bank in the cluster: an image of Debian's own Python with a house of it, and what its pods are asked for."""
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from app import workload
from kube import CLUSTER, ROOT, Unmet, cluster, kubectl, must, text_of, until
from links import put, put_linked, put_shell, put_start

sys.path += [str(ROOT / "tests/bank"), str(ROOT / "tests/databases")]

import house  # noqa: E402

HOUSES = 3
NAME = "house"
PYTHON = "/usr/bin/python3"
# what no house asks for
LEFT_OUT = ["test", "idlelib", "tkinter", "lib2to3", "ensurepip", "pydoc_data", "__pycache__", "dist-packages", "config-*"]
ADDRESS = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": {"clusterIP": "None", "selector": {"app": NAME}, "ports": [{"port": 7000}]}}


def image():
    """Puts it on every node: Python with its library, and a house."""
    library = Path(text_of([PYTHON, "-I", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]).strip())
    with tempfile.TemporaryDirectory(prefix="holdfast-house-") as work:
        root = Path(work)
        # whoever runs in it
        root.chmod(0o755)
        shutil.copytree(library, root / str(library).lstrip("/"), ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=False, ignore_dangling_symlinks=True)
        put_linked([Path(PYTHON), *library.glob("lib-dynload/*.so")], root)
        put_shell(["sh", "cat", "cp", "tar"], root)
        put(Path(house.__file__), root / "bank/house.py")
        put_start("house", root)
        cluster("image", "house", "/start", f"{root}=/")


def bank():
    """Houses on volumes of their own; each keeps what it finds at its start in a place of its own."""
    made = workload("StatefulSet", NAME, replicas=HOUSES, labels={"holdfast.dev/policy": NAME}, volume="claim", environment={"HOUSES": str(HOUSES)})
    spec = made["spec"]["template"]["spec"]
    container = spec["containers"][0]
    container |= {"image": "holdfast.local/house:1", "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}}
    container["startupProbe"]["exec"]["command"] = ["cat", f"/state/{house.BALANCE}"]
    container["volumeMounts"].append({"name": "found", "mountPath": "/found"})
    spec["volumes"] = [{"name": "found", "emptyDir": {}}]
    return made


def last(space, pod):
    """The last entry that a house has booked everywhere."""
    text = kubectl("exec", "-n", space, pod, "-c", "scribe", "--", "cat", f"/state/{house.BALANCE}")
    return house.balance(text)[0] if text else 0


def go_on(space, entries=20, seconds=60):
    """Waits until each house has booked so much more."""
    names = [f"{NAME}-{number}" for number in range(HOUSES)]
    goals = {name: last(space, name) + entries for name in names}
    for name, goal in goals.items():
        until(f"{name} of {space} goes on", lambda name=name, goal=goal: last(space, name) >= goal, seconds)


def found(space, number, within):
    """What a house found when it began."""
    to = within / f"{NAME}-{number}"
    to.mkdir()
    words = [CLUSTER, "kubectl", "exec", "-n", space, f"{NAME}-{number}", "-c", "scribe", "--", "tar", "-c", "-C", "/found", "."]
    with tempfile.TemporaryFile() as archive:
        done = subprocess.run(words, stdout=archive, stderr=subprocess.PIPE, timeout=120, check=False)
        must(done.returncode == 0, f"what {NAME}-{number} of {space} found can't be read: {done.stderr.decode()}")
        archive.seek(0)
        with tarfile.open(fileobj=archive) as files:
            files.extractall(to, filter="data")
    return to


class Deaths:
    """Who is killed while a snapshot is taken, and when, by a chance that can be repeated."""

    def __init__(self, seed):
        self.chance, self.usual, self.kills, self.lost = random.Random(seed), [], [], 0

    def after(self):
        """So many seconds after a snapshot was asked for: by one and a fifth of what one takes, most are over."""
        return 1.2 * (sorted(self.usual)[len(self.usual) // 2]) * self.chance.random()

    def kill(self, victims):
        """Kills one of some processes, each given as a function that finds it."""
        time.sleep(self.after())
        who, process = self.chance.choice(victims)
        self.kills.append(who)
        try:
            os.kill(until(f"{who} is found", process, 30), signal.SIGKILL)
        except ProcessLookupError as gone:
            raise Unmet(f"{who} has ended by itself") from gone

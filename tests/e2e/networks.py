# SPDX-License-Identifier: Apache-2.0
"""Networks as pods see them: who reaches which port of whom."""
import json
import subprocess
import sys
from contextlib import contextmanager

from app import process_of
from kube import ROOT, Unmet, must


def process(space, pod):
    """A process in a pod's network."""
    for begin in [[b"/bin/busybox", b"sh", b"/scribe"], [b"/holdfast-coordinator"], [b"/holdfast-webhook"]]:
        found = process_of(space, pod, *begin)
        if found:
            return found
    raise Unmet(f"no process of {pod} is known")


def knock(space, pod, address, *ports):
    """Which ports of an address are open and closed to a pod, and how many are kept from it."""
    words = ["nsenter", "-t", str(process(space, pod)), "-n", sys.executable, str(ROOT / "tests/e2e/knock.py"), address, *[str(port) for port in ports]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    must(done.returncode == 0, f"nobody could knock: {done.stderr}")
    return json.loads(done.stdout)


def is_open(space, pod, address, port):
    return knock(space, pod, address, port)["open"] == [port]


def is_kept(space, pod, address, port):
    return knock(space, pod, address, port)["kept"] == 1


def address_of(pod):
    return pod["status"]["podIP"]


@contextmanager
def listening(space, pod, port):
    """Something in a pod's network that takes connections."""
    hears = f"import socket, threading\near = socket.create_server(('', {port}))\nprint('hears', flush=True)\nthreading.Event().wait()"
    words = ["nsenter", "-t", str(process(space, pod)), "-n", sys.executable, "-c", hears]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as ears:
        try:
            must(ears.stdout.readline() == "hears\n", f"nothing listens in {pod}")
            yield
        finally:
            ears.kill()

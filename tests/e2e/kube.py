# SPDX-License-Identifier: Apache-2.0
"""The cluster as a test sees it: kubectl, and waiting until something holds."""
import json
import os
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "tests/cluster/cluster"
CLUSTER_STATE = Path(os.environ.get("HOLDFAST_CLUSTER_STATE") or "/var/tmp/holdfast-cluster")
CLUSTER_LOGS = Path(os.environ.get("HOLDFAST_CLUSTER_LOGS") or ROOT / ".cache/logs/cluster")


# set when this run is ended from outside: nobody waits for anything then
ENDS = threading.Event()


class Unmet(Exception):
    """What was to hold, and does not."""


def cluster(*arguments, seconds=600):
    """One command of the test cluster."""
    return text_of([str(CLUSTER), *[str(word) for word in arguments]], seconds=seconds)


def kubectl(*arguments, given=None, seconds=60):
    """What kubectl prints; a failure is an exception that holds what it said."""
    return text_of([str(CLUSTER), "kubectl", *[str(word) for word in arguments]], given=given, seconds=seconds)


def text_of(words, given=None, seconds=60):
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise Unmet(f"{' '.join(words)} took longer than {seconds} s") from late
    if done.returncode != 0:
        raise Unmet(f"{' '.join(words[1:])} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def refused(*arguments, given=None):
    """What a command that must fail says."""
    try:
        kubectl(*arguments, given=given)
    except Unmet as said:
        return str(said)
    raise Unmet(f"kubectl {' '.join(arguments)} was to be refused")


def apply(*objects, namespace=None):
    """Server-side apply of objects, as dictionaries."""
    where = ["-n", namespace] if namespace else []
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", *where, "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(items))


def get(kind, name, namespace=None):
    """An object; none, if there is none."""
    where = ["-n", namespace] if namespace else []
    said = kubectl("get", kind, name, *where, "-o", "json", "--ignore-not-found")
    return json.loads(said) if said.strip() else None


def items(kind, namespace, selector=None):
    chosen = ["-l", selector] if selector else []
    return json.loads(kubectl("get", kind, "-n", namespace, *chosen, "-o", "json"))["items"]


def events(namespace, name):
    """What Events tell of an object, or of several with one name."""
    return [event for event in items("events", namespace) if event["involvedObject"].get("name") == name]


def pods(namespace, selector=None, ending=False):
    """Pods; those that are being deleted only if asked for."""
    return [pod for pod in items("pods", namespace, selector) if ending or not pod["metadata"].get("deletionTimestamp")]


def condition(thing, kind):
    """A condition of an object: an empty one if it has none of that type."""
    conditions = (thing or {}).get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind), {})


def is_ready(pod):
    return condition(pod, "Ready").get("status") == "True"


def name_of(thing):
    return thing["metadata"]["name"]


def until(what, holds, seconds=60, every=0.5):
    """Waits until a function's answer is something, and gives it; errors of kubectl meanwhile count as nothing."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            answer = holds()
            last = None
        except Unmet as error:
            answer, last = None, error
        if answer:
            return answer
        if ENDS.is_set():
            raise Unmet(f"this run ends, and {what} was waited for")
        if time.monotonic() > deadline:
            raise Unmet(f"waited {seconds} s in vain until {what}{f'; last: {last}' if last else ''}")
        time.sleep(every)


def must(holds, what):
    if not holds:
        raise Unmet(what)


HELD = threading.local()


def say(text):
    """Tells at once, or, in a thread that holds its lines, with all else that this thread will have told."""
    lines = getattr(HELD, "lines", None)
    if lines is None:
        print(text, flush=True)
    else:
        lines.append(text)


def held(function, *arguments):
    """What a function gives, with all that it said told in one piece."""
    HELD.lines = []
    try:
        return function(*arguments)
    finally:
        lines, HELD.lines = HELD.lines, None
        print("\n".join(lines), flush=True)

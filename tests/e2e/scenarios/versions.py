# SPDX-License-Identifier: Apache-2.0
"""Agents and coordinators of two versions of Holdfast beside each other. Only where images of an older one are given: tests/e2e/skew.sh makes them."""
import os
from pathlib import Path

import stage
from app import began_after, policy, ready_pods, uids, workload, written
from kube import apply, cluster, condition, kubectl, must, name_of, until
from reading import read, reader
from scenario import scenario
from scenarios.restores import restore, settled
from scenarios.snapshots import STILL, snapshot, taken
from scenarios.upgrades import IMAGE, images, inject, renamed, upgraded
from streams import nothing_restarted, streaming

SPACE = "upgrades"
COORDINATOR = "holdfast.local/holdfast-coordinator"
OLDER = os.environ.get("HOLDFAST_E2E_OLDER")


def brought(name, image):
    """Puts an older image on every node, under a name of its own."""
    archive = renamed(Path(OLDER) / f"{name}.tar", image, stage.IMAGES / f"{name}-0.tar")
    cluster("load", archive)
    archive.unlink()


def coordinated_by(image):
    """All coordinators are of an image, and one leads."""
    kubectl("set", "image", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", f"coordinator={image}")
    kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "--timeout=180s", seconds=200)
    until("there is a leader", stage.leader, 90)


def there_and_back(name, found):
    """A snapshot of all at one moment, and back to it: each begins with what it had then."""
    snapshot(name, namespace=SPACE, policies=["kept"])
    status = taken(name, namespace=SPACE)
    must(status["consistency"] == "Frozen" and status["memberCount"] == 2, f"{status}")
    how, stored = reader(SPACE), {one["metadata"]["name"]: one["spec"]["lineage"] for one in stage.lineages(SPACE, "pair")}
    restore(f"to-{name}", namespace=SPACE, source={"snapshot": name})
    said = condition({"status": settled(f"to-{name}", SPACE)}, "Succeeded")
    must(said["status"] == "True", f"{said}")
    for pod in ready_pods(SPACE, "pair", 2, not_among=uids(found), seconds=180):
        then = read(stored[pod["metadata"]["labels"]["holdfast.dev/lineage"]], name, "data/log", how).splitlines()
        must(began_after(SPACE, name_of(pod)) == len(then), f"{name_of(pod)} did not begin with what {name} holds")
        must(written(SPACE, name_of(pod), len(then) + 5)[:len(then)] == then, f"{name_of(pod)} has other lines than {name} holds")
    return streaming(SPACE)


def versions_apart(store):
    """Older agents under this coordinator, then this version's agents under an older coordinator: they stream, are frozen, go back, and are upgraded."""
    stage.namespace(SPACE, store, policies=[policy("kept", **STILL)])
    brought("holdfast-agent", f"{IMAGE}:0")
    brought("holdfast-coordinator", f"{COORDINATOR}:0")
    try:
        inject(f"{IMAGE}:0")
        apply(workload("StatefulSet", "pair", replicas=2, labels={"holdfast.dev/policy": "kept"}), namespace=SPACE)
        found, lines = streaming(SPACE)
        must(all(images(pod) == [f"{IMAGE}:0"] * 2 for pod in found), f"{[images(pod) for pod in found]}")
        found, lines = there_and_back("of-older-agents", found)
        inject(f"{IMAGE}:1")
        until("all agents are of this version", lambda: upgraded(f"{IMAGE}:1", []), 420)
        nothing_restarted(SPACE, found, lines, but={name_of(pod): {"holdfast-agent": 1} for pod in found})
        coordinated_by(f"{COORDINATOR}:0")
        found, lines = streaming(SPACE)
        nothing_restarted(SPACE, found, lines, but={name_of(pod): {"holdfast-agent": 1} for pod in found})
        found, lines = there_and_back("of-an-older-coordinator", found)
        coordinated_by(f"{COORDINATOR}:1")
        nothing_restarted(SPACE, found, lines)
    finally:
        kubectl("delete", "statefulset", "-n", SPACE, "pair", seconds=120)
        inject(f"{IMAGE}:1")


if OLDER:
    versions_apart = scenario(versions_apart, alone=True)

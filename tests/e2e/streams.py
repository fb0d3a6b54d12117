# SPDX-License-Identifier: Apache-2.0
"""Pods that stream while something is taken away from them: what they are, and that they go on as if nothing had been."""
import time

import stage
from app import policy, ready_pods, restarts, uids, workload, written
from kube import apply, kubectl, must, name_of, until

POLICY = "kept"
LABEL = {"holdfast.dev/policy": POLICY}
# what is durable within seconds is not behind
SMALL = 5


def pair(space, store, name="pair", **how):
    """A Deployment of two that stream, and what they have written."""
    stage.namespace(space, store, policies=[policy(POLICY)])
    apply(workload("Deployment", name, replicas=2, labels=LABEL, **how), namespace=space)
    return streaming(space, name)


def streaming(space, name="pair"):
    """The pods of a Deployment of two, and what each has written."""
    found = ready_pods(space, name, 2, seconds=180)
    return found, {name_of(pod): written(space, name_of(pod), 10) for pod in found}


def sequence(lineage):
    return lineage.get("status", {}).get("checkpoint", {}).get("sequence", 0)


def until_caught_up(space, name, count=2, seconds=90):
    """Waits until each replica has made a checkpoint since now, and is hardly behind."""
    newest = {one["metadata"]["name"]: sequence(one) for one in stage.lineages(space, name)}

    def caught_up():
        now = stage.lineages(space, name)
        return len(now) == count and all(sequence(one) > newest.get(one["metadata"]["name"], 0) and behind(one) <= SMALL for one in now)

    began = time.monotonic()
    until(f"{name} makes checkpoints, and its lag is small", caught_up, seconds)
    return time.monotonic() - began


def behind(lineage):
    """The lag that is shown of a lineage; much, if none is."""
    return lineage.get("status", {}).get("lagSeconds", 99)


def nothing_restarted(space, found, lines, but=None, name="pair"):
    """The pods are those that were found, stream, and have more lines than they had; nothing of them was started again, but for some."""
    until_caught_up(space, name, len(found))
    after = ready_pods(space, name, len(found))
    must(sorted(uids(after)) == sorted(uids(found)), "pods were replaced")
    for pod in after:
        again = restarts(pod)
        must(again == (but or {}).get(name_of(pod), {}), f"what restarted in {name_of(pod)}: {again}")
        before = lines[name_of(pod)]
        must(written(space, name_of(pod), len(before))[:len(before)] == before, f"{name_of(pod)} has another history")


def replaced(space, pod, name="pair", count=2, seconds=150):
    """The pod that takes a deleted one's place."""
    known = uids(ready_pods(space, name, count))
    kubectl("delete", "pod", "-n", space, pod, seconds=120)

    def new():
        found = [one for one in ready_pods(space, name, count, seconds=seconds) if one["metadata"]["uid"] not in known]
        return found[0] if len(found) == 1 else None

    return name_of(until(f"{pod} has one successor", new, seconds))

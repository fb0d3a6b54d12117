# SPDX-License-Identifier: Apache-2.0
"""Workloads that are there already, and are labelled: each replica gets a history of its own, and the label goes as it came."""
import stage
from app import log, policy, ready_pods, uids, workload, written
from kube import apply, condition, get, kubectl, must, name_of, until
from scenario import scenario

SPACE = "labels"


def labelled_and_not(kind, name, slot_of, **how):
    """`kubectl label` protects a running workload of two, and `kubectl label ...-` lets it go."""
    apply(workload(kind, name, replicas=2, **how), namespace=SPACE)
    bare = ready_pods(SPACE, name, 2, injected=False)
    lines = {slot_of(pod): written(SPACE, name_of(pod), 5) for pod in bare}
    kubectl("label", kind.lower(), "-n", SPACE, name, "holdfast.dev/policy=kept")
    guarded = ready_pods(SPACE, name, 2, not_among=uids(bare), seconds=180)
    slots = {slot_of(pod): pod for pod in guarded}

    def protected():
        found = stage.lineages(SPACE, name)
        good = [one for one in found if condition(one, "Protected").get("status") == "True" and one["status"].get("checkpoint")]
        return good if len(good) == 2 else None

    found = {one["spec"]["slot"]: one for one in until("two lineages are protected", protected, 60)}
    must(set(found) == set(slots), f"lineages for {set(found)}, and pods for {set(slots)}")
    for slot, lineage in found.items():
        status = lineage["status"]
        must((status["holder"], status["holderUid"]) == (name_of(slots[slot]), uids([slots[slot]])[0]), f"{slot} is written by {status}")
        must(slots[slot]["metadata"]["labels"]["holdfast.dev/lineage"] == name_of(lineage), f"the pod of {slot} names another lineage")
    kubectl("label", kind.lower(), "-n", SPACE, name, "holdfast.dev/policy-")
    again = ready_pods(SPACE, name, 2, injected=False, not_among=uids(guarded), seconds=180)
    labels = get(kind.lower(), name, SPACE)["spec"]["template"]["metadata"]["labels"]
    must(labels == {"app": name}, f"the template kept {labels}")
    return lines, {slot_of(pod): name_of(pod) for pod in again}


@scenario
def labelled_statefulset(store):
    """kubectl label statefulset: its pods roll with agents, a lineage for each ordinal; what its volumes held stays; without the label they roll back."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    lines, last = labelled_and_not("StatefulSet", "shelf", lambda pod: name_of(pod).rsplit("-", 1)[1], volume="claim")
    for slot, before in lines.items():
        must(log(SPACE, last[slot])[:len(before)] == before, f"replica {slot} has another history")
    kubectl("delete", "statefulset", "-n", SPACE, "shelf", "--wait=false")


@scenario
def labelled_daemonset(store):
    """kubectl label daemonset: the same, with a lineage for each node."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    labelled_and_not("DaemonSet", "mark", lambda pod: pod["spec"]["nodeName"])
    kubectl("delete", "daemonset", "-n", SPACE, "mark", "--wait=false")

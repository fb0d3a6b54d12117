# SPDX-License-Identifier: Apache-2.0
"""Nodes that are drained, that are lost, and that are only believed to be."""
from pathlib import Path

import stage
from app import LINES, began_after, last_said, log, lost, policy, said, shown_lag, the_one, workload, written
from kube import CLUSTER_LOGS, cluster, get, kubectl, must, say, until
from places import placed, ready_on
from scenario import scenario

SPACE = "nodes"


def pod_on(node, other, name, given="given", volume="none"):
    """A Deployment whose only pod runs on a node that it is not bound to."""
    return placed(workload("Deployment", name, labels={"holdfast.dev/policy": given}, volume=volume), node, other, SPACE)


@scenario(alone=True)
def drained_node(store):
    """kubectl drain is not refused, and the pod goes on elsewhere from its very last line."""
    stage.namespace(SPACE, store, policies=[policy("given", provision={"ephemeralVolume": {"size": "64Mi"}})])
    pod = pod_on("node2", "node1", "mover")
    lines = written(SPACE, pod, 10)
    try:
        kubectl("drain", "node2", "--ignore-daemonsets", "--timeout=120s", seconds=150)
        heir = the_one(SPACE, "mover", seconds=120)
    finally:
        kubectl("uncordon", "node2")
    after = log(SPACE, heir)
    must(after[:len(lines)] == lines, "it has another history")
    must(any(line.endswith(f"{pod} end") for line in after), "its predecessor's last line is lost")
    kubectl("delete", "deployment", "-n", SPACE, "mover")


@scenario(alone=True)
def lost_node(store):
    """A node is gone at once: the replacement continues on the other node; the loss is at most the lag that was shown."""
    stage.namespace(SPACE, store, policies=[policy("given", provision={"ephemeralVolume": {"size": "64Mi"}})])
    pod = pod_on("node2", "node1", "exile")
    written(SPACE, pod, 20)
    logs = Path(f"{CLUSTER_LOGS}/node2-pods/{SPACE}_{pod}_{get('pod', pod, SPACE)['metadata']['uid']}")
    lag = shown_lag(lambda: stage.lineages(SPACE, "exile"))
    lines = log(SPACE, pod)
    cluster("node-kill", 2)
    heir = None
    try:
        heir = until("a replacement is ready on node1", lambda: ready_on("node1", "exile", SPACE), 150)
        last = last_said(logs / "scribe")
        must(last >= len(lines), f"its log ends with {last}, and {len(lines)} lines were there")
        gone = lost(SPACE, heir, lines, lag, last)
        say(f"          {gone} of {last} acknowledged lines lost ({LINES} a second), {lag} s of lag were shown")
    finally:
        cluster("node-start", 2)
    kubectl("delete", "deployment", "-n", SPACE, "exile", "--wait=false")
    kubectl("delete", "pods", "-n", SPACE, "-l", "app=exile", "--force", "--grace-period=0")


@scenario(alone=True)
def believed_dead(store):
    """A pod is deleted by force while its containers still run: they are fenced, and nothing they write becomes history."""
    stage.namespace(SPACE, store, policies=[policy("given", provision={"ephemeralVolume": {"size": "64Mi"}}), policy("kept")])
    # a volume that stays where it is, whatever becomes of the pod
    pod = pod_on("node2", "node1", "ghost", given="kept", volume="emptyDir")
    uid = get("pod", pod, SPACE)["metadata"]["uid"]
    written(SPACE, pod, 10)
    cluster("node-silence", 2)
    try:
        kubectl("cordon", "node2")
        kubectl("delete", "pod", "-n", SPACE, pod, "--grace-period=0", "--force")
        heir = the_one(SPACE, "ghost", seconds=150)
        began = began_after(SPACE, heir)
        logs = Path(f"{CLUSTER_LOGS}/node2-pods/{SPACE}_{pod}_{uid}")
        until("the old application has written more than was taken over", lambda: last_said(logs / "scribe") > began + 20, 60)
        until("the old agent knows that its slot is another's", lambda: "is not this pod's any more" in said(logs / "holdfast-agent"), 60)
        lines = written(SPACE, heir, began + 20)
        late = [line for line in lines[began:] if line.split()[1] == pod]
        must(not late, f"late lines became history: {late[:3]}")
        # and who comes after has the heir's history
        kubectl("delete", "pod", "-n", SPACE, heir, seconds=120)
        third = the_one(SPACE, "ghost", seconds=120)
        must(log(SPACE, third)[:len(lines)] == lines, "the next one has another history")
    finally:
        cluster("node-start", 2)
        kubectl("uncordon", "node2")
    kubectl("delete", "deployment", "-n", SPACE, "ghost")

# SPDX-License-Identifier: Apache-2.0
"""New images, and other numbers of replicas."""
import stage
from app import began_after, policy, ready_pods, uids, workload, written
from kube import apply, get, kubectl, must, name_of, pods, refused, until
from scenario import scenario

SPACE = "rolls"
LABEL = {"holdfast.dev/policy": "kept"}


@scenario
def scaled_down_and_up(store):
    """3, 1, 3 replicas: each slot keeps its state."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("Deployment", "trio", replicas=3, labels=LABEL), namespace=SPACE)
    found = ready_pods(SPACE, "trio", 3, seconds=180)
    before = {}
    for pod in found:
        lines = written(SPACE, name_of(pod), 10)
        before[lines[0]] = lines
    kubectl("scale", "deployment", "-n", SPACE, "trio", "--replicas=1")
    ready_pods(SPACE, "trio", 1)
    kubectl("scale", "deployment", "-n", SPACE, "trio", "--replicas=3")
    after = {}
    for pod in ready_pods(SPACE, "trio", 3, seconds=120):
        lines = written(SPACE, name_of(pod), 10)
        after[lines[0]] = lines
    must(set(after) == set(before), f"other histories: {set(before)} became {set(after)}")
    for first, lines in before.items():
        must(after[first][:len(lines)] == lines, f"the history that began with {first!r} is another")
    kubectl("delete", "deployment", "-n", SPACE, "trio")
    until("its pods are gone", lambda: not pods(SPACE, "app=trio", ending=True))


def rolls_without_loss(kind, name, **how):
    """Changes the template of a workload of one replica, and compares."""
    apply(workload(kind, name, labels=LABEL, environment={"VERSION": "one"}, **how), namespace=SPACE)
    found = ready_pods(SPACE, name, 1, seconds=180)
    old = name_of(found[0])
    lines = written(SPACE, old, 10)
    apply(workload(kind, name, labels=LABEL, environment={"VERSION": "two"}, **how), namespace=SPACE)
    new = name_of(ready_pods(SPACE, name, 1, not_among=uids(found), seconds=150)[0])
    after = written(SPACE, new, began_after(SPACE, new))
    began = began_after(SPACE, new)
    must(after[:len(lines)] == lines, f"{name}: it has another history")
    must(after[began - 1].endswith(f"{old} end"), f"{name}: it began after {after[began - 1]!r}, which is not its predecessor's last line")
    must(after[began].endswith("two"), f"{name}: it is still the old version: {after[began]!r}")
    kubectl("delete", kind.lower(), "-n", SPACE, name)


@scenario
def new_image_of_a_statefulset(store):
    """Nothing is lost when a StatefulSet rolls."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    rolls_without_loss("StatefulSet", "set", volume="claim")


@scenario
def new_image_with_recreate(store):
    """Nothing is lost when a Deployment is recreated."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    rolls_without_loss("Deployment", "anew", more={"strategy": {"type": "Recreate"}})


@scenario
def new_image_rolling(store):
    """Nothing is lost when a Deployment rolls, since none starts before its predecessor has ended; who asks for a surge is told."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    rolls_without_loss("Deployment", "roll")
    apply(workload("Deployment", "calm", labels=LABEL), namespace=SPACE)
    strategy = get("deployment", "calm", SPACE)["spec"]["strategy"]["rollingUpdate"]
    must(strategy["maxSurge"] == 0 and strategy["maxUnavailable"] != 0, f"it may surge: {strategy}")
    surge = '{"spec":{"strategy":{"rollingUpdate":{"maxSurge":2,"maxUnavailable":0}}}}'
    said = refused("patch", "deployment", "-n", SPACE, "calm", "--type=merge", "-p", surge)
    must("maxSurge" in said and "0" in said, f"it does not say what to write: {said}")
    kubectl("delete", "deployment", "-n", SPACE, "calm")

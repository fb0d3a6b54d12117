# SPDX-License-Identifier: Apache-2.0
"""One moment of several replicas: StateSnapshots, what they say, and the bytes that come back."""
import stage
from app import log, policy, ready_pods, template, workload, written
from calls import call
from kube import apply, condition, events, get, items, kubectl, must, name_of, pods, say, until
from reading import read, reader
from scenario import scenario

SPACE = "moments"
STILL = {"consistency": {"mode": "Freeze", "pauseBudget": "5s"}}


def snapshot(name, namespace=SPACE, **spec):
    """A StateSnapshot that was asked for."""
    apply({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateSnapshot", "metadata": {"name": name}, "spec": spec}, namespace=namespace)


def settled(name, namespace=SPACE, seconds=120):
    """Its status, once it has succeeded or failed."""
    def over():
        found = get("statesnapshot", name, namespace)
        return found["status"] if condition(found, "Succeeded").get("status") in ["True", "False"] else None

    return until(f"the snapshot {name} has succeeded or failed", over, seconds)


def taken(name, namespace=SPACE):
    status = settled(name, namespace)
    said = condition({"status": status}, "Succeeded")
    must(said["status"] == "True" and said.get("observedGeneration") == 1, f"{name} was not taken: {said}")
    say("          " + said["message"])
    return status


def whose(namespace, workload):
    """The pods of a workload by the names of their StateLineages."""
    return {pod["metadata"]["labels"]["holdfast.dev/lineage"]: name_of(pod) for pod in pods(namespace, f"app={workload}")}


@scenario
def snapshot_of_one_moment(store):
    """A StateSnapshot stops all replicas for a moment, says for how long and how far apart, and gives each one's bytes of then."""
    stage.namespace(SPACE, store, policies=[policy("still", **STILL), policy("loose")])
    apply(workload("StatefulSet", "still", replicas=3, labels={"holdfast.dev/policy": "still"}),
          workload("Deployment", "loose", labels={"holdfast.dev/policy": "loose"}), namespace=SPACE)
    for pod in ready_pods(SPACE, "still", 3, seconds=180):
        written(SPACE, name_of(pod), 10)
    holders = whose(SPACE, "still")
    before = {lineage: len(log(SPACE, pod)) for lineage, pod in holders.items()}
    snapshot("at-rest", policies=["still"])
    status = taken("at-rest")
    must(status["consistency"] == "Frozen" and status["phase"] == "Taken" and status["memberCount"] == 3, f"{status}")
    must({member["lineage"] for member in status["members"]} == set(holders), f"other members: {status['members']}")
    must(all(member["quality"] == "Clean" and member["pauseMillis"] <= 5000 for member in status["members"]), f"{status['members']}")
    must(0 < status["pauseMillis"] <= 5000 and status["skewMillis"] <= 5000 and status["bytes"] > 0, f"not measured: {status}")
    how, names = reader(SPACE), {name_of(one): one["spec"]["lineage"] for one in stage.lineages(SPACE, "still")}
    for lineage, pod in holders.items():
        then = read(names[lineage], "at-rest", "data/log", how).splitlines()
        now = written(SPACE, pod, len(then))
        must(then == now[:len(then)], f"{lineage} was not so at any moment: it ends with {then[-1:]}")
        must(len(then) >= before[lineage], f"{lineage} had {before[lineage]} lines before, and {len(then)} in the snapshot")
    say("          " + kubectl("get", "statesnapshots", "-n", SPACE, "-o", "wide").replace("\n", "\n          ").rstrip())


@scenario
def snapshot_of_everything(store):
    """Together with a replica that is never brought to rest, the snapshot is a crash's, and says so."""
    stage.namespace(SPACE, store, policies=[policy("still", **STILL), policy("loose")])
    for pod in ready_pods(SPACE, "loose", 1, seconds=120):
        written(SPACE, name_of(pod), 5)
    snapshot("all", everything=True)
    status = taken("all")
    must(status["consistency"] == "Crash" and status["memberCount"] == 4, f"{status}")


@scenario
def snapshots_by_schedule(store):
    """A policy's schedule takes a snapshot each minute by itself, and lets the one before go."""
    every = {"snapshots": {"schedule": "* * * * *", "keep": 1}}
    stage.namespace(SPACE, store, policies=[policy("ticking", **every)])
    apply(workload("Deployment", "ticking", labels={"holdfast.dev/policy": "ticking"}), namespace=SPACE)
    written(SPACE, name_of(ready_pods(SPACE, "ticking", 1, seconds=180)[0]), 5)

    def good(but=None):
        found = items("statesnapshots", SPACE, "holdfast.dev/scheduled-by=ticking")
        names = [name_of(one) for one in found if condition(one, "Succeeded").get("status") == "True"]
        return names if names and but not in names else None

    first = until("the schedule has taken one", good, 90)[-1]
    second = until("the next one has taken its place", lambda: good(but=first), 120)
    must(len(second) == 1, f"{second} are kept, not one")
    status = get("statepolicy", "ticking", SPACE)["status"]
    must(status["lastSnapshotTime"] < status["nextSnapshotTime"], f"{status}")
    say(f"          {first}, then {second[0]}; the next at {status['nextSnapshotTime']}")
    kubectl("delete", "statepolicy", "-n", SPACE, "ticking")
    until("its snapshots went with it", lambda: not items("statesnapshots", SPACE, "holdfast.dev/scheduled-by=ticking"), 60)
    kubectl("delete", "deployment", "-n", SPACE, "ticking")


@scenario
def snapshot_is_refused(store):
    """What lacks an agent fails a snapshot by its name; nothing selected, or another namespace's, is refused with a sentence."""
    stage.namespace(SPACE, store, policies=[policy("still", **STILL), policy("loose"), policy("idle")])
    bare = {"apiVersion": "v1", "kind": "Pod", **template("bare", labels={"holdfast.dev/policy": "loose"})}
    bare["metadata"] |= {"name": "bare", "annotations": {"holdfast.dev/inject": "disabled"}}
    apply(bare, namespace=SPACE)
    until("it runs", lambda: get("pod", "bare", SPACE)["status"].get("phase") == "Running", 60)
    asked = {"lacking": ({"policies": ["loose"]}, "Unprotected", "bare"), "empty": ({"policies": ["idle"]}, "NothingSelected", "label"),
             "others": ({"everything": True, "namespaces": [SPACE, "default"]}, "NamespaceRefused", stage.SYSTEM)}
    for name, (spec, reason, word) in asked.items():
        snapshot(name, **spec)
        said = condition({"status": settled(name)}, "Succeeded")
        must(said["status"] == "False" and said["reason"] == reason and word in said["message"], f"{name}: {said}")
        say(f"          {said['reason']}: {said['message']}")
    told = events(SPACE, "lacking")
    must(any(event["reason"] == "SnapshotFailed" for event in told), f"no event tells of it: {told}")
    kubectl("delete", "pod", "-n", SPACE, "bare", seconds=120)
    snapshot("mended", policies=["loose"])
    taken("mended")
    kubectl("delete", "statesnapshots", "-n", SPACE, "--all")
    kubectl("delete", "statefulset,deployment", "-n", SPACE, "--all")


@scenario(alone=True)
def snapshot_outlives_its_leader(store):
    """A leader that takes over finds the snapshots of the one before, and leaves them as they are."""
    stage.namespace(SPACE, store, policies=[policy("stays")])
    apply(workload("StatefulSet", "stays", labels={"holdfast.dev/policy": "stays"}), namespace=SPACE)
    written(SPACE, name_of(ready_pods(SPACE, "stays", 1, seconds=180)[0]), 5)
    snapshot("before", policies=["stays"])
    status = taken("before")
    kubectl("delete", "pod", "-n", stage.SYSTEM, stage.leader(), seconds=120)
    until("another one leads", stage.leader, 60)
    until("it answers", lambda: call("SnapshotService/ListSnapshots", b"", **reader(SPACE))[0] == "OK", 60)
    code, said, answers = call("SnapshotService/ListSnapshots", b"", **reader(SPACE))
    must(code == "OK" and sum(answer.count(b"statefulset/stays/0") for answer in answers) == 1, f"it is not listed: {code} {said}")
    must(get("statesnapshot", "before", SPACE)["status"] == status, "its status has changed")
    kubectl("delete", "statesnapshots,statefulset", "-n", SPACE, "--all")

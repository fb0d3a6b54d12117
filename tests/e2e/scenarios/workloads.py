# SPDX-License-Identifier: Apache-2.0
"""Every kind of workload, and the volumes that they have."""
import stage
from app import began_after, is_injected, log, policy, ready_pods, template, the_one, uids, workload, written
from kube import apply, condition, get, is_ready, kubectl, must, name_of, pods, until
from reading import read, reader
from scenario import scenario

SPACE = "kinds"
LABEL = {"holdfast.dev/policy": "kept"}


@scenario
def statefulset_on_claims(store):
    """A StatefulSet: the volume's state wins while it is the newest, and an empty volume gets it from the store."""
    policies = [policy("kept"), policy("given", provision={"ephemeralVolume": {"size": "64Mi"}})]
    stage.namespace(SPACE, store, policies=policies)
    apply(workload("StatefulSet", "db", replicas=2, labels=LABEL, volume="claim"), namespace=SPACE)
    ready_pods(SPACE, "db", 2, seconds=180)
    lines = written(SPACE, "db-0", 10)
    before = uids(pods(SPACE, "app=db"))
    kubectl("delete", "pod", "-n", SPACE, "db-0", seconds=120)
    until("db-0 is back", lambda: is_back("db-0", before), 120)
    must(log(SPACE, "db-0")[:len(lines)] == lines, "db-0 has another history")
    # the volume is lost, too
    lines = written(SPACE, "db-1", 10)
    before = uids(pods(SPACE, "app=db"))
    kubectl("delete", "pvc", "-n", SPACE, "state-db-1", "--wait=false")
    kubectl("delete", "pod", "-n", SPACE, "db-1", seconds=120)
    until("db-1 is back", lambda: is_back("db-1", before), 120)
    after = log(SPACE, "db-1")
    must(after[:len(lines)] == lines, "db-1 did not get its state from the store")
    must(sum(line.endswith("db-1 end") for line in after) == 1, "its last line is not in the store")


def is_back(name, before):
    pod = get("pod", name, SPACE)
    return pod and pod["metadata"]["uid"] not in before and is_ready(pod)


@scenario
def daemonset_by_node(store):
    """A DaemonSet: each node has a history of its own."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("DaemonSet", "cache", labels=LABEL), namespace=SPACE)
    found = ready_pods(SPACE, "cache", 2, seconds=180)
    by_node = {pod["spec"]["nodeName"]: name_of(pod) for pod in found}
    lines = {node: written(SPACE, name, 5) for node, name in by_node.items()}
    for name in by_node.values():
        kubectl("delete", "pod", "-n", SPACE, name, seconds=120)
    for pod in ready_pods(SPACE, "cache", 2, not_among=uids(found), seconds=120):
        before = lines[pod["spec"]["nodeName"]]
        must(log(SPACE, name_of(pod))[:len(before)] == before, f"the pod on {pod['spec']['nodeName']} has another history")
    kubectl("delete", "daemonset", "-n", SPACE, "cache")


@scenario
def job_completes(store):
    """A Job comes to its end, the agent with it, and its last line is in the store."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("Job", "batch", labels=LABEL, restart="Never", environment={"UNTIL": "20"}), namespace=SPACE)
    until("the job is complete", lambda: condition(get("job", "batch", SPACE), "Complete").get("status") == "True", 120)
    pod = pods(SPACE, "app=batch")[0]
    must(is_injected(pod), "it ran without an agent")
    must(pod["status"]["phase"] == "Succeeded", f"its pod: {pod['status']['phase']}")

    def at_rest():
        found = stage.lineages(SPACE, "batch")
        return found and condition(found[0], "Protected").get("reason") == "AtRest" and found[0]

    lineage = until("its lineage is at rest", at_rest)
    lines = read(lineage["spec"]["lineage"], None, "data/log", reader(SPACE)).splitlines()
    must(len(lines) >= 20 and lines[-1].endswith(" done"), f"its last line is not in the store: {lines[-2:]}")
    must(lineage["status"]["checkpoint"]["bytes"] == sum(len(line) + 1 for line in lines), f"what is shown is not the newest: {lineage['status']}")


@scenario
def bare_pod(store):
    """A pod without a controller goes on under its name."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    pod = {"apiVersion": "v1", "kind": "Pod", **template("lone", labels=LABEL)}
    pod["metadata"]["name"] = "lone"
    apply(pod, namespace=SPACE)
    until("it is ready", lambda: is_ready(get("pod", "lone", SPACE)), 120)
    lines = written(SPACE, "lone", 5)
    kubectl("delete", "pod", "-n", SPACE, "lone", seconds=120)
    apply(pod, namespace=SPACE)
    until("it is ready again", lambda: is_ready(get("pod", "lone", SPACE)), 120)
    must(log(SPACE, "lone")[:len(lines)] == lines, "it has another history")
    kubectl("delete", "pod", "-n", SPACE, "lone", seconds=120)


@scenario
def provisioned_volume(store):
    """A path that no volume covers gets the one that the policy provides, and no emptyDir."""
    stage.namespace(SPACE, store, policies=[policy("given", provision={"ephemeralVolume": {"size": "64Mi"}})])
    apply(workload("Deployment", "bare", labels={"holdfast.dev/policy": "given"}, volume="none"), namespace=SPACE)
    pod = the_one(SPACE, "bare", seconds=180)
    volumes = get("pod", pod, SPACE)["spec"]["volumes"]
    must(not any("emptyDir" in volume for volume in volumes), f"an emptyDir was added: {volumes}")
    lines = written(SPACE, pod, 5)
    kubectl("delete", "pod", "-n", SPACE, pod, seconds=120)
    heir = the_one(SPACE, "bare", seconds=120)
    must(log(SPACE, heir)[:len(lines)] == lines and began_after(SPACE, heir) > len(lines), "it has another history")
    kubectl("delete", "deployment", "-n", SPACE, "bare")

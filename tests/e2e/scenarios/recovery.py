# SPDX-License-Identifier: Apache-2.0
"""A volume of long ago, and a cluster that is gone. The last is played last: what the others made goes with the cluster."""
import subprocess
from pathlib import Path

import stage
from app import began_after, log, lost, policy, ready_pods, shown_lag, workload, written
from kube import apply, get, kubectl, must, name_of, pods, say, until
from reading import read, reader
from scenario import scenario
from scenarios.beside import allow_making, copied
from scenarios.restores import restore
from scenarios.snapshots import snapshot, taken

SPACE = "again"


def books():
    return workload("StatefulSet", "books", replicas=2, labels={"holdfast.dev/policy": "given"})


def waits(pod, reason):
    """What the events of a pod say while its gate waits for somebody's choice."""
    said = kubectl("describe", "pod", "-n", SPACE, pod)
    return next((line.strip() for line in said.splitlines() if reason in line), None)


def scaled(name, replicas):
    kubectl("scale", "statefulset", "-n", SPACE, name, f"--replicas={replicas}")
    if replicas:
        ready_pods(SPACE, name, replicas, seconds=180)
    else:
        until(f"{name} has no pods", lambda: not pods(SPACE, f"app={name}", ending=True), 120)


@scenario
def old_volume(store):
    """A volume comes back as it was long ago, while the store has gone on: the gate waits, says what to choose, and what was chosen is done."""
    stage.namespace(SPACE, store, policies=[policy("given")])
    apply(workload("StatefulSet", "ledger", labels={"holdfast.dev/policy": "given"}, volume="claim"), namespace=SPACE)
    ready_pods(SPACE, "ledger", 1, seconds=180)
    written(SPACE, "ledger-0", 10)
    scaled("ledger", 0)
    name = get("pvc", "state-ledger-0", SPACE)["spec"]["volumeName"]
    volume = Path(get("pv", name)["spec"]["hostPath"]["path"])
    left, newer = [volume.with_name(f"{volume.name}-{what}") for what in ["left", "newer"]]
    subprocess.run(["cp", "-a", volume, left], check=True)
    scaled("ledger", 1)
    lines = written(SPACE, "ledger-0", len(log(SPACE, "ledger-0")) + 20)
    scaled("ledger", 0)
    volume.rename(newer)
    left.rename(volume)
    kubectl("scale", "statefulset", "-n", SPACE, "ledger", "--replicas=1")
    message = until("the gate waits for a choice", lambda: waits("ledger-0", "Diverged"), 120)
    say(f"          {message}")
    command = "kubectl annotate statelineage statefulset-ledger-0 holdfast.dev/choose=prefer-store"
    must(f"`{command}`" in message and "adopt-disk" in message, f"it does not say how to choose: {message}")
    gate = kubectl("logs", "-n", SPACE, "ledger-0", "-c", "holdfast-gate")
    must(command in gate, f"the gate's log does not say how to choose: {gate}")
    kubectl(*command.split()[1:], "-n", SPACE)
    ready_pods(SPACE, "ledger", 1, seconds=120)
    must(log(SPACE, "ledger-0")[:len(lines)] == lines, "it does not go on from what the store has")
    kubectl("delete", "statefulset", "-n", SPACE, "ledger")
    subprocess.run(["rm", "-rf", newer], check=True)


def of_the_vault():
    """The bytes of its replicas in a snapshot."""
    for pod in ready_pods(SPACE, "vault", 2, seconds=180):
        written(SPACE, name_of(pod), 10)
    snapshot("vault-then", namespace=SPACE, policies=["vault"])
    taken("vault-then", namespace=SPACE)
    how, stored = reader(SPACE), [lineage["spec"]["lineage"] for lineage in stage.lineages(SPACE, "vault")]
    return {name: read(name, "vault-then", "data/log", how).splitlines() for name in stored}


@scenario(alone=True)
def second_cluster(store):
    """Another cluster on the same bucket finds the histories of the first, asks whose they are to be, and goes on; one StateRestore brings a snapshot's workload back."""
    stage.namespace(SPACE, store, policies=[policy("given"), policy("vault")])
    apply(workload("StatefulSet", "vault", replicas=2, labels={"holdfast.dev/policy": "vault"}, volume="claim"), namespace=SPACE)
    apply(books(), namespace=SPACE)
    vault = of_the_vault()
    pods = {name_of(pod)[-1]: name_of(pod) for pod in ready_pods(SPACE, "books", 2, seconds=180)}
    for pod in pods.values():
        written(SPACE, pod, 20)
    lag = shown_lag(lambda: stage.lineages(SPACE, "books"))
    before = {number: log(SPACE, pod) for number, pod in pods.items()}
    stage.tear_down()

    stage.raise_cluster()
    stage.install()
    stage.namespace(SPACE, store, policies=[policy("given"), policy("vault")])
    allow_making(SPACE)
    # nothing of it is in this cluster: no workload, no StateSnapshot, no StateLineage
    restore("everything", namespace=SPACE, source={"snapshot": "vault-then"}, elsewhere={"namespace": SPACE})
    copied("everything", SPACE, "vault", vault, asked_in=SPACE)
    apply(books(), namespace=SPACE)
    for number in pods:
        message = until(f"the gate of books-{number} waits for a choice", lambda number=number: waits(f"books-{number}", "ForeignLineageFound"), 120)
        must("holdfast.dev/choose" in message, f"it does not say what to do: {message}")
    say(f"          {message}")
    kubectl("annotate", "statelineage", "-n", SPACE, "statefulset-books-0", "holdfast.dev/choose=adopt")
    kubectl("annotate", "statelineage", "-n", SPACE, "statefulset-books-1", "holdfast.dev/choose=fresh")
    ready_pods(SPACE, "books", 2, seconds=180)
    gone = lost(SPACE, "books-0", before["0"], lag)
    must(began_after(SPACE, "books-1") == 0, "what was to be fresh has a history")
    say(f"          {gone} acknowledged lines lost with the cluster, {lag} s of lag were shown")
    kubectl("delete", "statefulset", "-n", SPACE, "books")

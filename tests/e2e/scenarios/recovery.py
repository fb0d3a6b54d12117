# SPDX-License-Identifier: Apache-2.0
"""The cluster is gone, the bucket is left. Played last: what the others made goes with the cluster."""
import stage
from app import began_after, log, lost, policy, ready_pods, workload, written
from kube import apply, kubectl, must, name_of, say, until
from scenario import scenario

SPACE = "again"
# 5 lines a second: what the cadence allows, and an upload
MOST_LOST = 15


def books():
    return workload("StatefulSet", "books", replicas=2, labels={"holdfast.dev/policy": "given"})


def waits(number):
    """What the events of a replica's pod say while its gate waits for somebody's choice."""
    said = kubectl("describe", "pod", "-n", SPACE, f"books-{number}")
    return next((line.strip() for line in said.splitlines() if "ForeignLineageFound" in line), None)


@scenario
def second_cluster(store):
    """Another cluster on the same bucket finds the histories of the first, asks whose they are to be, and goes on from them."""
    stage.namespace(SPACE, store, policies=[policy("given")])
    apply(books(), namespace=SPACE)
    pods = {name_of(pod)[-1]: name_of(pod) for pod in ready_pods(SPACE, "books", 2, seconds=180)}
    for pod in pods.values():
        written(SPACE, pod, 20)
    before = {number: log(SPACE, pod) for number, pod in pods.items()}
    stage.tear_down()

    stage.raise_cluster()
    stage.install()
    stage.namespace(SPACE, store, policies=[policy("given")])
    apply(books(), namespace=SPACE)
    for number in pods:
        message = until(f"the gate of books-{number} waits for a choice", lambda number=number: waits(number), 120)
        must("holdfast.dev/choose" in message, f"it does not say what to do: {message}")
    say(f"          {message}")
    kubectl("annotate", "statelineage", "-n", SPACE, "statefulset-books-0", "holdfast.dev/choose=adopt")
    kubectl("annotate", "statelineage", "-n", SPACE, "statefulset-books-1", "holdfast.dev/choose=fresh")
    ready_pods(SPACE, "books", 2, seconds=180)
    gone = lost(SPACE, "books-0", before["0"], MOST_LOST)
    must(began_after(SPACE, "books-1") == 0, "what was to be fresh has a history")
    say(f"          {gone} acknowledged lines lost with the cluster")
    kubectl("delete", "statefulset", "-n", SPACE, "books")

# SPDX-License-Identifier: Apache-2.0
"""The example: an operator of its own keeps workers, which Holdfast protects without either knowing."""
import json
import re

import stage
from kube import ROOT, cluster, get, is_ready, kubectl, must, name_of, pods, say, until
from scenario import scenario

SPACE = "factoriser"
# candidates a second of each worker, where a scenario waits for the end
RATE = 3_000_000
# and where the example's file says it
USUAL = 900_000
# its cadence allows two seconds, an upload takes its time
LOST_SECONDS = 6
FACTORS = [15581, 51637]
KUBERNETES = ROOT / "deploy/examples/factoriser/kubernetes"


def progress():
    """What the master's Service answers."""
    service = get("service", "seed-master", SPACE)
    said = kubectl("get", "--raw", f"/api/v1/namespaces/{SPACE}/services/{service['metadata']['name']}:7000/proxy/progress")
    return json.loads(said)


def done():
    return progress()["progress_done"]


def workers(count):
    """The pods of the workers, once there are so many, all ready."""
    found = pods(SPACE, "app=seed", ending=True)
    return found if len(found) == count and all(is_ready(pod) for pod in found) else None


def begin(store, rate=None):
    """The example's operator, and an RSACracker, as the files say, but for another rate of its workers."""
    kubectl("apply", "-k", ROOT / "tests/e2e/example")
    stage.namespace(SPACE, store, level="restricted")
    kubectl("apply", "-f", KUBERNETES / "policy.yaml")
    text = (KUBERNETES / "rsacracker.yaml").read_text()
    kubectl("apply", "-f", "-", given=re.sub(r"rate: \d+", f"rate: {rate}", text) if rate else text)
    until("three workers are ready", lambda: workers(3), 180)


def each_has(least):
    """The progress, once each worker has searched more than this: more than may be lost."""
    def shown():
        now = progress()
        return now if all(worker["searched"] > least for worker in now["workers"]) else None

    return until(f"each worker has searched {least}", shown, 90)


def goes_on(number, before, after, may_be_lost):
    """A worker began with what it had searched before, but for what may be lost."""
    had, began = before["workers"][number]["searched"], after["workers"][number]["started_from"]["searched"]
    must(began >= had - may_be_lost, f"worker {number} had searched {had}, and began with {began}")
    say(f"          worker {number}: {had} candidates searched before it was lost, {began} when it began again")


@scenario
def factoriser_under_an_operator(store):
    """An RSACracker: workers are killed, their number changes while they work, and nothing is searched from the beginning."""
    begin(store)
    before = each_has(2 * LOST_SECONDS * USUAL)
    # one is killed, and has its journal again
    kubectl("delete", "pod", "-n", SPACE, "seed-1", "--grace-period=0", "--force")
    until("three workers are ready", lambda: workers(3), 120)
    after = until("all are alive", lambda: all(worker["alive"] for worker in progress()["workers"]) and progress(), 60)
    goes_on(1, before, after, LOST_SECONDS * USUAL)
    # another number of workers, as kubectl edit would write it
    was = done()
    kubectl("patch", "rsacracker", "-n", SPACE, "seed", "--type=merge", "-p", '{"spec":{"workerCount":2}}')
    until("two workers are ready", lambda: workers(2), 150)
    until("what three have done still counts", lambda: done() >= was, 90)
    kubectl("patch", "rsacracker", "-n", SPACE, "seed", "--type=merge", "-p", '{"spec":{"workerCount":4}}')
    until("four workers are ready", lambda: workers(4), 150)
    until("and goes on", lambda: done() > was, 60)
    say(f"          {was} candidates before the number of workers changed, {done()} after")
    must(len({name_of(pod) for pod in pods(SPACE, "app=seed")}) == 4, "four workers")
    kubectl("delete", "rsacracker", "-n", SPACE, "seed")


@scenario(alone=True)
def factoriser_loses_a_node(store):
    """The node of workers is lost while they search: their successors go on from their journals on another node, and the factors are found."""
    begin(store, rate=RATE)
    on_node = [name_of(pod) for pod in workers(3) if pod["spec"]["nodeName"] == "node2"]
    must(on_node, "no worker is on node2")
    before = each_has(2 * LOST_SECONDS * RATE)
    must(not before["solution"], f"it was found too soon: {before}")
    cluster("node-kill", 2)
    try:
        until("the node is not ready", lambda: not is_ready(get("node", "node2")), 90)
        cluster("node-out-of-service", 2)
        until("all workers are on node1", lambda: {pod["spec"]["nodeName"] for pod in workers(3) or []} == {"node1"}, 180)
        after = until("all are alive", lambda: all(worker["alive"] for worker in progress()["workers"]) and progress(), 90)
        for number in [int(name[-1]) for name in on_node]:
            goes_on(number, before, after, LOST_SECONDS * RATE)
        found = until("the factors are found", lambda: progress()["solution"], 300)
        must(found == FACTORS, f"other factors: {found}")
    finally:
        cluster("node-start", 2)
    kubectl("delete", "rsacracker", "-n", SPACE, "seed")

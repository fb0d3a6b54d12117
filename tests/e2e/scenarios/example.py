# SPDX-License-Identifier: Apache-2.0
"""The example: an operator of its own keeps workers, which Holdfast protects without either knowing."""
import json

import stage
from kube import ROOT, get, is_ready, kubectl, must, name_of, pods, say, until
from scenario import scenario

SPACE = "factoriser"
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


@scenario
def factoriser_under_an_operator(store):
    """An RSACracker: workers are killed, their number changes while they work, and nothing is searched from the beginning."""
    kubectl("apply", "-k", ROOT / "tests/e2e/example")
    stage.namespace(SPACE, store, level="restricted")
    kubectl("apply", "-f", KUBERNETES / "policy.yaml")
    kubectl("apply", "-f", KUBERNETES / "rsacracker.yaml")
    until("three workers are ready", lambda: workers(3), 180)
    before = until("something is done", lambda: done() > 20_000_000 and progress(), 90)
    # one is killed, and has its journal again
    kubectl("delete", "pod", "-n", SPACE, "seed-1", "--grace-period=0", "--force")
    until("three workers are ready", lambda: workers(3), 120)
    after = until("all are alive", lambda: all(worker["alive"] for worker in progress()["workers"]) and progress(), 60)
    share = [worker["done"] for worker in (before["workers"][1], after["workers"][1])]
    must(share[1] >= share[0] * 0.7, f"worker 1 had done {share[0]}, and has {share[1]}")
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

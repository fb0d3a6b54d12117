# SPDX-License-Identifier: Apache-2.0
"""A database in a StatefulSet, under load, whose node is lost."""
import time

import stage
from app import policy, shown_lag, workload
from database import Database, image
from kube import cluster, condition, get, kubectl, must, say, until
from places import placed, ready_on
from scenario import scenario

SPACE = "databases"
NAME = "ledger"


def server():
    one = workload("StatefulSet", NAME, labels={"holdfast.dev/policy": NAME}, grace=30)
    spec = one["spec"]["template"]["spec"]
    container = spec["containers"][0]
    container |= {"image": "holdfast.local/postgres:1", "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}}
    container["env"].append({"name": "TZ", "value": "UTC"})
    container["startupProbe"]["exec"]["command"] = ["pg_isready", "-h", "/tmp"]
    container["volumeMounts"].append({"name": "sockets", "mountPath": "/tmp"})
    spec["volumes"].append({"name": "sockets", "emptyDir": {}})
    return one


def loaded(pod):
    """A load on the database of a pod, which was captured while it went on."""
    database = Database(SPACE, pod)
    until("it answers", database.answers, 60)
    database.run("pgbench", "-i", "-q", "-s", "2", "postgres", seconds=180)
    load = database.load()
    until("many transactions were made", lambda: int(database.ask("SELECT count(*) FROM pgbench_history")) > 300, 60)

    def captured():
        checkpoint = stage.lineages(SPACE, NAME)[0]["status"].get("checkpoint", {})
        return checkpoint.get("quality") == "Clean" and checkpoint

    first = until("a checkpoint is clean", captured, 60)
    until("another one is", lambda: (captured() or first) != first, 60)
    return load


@scenario(alone=True)
def database_loses_its_node(store):
    """PostgreSQL is at rest at every checkpoint; its node is lost under load: it recovers, its balances add up, and it lacks no more than the lag that was shown."""
    rest = {"consistency": {"mode": "Freeze", "when": "EveryCheckpoint", "pauseBudget": "5s"}}
    rules = policy(NAME, **rest)
    rules["spec"]["paths"][0]["exclude"] = ["data/postmaster.pid"]
    image()
    stage.namespace(SPACE, store, policies=[rules])
    pod = placed(server(), "node2", "node1", SPACE)
    load = loaded(pod)
    lag = shown_lag(lambda: stage.lineages(SPACE, NAME))
    lost_at = time.time()
    cluster("node-kill", 2)
    try:
        load.wait(60)
        until("the node is known to be lost", lambda: condition(get("node", "node2"), "Ready").get("status") != "True", 120)
        # a StatefulSet's pod is replaced only once somebody says that the node is gone for certain
        kubectl("delete", "pod", "-n", SPACE, pod, "--force", "--grace-period=0")
        until("it is ready on node1", lambda: ready_on("node1", NAME, SPACE), 180)
        said = kubectl("logs", "-n", SPACE, pod, "-c", "scribe")
        must("a new database" not in said and "automatic recovery in progress" in said, f"it did not recover: {said}")
        count, last = Database(SPACE, pod).transactions()
        # a transaction's time is that of its beginning, and the next one begins later
        must(count > 0 and lost_at - last <= lag + 1, f"{lost_at - last:.1f} s of transactions are lost, and {lag} s of lag were shown")
        say(f"          {count} transactions, their sums agree; {lost_at - last:.1f} s of them lost, {lag} s of lag were shown")
    finally:
        cluster("node-start", 2)
        load.kill()
    kubectl("delete", "namespace", SPACE, "--wait=false")

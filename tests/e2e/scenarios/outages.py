# SPDX-License-Identifier: Apache-2.0
"""What Holdfast stands on goes away: the store, the API server, a node's own services. Applications do not notice, and afterwards all is as before."""
import time
from itertools import pairwise

import stage
from app import LINES, log, policy, ready_pods, restarts, workload, written
from kube import CLUSTER_STATE, apply, cluster, condition, events, get, is_ready, kubectl, must, name_of, pods, say, until
from reading import read, reader
from scenario import scenario
from streams import LABEL, POLICY, behind, nothing_restarted, pair, replaced, until_caught_up

SPACE = "outages"
# how long the store is away
AWAY = 45
# agents reach a leader again so soon after the API server is back: it is elected, labelled and routed to within seconds, and they ask every five
BACK = 15


def told(about, reason, kind):
    """The Events of a kind on an object."""
    return [event for event in events(SPACE, about) if (event["involvedObject"]["kind"], event["reason"]) == (kind, reason)]


@scenario(alone=True)
def store_away(store):
    """The store is silent, then gone, for 45 s: applications go on, people are told, a pod made meanwhile waits and says for what; nothing is lost."""
    found, lines = pair(SPACE, store)
    how = reader(SPACE)
    try:
        store.silence()
        apply(workload("Deployment", "late", labels=LABEL), namespace=SPACE)
        until("the lag of both grows", lambda: all(behind(one) >= AWAY // 3 for one in stage.lineages(SPACE, "pair")), 30)
        store.kill()
        people_are_told()
        waits("late")
        until("the lag of both is as long as the store is away", lambda: all(behind(one) >= AWAY for one in stage.lineages(SPACE, "pair")), 60)
        # the application has written all the time, and its lines wait
        meanwhile = {name_of(pod): written(SPACE, name_of(pod), len(lines[name_of(pod)]) + 3 * AWAY) for pod in found}
        must(not is_ready(pods(SPACE, "app=late")[0]), "a pod started without a store")
    finally:
        store.kill()
        store.start()
    back = time.monotonic()
    nothing_restarted(SPACE, found, meanwhile)
    say(f"          the lag had recovered {time.monotonic() - back:.0f} s after the store was back")
    stage.until_repository(SPACE)
    written(SPACE, name_of(ready_pods(SPACE, "late", 1, seconds=60)[0]), 5)
    say(f"          and the pod that waited had started {time.monotonic() - back:.0f} s after it")
    for lineage in stage.lineages(SPACE, "pair"):
        until("its end is told", lambda one=lineage: told(name_of(one), "StateProtected", "StateLineage"), 30)
        stored = read(lineage["spec"]["lineage"], None, "data/log", how).splitlines()
        holder = get("statelineage", name_of(lineage), SPACE)["status"]["holder"]
        must(stored[:len(meanwhile[holder])] == meanwhile[holder], f"{holder}: the store does not hold what was written meanwhile")
    heir = replaced(SPACE, name_of(found[0]))
    had = meanwhile[name_of(found[0])]
    must(log(SPACE, heir)[:len(had)] == had, "the successor has another history")
    kubectl("delete", "deployment", "-n", SPACE, "late", "--wait=false")


def people_are_told():
    """The StateLineages, their Events and the StateRepository say what is wrong."""
    def unprotected():
        found = [condition(one, "Protected") for one in stage.lineages(SPACE, "pair")]
        return found if len(found) == 2 and all(one.get("status") == "False" for one in found) else None

    for said in until("the StateLineages say that they are not protected", unprotected, 60):
        say(f"          {said['reason']}: {said['message']}")
    for lineage in stage.lineages(SPACE, "pair"):
        event = until("an Event tells of it", lambda one=lineage: told(name_of(one), "StateUnprotected", "StateLineage"), 30)[-1]
        must(event["type"] == "Warning", f"it is no warning: {event}")

    def unreachable():
        ready = condition(get("staterepository", "default", SPACE), "Ready")
        return ready if ready.get("status") == "False" else None

    ready = until("the StateRepository is not ready", unreachable, 90)
    must(ready["reason"] == "StoreUnreachable", f"it says {ready}")
    say(f"          {ready['reason']}: {ready['message']}")


def waits(name):
    """The pod of a Deployment that has just been made is not started, and its gate, its Events and its StateLineage say that it is for the store."""
    pod = name_of(until("the pod is made", lambda: pods(SPACE, f"app={name}"), 60)[0])

    def said():
        text = kubectl("logs", "-n", SPACE, pod, "-c", "holdfast-gate")
        must("CoordinatorUnreachable" not in text, f"the coordinator is blamed: {text}")
        return [line for line in text.splitlines() if line.startswith("RepositoryNotReady: ") and "store" in line]

    say("          " + until("its gate says what it waits for", said, 30)[-1])
    until("an Event says so", lambda: told(pod, "RepositoryNotReady", "Pod"), 30)
    until("its StateLineage says so", lambda: reason_of(f"deployment-{name}-0") == "RepositoryNotReady", 30)


def reason_of(lineage):
    """Why a StateLineage is protected, or not."""
    return condition(get("statelineage", lineage, SPACE), "Protected").get("reason")


def on_disk(pod):
    """How many lines the application of a pod has written, as its node has them: nobody is asked."""
    uid, node = pod["metadata"]["uid"], pod["spec"]["nodeName"]
    volume = CLUSTER_STATE / node / "kubelet/pods" / uid / "volumes/kubernetes.io~empty-dir/state/log"
    return volume.read_bytes().count(b"\n")


def until_written(found, more, seconds=60):
    """Waits until the application of each pod has written so many lines more."""
    goals = [(pod, on_disk(pod) + more) for pod in found]
    until(f"each application has written {more} lines more", lambda: all(on_disk(pod) >= goal for pod, goal in goals), seconds)


def pauses(store, away, back):
    """For how long nothing was made durable of each lineage that has been written since the API server was back, as the store's disk has it."""
    longest = []
    for records in store.directory.glob(f"data/holdfast/{SPACE}/domains/*/lineages/*/log"):
        times = sorted(record.stat().st_mtime for record in records.rglob("xl.meta"))
        if times[-1] > back:
            longest.append(max(later - before for before, later in pairwise(times) if later > away))
    return longest


@scenario(alone=True)
def api_server_away(store):
    """The API server is gone for 20 s: checkpoints are made soon after. A pod is deleted then: no agent restarts, and the successor has every line."""
    found, lines = pair(SPACE, store, "patient", grace=40, patience=300)
    away = time.time()
    cluster("api-kill")
    try:
        # at five lines a second, or fewer where the machine is busy
        until_written(found, 20 * LINES)
    finally:
        cluster("api-start")
    back = time.time()
    until("both make checkpoints again", lambda: len(pauses(store, away, back)) == 2, 120)
    paused = max(pauses(store, away, back))
    say(f"          the API server was away for {back - away:.0f} s, and no checkpoint was made for {paused:.0f} s")
    must(paused <= back - away + BACK, "agents had no leader for long")
    had = {name_of(pod): on_disk(pod) for pod in found}
    victim, other = found
    heir = replaced(SPACE, name_of(victim), "patient")
    after = log(SPACE, heir)
    must(sum(line.endswith(f"{name_of(victim)} end") for line in after) == 1, "its predecessor's last line is lost")
    must(len(after) > had[name_of(victim)] and after[:len(lines[name_of(victim)])] == lines[name_of(victim)], "it has another history")
    until_caught_up(SPACE, "patient")
    pod = get("pod", name_of(other), SPACE)
    must(pod["metadata"]["uid"] == other["metadata"]["uid"] and not restarts(pod), f"what restarted in the other pod: {restarts(pod)}")
    must(len(log(SPACE, name_of(other))) > had[name_of(other)], "the other has lost lines")
    kubectl("delete", "deployment", "-n", SPACE, "patient", "--wait=false")


@scenario(alone=True)
def leader_looks_lost(store):
    """The leader's node is believed to be lost, and the leader goes on: who comes then reaches it, and nobody else leads."""
    stage.namespace(SPACE, store, policies=[policy(POLICY)])
    leads = until("there is a leader", stage.leader)
    number = get("pod", leads, stage.SYSTEM)["spec"]["nodeName"].removeprefix("node")
    holder = seat()
    cluster("node-silence", number)
    try:
        until("the leader is believed to be gone", lambda: not is_ready(get("pod", leads, stage.SYSTEM)), 60)
        apply(workload("Deployment", "newcomer", labels=LABEL), namespace=SPACE)
        written(SPACE, name_of(ready_pods(SPACE, "newcomer", seconds=60)[0]), 5)
        must(seat() == holder, f"{seat()} leads, and it was {holder}")
    finally:
        cluster("node-start", number)
        kubectl("delete", "deployment", "-n", SPACE, "newcomer", "--ignore-not-found", "--wait=false")
    kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "--timeout=120s", seconds=150)


def seat():
    """Which process holds the leader's lease."""
    return get("lease", "holdfast-coordinator", stage.SYSTEM)["spec"]["holderIdentity"]


@scenario(alone=True)
def kubelet_is_restarted(store):
    """A node's kubelet is killed and comes back, and then its containerd, too: neither agents nor applications are restarted, and the lag recovers."""
    found, lines = pair(SPACE, store)
    number = found[0]["spec"]["nodeName"].removeprefix("node")
    for commands in [["node-silence"], ["node-silence", "runtime-kill"]]:
        try:
            for command in commands:
                cluster(command, number)
            until_written(found, 5 * LINES)
        finally:
            cluster("node-start", number)
        nothing_restarted(SPACE, found, lines)
        lines = {name_of(pod): log(SPACE, name_of(pod)) for pod in found}
    heir = replaced(SPACE, name_of(found[0]))
    had = lines[name_of(found[0])]
    must(log(SPACE, heir)[:len(had)] == had, "the successor has another history")

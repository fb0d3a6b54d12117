# SPDX-License-Identifier: Apache-2.0
"""Somebody dies in the middle of a restore: the gate stays shut, and the restore is finished."""
import os
import signal

import stage
from app import STATE, agent_of, log, policy, restarts, the_one, workload, written
from kube import apply, get, kubectl, must, name_of, pods, say, until
from proxies import Valve
from scenario import scenario
from scenarios.control import another_leader
from streams import LABEL, POLICY, SMALL, behind

SPACE = "halves"
PORT = 9101
MIB = 1 << 20
FILES = 32
# of which so much comes before the store is silent: more than is under way at once, which is lost with whoever had it
SOME = 20 * MIB
LOAD = f"n=0; while [ $n -lt {FILES} ]; do dd if=/dev/urandom of={STATE}/part-$n bs=1048576 count=1 2>/dev/null; n=$((n + 1)); done"


def prepared(store, valve, name):
    """A pod whose state is big, durable, and was read back."""
    stage.namespace(SPACE, store, policies=[policy(POLICY)], endpoint=valve.url)
    apply(workload("Deployment", name, labels=LABEL), namespace=SPACE)
    pod = the_one(SPACE, name, seconds=180)
    kubectl("exec", "-n", SPACE, pod, "-c", "scribe", "--", "sh", "-c", LOAD, seconds=60)

    def durable():
        lineage = stage.lineages(SPACE, name)[0]
        status = lineage["status"]
        return status.get("checkpoint", {}).get("bytes", 0) >= FILES * MIB and behind(lineage) <= SMALL and status.get("verifiedSequence")

    until("all of it is durable", durable, 90)
    return pod


def digest(pod):
    """Of all that does not change any more."""
    return kubectl("exec", "-n", SPACE, pod, "-c", "scribe", "--", "sh", "-c", f"cat {STATE}/part-* | sha256sum; ls {STATE} | wc -l")


def half_restored(valve, name, pod):
    """The pod that takes another's place, when some of its state has come and no more does."""
    written(SPACE, pod, 10)
    valve.hold_after(SOME)
    kubectl("delete", "pod", "-n", SPACE, pod, seconds=60)
    must(valve.holds.wait(60), "nothing was restored")
    return name_of(until("there is a successor", lambda: pods(SPACE, f"app={name}"), 30)[0])


def shut(pod):
    """The gate has not ended, and the application has not begun."""
    status = get("pod", pod, SPACE)["status"]
    gate = next(one for one in status["initContainerStatuses"] if one["name"] == "holdfast-gate")
    must("terminated" not in gate["state"], f"the gate has ended: {gate['state']}")
    must("waiting" in status["containerStatuses"][0]["state"], f"the application runs: {status['containerStatuses']}")


def finished(name, pod, held, lines, again):
    """The same pod starts with all bytes; what was started again is known."""
    must(the_one(SPACE, name, seconds=120) == pod, "the pod was replaced")
    must(digest(pod) == held, "it has other bytes")
    must(log(SPACE, pod)[:len(lines)] == lines, "it has another history")
    must(restarts(get("pod", pod, SPACE)) == again, f"what restarted: {restarts(get('pod', pod, SPACE))}")
    kubectl("delete", "deployment", "-n", SPACE, name, "--wait=false")


@scenario
def agent_is_killed_in_a_restore(store):
    """An agent is killed in the middle of a restore: the gate stays shut, and the next one goes on with what is on the disk already."""
    with Valve(PORT) as valve:
        pod = prepared(store, valve, "cut")
        held, lines = digest(pod), log(SPACE, pod)
        heir = half_restored(valve, "cut", pod)
        shut(heir)
        process = until("the agent is found", lambda: agent_of(SPACE, heir))
        os.kill(process, signal.SIGKILL)
        until("the agent is started again", lambda: agent_of(SPACE, heir) not in [None, process], 60)
        shut(heir)
        before = valve.passed
        valve.open()
        finished("cut", heir, held, lines, {"holdfast-agent": 1})
        must(valve.passed - before < FILES * MIB, f"all of it was fetched again: {valve.passed - before} bytes")
        say(f"          {before / MIB:.1f} MiB had come, and then {(valve.passed - before) / MIB:.1f} of {FILES}")


@scenario(alone=True)
def leader_is_killed_in_a_restore(store):
    """The leading coordinator is killed in the middle of a restore: the agent waits for the next one and goes on, and is not restarted."""
    with Valve(PORT) as valve:
        pod = prepared(store, valve, "led")
        held, lines = digest(pod), log(SPACE, pod)
        heir = half_restored(valve, "led", pod)
        another_leader()
        shut(heir)
        before = valve.passed
        valve.open()
        finished("led", heir, held, lines, {})
        say(f"          {before / MIB:.1f} MiB had come, and then {(valve.passed - before) / MIB:.1f} of {FILES}")

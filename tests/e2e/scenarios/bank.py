# SPDX-License-Identifier: Apache-2.0
"""The bank: houses of a StatefulSet move money between each other, and snapshots of them become banks in namespaces of their own."""
import os
import tempfile
import time
from pathlib import Path

import stage
from app import agent_of, policy, process_of, ready_pods
from houses import ADDRESS, HOUSES, NAME, Deaths, bank, found, go_on, image
from kube import apply, condition, get, kubectl, must, name_of, say, until
from scenario import scenario
from scenarios.beside import allow_making, forbid_making
from scenarios.restores import restore, settled as restored
from scenarios.snapshots import settled, snapshot
from streams import sequence

from audit import Auditor  # isort: skip # beside the house, which `houses` has found

SPACE = "bank"
# so many snapshots are audited; every other one is taken while somebody is killed
SNAPSHOTS = int(os.environ.get("HOLDFAST_BANK_SNAPSHOTS") or 2)
SEED = int(os.environ.get("HOLDFAST_BANK_SEED") or time.time_ns() % (1 << 32))
STILL = {"consistency": {"mode": "Freeze", "pauseBudget": "10s"}}


def victims():
    """Who may be killed: the agent of a house, or the coordinator that leads."""
    agents = [(f"the agent of {NAME}-{number}", lambda number=number: agent_of(SPACE, f"{NAME}-{number}")) for number in range(HOUSES)]
    return [*agents, ("the coordinator", lambda: process_of(stage.SYSTEM, stage.leader(), b"/holdfast-coordinator"))]


def until_captured():
    """Waits until each house's agent has made another checkpoint: what is written without pause is at rest only in snapshots."""
    before = {name_of(one): sequence(one) for one in stage.lineages(SPACE, NAME)}

    def captured():
        now = stage.lineages(SPACE, NAME)
        return len(now) == HOUSES and all(sequence(one) > before.get(name_of(one), 0) for one in now)

    until("each house is captured", captured, 240)


def moment(name, deaths):
    """A snapshot of all houses at one moment, if it is one; with somebody who is killed, it need not be."""
    began = time.monotonic()
    snapshot(name, namespace=SPACE, policies=[NAME])
    if deaths:
        deaths.kill(victims())
    status = settled(name, SPACE, 240)
    if deaths:
        until_captured()
    said = condition({"status": status}, "Succeeded")
    say(f"          {name}{f', {deaths.kills[-1]} killed' if deaths else ''}: {time.monotonic() - began:.1f} s: {said['message']}")
    is_one = said["status"] == "True" and status["consistency"] == "Frozen"
    must(is_one or deaths, f"{name} is not of one moment: {said}")
    return status if is_one else None


def next_moment(number, deaths):
    """The name and the status of a snapshot that is of one moment: where somebody was killed, it may be the next one."""
    if number % 2 == 0:
        status = moment(f"killed-{number}", deaths)
        if status:
            return f"killed-{number}", status
        deaths.lost += 1
    began = time.monotonic()
    status = moment(f"moment-{number}", None)
    deaths.usual.append(time.monotonic() - began)
    return f"moment-{number}", status


def audited(auditor, name, number, within, store):
    """A snapshot becomes a bank in another namespace: what its houses find adds up, and they move money between each other."""
    space = f"{SPACE}-{number}"
    stage.namespace(space, store, prefix=SPACE, domain=SPACE)
    apply(ADDRESS, namespace=space)
    restore(name, namespace=SPACE, source={"snapshot": name}, elsewhere={"namespace": space})
    said = condition({"status": restored(name, SPACE)}, "Succeeded")
    must(said["status"] == "True", f"{name} was not restored: {said}")
    ready_pods(space, NAME, HOUSES, seconds=240)
    copies = within / name
    copies.mkdir()
    told = auditor.audit([found(space, house, copies) for house in range(HOUSES)])
    go_on(space)
    kubectl("delete", "namespace", space, "--wait=false")
    say(f"          {name}: {told.entries} entries, {told.under_way} under way, {told.half_booked} houses within a booking; its bank goes on")


def opened(store):
    """The bank, at work."""
    image()
    stage.namespace(SPACE, store, policies=[policy(NAME, **STILL)])
    apply(ADDRESS, bank(), namespace=SPACE)
    ready_pods(SPACE, NAME, HOUSES, seconds=240)
    go_on(SPACE)
    until_captured()


@scenario(alone=True)
def bank_in_other_namespaces(store):
    """No money is lost or made: each snapshot of a bank at work becomes a bank in a namespace of its own, whose sum is exact; with agents and coordinators killed in half of them."""
    opened(store)
    say(f"          HOLDFAST_BANK_SEED={SEED}")
    auditor, deaths, pauses = Auditor(), Deaths(SEED), []
    allow_making(SPACE)
    try:
        with tempfile.TemporaryDirectory(prefix="holdfast-bank-") as work:
            for number in range(1, SNAPSHOTS + 1):
                name, status = next_moment(number, deaths)
                pauses.append(status["pauseMillis"])
                audited(auditor, name, number, Path(work), store)
                go_on(SPACE)
    finally:
        forbid_making()
    say(f"          {SNAPSHOTS} banks add up; {len(deaths.kills)} killed, {deaths.lost} snapshots were not of one moment then; "
        f"paused for {sorted(pauses)[len(pauses) // 2]} ms, at most {max(pauses)}")
    kubectl("delete", "staterestores,statesnapshots", "-n", SPACE, "--all")
    kubectl("delete", "namespace", SPACE, "--wait=false")

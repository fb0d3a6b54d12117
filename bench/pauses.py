# SPDX-License-Identifier: Apache-2.0
"""How long programs stand still for a snapshot of all of them at one moment, while they write."""

import contextlib
import json
import os
import shutil
import statistics
import sys
import time

import data
from lab import MIB
from machine import Xfs
from processes import Failed, tail

PROGRAMS = 3
WRITER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "writer.py")


def pauses(lab):
    """On the work directory's file system and, if asked for, on an XFS with reflinks."""
    measured(lab, lab.work, "pauses")
    if not lab.args.xfs:
        return
    if reason := Xfs.lacks():
        print(f"no XFS: {reason}", flush=True)
        return
    with Xfs(lab.work, 2 * PROGRAMS * lab.args.state * MIB + 1024 * MIB, lab.processes) as xfs:
        measured(lab, xfs.point, "pauses on XFS")


def measured(lab, below, title):
    """Snapshots of programs that write, one after the other."""
    lab.say(f"{title}: making {PROGRAMS} states of {lab.args.state} MiB")
    roots = states(lab, below)
    try:
        with contextlib.ExitStack() as stack:
            found = snapshots(lab, roots, stack)
    except Failed as error:
        lab.results.failed(f"{title}: {error}")
        return
    finally:
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)
    told = {"title": title, "programs": PROGRAMS, "state_mib": lab.args.state, "pages_per_second": lab.args.rate, **found}
    lab.results.notes.append(told)
    print(f"\n{title}: {PROGRAMS} programs of {lab.args.state} MiB, each overwriting {lab.args.rate} pages a second at random, "
          f"{len(found['skew_ms'])} snapshots (median, most)")
    longest = [max(found["pause_ms"][at:at + PROGRAMS]) for at in range(0, len(found["pause_ms"]), PROGRAMS)]
    print(f"  the longest of each, in their order: {' '.join(f'{pause:.0f}' for pause in longest)}")
    for name in ("pause_ms", "skew_ms", "whole_ms"):
        print(f"  {name}: {statistics.median(found[name]):.1f}, {max(found[name]):.1f}", flush=True)


def states(lab, below):
    """A file of pages for each program."""
    made = []
    for number in range(PROGRAMS):
        root = os.path.join(below, "data", f"writer-{number}")
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        data.pages(root, lab.args.state * MIB)
        made.append(root)
    return made


def snapshots(lab, roots, stack):
    """What each snapshot says of itself."""
    tool = lab.holdfast()
    tool.begin(roots[0])
    stack.callback(tool.forget)
    lab.processes.run([tool.program, "repo", "init", *tool.place()[:4]], tool.env())
    token = os.path.join(tool.cache, "token")
    serving = [tool.program, "-o", "json", "coordinator", *tool.place()[:4], "--listen", "127.0.0.1:0", "--token-file", token]
    coordinator = started(lab, stack, serving, tool.env())
    url = said(coordinator, lab.args.timeout)["listening"]
    place = ["--coordinator", url, "--token-file", token]
    # each has a cache of its own, as on machines of their own
    agents = []
    for number, root in enumerate(roots):
        program = [sys.executable, "-I", "-S", WRITER, os.path.join(root, "pages.db"), str(lab.args.rate)]
        run = [tool.program, "run", *place, "--lineage", f"writer-{number}", "--state", f"state={root}", "--freeze", "--", *program]
        agents.append(started(lab, stack, run, tool.env() | {"HOLDFAST_SCRATCH": os.path.join(tool.cache, str(number))}))
    durable(lab, tool, place, agents)
    found = {"pause_ms": [], "skew_ms": [], "whole_ms": []}
    for number in range(lab.args.snapshots):
        began = time.monotonic()
        log = lab.processes.run([tool.program, "-o", "json", "snapshot", "create", *place, f"number-{number}"], tool.env())
        found["whole_ms"].append((time.monotonic() - began) * 1000)
        snapshot = document(log)
        if snapshot["consistency"] != "frozen" or len(snapshot["members"]) != PROGRAMS:
            raise Failed(f"snapshot {number} is not one of {PROGRAMS} frozen programs: {snapshot}")
        found["pause_ms"] += [member["pause_ns"] / 1e6 for member in snapshot["members"]]
        found["skew_ms"].append(snapshot["skew_ns"] / 1e6)
        time.sleep(1)  # they go on writing: the next one has something to capture
    return found


def started(lab, stack, command, env):
    """A process that is ended with the measurement."""
    process = lab.processes.start(command, env)
    stack.callback(lab.processes.end, process)
    return process


def document(log):
    """The first JSON document in what was printed; None if there is none yet. Remarks for people may come before."""
    with open(log, encoding="utf-8") as file:
        text = file.read()
    with contextlib.suppress(ValueError):
        return json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    return None


def said(process, timeout):
    """The first JSON document that a process has printed."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if found := document(process.log):
            return found
        if process.poll() is not None:
            raise Failed(f"it ended too early\n{tail(process.log)}")
        time.sleep(0.05)
    raise Failed(f"it has said nothing for {timeout} s")


def durable(lab, tool, place, agents):
    """Waits until all states have a whole checkpoint: what is measured is not the first capture."""
    until = time.monotonic() + lab.args.timeout
    while time.monotonic() < until:
        listed = document(lab.processes.run([tool.program, "-o", "json", "lineages", *place], tool.env()))["lineages"]
        if sum(bool(lineage["newest"]) for lineage in listed) == PROGRAMS:
            return
        for agent in agents:
            if agent.poll() is not None:
                raise Failed(f"an agent ended too early\n{tail(agent.log)}")
        time.sleep(1)
    raise Failed("the first captures did not come to their end")

# SPDX-License-Identifier: Apache-2.0
"""What is measured. bench/README.md says what each scenario means."""

import signal
import time

import data
from lab import MIB
from machine import Xfs
from pauses import PROGRAMS, pauses
from observe import Watch
from processes import Failed, Usage, cpu_of, memory_of, wait_idle

FULL, SECOND, RESTORE = "full backup", "backup after a change", "restore"


def big(lab):
    """Much data in large files: full backup and restore."""
    root = lab.data("big")
    title = f"of {lab.args.size} MiB"
    for run, tool in lab.turns():
        wanted = data.checksum(root)  # this also brings all of it into the page cache
        with lab.trial("big", run, tool, root):
            lab.results.table("big", f"{FULL} {title}").add(tool.name, tool.backup(root))
            lab.restore(tool, root, wanted, f"{RESTORE} {title}", "big")
    lab.results.show("big")


def pages(lab):
    """One file, a thousandth of whose pages changes."""
    changing(lab, "pages", lab.data("pages"), dirty)
    if not lab.args.xfs:
        return
    if reason := Xfs.lacks():
        print(f"no XFS: {reason}", flush=True)
        return
    size = lab.args.size * MIB * 2 + 1024 * MIB
    try:
        with Xfs(lab.work, size, lab.processes) as xfs:
            changing(lab, "pages on XFS", lab.data("pages", xfs.point), dirty)
    except Failed as error:
        lab.results.failed(f"pages on XFS: {error}")


def dirty(root, number):
    """A thousandth of the pages, others for each number."""
    data.dirty(root, 0.001, number)


def small(lab):
    """Very many small files, of which one changes."""
    changing(lab, "small", lab.data("small"), data.change)


def changing(lab, scenario, root, change):
    """Full backup, a change, a second backup, a restore; with holdfast also what an agent that runs makes of changes."""
    title = f"{lab.args.files} files" if scenario == "small" else f"{lab.args.size} MiB"
    number = 1000
    for run, tool in lab.turns():
        data.checksum(root)  # this brings all of it into the page cache
        with lab.trial(scenario, run, tool, root):
            lab.results.table(scenario, f"{FULL} of {title}").add(tool.name, tool.backup(root))
            lab.touched(root)
            number += 10
            change(root, number)
            second = lab.results.table(scenario, f"{SECOND} of {title}")
            second.add(tool.name, tool.backup(root))
            if tool is lab.holdfast():
                running(lab, tool, root, second, lambda step, base=number: change(root, base + step))
            wanted = data.checksum(root)
            lab.restore(tool, root, wanted, f"{RESTORE} of {title}", scenario)
    lab.results.show(scenario)
    lab.forget(root)


def running(lab, tool, root, table, change):
    """An agent that goes on running: from its start to what changed before, and from a change to its being durable.

    It is killed then, not ended: what is restored afterwards must have been durable when this says so.
    """
    change(1)
    stored, watch = tool.stored(), Watch(lab.server.path(tool.repository))
    began = time.monotonic()
    watch.agent = agent = tool.agent(root)
    try:
        wall = watch.durable(began, at_least=2, timeout=lab.args.timeout)
        memory = memory_of(agent.pid)["VmHWM"]
        table.add("holdfast, start to durable", Usage(wall, cpu_of(agent.pid), memory, tool.stored() - stored))
        for step in range(2, 2 + lab.args.changes):
            wait_idle(agent, timeout=lab.args.timeout)
            stored, cpu, server = tool.stored(), cpu_of(agent.pid), lab.server.cpu()
            watch = Watch(lab.server.path(tool.repository), agent)
            change(step)
            wall = watch.durable(time.monotonic(), timeout=lab.args.timeout)
            usage = Usage(wall, cpu_of(agent.pid) - cpu, memory_of(agent.pid)["VmHWM"], tool.stored() - stored)
            usage.server_cpu = lab.server.cpu() - server
            table.add("holdfast, running: change to durable", usage)
    finally:
        lab.processes.end(agent, signal.SIGKILL)


def rest(lab):
    """The memory of an agent that has captured everything and has nothing to do."""
    tool = lab.holdfast()
    lines = []
    for name in ("big", "small"):
        root = lab.data(name)
        data.checksum(root)
        for run in range(lab.args.runs):
            with lab.trial("rest", run, tool, root):
                lines.append((name, resting(lab, tool, root)))
        lab.forget(root)
    if lines:
        print(f"\nrest: memory of an agent, {lab.args.rest} s after it has captured everything")
    for name, (memory, cpu) in lines:
        note = {"data": name, "rss_mib": memory["VmRSS"], "anonymous_mib": memory["RssAnon"], "peak_mib": memory["VmHWM"], "cpu_s": cpu}
        lab.results.notes.append(note)
        print(f"  {name}: {memory['VmRSS']:.1f} MiB (of it {memory['RssAnon']:.1f} MiB not from files), peak {memory['VmHWM']:.1f} MiB; "
              f"CPU while at rest {cpu:.2f} s", flush=True)


def resting(lab, tool, root):
    """What an agent holds and uses once it is at rest."""
    watch = Watch(lab.server.path(tool.repository))
    watch.agent = agent = tool.agent(root)
    try:
        watch.durable(time.monotonic(), at_least=2, timeout=lab.args.timeout)
        wait_idle(agent, seconds=3, timeout=lab.args.timeout)
        cpu = cpu_of(agent.pid)
        time.sleep(lab.args.rest)
        if agent.poll() is not None:
            raise Failed("the agent ended too early")
        return memory_of(agent.pid), cpu_of(agent.pid) - cpu
    finally:
        lab.processes.end(agent, signal.SIGKILL)


SCENARIOS = {"big": big, "pages": pages, "small": small, "rest": rest, "pauses": pauses}


def needs(name, args):
    """Bytes of disk and inodes at the scenario's worst moment: the data, a repository, what is restored."""
    big_bytes, small_bytes = args.size * MIB, args.files * (4096 + 512)
    return {
        "big": (3 * big_bytes, 0),
        "pages": ((5 if args.xfs else 3) * big_bytes, 0),
        "small": (2 * small_bytes + args.files * 2048, 2 * args.files + 50_000),
        "pauses": ((4 if args.xfs else 2) * PROGRAMS * args.state * MIB, 0),
        "rest": (max(2 * big_bytes, small_bytes + args.files * 2048), args.files + 50_000),
    }[name]

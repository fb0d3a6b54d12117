# SPDX-License-Identifier: Apache-2.0
"""The bank: houses under `holdfast run`, each with its agent, and snapshots of all of them."""
import json
import os
import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import house as program
from audit import Auditor
from processes import must, until
from stage import alive

HOUSES = 3
# of each house, in seconds: it rests for so long at most …
BUDGET = 10
# … and is seen to go on a little later, on a machine that has much to do
LATE = 2
PROGRAM = Path(program.__file__).resolve()


class House:
    """One house: its program, the `holdfast run` above it, and what it keeps."""

    def __init__(self, stage, ground, number, ports):
        self.stage, self.number, self.ports, self.name = stage, number, ports, f"house-{number}"
        self.state, self.scratch = ground / self.name, ground / f"{self.name}.scratch"
        self.state.mkdir(mode=0o700)
        self.scratch.mkdir(mode=0o700)

    def start(self):
        options = ["--state", f"data={self.state}", "--lineage", self.name, "--scratch", self.scratch, "--every", "1"]
        options += ["--freeze", "--pause-budget", str(BUDGET)] if self.stage.freezes else []
        command = [sys.executable, "-I", PROGRAM, self.state, str(self.number), *[f"127.0.0.1:{port}" for port in self.ports]]
        self.process = self.stage.processes.start(self.name, [self.stage.holdfast, "run", *self.stage.connect(), *options, "--", *command])

    def begins(self):
        """Waits until the program works."""
        before = self.last()
        until(f"{self.name} works", lambda: alive(self.process) and self.last() > before)
        self.pid = next(child for child in children(self.process.pid) if words(child)[0] == sys.executable)

    def last(self):
        """The last entry that is booked everywhere."""
        try:
            text = (self.state / program.BALANCE).read_text(encoding="ascii")
        except OSError:
            return 0
        return program.balance(text)[0] if text else 0

    def rests(self):
        """Whether it is stopped."""
        return condition(self.pid) == "T"

    def lose_agent(self):
        """Kills `holdfast run` and nobody else. The house must go on; how long it took to."""
        below = children(self.process.pid)
        began = time.monotonic()
        self.process.kill()
        self.process.wait()
        self.stage.processes.live.remove(self.process)
        # what it booked while it had an agent does not count
        before = self.last()
        # the others may rest, and it has to wait for them as soon as it has sent what it may
        until(f"{self.name} goes on without its agent", lambda: condition(self.pid) != "T" and self.last() > before, BUDGET + LATE, every=0.01)
        took = time.monotonic() - began
        os.kill(self.pid, signal.SIGKILL)
        for child in below:
            until(f"process {child} of {self.name} has ended", lambda: os.waitpid(child, os.WNOHANG)[0], BUDGET + LATE)
        return took


class Bank:
    """All houses."""

    def __init__(self, stage, ground):
        self.stage, self.ground, self.auditor = stage, ground, Auditor()
        ports = free_ports(HOUSES)
        self.houses = [House(stage, ground, number, ports) for number in range(HOUSES)]

    def begin(self):
        for house in self.houses:
            house.start()
        for house in self.houses:
            house.begins()
        self.is_protected()

    def goes_on(self, entries=20):
        """Waits until each house has booked so much more."""
        goals = [house.last() + entries for house in self.houses]
        for house, goal in zip(self.houses, goals):
            until(f"{house.name} goes on", lambda: alive(house.process) and house.last() >= goal)

    def is_protected(self):
        """Waits until the coordinator has heard of every agent."""
        def streaming():
            told = json.loads(self.stage.processes.run([self.stage.holdfast, "-o", "json", "lineages", *self.stage.connect()]))
            return sum((one.get("live") or {}).get("phase") == "streaming" for one in told["lineages"]) == HOUSES
        until("all houses are protected", streaming)

    def check(self, moment):
        """Restores all houses, audits them, and leaves nothing of them."""
        within = self.ground / moment.name
        within.mkdir(mode=0o700)
        try:
            with ThreadPoolExecutor(HOUSES) as pool:
                copies = list(pool.map(lambda house: self.stage.restore(moment, house.name, within)[0], self.houses))
            return self.auditor.audit(copies)
        finally:
            shutil.rmtree(within)

    def end(self):
        for house in self.houses:
            code = self.stage.processes.end(house.process)
            must(code == 128 + signal.SIGTERM, f"{house.name} ended with {code}")

    def names(self, *place):
        """The snapshots that there are."""
        told = json.loads(self.stage.processes.run([self.stage.holdfast, "-o", "json", "snapshot", "list", *place], self.stage.secrets))
        return {one["name"] for one in told["snapshots"]}

    def listed(self, name):
        """Whether a snapshot is there; the coordinator and the repository must say the same."""
        by_coordinator, by_repository = self.names(*self.stage.connect()), self.names(*self.stage.repository)
        must(by_coordinator == by_repository, f"the coordinator and the repository list other snapshots: {by_coordinator ^ by_repository}")
        return name in by_repository


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def children(process):
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def words(process):
    return Path(f"/proc/{process}/cmdline").read_text().split("\0")


def condition(process):
    """The letter of a process's state."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]

# SPDX-License-Identifier: Apache-2.0
"""Processes that the benchmark starts: measured, bounded in time, and all ended with it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

METER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "meter.py")
# the caller's own settings must not change what is measured
FOREIGN = ("AWS_", "HOLDFAST_", "RESTIC_", "RUSTIC_", "OPENDAL_", "MINIO_", "XDG_", "RUST_LOG", "http_proxy", "HTTP_PROXY")


class Failed(Exception):
    """Something that was to be measured went wrong; the other tools are still measured."""


@dataclass
class Usage:
    """What one step took. Sizes are in MiB, times in seconds; None is what was not measured."""

    wall: float
    cpu: float | None = None
    peak: float | None = None
    stored: float | None = None
    server_cpu: float | None = None
    sync: float | None = None
    verified: bool | None = None


class Processes:
    """Starts processes, each in a group of its own, and ends what is left."""

    def __init__(self, work, timeout):
        self.timeout = timeout
        self.logs = os.path.join(work, "logs")
        self.live = []
        self.count = 0
        os.makedirs(self.logs, exist_ok=True)
        home = os.path.join(work, "home")
        os.makedirs(home, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.env = dict(kept, HOME=home, LC_ALL="C.UTF-8")

    def start(self, command, env=None):
        """Starts a process whose output goes to a file."""
        self.count += 1
        path = os.path.join(self.logs, f"{self.count:03}.txt")
        with open(path, "wb") as log:
            process = subprocess.Popen(
                command, env=self.env | (env or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        process.log = path
        self.live.append(process)
        return process

    def end(self, process, first=signal.SIGTERM, patience=20):
        """Ends a process and whatever it has started."""
        for number, seconds in ((first, patience), (signal.SIGKILL, 10)):
            if process.poll() is None:
                self._signal(process, number)
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        # its children are in its group, and may outlive it
        self._signal(process, signal.SIGKILL)
        if process in self.live:
            self.live.remove(process)

    @staticmethod
    def _signal(process, number):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    def end_all(self):
        """Ends everything, the last first."""
        for process in reversed(list(self.live)):
            self.end(process)

    def run(self, command, env=None, timeout=None):
        """Runs a command to its end; an exit code that is not 0 is an error."""
        process = self.start(command, env)
        try:
            code = process.wait(timeout or self.timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{shown(command)}: not done after {timeout or self.timeout:.0f} s") from None
        finally:
            self.end(process)
        if code:
            raise Failed(f"{shown(command)}: exit code {code}\n{tail(process.log)}")
        return process.log

    def measure(self, command, env=None):
        """Runs a command to its end, and says what it took."""
        figures = os.path.join(self.logs, "figures.json")
        if os.path.exists(figures):
            os.remove(figures)
        log = self.run([sys.executable, "-I", "-S", METER, figures, *command], env)
        with open(figures, encoding="utf-8") as file:
            took = json.load(file)
        if took["code"]:
            raise Failed(f"{shown(command)}: exit code {took['code']}\n{tail(log)}")
        return Usage(took["wall"], took["cpu"], took["peak"])

    def output(self, command, env=None):
        """What a command prints."""
        with open(self.run(command, env, timeout=60), encoding="utf-8", errors="replace") as log:
            return log.read().strip()


def shown(command):
    """A command for people, without its arguments."""
    return " ".join([os.path.basename(command[0]), *(word for word in command[1:4] if not word.startswith("-"))])


def tail(path, lines=8):
    """The end of what a process has printed."""
    with open(path, encoding="utf-8", errors="replace") as log:
        return "".join(f"    {line}" for line in log.readlines()[-lines:]).rstrip()


def cpu_of(pid):
    """Seconds of processor time of a running process, all its threads."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid):
    """VmRSS, VmHWM and the like of a running process, in MiB."""
    found = {}
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            name, _, value = line.partition(":")
            if value.endswith(" kB\n"):
                found[name] = int(value.split()[0]) / 1024
    return found


def wait_idle(process, seconds=2, timeout=600):
    """Waits until a process uses next to no processor time."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        before = cpu_of(process.pid)
        time.sleep(seconds)
        if process.poll() is not None:
            raise Failed(f"it ended too early\n{tail(process.log)}")
        if cpu_of(process.pid) - before <= 0.02 * seconds:
            return
    raise Failed(f"not at rest after {timeout} s")

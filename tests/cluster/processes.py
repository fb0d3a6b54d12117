# SPDX-License-Identifier: Apache-2.0
"""Processes that outlive the command which started them, each known by its id and the moment it began: an id that was given again is nobody of ours."""
import os
import signal
import subprocess
import sys
import time

from places import LOGS, RUN


class Failed(Exception):
    """What a person is told."""


def began(pid):
    """When a process began, in ticks since boot; none if there is no such process, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def pid(name):
    """The id of a process of ours that runs; else none."""
    try:
        number, start = (RUN / f"{name}.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(number) if began(number) == start else None


def start(name, command, group=None):
    """Starts a process in a session of its own, and perhaps as a group of its own, unless it runs."""
    if pid(name):
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with open(LOGS / f"{name}.log", "ab") as log:
        words = [str(word) for word in command]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, group=group)
    (RUN / f"{name}.pid").write_text(f"{process.pid} {began(process.pid)}")


def stop(name, number=signal.SIGTERM, seconds=10):
    """Ends a process, kindly for some seconds."""
    process = pid(name)
    if process:
        os.kill(process, number)
        deadline = time.monotonic() + seconds
        while pid(name) and time.monotonic() < deadline:
            reap()
            time.sleep(0.05)
        if pid(name):
            os.kill(process, signal.SIGKILL)
    (RUN / f"{name}.pid").unlink(missing_ok=True)


def reap():
    """Takes in children of this very command that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def run(*command, check=True, **more):
    """Runs a command to its end; its output is shown if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done


def succeeds(*command):
    return run(*command, check=False).returncode == 0


def until(what, holds, by=None, seconds=120):
    """Waits until something holds; gives up after some seconds, or as soon as the process that was to bring it about has ended."""
    deadline = time.monotonic() + seconds
    while not holds():
        gone = by and not pid(by)
        if gone or time.monotonic() > deadline:
            why = f"{by} has ended" if gone else f"it took longer than {seconds} s"
            raise Failed(f"waited for {what} in vain, since {why}:\n{tail(by) if by else f'logs: {LOGS}'}")
        time.sleep(0.2)


def tail(name, lines=25):
    """The end of a process's log."""
    try:
        text = (LOGS / f"{name}.log").read_text(errors="replace").splitlines()
    except OSError:
        text = []
    return "\n".join([f"the end of {LOGS / name}.log:", *text[-lines:]])


def say(text):
    print(f"cluster: {text}", file=sys.stderr, flush=True)

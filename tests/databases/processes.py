# SPDX-License-Identifier: Apache-2.0
"""Programs that the test starts: each with a log, bounded in time, and none of them there when it ends."""
import ctypes
import os
import select
import signal
import subprocess
import time
from pathlib import Path

# the caller's own settings must not reach what is tried
FOREIGN = ("AWS_", "HOLDFAST_", "MINIO_", "PG", "RUST_LOG", "SQLITE_", "REDISCLI_", "http_proxy", "HTTP_PROXY")
PR_SET_CHILD_SUBREAPER = 36


class Unmet(Exception):
    """What was to hold, and does not."""


def must(holds, what):
    if not holds:
        raise Unmet(what)


def until(what, holds, seconds=60, every=0.05):
    """Waits until a function's answer is something, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer:
            return answer
        must(time.monotonic() < deadline, f"waited {seconds} s in vain until {what}")
        time.sleep(every)


class Processes:
    """Everything that was started. Whatever becomes an orphan below this process becomes its child, so that it can be ended."""

    def __init__(self, logs):
        self.logs, self.live = logs, []
        logs.mkdir()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | {"LC_ALL": "C.UTF-8"}
        must(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, "this system has no subreapers")

    def start(self, name, command, env=None, talks=False):
        """Starts a program that goes on. With `talks`, its standard streams are pipes; otherwise what it prints goes to its log."""
        log = self.logs / name
        with open(log, "ab") as errors:
            process = subprocess.Popen(
                [str(word) for word in command], env=self.env | (env or {}), stderr=errors, start_new_session=True, cwd="/",
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL, stdout=subprocess.PIPE if talks else errors)
        process.name, process.log = name, log
        self.live.append(process)
        return process

    def run(self, command, env=None, seconds=60, given=None):
        """What a program prints until its end; an exit code that is not 0 is an exception that holds what it said."""
        words = [str(word) for word in command]
        shown = f"{os.path.basename(words[0])} {' '.join(words[1:4])}"
        try:
            done = subprocess.run(
                words, env=self.env | (env or {}), input=given, stdin=None if given else subprocess.DEVNULL, capture_output=True, text=True,
                timeout=seconds, check=False, cwd="/")
        except subprocess.TimeoutExpired as late:
            raise Unmet(f"{shown} took longer than {seconds} s") from late
        must(done.returncode == 0, f"{shown} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-800:]}")
        return done.stdout

    def end(self, process, first=signal.SIGTERM, patience=30):
        """Ends a program in good order; its exit code."""
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        for number, seconds in ((first, patience), (signal.SIGKILL, 10)):
            if process.poll() is None:
                process.send_signal(number)
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        if process in self.live:
            self.live.remove(process)
        return process.returncode

    def end_all(self):
        """Ends what is left, the last first, then kills what that has left, until there is nobody."""
        for process in reversed(list(self.live)):
            # PostgreSQL, too, heeds this one while it has clients; killed, it would leave shared memory behind
            self.end(process, signal.SIGINT, patience=10)
        deadline = time.monotonic() + 10
        while (left := children()) and time.monotonic() < deadline:
            for child in left:
                try:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                except (ProcessLookupError, ChildProcessError):
                    continue
        must(not children(), f"these processes are left: {children()}")

    def last_words(self):
        """The ends of all logs."""
        logs = sorted(self.logs.iterdir())
        return "\n".join(f"--- {log.name}\n{tail(log)}" for log in logs if log.stat().st_size)


def children():
    """The processes whose parent is this one."""
    return [int(word) for task in Path("/proc/self/task").iterdir() for word in (task / "children").read_text().split()]


def tail(log, lines=15):
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


class Dialogue:
    """Lines to a program or a server, and lines back in time."""

    def __init__(self, to, back, seconds=60):
        self.to, self.back, self.seconds, self.rest = to.fileno(), back.fileno(), seconds, b""

    def ask(self, text, answers=1):
        """Says something, and waits for so many lines."""
        os.write(self.to, text.encode())
        deadline = time.monotonic() + self.seconds
        while self.rest.count(b"\n") < answers:
            ready, _, _ = select.select([self.back], [], [], max(deadline - time.monotonic(), 0))
            must(ready, f"no answer within {self.seconds} s")
            more = os.read(self.back, 4096)
            must(more, "it hung up")
            self.rest += more
        *lines, self.rest = self.rest.split(b"\n", answers)
        return [line.decode().rstrip("\r") for line in lines]

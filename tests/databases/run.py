#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Databases as Debian has them, under load and under `holdfast run --freeze`: snapshots of all of them at one moment, restored, started and checked.

  tests/databases/run.py               all of them, together
  tests/databases/run.py NAME...       only these: postgresql, redis, sqlite-wal, sqlite-delete
  --holdfast PATH                      the program [target/debug/holdfast]
  --snapshots N                        how many [3]
  --checkpoints N                      how many of each database's own [3]
  --without-freeze                     nothing stands still: to see what is found then

One client writes numbers: each to the first database, and when that has acknowledged it to the next, and so on. In what is restored
- each database finds itself whole, after its own crash recovery,
- each has every number that it acknowledged before the snapshot's cut, none torn, none left out, and none but the one that was under way besides,
- no database has a number that one before it lacks, if it is a snapshot.

Between snapshots each is stopped for every checkpoint of its own (`--every-checkpoint`), and those that are clean must be as good.
"""
import argparse
import os
import random
import shutil
import signal
import sys
import threading
import time
from bisect import bisect_left

sys.dont_write_bytecode = True

from packages import programs  # noqa: E402
from postgresql import Postgresql  # noqa: E402
from processes import Unmet, must, until  # noqa: E402
from redis import Redis  # noqa: E402
from sqlite import Sqlite  # noqa: E402
from stage import BUILT, Stage  # noqa: E402

# In the order in which numbers reach them: the package, and how one is made.
DATABASES = {
    "postgresql": ("postgresql", Postgresql),
    "redis": ("redis-server", Redis),
    "sqlite-wal": ("sqlite3", lambda stage, paths: Sqlite(stage, paths, "wal")),
    "sqlite-delete": ("sqlite3", lambda stage, paths: Sqlite(stage, paths, "delete")),
}
# So many numbers are written before each snapshot, and after the last.
BETWEEN = 50


class Chain(threading.Thread):
    """The client. It notes when each number was acknowledged, by the clock that snapshots are dated with."""

    def __init__(self, databases):
        super().__init__(daemon=True)
        self.databases, self.ended, self.failure = databases, threading.Event(), None
        self.acknowledged = {database.name: [] for database in databases}

    def run(self):
        number = 0
        try:
            while not self.ended.is_set():
                number += 1
                for database in self.databases:
                    database.put(number)
                    self.acknowledged[database.name].append(time.time_ns())
        except Exception as error:  # told by whoever waits for the chain
            self.failure = f"number {number} to {database.name}: {error!r}"

    def count(self):
        """The numbers that have reached all databases."""
        must(not self.failure, self.failure)
        return len(self.acknowledged[self.databases[-1].name])

    def goes_on(self):
        goal = self.count() + BETWEEN
        until("more numbers are written", lambda: self.count() >= goal, 90)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(90)


def play(stage, databases, snapshots, checkpoints):
    """Loads databases, takes snapshots meanwhile, and checks what those and checkpoints bring back; how much is not as it should be."""
    for database in databases:
        database.begin()
        print(f"        {database.name} is there: {database.version()}", flush=True)
    moments = []
    with Chain(databases) as chain:
        for number in range(1, snapshots + 1):
            chain.goes_on()
            moments.append(stage.snapshot(f"moment-{number}"))
        chain.goes_on()
        found = {database.name: chosen(stage, database, checkpoints, chain) for database in databases} if stage.freezes else {}
    must(not chain.failure, chain.failure)
    for database in databases:
        database.end()
    failures = sum(check(stage, databases, moment, chain) for moment in moments)
    for database in databases:
        for moment in found.get(database.name, []):
            failures += check_alone(stage, database, moment, chain)
    return failures


def chosen(stage, database, count, chain):
    """Some of its clean checkpoints: the newest, which a lost machine would begin with, and others by chance."""
    # there is a table to look into from the first number on
    begin = chain.acknowledged[database.name][0]
    found = [moment for moment in stage.checkpoints(database.name) if moment.cut > begin]
    must(len(found) >= count, f"{database.name} has no {count} clean checkpoints, only {len(found)}")
    return [found[0], *random.sample(found[1:], count - 1)] if count else []


def check_alone(stage, database, moment, chain):
    """Restores one checkpoint of one database, and tells what it holds; how much is wrong with it."""
    try:
        print(f"ok      {database.name:<14} {moment.name}: {held(stage, database, moment, chain)[1]}", flush=True)
        return 0
    except Unmet as failure:
        print(f"FAILED  {database.name:<14} {moment.name}: {failure}", flush=True)
        return 1


def check(stage, databases, moment, chain):
    """Restores one snapshot, and tells what it holds; how much is wrong with it."""
    print(f"{moment.name}: skew {moment.skew * 1e3:.0f} ms, {moment.bytes / (1 << 20):.0f} MiB", flush=True)
    failures, last = 0, None
    for database in databases:
        try:
            found, told = held(stage, database, moment, chain)
            must(last is None or found <= last[1], f"it has number {found}, and {last} is the last number of the one before it")
            last = database.name, found
            print(f"ok      {database.name:<14} paused {moment.pauses[database.name] * 1e3:.0f} ms; {told}", flush=True)
        except Unmet as failure:
            print(f"FAILED  {database.name:<14} {failure}", flush=True)
            failures += 1
    return failures


def held(stage, database, moment, chain):
    """The last number that a database has at a moment, which must be that of its cut, and what is to be told of it."""
    acknowledged = chain.acknowledged[database.name]
    before = bisect_left(acknowledged, moment.cut)
    found, told = bring_back(stage, database, moment)
    must(before <= found <= before + 1, f"{before} numbers acknowledged before the cut, and {found} there")
    return found, f"{before} numbers acknowledged before the cut, {found} there, {len(acknowledged)} at the end; {told}"


def bring_back(stage, database, moment):
    """The last number that a database has at a moment, and what more is to be told of it."""
    directory, restored = stage.restore(moment, database.name)
    try:
        found, recovered, more = database.check(directory)
    finally:
        shutil.rmtree(directory)
    return found, f"restored in {restored:.1f} s, recovered in {recovered:.1f} s; {more}"


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DATABASES))
    parser.add_argument("--holdfast", default=BUILT)
    parser.add_argument("--snapshots", type=int, default=3)
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--without-freeze", action="store_true")
    options = parser.parse_args()
    unknown = set(options.names) - set(DATABASES)
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(DATABASES)}")
    # whatever the caller's is: PostgreSQL's user must get at what is its own
    os.umask(0o022)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    began, wanted = time.monotonic(), [name for name in DATABASES if name in (options.names or DATABASES)]
    failures = 1
    try:
        paths = programs(sorted({DATABASES[name][0] for name in wanted}))
        stage = Stage(options.holdfast, freezes=not options.without_freeze)
        try:
            failures = play(stage, [DATABASES[name][1](stage, paths) for name in wanted], options.snapshots, options.checkpoints)
        except Unmet:
            print(stage.processes.last_words(), file=sys.stderr)
            raise
        finally:
            # once is enough
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            stage.strike()
    except Unmet as failure:
        print(f"FAILED  {failure}")
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    print(f"\n{failures} failures, {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

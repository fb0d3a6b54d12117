#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bank of some houses that move money between each other over the network, without pause: snapshots of all of them, each restored and audited.

  tests/bank/run.py                    some snapshots; every other one while somebody is killed
  --snapshots N                        so many that are audited [10]
  --file-system ext4|xfs               the houses on a file system of this kind, made and mounted for it; as root
  --without-freeze                     nothing stands still, and nobody is killed: one of the snapshots must be found wrong
  --holdfast PATH                      the program [target/debug/holdfast]
  --seed N                             who is killed and when, as an earlier run printed it

Each house keeps its balance in a file that is overwritten in place and, by accounts, in SQLite; it journals what it sends, receives and hears to
have been received. Of every snapshot
- each house's journal, SQLite and file agree, as those of a house that can be killed at that moment,
- the sum of all houses and of what is under way is exactly what there was at the beginning, in each of the three by itself,
- nothing was received that was not sent, and nothing known to be received that was not.

While every other snapshot is taken, the coordinator or a `holdfast run` is killed, at any moment. A house that has lost its agent goes on, then it
is killed, too, and both are started again. That snapshot may fail, and is not there then, or say that it is not of one moment; the next one is taken at once in its stead.
"""
import argparse
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "databases"))

from audit import Violation  # noqa: E402
from bank import BUDGET, Bank  # noqa: E402
from chaos import Chaos  # noqa: E402
from processes import Unmet, must  # noqa: E402
from stage import BUILT, Stage  # noqa: E402
from volume import MAKE, volume  # noqa: E402

# how often is told how far it is
TOLD = 10


def play(stage, bank, count, chance):
    """Takes snapshots and audits them; how many are not as they must be."""
    bank.begin()
    chaos, audited, failures, survivors = Chaos(bank, chance), [], 0, 0
    for number in range(1, count + 1):
        bank.goes_on()
        snapshot = None
        if number % 2 == 0:
            snapshot = chaos.snapshot(f"killed-{number}")
            survivors += snapshot is not None
        try:
            if not snapshot:
                began = time.monotonic()
                snapshot = stage.snapshot(f"moment-{number}")
                chaos.usual.append(time.monotonic() - began)
            audited.append(snapshot)
            found = bank.check(snapshot)
            if number % TOLD == 0 or number == count:
                print(f"ok      {number} snapshots; {snapshot.name}: {found.entries} entries, {found.under_way} under way, "
                      f"{found.half_booked} houses within a booking", flush=True)
        except Unmet as failure:
            failures += 1
            print(f"FAILED  snapshot {number}: {failure}", flush=True)
    names = bank.names(*stage.repository)
    known = {one.name for one in audited} | chaos.loose
    must(audited, "no snapshot was taken")
    must(names == known, f"snapshots that are there, or must be there, and not both: {names ^ known}")
    bank.end()
    report(count, audited, chaos, survivors, failures)
    return failures


def report(count, audited, chaos, survivors, failures):
    pauses = [pause for snapshot in audited for pause in snapshot.pauses.values()]
    must(max(pauses) <= BUDGET, f"a house rested for {max(pauses)} s")
    print(f"\n{count - failures} of {count} snapshots are right")
    for what, values in (("paused", pauses), ("skew", [snapshot.skew for snapshot in audited]), ("taken within", chaos.usual)):
        print(f"        {what:<14} median {statistics.median(values) * 1e3:.0f} ms, most {max(values) * 1e3:.0f} ms")
    print(f"        {sum(chaos.kills.values())} kills during a snapshot: {survivors} snapshots were there and of one moment all the same, "
          f"{len(chaos.loose)} were there and said that they are not, {len(chaos.failed)} failed and were not there; "
          f"{chaos.untold} were there though whoever asked for them was told of a failure")
    for (who, phase), times in sorted(chaos.kills.items()):
        print(f"        {who:<14} {phase:<16} {times}")
    if chaos.gone_on:
        print(f"        gone on without its agent after {statistics.median(chaos.gone_on) * 1e3:.0f} ms, at most {max(chaos.gone_on) * 1e3:.0f} ms")


def play_without_freeze(stage, bank, count):
    """Takes snapshots until one is found wrong; 1 if none is."""
    bank.begin()
    for number in range(1, count + 1):
        bank.goes_on()
        snapshot = stage.snapshot(f"moment-{number}")
        try:
            bank.check(snapshot)
        except Violation as failure:
            print(f"caught  {snapshot.name}, as it must be: {failure}", flush=True)
            return 0
    print(f"FAILED  nothing was wrong in {count} snapshots, though nothing stood still")
    return 1


def interrupted(*_):
    raise KeyboardInterrupt


def attempt(options):
    """What has failed."""
    stage = Stage(options.holdfast, freezes=not options.without_freeze, name="bank")
    try:
        with volume(options.file_system, stage.processes) as ground:
            try:
                bank = Bank(stage, ground)
                if options.without_freeze:
                    return play_without_freeze(stage, bank, options.snapshots)
                return play(stage, bank, options.snapshots, random.Random(options.seed))
            except Exception:
                print(stage.processes.last_words(), file=sys.stderr)
                raise
            finally:
                # once is enough
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                stage.processes.end_all()
    finally:
        stage.strike()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--holdfast", default=BUILT)
    parser.add_argument("--snapshots", type=int, default=10)
    parser.add_argument("--file-system", choices=sorted(MAKE))
    parser.add_argument("--without-freeze", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    os.umask(0o022)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    began, failures = time.monotonic(), 1
    print(f"--seed {options.seed}", flush=True)
    try:
        failures = attempt(options)
    except Unmet as failure:
        print(f"FAILED  {failure}")
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    print(f"\n{failures} failures, {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

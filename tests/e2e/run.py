#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holdfast on a real Kubernetes, from nothing: cluster up, images built and loaded, deploy/ applied, the scenarios, cluster down. As root.

  tests/e2e/run.py                 all of it
  tests/e2e/run.py NAME...         only scenarios whose name begins so
  --one-by-one                     nothing at the same time as anything else
  --keep                           leave the cluster and the store up; the next run with --keep goes on from there
  --no-build                       with the images that are there
  --as-is                          with all that the last run with --keep has left: only the scenarios
  --list                           the scenarios
"""
import argparse
import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import stage
from kube import ENDS, Unmet, held, say
from scenario import ALL

# Two processors, and scenarios that wait for kubelets and kernels most of the time.
AT_ONCE = 4

for module in ["manual", "first", "workloads", "users", "bounds", "losses", "rollouts", "refusals", "table", "table_of_workloads", "tokens", "control", "example", "snapshots", "rests", "databases", "restores", "beside", "recovery", "upgrades", "versions", "outages", "halves", "labels", "network", "stores", "across", "kubeconfig", "bank"]:
    importlib.import_module(f"scenarios.{module}")


def play(scenario, world):
    began = time.monotonic()
    try:
        scenario.play(world)
    except Exception as error:  # whatever it is, the others are played and the cluster comes down
        took = time.monotonic() - began
        say(f"FAILED  {scenario.name:<44} {took:6.1f} s\n        {error}")
        if not isinstance(error, Unmet):
            traceback.print_exc()
        try:
            stage.keep_logs(scenario.name)
        except Unmet as failure:
            say(f"        and its logs are not complete: {failure}")
        return False
    say(f"ok      {scenario.name:<44} {time.monotonic() - began:6.1f} s")
    return True


def play_all(chosen, world, at_once):
    """Plays some scenarios, those of different files at the same time; then those that must be alone. How many passed."""
    lanes = {}
    for scenario in chosen:
        if not scenario.alone:
            lanes.setdefault(scenario.lane, []).append(scenario)

    def lane(scenarios):
        return sum(held(play, scenario, world) for scenario in scenarios if not ENDS.is_set())

    # the longest begin first
    lanes = sorted(lanes.values(), key=len, reverse=True)
    pool = ThreadPoolExecutor(at_once)
    try:
        passed = sum(pool.map(lane, lanes))
    except BaseException:
        # what is being played fails when the cluster goes
        ENDS.set()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return passed + sum(play(scenario, world) for scenario in chosen if scenario.alone)


def keep_what_is_left():
    try:
        stage.keep_logs("stage")
    except Unmet:
        say("        there is no cluster that could tell more")


def step(what, does, *arguments):
    began = time.monotonic()
    does(*arguments)
    say(f"        {what:<44} {time.monotonic() - began:6.1f} s")


def prepare(store, built):
    if not built:
        step("images are built", stage.build_images)
    step("the cluster is up", stage.raise_cluster)
    step("the store is up", store.start)
    step("Holdfast is installed", stage.install)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--as-is", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [scenario for scenario in ALL if not options.names or scenario.name.startswith(tuple(options.names))]
    if options.list:
        for scenario in chosen:
            say(f"{scenario.name:<44} {scenario.tells}")
        return 0
    if os.geteuid() != 0:
        say("FAILED  a cluster is made of network namespaces, mounts and cgroups: this must be run as root")
        return 1
    shutil.rmtree(stage.LOGS, ignore_errors=True)
    stage.LOGS.mkdir(parents=True)
    store = stage.Store()
    passed, left, began = 0, [], time.monotonic()
    # who ends this run gets his machine back as it was
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        if not options.as_is:
            prepare(store, options.no_build)
        passed = play_all(chosen, store, 1 if options.one_by_one else AT_ONCE)
    except Unmet as failure:
        say(f"FAILED  {failure}")
        keep_what_is_left()
    except SystemExit:
        say("FAILED  this run was ended from outside")
        keep_what_is_left()
    finally:
        if not (options.keep or options.as_is):
            stage.tear_down()
            store.remove()
            left = stage.left_behind()
    for thing in left:
        say(f"FAILED  left behind: {thing}")
    say(f"\n{passed} passed, {len(chosen) - passed} failed, {time.monotonic() - began:.0f} s")
    return 0 if passed == len(chosen) and not left else 1


if __name__ == "__main__":
    sys.exit(main())

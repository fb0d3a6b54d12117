#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holdfast on a real Kubernetes, from nothing: cluster up, images built and loaded, deploy/ applied, the scenarios, cluster down. As root.

  tests/e2e/run.py                 all of it
  tests/e2e/run.py NAME...         only scenarios whose name begins so
  --keep                           leave the cluster and the store up; the next run with --keep goes on from there
  --no-build                       with the images that are there
  --list                           the scenarios
"""
import argparse
import importlib
import shutil
import sys
import time
import traceback

import stage
from kube import Unmet, say
from scenario import ALL

for module in ["manual", "first", "workloads", "losses", "rollouts", "refusals", "control", "example"]:
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


def step(what, does, *arguments):
    began = time.monotonic()
    does(*arguments)
    say(f"        {what:<44} {time.monotonic() - began:6.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [scenario for scenario in ALL if not options.names or scenario.name.startswith(tuple(options.names))]
    if options.list:
        for scenario in chosen:
            say(f"{scenario.name:<44} {scenario.tells}")
        return 0
    shutil.rmtree(stage.LOGS, ignore_errors=True)
    stage.LOGS.mkdir(parents=True)
    store = stage.Store()
    passed = 0
    try:
        if not options.no_build:
            step("images are built", stage.build_images)
        step("the cluster is up", stage.raise_cluster)
        step("the store is up", store.start)
        step("Holdfast is installed", stage.install)
        for scenario in chosen:
            passed += play(scenario, store)
    except Unmet as failure:
        say(f"FAILED  {failure}")
        stage.keep_logs("stage")
    finally:
        if not options.keep:
            stage.tear_down()
            store.remove()
    say(f"\n{passed} passed, {len(chosen) - passed} failed")
    return 0 if passed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())

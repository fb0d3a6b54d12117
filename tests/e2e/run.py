#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holdfast on a real Kubernetes, from nothing: cluster up, images built and loaded, deploy/ applied, the scenarios, cluster down. As root.

  tests/e2e/run.py                 all of it
  tests/e2e/run.py NAME...         only scenarios whose name begins so
  --quick                          what CI plays: a label, what is lost, who is refused, Holdfast's own processes, and what is brought back
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

import stage
from kube import Unmet, say
from scenario import ALL

QUICK = ["manual", "repository_is_proven", "label_protects_a_deployment", "state_survives_a_killed_pod", "unlabelling_takes_it_out", "drained_node", "lost_node",
         "believed_dead", "new_image_rolling", "webhook_away", "final_check", "table_of_pods", "tokens_of_others", "leader_is_killed",
         "all_coordinators_are_killed", "agent_is_killed", "restore_in_place", "restore_beside", "old_volume"]

for module in ["manual", "first", "workloads", "bounds", "losses", "rollouts", "refusals", "table", "tokens", "control", "example", "snapshots", "restores", "beside", "recovery"]:
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


def prepare(store, built):
    if not built:
        step("images are built", stage.build_images)
    step("the cluster is up", stage.raise_cluster)
    step("the store is up", store.start)
    step("Holdfast is installed", stage.install)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--as-is", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    names = [*options.names, *(QUICK if options.quick else [])]
    chosen = [scenario for scenario in ALL if not names or scenario.name.startswith(tuple(names))]
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
        for scenario in chosen:
            passed += play(scenario, store)
    except Unmet as failure:
        say(f"FAILED  {failure}")
        try:
            stage.keep_logs("stage")
        except Unmet:
            say("        there is no cluster that could tell more")
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

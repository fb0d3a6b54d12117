# SPDX-License-Identifier: Apache-2.0
"""Holdfast's own processes die; applications do not notice."""
import stage
from app import policy, ready_pods, uids, workload, written
from kube import apply, kubectl, must, name_of, until
from scenario import scenario

SPACE = "steady"


@scenario
def leader_is_killed(store):
    """The leading coordinator is killed while agents stream: none restarts, and their lag recovers."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("Deployment", "pair", replicas=2, labels={"holdfast.dev/policy": "kept"}), namespace=SPACE)
    found = ready_pods(SPACE, "pair", 2, seconds=180)
    lines = {name_of(pod): written(SPACE, name_of(pod), 10) for pod in found}
    was = until("there is a leader", stage.leader)
    kubectl("delete", "pod", "-n", stage.SYSTEM, was, "--grace-period=0", "--force")
    until("another leads", lambda: stage.leader() not in [None, was], 90)
    newest = {lineage["metadata"]["name"]: sequence(lineage) for lineage in stage.lineages(SPACE, "pair")}

    def caught_up():
        now = stage.lineages(SPACE, "pair")
        return len(now) == 2 and all(sequence(one) > newest[one["metadata"]["name"]] and one["status"].get("lagSeconds", 99) <= 5 for one in now)

    until("new checkpoints are made, and the lag is small", caught_up, 90)
    after = ready_pods(SPACE, "pair", 2)
    must(sorted(uids(after)) == sorted(uids(found)), "pods were replaced")
    for pod in after:
        statuses = pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]
        must(all(status["restartCount"] == 0 for status in statuses), f"something in {name_of(pod)} restarted")
        must(written(SPACE, name_of(pod), len(lines[name_of(pod)])), "it went on")


def sequence(lineage):
    return lineage.get("status", {}).get("checkpoint", {}).get("sequence", 0)

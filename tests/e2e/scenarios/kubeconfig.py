# SPDX-License-Identifier: Apache-2.0
"""What somebody does with the program and a kubeconfig: `holdfast kube`."""
import json
import time

import stage
from app import began_after, log, policy, ready_pods, uids, workload, written
from kube import apply, items, kubectl, must, name_of, pods, say
from program import holdfast
from scenario import scenario
from scenarios.snapshots import STILL

SPACE = "typed"


@scenario
def holdfast_kube(store):
    """holdfast kube restore brings a workload back by its name and takes that back again; a plan changes nothing; what it can't do has exit codes."""
    stage.namespace(SPACE, store, policies=[policy("web", **STILL)])
    apply(workload("StatefulSet", "web", replicas=2, labels={"holdfast.dev/policy": "web"}, volume="claim"), namespace=SPACE)
    first = ready_pods(SPACE, "web", 2, seconds=240)
    for pod in first:
        written(SPACE, name_of(pod), 10)
    say("          " + holdfast("kube", "snapshot", "web", "--name", "then", "-n", SPACE).strip().replace("\n", "\n          "))
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    for pod in first:
        written(SPACE, name_of(pod), len(log(SPACE, name_of(pod))) + 15)
    newer = {name_of(pod): log(SPACE, name_of(pod)) for pod in first}
    at = ["kube", "restore", "statefulset/web", "--at", moment, "-n", SPACE]
    plan = holdfast(*at, "--dry-run")
    must("statefulset-web-0" in plan and "statefulset-web-1" in plan and "Planned" in plan, f"no plan: {plan}")
    unasked = holdfast(*at, code=3)
    must("--yes" in unasked, f"it does not say how to agree: {unasked}")
    must("there are statefulset/web" in holdfast("kube", "restore", "api", "--at", moment, "-n", SPACE, code=8), "it does not name what there is")
    holdfast("kube", "restore", "web", "--snapshot", "nothing", "--dry-run", "-n", SPACE, code=8)
    holdfast("kube", "restore", "deployment/web", "--at", "some day", "-n", SPACE, code=8)
    holdfast("kube", "restore", "web", "--at", "some day", "-n", SPACE, code=2)
    must(not items("staterestores", SPACE), "plans were left behind")
    must(set(uids(pods(SPACE, "app=web"))) == set(uids(first)), "a plan has ended pods")
    say("          " + holdfast(*at, "--yes").strip().replace("\n", "\n          "))
    second = ready_pods(SPACE, "web", 2, not_among=uids(first), seconds=240)
    for pod in second:
        lines = newer[name_of(pod)]
        must(began_after(SPACE, name_of(pod)) < len(lines), f"{name_of(pod)} did not go back")
    made = name_of(items("staterestores", SPACE)[0])
    document = json.loads(holdfast_json("kube", "restore", "--undo", made, "--yes", "-n", SPACE))
    must(document["succeeded"] and document["reason"] == "Restored" and len(document["receipts"]) == 2, f"{document}")
    for pod in ready_pods(SPACE, "web", 2, not_among=uids(first) + uids(second), seconds=240):
        lines = newer[name_of(pod)]
        must(log(SPACE, name_of(pod))[:len(lines)] == lines, f"{name_of(pod)} has lost what it had before the restore")
    # only a file of each replica, on a volume, as it was
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "inspect"}, "spec": spec}, namespace=SPACE)
    third = uids(pods(SPACE, "app=web"))
    single = [*at, "--into-claim", "inspect"]
    holdfast(*single, "data/none", "--yes", code=3)
    document = json.loads(holdfast_json(*single, "data/log", "--yes"))
    directories = [receipt["directory"] for receipt in document["receipts"]]
    must(document["succeeded"] and directories == ["statefulset-web-0", "statefulset-web-1"], f"{document}")
    must(set(uids(pods(SPACE, "app=web"))) == set(third), "the workload was touched")
    # under the same policy as another one, a workload does not go back without that being said
    apply(workload("Deployment", "api", labels={"holdfast.dev/policy": "web"}), namespace=SPACE)
    ready_pods(SPACE, "api", seconds=240)
    must("deployment/api" in holdfast(*at, "--dry-run", code=3), "it does not say who else goes back")
    kubectl("delete", "staterestores,statesnapshots", "-n", SPACE, "--all")
    kubectl("delete", "statefulset,deployment", "-n", SPACE, "--all", seconds=120)


def holdfast_json(*words):
    """The document alone, without what is said beside it."""
    said = holdfast("-o", "json", *words)
    return said[said.index("{"):said.rindex("}") + 1]

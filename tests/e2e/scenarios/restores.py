# SPDX-License-Identifier: Apache-2.0
"""Back to an earlier moment: StateRestores, in place, and taken back again."""
import json
import time

import stage
from app import IMAGE, RESTRICTED, began_after, log, policy, ready_pods, uids, workload, written
from kube import apply, condition, events, get, kubectl, must, name_of, pods, refused as cannot, say, until
from scenario import scenario
from scenarios.snapshots import snapshot, taken

SPACE = "returns"
STILL = {"consistency": {"mode": "Freeze", "pauseBudget": "5s"}}


def restore(name, namespace=SPACE, **spec):
    """A StateRestore that was asked for."""
    apply({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRestore", "metadata": {"name": name}, "spec": spec}, namespace=namespace)


def settled(name, namespace=SPACE, seconds=240):
    """Its status, once it has succeeded or failed."""
    said = []

    def over():
        found = condition(get("staterestore", name, namespace), "Succeeded")
        if found and (not said or said[-1] != found["message"]):
            said.append(found["message"])
            say(f"          {name}: {found['reason']}: {found['message']}")
        return get("staterestore", name, namespace)["status"] if found.get("status") in ["True", "False"] else None

    return until(f"the restore {name} has succeeded or failed", over, seconds)


def restored(name, count, namespace=SPACE):
    """Its receipts by replica, each of which must prove that the disk holds what was asked for."""
    status = settled(name, namespace)
    said = condition({"status": status}, "Succeeded")
    must(said["status"] == "True" and said["reason"] == "Restored", f"{name} failed: {said}")
    receipts = {receipt["lineage"]: receipt for receipt in status["receipts"]}
    must(len(receipts) == count and status["receiptCount"] == count, f"other receipts: {status['receipts']}")
    for receipt in receipts.values():
        # the volume's own directory is root's: its times can't be set
        must(receipt["rootAsked"] == receipt["rootFound"] or receipt["deviations"] == 1, f"not proven: {receipt}")
        must(receipt["before"] > receipt["sequence"] or name != "back", f"nothing was left behind: {receipt}")
    return receipts


def replicas(workload, count, **how):
    """The pods of a workload by their StateLineages."""
    return {pod["metadata"]["labels"]["holdfast.dev/lineage"]: name_of(pod) for pod in ready_pods(SPACE, workload, count, seconds=240, **how)}


def lines(workload, count, **how):
    """What the application of each replica has written, by its StateLineage."""
    return {lineage: log(SPACE, pod) for lineage, pod in replicas(workload, count, **how).items()}


def goes_back(kind, name, count, **how):
    """Snapshot, more lines, a plan that changes nothing, back to the snapshot, and back from there."""
    apply(workload(kind, name, replicas=count, labels={"holdfast.dev/policy": name}, **how), namespace=SPACE)
    first = ready_pods(SPACE, name, count, seconds=240)
    for pod in first:
        written(SPACE, name_of(pod), 10)
    snapshot("then", namespace=SPACE, policies=[name])
    members = {member["lineage"]: member for member in taken("then", namespace=SPACE)["members"]}
    must(len(members) == count, f"other members: {members}")
    for lineage, pod in replicas(name, count).items():
        written(SPACE, pod, len(log(SPACE, pod)) + 15)
    restore("plan", source={"snapshot": "then"}, dryRun=True)
    planned = settled("plan")
    said = condition({"status": planned}, "Succeeded")
    must(said["reason"] == "Planned" and len(planned["plan"]) == count + 1, f"no plan: {planned}")
    say("          " + "\n          ".join(planned["plan"]))
    must(set(uids(pods(SPACE, f"app={name}"))) == set(uids(first)), "a plan has ended pods")
    newer = lines(name, count)
    restore("back", source={"snapshot": "then"})
    receipts = restored("back", count)
    again = replicas(name, count, not_among=uids(first))
    must(set(again) == set(newer), f"other replicas: {again}")
    behind = {lineage: began_after(SPACE, pod) for lineage, pod in again.items()}
    for lineage, pod in again.items():
        must(receipts[lineage]["sequence"] == members[lineage]["sequence"], f"{lineage} went elsewhere: {receipts[lineage]}")
        # each line bears its number and its pod's name: up to the moment they are the same, and then it wrote anew
        now = written(SPACE, pod, behind[lineage])
        must(behind[lineage] < len(newer[lineage]), f"{lineage} did not go back: it began after {behind[lineage]}, and had {len(newer[lineage])}")
        must(now[:behind[lineage]] == newer[lineage][:behind[lineage]], f"{lineage} has other lines than it had")
    say(f"          they began after {sorted(behind.values())}, and had had {sorted(map(len, newer.values()))} lines")
    second = pods(SPACE, f"app={name}")
    restore("undo", source={"undo": "back"})
    undone = restored("undo", count)
    last = replicas(name, count, not_among=uids(first) + uids(second))
    for lineage, pod in last.items():
        must(undone[lineage]["sequence"] == receipts[lineage]["before"], f"{lineage} went elsewhere: {undone[lineage]}")
        now = log(SPACE, pod)
        must(now[:len(newer[lineage])] == newer[lineage], f"{lineage} has lost what it had before the restore: {len(now)} lines")
        must(began_after(SPACE, pod) >= len(newer[lineage]), f"{lineage} began after {began_after(SPACE, pod)}")
    say("          " + kubectl("get", "staterestores", "-n", SPACE, "-o", "wide").replace("\n", "\n          ").rstrip())
    kubectl("delete", "staterestores,statesnapshots", "-n", SPACE, "--all")
    kubectl("delete", kind.lower(), "-n", SPACE, name, seconds=120)
    until("its pods are gone", lambda: not pods(SPACE, f"app={name}", ending=True), 90)


@scenario
def restore_in_place(store):
    """Three replicas on volumes of their own go back to a snapshot together, prove it, and are brought back from there; a plan changes nothing."""
    stage.namespace(SPACE, store, policies=[policy("book", **STILL)])
    goes_back("StatefulSet", "book", 3, volume="claim")


@scenario
def restore_in_place_without_volumes(store):
    """The same with a Deployment, whose pods begin with empty disks."""
    stage.namespace(SPACE, store, policies=[policy("leaf", **STILL)])
    goes_back("Deployment", "leaf", 2)


@scenario
def restore_is_refused(store):
    """What was not agreed to is named, and changes nothing; a restore that is deleted on its way lets all gates open."""
    stage.namespace(SPACE, store, policies=[policy("kept", **STILL)])
    apply(workload("StatefulSet", "kept", replicas=2, labels={"holdfast.dev/policy": "kept"}, grace=30), namespace=SPACE)
    first = ready_pods(SPACE, "kept", 2, seconds=240)
    for pod in first:
        written(SPACE, name_of(pod), 10)
    snapshot("kept", namespace=SPACE, policies=["kept"])
    taken("kept", namespace=SPACE)
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "kept"},
              "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}}
    apply(budget, namespace=SPACE)
    until("the budget is counted", lambda: get("poddisruptionbudget", "kept", SPACE).get("status", {}).get("disruptionsAllowed") == 1, 60)
    future = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    # the rights to make a copy come and go with another scenario; the names that are taken are told in either case
    beside = ["NamesTaken", "RightsMissing"]
    asked = {"budget": ({"source": {"snapshot": "kept"}}, ["DisruptionBudget"], "accept: {disruption: true}"),
             "beside": ({"source": {"snapshot": "kept"}, "elsewhere": {"namespace": SPACE}}, beside, "StatefulSet kept"),
             "early": ({"source": {"time": future, "policies": ["kept"]}}, ["Invalid"], "not been yet"),
             "nothing": ({"source": {"undo": "budget"}}, ["NothingToUndo"], "budget")}
    for name, (spec, reasons, word) in asked.items():
        restore(name, **spec)
        said = condition({"status": settled(name)}, "Succeeded")
        must(said["status"] == "False" and said["reason"] in reasons and word in said["message"], f"{name}: {said}")
    must(set(uids(pods(SPACE, "app=kept"))) == set(uids(first)), "what was refused has ended pods")
    told = events(SPACE, "budget")
    must(any(event["reason"] == "RestoreFailed" for event in told), f"no event tells of it: {told}")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    restore("moment", source={"time": moment, "policies": ["kept"]}, accept={"disruption": True})
    restored("moment", 2)
    # deleted while its pods end: whatever had been done by then, both replicas run again
    second = ready_pods(SPACE, "kept", 2, not_among=uids(first), seconds=120)
    restore("given-up", source={"snapshot": "kept"}, accept={"disruption": True})
    until("its pods end", lambda: any(pod["metadata"].get("deletionTimestamp") for pod in pods(SPACE, "app=kept", ending=True)), 60, every=0.1)
    kubectl("delete", "staterestore", "-n", SPACE, "given-up")
    third = ready_pods(SPACE, "kept", 2, not_among=uids(second), seconds=120)
    for pod in third:
        written(SPACE, name_of(pod), 10)
    kubectl("delete", "staterestores,statesnapshots,poddisruptionbudgets", "-n", SPACE, "--all")
    kubectl("delete", "statefulset", "-n", SPACE, "kept", seconds=120)


def on_claim(name, claim, command):
    """What a plain pod that mounts a claim prints: it runs a command of its image there, and ends."""
    container = {"name": "look", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": command, "securityContext": RESTRICTED,
                 "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
                 "volumeMounts": [{"name": "files", "mountPath": "/files"}]}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": claim}}]}
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, namespace=SPACE)
    until(f"{name} has ended", lambda: get("pod", name, SPACE)["status"]["phase"] in ["Succeeded", "Failed"], 90)
    must(get("pod", name, SPACE)["status"]["phase"] == "Succeeded", f"{name} failed: {kubectl('logs', '-n', SPACE, name)}")
    return kubectl("logs", "-n", SPACE, name)


def claims(*names):
    for name in names:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
        apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}, namespace=SPACE)


@scenario
def restore_into_claim(store):
    """The files of an earlier moment on a volume of their own: a plan, all of them, one of them; the workload notices nothing, and what can't be is named."""
    stage.namespace(SPACE, store, policies=[policy("shelf")])
    apply(workload("StatefulSet", "shelf", labels={"holdfast.dev/policy": "shelf"}, volume="claim"), namespace=SPACE)
    pod = ready_pods(SPACE, "shelf", 1, seconds=240)[0]
    written(SPACE, name_of(pod), 20)
    snapshot("shelf", namespace=SPACE, policies=["shelf"])
    member = taken("shelf", namespace=SPACE)["members"][0]
    then = {"source": {"checkpoint": {"lineage": member["lineage"], "sequence": member["sequence"]}}}
    written(SPACE, name_of(pod), len(log(SPACE, name_of(pod))) + 15)
    claims("whole", "single", "waits")
    restore("plan", **then, elsewhere={"claim": {"name": "whole"}}, dryRun=True)
    planned = settled("plan")
    said = condition({"status": planned}, "Succeeded")
    must(said["reason"] == "Planned" and "bytes are fetched and written to its root of claim whole" in planned["plan"][1], f"no plan: {planned}")
    must(not kubectl("get", "pods", "-n", SPACE, "-l", "holdfast.dev/restore", "-o", "name"), "a plan has made a pod")
    refused = {"path": ({"elsewhere": {"claim": {"name": "single"}}, "paths": ["data/none"]}, "PathNotFound", "data/none"),
               "used": ({"elsewhere": {"claim": {"name": "state-shelf-0"}}}, "ClaimInUse", "shelf-0")}
    for name, (more, reason, word) in refused.items():
        restore(name, **then, **more)
        said = condition({"status": settled(name)}, "Succeeded")
        must(said["status"] == "False" and said["reason"] == reason and word in said["message"], f"{name}: {said}")
    # who may ask for restores, and not read what is stored, may not have it written to where it can be read
    rules = [{"apiGroups": ["holdfast.dev"], "resources": ["staterestores"], "verbs": ["create"]}]
    subject = [{"kind": "ServiceAccount", "name": "clerk", "namespace": SPACE}]
    kind = "rbac.authorization.k8s.io/v1"
    apply({"apiVersion": kind, "kind": "Role", "metadata": {"name": "clerk"}, "rules": rules},
          {"apiVersion": kind, "kind": "RoleBinding", "metadata": {"name": "clerk"}, "subjects": subject,
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "clerk"}}, namespace=SPACE)
    asked = {"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRestore", "metadata": {"name": "sly", "namespace": SPACE},
             "spec": {**then, "elsewhere": {"claim": {"name": "single"}}}}
    said = cannot("create", f"--as=system:serviceaccount:{SPACE}:clerk", "-f", "-", given=json.dumps(asked))
    must("statelineages/files" in said, f"refused for another reason: {said}")
    # and what can't be asked for is refused at once
    bad = [({**then, "paths": ["data/log"]}, "paths go into a PersistentVolumeClaim only"), ({**then, "elsewhere": {}}, "must name a namespace or a claim")]
    for spec, word in bad:
        said = cannot("create", "-f", "-", given=json.dumps({**asked, "spec": spec}))
        must(word in said, f"refused for another reason: {said}")
    restore("whole", **then, elsewhere={"claim": {"name": "whole"}})
    receipt = settled("whole")["receipts"][0]
    # the volume's own directory is root's: its times can't be set
    must(receipt["rootAsked"] == receipt["rootFound"] or receipt["deviations"] == 1, f"not proven: {receipt}")
    must(receipt["sequence"] == member["sequence"] and receipt["bytes"] > 0, f"another receipt: {receipt}")
    found = on_claim("look-whole", "whole", ["cat", "/files/log"]).splitlines()
    now = log(SPACE, name_of(pod))
    must(20 <= len(found) < len(now) and found == now[:len(found)], f"other lines: {len(found)} of {len(now)}: {found[-3:]}")
    say(f"          the claim holds {len(found)} lines as of then, and the application has {len(now)}")
    # the volume holds something now
    restore("again", **then, elsewhere={"claim": {"name": "whole"}})
    said = condition({"status": settled("again")}, "Succeeded")
    must(said["status"] == "False" and said["reason"] == "ClaimNotEmpty", f"it was written over: {said}")
    restore("single", **then, elsewhere={"claim": {"name": "single"}}, paths=["data/log"])
    status = settled("single")
    must(condition({"status": status}, "Succeeded")["status"] == "True" and status["receipts"][0]["rootFound"] == "", f"not restored: {status}")
    must(on_claim("look-single", "single", ["cat", "/files/log"]).splitlines() == found, "the one file is another")
    must(uids(pods(SPACE, "app=shelf")) == uids([pod]), "the workload was touched")
    written(SPACE, name_of(pod), len(now) + 10)
    # a moment instead of a checkpoint, of a pod that is killed on its way: the next one goes on
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    restore("waits", source={"time": moment, "policies": ["shelf"]}, elsewhere={"claim": {"name": "waits"}})
    made = until("its pod is made", lambda: get("staterestore", "waits", SPACE).get("status", {}).get("pod", {}).get("name"), 60, every=0.2)
    kubectl("delete", "pod", "-n", SPACE, made, "--grace-period=0", "--force", "--ignore-not-found")
    status = settled("waits")
    must(condition({"status": status}, "Succeeded")["status"] == "True", f"not restored: {status}")
    kubectl("delete", "staterestores,statesnapshots", "-n", SPACE, "--all")
    until("the pods of the restores are gone", lambda: not kubectl("get", "pods", "-n", SPACE, "-l", "holdfast.dev/restore", "-o", "name"), 60)
    must(on_claim("look-still", "whole", ["cat", "/files/log"]).splitlines() == found, "the claim went with the restore")
    kubectl("delete", "pods", "-n", SPACE, "look-whole", "look-single", "look-still", seconds=60)
    kubectl("delete", "statefulset", "-n", SPACE, "shelf", seconds=120)
    kubectl("delete", "pvc", "-n", SPACE, "whole", "single", "waits", seconds=60)

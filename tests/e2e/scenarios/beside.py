# SPDX-License-Identifier: Apache-2.0
"""Beside the original: a new workload from a snapshot, in another namespace or in the same, while the original goes on."""
import json

import stage
from app import began_after, log, policy, ready_pods, uids, workload, written
from kube import ROOT, apply, condition, get, kubectl, must, name_of, pods, refused, say, until
from reading import read, reader
from scenario import scenario
from scenarios.restores import restore, settled
from scenarios.snapshots import snapshot, taken, whose

SPACE, OTHER = "desks", "desks-copy"
COMPONENT = "deploy/components/restore-beside"
STILL = {"consistency": {"mode": "Freeze", "pauseBudget": "5s"}}


def desk():
    """A StatefulSet of three on volumes of their own, which names a ConfigMap and a Secret."""
    made = workload("StatefulSet", "desk", replicas=3, labels={"holdfast.dev/policy": "desk"}, volume="claim")
    names = [{"configMapRef": {"name": "words"}}, {"secretRef": {"name": "keys"}}]
    made["spec"]["template"]["spec"]["containers"][0]["envFrom"] = names
    return made


def words(version):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"VERSION": version}}


KEYS = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"KEY": "value"}}


def copied(name, namespace, app, then, asked_in=SPACE):
    """The copy's replicas are ready, each began with the bytes of the snapshot, and their receipts prove it."""
    status = settled(name, asked_in)
    said = condition({"status": status}, "Succeeded")
    must(said["status"] == "True" and said["reason"] == "Restored", f"{name} failed: {said}")
    must(status["receiptCount"] == len(then), f"other receipts: {status['receipts']}")
    for receipt in status["receipts"]:
        # the volume's own directory is root's: its times can't be set
        must(receipt["rootAsked"] == receipt["rootFound"] or receipt["deviations"] == 1, f"not proven: {receipt}")
    must(all(entry["made"] for entry in status["objects"]), f"not all is made: {status['objects']}")
    of = {member["lineage"]: member["origin"]["storedAs"] for member in status["members"]}
    for pod in ready_pods(namespace, app, len(then), seconds=240):
        lines = then[of[pod["metadata"]["labels"]["holdfast.dev/lineage"]]]
        began = began_after(namespace, name_of(pod))
        must(began == len(lines), f"{name_of(pod)} began after {began} lines, and the snapshot has {len(lines)}")
        now = written(namespace, name_of(pod), len(lines) + 5)
        must(now[:len(lines)] == lines, f"{name_of(pod)} has other bytes than the snapshot")
    return status


@scenario
def restore_beside(store):
    """Three replicas of a snapshot become another StatefulSet in another namespace, and a third in the same, with the snapshot's bytes; the original goes on."""
    stage.namespace(SPACE, store, policies=[policy("desk", **STILL)])
    # the same bucket, the same prefix, the same keys
    stage.namespace(OTHER, store, prefix=SPACE, domain=SPACE)
    apply(words("then"), KEYS, desk(), namespace=SPACE)
    apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "desk"},
           "spec": {"clusterIP": "None", "selector": {"app": "desk"}, "ports": [{"port": 80}]}}, namespace=SPACE)
    first = ready_pods(SPACE, "desk", 3, seconds=240)
    for pod in first:
        written(SPACE, name_of(pod), 10)
    snapshot("then", namespace=SPACE, policies=["desk"])
    taken("then", namespace=SPACE)
    how, names = reader(SPACE), {name_of(one): one["spec"]["lineage"] for one in stage.lineages(SPACE, "desk")}
    then = {stored: read(stored, "then", "data/log", how).splitlines() for stored in names.values()}
    for lineage, pod in whose(SPACE, "desk").items():
        written(SPACE, pod, len(then[names[lineage]]) + 15)
    apply(words("since then"), namespace=SPACE)
    beside = {"namespace": OTHER, "namePrefix": "copy-"}
    # as it is installed, the coordinator makes no workloads
    restore("not-allowed", namespace=SPACE, source={"snapshot": "then"}, elsewhere=beside)
    said = condition({"status": settled("not-allowed", SPACE)}, "Succeeded")
    must(said["status"] == "False" and said["reason"] == "RightsMissing" and COMPONENT in said["message"], f"{said}")
    must(not pods(OTHER) and not stage.lineages(OTHER), "what may not be made was begun")
    with_component(then, beside)


def with_component(then, beside):
    """What the component of the installation allows; afterwards it is taken away again."""
    allow_making(OTHER)
    try:
        copies(then, beside)
    finally:
        forbid_making()


def forbid_making():
    """The installation as it was before that."""
    kubectl("delete", "--ignore-not-found", *[word for file in ["rbac", "policy"] for word in ["-f", ROOT / COMPONENT / f"{file}.yaml"]])


def allow_making(namespace):
    """The component by which the coordinator may make workloads."""
    kubectl("apply", "-k", stage.BESIDE)

    def may():
        who = f"--as=system:serviceaccount:{stage.SYSTEM}:holdfast-coordinator"
        return kubectl("auth", "can-i", "create", "statefulsets.apps", "-n", namespace, who).strip() == "yes"

    until("the coordinator may make workloads", may, 30)


def copies(then, beside):
    """A copy in another namespace, and one in the same."""
    first = pods(SPACE, "app=desk")
    restore("plan", namespace=SPACE, source={"snapshot": "then"}, elsewhere=beside, dryRun=True)
    planned = settled("plan", SPACE)
    say("          " + "\n          ".join(planned["plan"]))
    must("Secret keys" in condition({"status": planned}, "Succeeded")["message"], f"a missing Secret is not named: {planned}")
    restore("refused", namespace=SPACE, source={"snapshot": "then"}, elsewhere=beside)
    said = condition({"status": settled("refused", SPACE)}, "Succeeded")
    must(said["status"] == "False" and said["reason"] == "NotThere" and "Secret keys" in said["message"], f"{said}")
    must(not pods(OTHER) and not stage.lineages(OTHER), "what was refused has made something")
    apply(KEYS, namespace=OTHER)
    restore("copy", namespace=SPACE, source={"snapshot": "then"}, elsewhere=beside)
    copied("copy", OTHER, "copy-desk", then)
    must(get("configmap", "copy-words", OTHER)["data"] == {"VERSION": "then"}, "the ConfigMap is not as it was recorded")
    restore("twin", namespace=SPACE, source={"snapshot": "then"}, elsewhere={"namespace": SPACE, "namePrefix": "twin-"})
    copied("twin", SPACE, "twin-desk", then)
    again = pods(SPACE, "app=desk")
    must(set(uids(again)) == set(uids(first)), "the original's pods were replaced, or the Service selects the copy's too")
    for pod in again:
        written(SPACE, name_of(pod), len(log(SPACE, name_of(pod))) + 5)
    # a copy goes on like any workload: a pod that is lost restores what it had
    lost = ready_pods(OTHER, "copy-desk", 3)[0]
    had = written(OTHER, name_of(lost), len(log(OTHER, name_of(lost))) + 5)
    kubectl("delete", "pod", "-n", OTHER, name_of(lost), seconds=90)
    ready_pods(OTHER, "copy-desk", 3, not_among=[lost["metadata"]["uid"]], seconds=180)
    must(log(OTHER, name_of(lost))[:len(had)] == had, f"{name_of(lost)} has lost what it had written since")
    nobody_asks_for_more_than_they_may(beside)
    kubectl("delete", "staterestores,statesnapshots", "-n", SPACE, "--all")
    kubectl("delete", "statefulset", "-n", SPACE, "--all", seconds=120)
    kubectl("delete", "statefulset", "-n", OTHER, "--all", seconds=120)


def nobody_asks_for_more_than_they_may(beside):
    """Who may create StateRestores here and no workloads there is refused."""
    rule = {"apiGroups": ["holdfast.dev"], "resources": ["staterestores"], "verbs": ["create"]}
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "clerk"}},
          {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "clerk"}, "rules": [rule]},
          {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "clerk"},
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "clerk"},
           "subjects": [{"kind": "ServiceAccount", "name": "clerk", "namespace": SPACE}]}, namespace=SPACE)
    asked = {"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRestore", "metadata": {"name": "too-much", "namespace": SPACE},
             "spec": {"source": {"snapshot": "then"}, "elsewhere": beside}}
    said = refused("create", f"--as=system:serviceaccount:{SPACE}:clerk", "-f", "-", given=json.dumps(asked))
    must("you may not create all of them" in said, f"the maker's rights are not asked for: {said}")

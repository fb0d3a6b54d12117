# SPDX-License-Identifier: Apache-2.0
"""A repository, a policy, a label: what everybody does first."""
import stage
from app import began_after, is_injected, log, lost, policy, ready_pods, shown_lag, the_one, uids, workload, written
from kube import apply, condition, get, kubectl, must, name_of, pods, say, until
from scenario import scenario

SPACE = "first"
# of `kubectl get statelineages -o wide`
COLUMNS = ["NAME", "PROTECTED", "WORKLOAD", "SLOT", "LAG", "CHECKPOINT", "QUALITY", "BYTES", "VERIFIED", "NODE", "POD", "REASON"]


@scenario
def repository_is_proven(store):
    """A StateRepository is Ready once the store has shown that it fences, and says why when it is not."""
    stage.namespace(SPACE, store, policies=[policy("web")])
    status = get("staterepository", "default", SPACE)["status"]
    must(status.get("repositoryId"), f"it has no identity: {status}")
    must(condition({"status": status}, "Ready").get("observedGeneration") == 1, f"of which generation is this: {status}")
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "locked-out"}})
    stage.repository("locked-out", type("Other", (), {"user": "nobody", "secret": "wrong-on-purpose"}), "locked-out")

    def refused():
        ready = condition(get("staterepository", "default", "locked-out"), "Ready")
        return ready if ready.get("status") == "False" else None

    ready = until("a repository with wrong credentials is not ready", refused)
    must(ready.get("message") and "wrong-on-purpose" not in str(ready), f"the reason is of no use: {ready}")
    say(f"          {ready['reason']}: {ready['message']}")


@scenario
def label_protects_a_deployment(store):
    """kubectl label deployment: its pods roll, each with agent and gate, and are shown with their lag."""
    stage.namespace(SPACE, store, policies=[policy("web")])
    apply(workload("Deployment", "web", replicas=2), namespace=SPACE)
    before = ready_pods(SPACE, "web", 2, injected=False)
    kubectl("label", "deployment", "-n", SPACE, "web", "holdfast.dev/policy=web")
    after = ready_pods(SPACE, "web", 2, not_among=uids(before), seconds=180)
    for pod in after:
        written(SPACE, name_of(pod), 5)

    def protected():
        found = stage.lineages(SPACE, "web")
        good = [lineage for lineage in found if condition(lineage, "Protected").get("status") == "True" and lineage["status"].get("checkpoint")]
        return good if len(good) == 2 else None

    found = until("two lineages are protected", protected)
    must({lineage["spec"]["slot"] for lineage in found} == {"0", "1"}, f"slots: {found}")
    must(all(lineage["status"].get("lagSeconds", 99) < 15 for lineage in found), f"lag: {found}")

    def verified():
        return all(lineage["status"].get("verifiedSequence") for lineage in stage.lineages(SPACE, "web"))

    until("what they have stored was read back", verified, 60)
    said = kubectl("get", "statelineages", "-n", SPACE, "-o", "wide")
    say("          " + said.replace("\n", "\n          ").rstrip())
    header, *rows = [line.split() for line in said.splitlines()]
    must(header == COLUMNS and len(rows) == 2, f"other columns: {said}")
    for row in rows:
        must(len(row) == len(COLUMNS) and "<none>" not in row, f"something is not filled in: {row}")
        shown = dict(zip(COLUMNS, row))
        must(shown["NODE"] in ["node1", "node2"] and shown["POD"] in map(name_of, after) and int(shown["BYTES"]) > 0, f"{row}")
    every = kubectl("get", "holdfast", "-n", SPACE, "-o", "name").split()
    kinds = ["staterepository.holdfast.dev/default", "statepolicy.holdfast.dev/web", *[f"statelineage.holdfast.dev/deployment-web-{slot}" for slot in "01"]]
    must(set(kinds) <= set(every), f"kubectl get holdfast shows {every}")


@scenario
def state_survives_a_killed_pod(store):
    """A pod that is deleted is replaced by one that goes on from its very last line; one that is killed loses at most its lag."""
    pod = name_of(ready_pods(SPACE, "web", 2)[0])
    lines = written(SPACE, pod, 10)
    kubectl("delete", "pod", "-n", SPACE, pod, seconds=120)
    heir = successor(lines)
    after = log(SPACE, heir)
    ends = [line for line in after if line.endswith(f"{pod} end")]
    must(len(ends) == 1 and began_after(SPACE, heir) == int(ends[0].split()[0]), f"{heir} did not begin after {pod}'s last line: {ends}")
    # and once more without any notice
    lines = written(SPACE, heir, began_after(SPACE, heir) + 20)
    lag = shown_lag(lambda: stage.lineages(SPACE, "web"))
    kubectl("delete", "pod", "-n", SPACE, heir, "--grace-period=0", "--force", seconds=120)
    third = successor(lines[:-20])
    say(f"          killed without notice: {lost(SPACE, third, lines, lag)} acknowledged lines lost, {lag} s of lag were shown")


def successor(lines):
    """The pod whose state begins with some lines, once two are ready."""
    for pod in ready_pods(SPACE, "web", 2):
        if log(SPACE, name_of(pod))[:len(lines)] == lines:
            return name_of(pod)
    must(False, f"no pod has the state that ended with {lines[-1:]}")
    return None


@scenario
def unlabelling_takes_it_out(store):
    """Without the label the pods roll once more, without agent and gate; what the template's author wrote stays."""
    before = ready_pods(SPACE, "web", 2)
    kubectl("label", "deployment", "-n", SPACE, "web", "holdfast.dev/policy-")
    ready_pods(SPACE, "web", 2, injected=False, not_among=uids(before), seconds=180)
    labels = get("deployment", "web", SPACE)["spec"]["template"]["metadata"]["labels"]
    must(labels == {"app": "web"}, f"the template kept {labels}")
    kubectl("delete", "deployment", "-n", SPACE, "web")


@scenario
def label_on_the_template(store):
    """The label on the pod template does the same, and stays whatever happens to the workload's."""
    stage.namespace(SPACE, store, policies=[policy("web")])
    apply(workload("Deployment", "gitops"), namespace=SPACE)
    kubectl("patch", "deployment", "-n", SPACE, "gitops", "--type=merge",
            "-p", '{"spec":{"template":{"metadata":{"labels":{"holdfast.dev/policy":"web"}}}}}')
    pod = the_one(SPACE, "gitops", seconds=120)
    must(is_injected(get("pod", pod, SPACE)), "it has no agent")
    kubectl("label", "deployment", "-n", SPACE, "gitops", "holdfast.dev/policy=web")
    kubectl("label", "deployment", "-n", SPACE, "gitops", "holdfast.dev/policy-")
    labels = get("deployment", "gitops", SPACE)["spec"]["template"]["metadata"]["labels"]
    must(labels.get("holdfast.dev/policy") == "web", f"the author's label is gone: {labels}")
    kubectl("delete", "deployment", "-n", SPACE, "gitops")
    until("its pods are gone", lambda: not pods(SPACE, "app=gitops", ending=True))

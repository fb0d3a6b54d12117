# SPDX-License-Identifier: Apache-2.0
"""Who may not start, and what is said of those that run without protection."""
import json

import stage
from app import began_after, is_injected, log, policy, template, the_one, workload, written
from kube import apply, condition, events, get, items, kubectl, must, name_of, pods, refused, say, until
from scenario import scenario

SPACE = "strict"
LABEL = {"holdfast.dev/policy": "kept"}


@scenario
def pod_security_restricted(store):
    """In a namespace that enforces Pod Security restricted, everything works the same."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept")])
    apply(workload("Deployment", "tight", labels=LABEL), namespace=SPACE)
    pod = the_one(SPACE, "tight", seconds=180)
    agent = get("pod", pod, SPACE)["spec"]["initContainers"][0]
    must(agent["securityContext"].get("allowPrivilegeEscalation") is False, f"the agent's rights: {agent['securityContext']}")
    must(agent["resources"]["requests"]["memory"] == "32Mi" and agent["resources"]["limits"]["memory"] == "64Mi", f"{agent['resources']}")
    lines = written(SPACE, pod, 5)
    kubectl("delete", "pod", "-n", SPACE, pod, seconds=120)
    heir = the_one(SPACE, "tight", seconds=120)
    must(log(SPACE, heir)[:len(lines)] == lines and began_after(SPACE, heir) > len(lines), "it has another history")
    said = kubectl("exec", "-n", SPACE, heir, "-c", "scribe", "--", "id")
    must("uid=1000" in said, f"the application runs as {said}")


@scenario
def unknown_policy(store):
    """A pod whose policy does not exist is not started, and its owner is told which one is missing."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept")])
    pod = {"apiVersion": "v1", "kind": "Pod", **template("orphan", labels={"holdfast.dev/policy": "nobody-wrote-this"})}
    pod["metadata"]["name"] = "orphan"
    said = refused("create", "-n", SPACE, "-f", "-", given=json.dumps(pod))
    must("nobody-wrote-this" in said, f"it does not say which policy: {said}")


def told_of_webhook(reason):
    """The Events on the webhook's Deployment with a reason, by name."""
    found = [event for event in items("events", stage.SYSTEM) if event["reason"] == reason]
    return {name_of(event): event for event in found if (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("Deployment", "holdfast-webhook")}


def reachable():
    """What the leading coordinator's metrics say of the webhook; none, while it says nothing."""
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{stage.SYSTEM}/pods/{stage.leader()}:8080/proxy/metrics")
    lines = [line.split() for line in text.splitlines() if line.startswith("holdfast_coordinator_webhook_reachable")]
    return lines[0][-1] if lines else None


@scenario(alone=True)
def webhook_away(store):
    """While no webhook answers, labelled pods are refused, others are not; that, and what runs unprotected, is reported within a minute."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept")])
    until("the webhook is known to be reachable", lambda: reachable() == "1", 60)
    before = {reason: set(told_of_webhook(reason)) for reason in ["WebhookUnreachable", "WebhookReachable"]}

    def told(reason):
        return [event for name, event in told_of_webhook(reason).items() if name not in before[reason]]

    kubectl("scale", "deployment", "-n", stage.SYSTEM, "holdfast-webhook", "--replicas=0")
    until("no webhook is left", lambda: not pods(stage.SYSTEM, "app.kubernetes.io/name=holdfast-webhook", ending=True))
    try:
        labelled = {"apiVersion": "v1", "kind": "Pod", **template("waits", labels=LABEL)}
        labelled["metadata"]["name"] = "waits"
        said = refused("create", "-n", SPACE, "-f", "-", given=json.dumps(labelled))
        must("holdfast" in said, f"it does not say who refuses: {said}")
        plain = {"apiVersion": "v1", "kind": "Pod", **template("plain")}
        plain["metadata"]["name"] = "plain"
        apply(plain, namespace=SPACE)
        # a workload that is labelled now: nobody carries the label into its template
        apply(workload("Deployment", "naked"), namespace=SPACE)
        the_one(SPACE, "naked", injected=False)
        kubectl("label", "deployment", "-n", SPACE, "naked", "holdfast.dev/policy=kept")

        def reported():
            about = [event for event in items("events", SPACE) if event["involvedObject"]["name"].startswith("naked")]
            return [event for event in about if event["reason"] == "LabelNotCarried"]

        event = until("the workload that nobody protects is reported", reported, 60)[0]
        say(f"          {event['reason']}: {event['message']}")
        # every 10 s here, and after a failure sooner; three in a row are told
        event = until("that the API server can't reach the webhook is told", lambda: told("WebhookUnreachable"), 30)[0]
        say(f"          {event['reason']}: {event['message']}")
        must(event["type"] == "Warning" and "can't reach the webhook: failed to call webhook" in event["message"], f"{event}")
        must(reachable() == "0", f"the metric says {reachable()}")
        until("the policy says so", lambda: condition(get("statepolicy", "kept", SPACE), "Ready").get("reason") == "WebhookUnreachable", 20)
    finally:
        kubectl("scale", "deployment", "-n", stage.SYSTEM, "holdfast-webhook", "--replicas=2")
        kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-webhook", "--timeout=120s", seconds=130)
    event = until("that the webhook is reachable again is told", lambda: told("WebhookReachable"), 30)[0]
    say(f"          {event['reason']}: {event['message']}")
    must(event["type"] == "Normal" and reachable() == "1", f"{event}; the metric says {reachable()}")
    kubectl("delete", "deployment", "-n", SPACE, "naked")
    kubectl("delete", "pod", "-n", SPACE, "plain", seconds=120)


@scenario
def label_of_a_running_pod(store):
    """The label stays with a pod that has an agent, whoever takes it away or changes it; other labels come and go."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept"), policy("other")])
    apply(workload("Deployment", "marked", labels=LABEL), namespace=SPACE)
    pod = the_one(SPACE, "marked", seconds=180)
    until("it has its lineage", lambda: get("pod", pod, SPACE)["metadata"]["labels"].get("holdfast.dev/lineage"), 30)
    for verb, what in [("label", "holdfast.dev/policy-"), ("label", "holdfast.dev/policy=other"), ("label", "holdfast.dev/lineage-"),
                       ("label", "holdfast.dev/lineage=deployment-other-0"), ("annotate", "holdfast.dev/injected-")]:
        said = refused(verb, "pod", "-n", SPACE, pod, what, "--overwrite")
        must("stays with a pod that has an agent" in said, f"{what}: {said}")
    status = {"metadata": {"labels": {"holdfast.dev/policy": None}}}
    said = refused("patch", "pod", "-n", SPACE, pod, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    must("stays with a pod that has an agent" in said, f"through its status: {said}")
    kubectl("label", "pod", "-n", SPACE, pod, "team=red")
    kubectl("label", "pod", "-n", SPACE, pod, "team-")
    # what has no agent may be labelled and unlabelled as one likes
    plain = {"apiVersion": "v1", "kind": "Pod", **template("unmarked")}
    plain["metadata"]["name"] = "unmarked"
    apply(plain, namespace=SPACE)
    kubectl("label", "pod", "-n", SPACE, "unmarked", "holdfast.dev/policy=kept")

    def reported():
        return [event for event in events(SPACE, "unmarked") if event.get("reportingComponent", "").startswith("holdfast")]

    event = until("the pod that runs unprotected is reported", reported, 60)[0]
    say(f"          {event['reason']}: {event['message']}")
    kubectl("label", "pod", "-n", SPACE, "unmarked", "holdfast.dev/policy-")
    kubectl("delete", "pod", "-n", SPACE, "unmarked", "--wait=false")
    kubectl("delete", "deployment", "-n", SPACE, "marked", "--wait=false")


def without_webhook(is_away):
    """The API server asks nobody about pods any more, or again."""
    nobody = {"op": "add", "path": "/webhooks/0/matchConditions/-", "value": {"name": "nobody", "expression": "false"}}
    entry = get("mutatingwebhookconfiguration", "holdfast")["webhooks"][0]
    must(entry["name"] == "pods.holdfast.dev", f"the first webhook is {entry['name']}")
    names = [condition["name"] for condition in entry["matchConditions"]]
    changes = [nobody] if is_away else []
    if "nobody" in names:
        changes = [] if is_away else [{"op": "remove", "path": f"/webhooks/0/matchConditions/{names.index('nobody')}"}]
    if changes:
        kubectl("patch", "mutatingwebhookconfiguration", "holdfast", "--type=json", "-p", json.dumps(changes))


def tampered(pod):
    """A pod from which somebody has taken what the final check looks for: in the order of its validations, what is done to it."""
    def ours(pod, name):
        return next(container for container in pod["spec"]["initContainers"] if container["name"] == f"holdfast-{name}")

    def no_agent(pod):
        pod["spec"]["initContainers"].remove(ours(pod, "agent"))

    def no_sidecar(pod):
        # what only sidecars may have goes with it, or the pod would be refused for that
        for field in ["restartPolicy", "lifecycle", "startupProbe", "livenessProbe", "readinessProbe"]:
            ours(pod, "agent").pop(field, None)

    def other_arguments(pod):
        ours(pod, "agent")["args"] = ["gate"]

    def not_told(pod):
        agent = ours(pod, "agent")
        agent["env"] = [variable for variable in agent["env"] if variable["name"] != "HOLDFAST_POD_CONFIG"]

    def no_token(pod):
        agent = ours(pod, "agent")
        agent["volumeMounts"] = [mount for mount in agent["volumeMounts"] if mount["name"] != "holdfast-token"]

    def gate_first(pod):
        pod["spec"]["initContainers"].sort(key=lambda container: container["name"] != "holdfast-gate")

    def open_gate(pod):
        ours(pod, "gate")["command"] = ["true"]

    def other_gate(pod):
        ours(pod, "gate")["image"] += "-other"

    def state_before(pod):
        early = {**pod["spec"]["containers"][0], "name": "early"}
        early.pop("startupProbe", None)
        pod["spec"]["initContainers"].insert(0, early)

    def not_marked(pod):
        del pod["metadata"]["annotations"]["holdfast.dev/injected"]

    for tamper in [no_agent, no_sidecar, other_arguments, not_told, no_token, gate_first, open_gate, other_gate, state_before, not_marked]:
        changed = json.loads(json.dumps(pod))
        tamper(changed)
        yield tamper.__name__, changed


@scenario(alone=True)
def stripped_pod(store):
    """Should a pod with the label come to run without an agent all the same, it is reported within a minute, and the policy counts it."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept")])
    bare = {"apiVersion": "v1", "kind": "Pod", **template("stripped", labels=LABEL)}
    bare["metadata"]["name"] = "stripped"
    binding = json.dumps(get("validatingadmissionpolicybinding", "holdfast-injected")["spec"])
    without_webhook(True)
    try:
        # and somebody has taken the final check away
        actions = '{"spec":{"validationActions":["Audit"]}}'
        kubectl("patch", "validatingadmissionpolicybinding", "holdfast-injected", "--type=merge", "-p", actions)
        until("it is let in", lambda: kubectl("create", "-n", SPACE, "-f", "-", given=json.dumps(bare)), 30)
    finally:
        kubectl("patch", "validatingadmissionpolicybinding", "holdfast-injected", "--type=merge", "-p", f'{{"spec":{binding}}}')
        without_webhook(False)
    must(not is_injected(get("pod", "stripped", SPACE)), "it has an agent")

    def reported():
        return [event for event in events(SPACE, "stripped") if event["reason"] == "Unprotected" and event["type"] == "Warning"]

    event = until("the pod that runs unprotected is reported", reported, 60)[0]
    say(f"          {event['reason']}: {event['message']}")
    said = until("its policy says so", lambda: (said := condition(get("statepolicy", "kept", SPACE), "Ready")).get("status") == "False" and said, 30)
    must("stripped" in said["message"], f"the policy does not name it: {said}")
    kubectl("delete", "pod", "-n", SPACE, "stripped", "--wait=false")


@scenario(alone=True)
def final_check(store):
    """A pod that no webhook has seen, or that lost something after it, is refused by the API server itself, and told what it lacks."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept")])
    bare = {"apiVersion": "v1", "kind": "Pod", **template("bare", labels=LABEL)}
    bare["metadata"]["name"] = "bare"
    create = ["create", "--dry-run=server", "-n", SPACE, "-o", "json", "-f", "-"]
    # the policy may have been seen by one of the webhooks only
    made = until("the webhooks know the policy", lambda: json.loads(kubectl(*create, given=json.dumps(bare))), 30)
    whole = {**bare, "spec": made["spec"], "metadata": {key: made["metadata"][key] for key in ["name", "labels", "annotations"]}}
    validations = get("validatingadmissionpolicy", "holdfast-injected")["spec"]["validations"]
    sentences = [validation["message"] for validation in validations]

    def denied(pod, sentence):
        said = refused(*create, given=json.dumps(pod))
        return "ValidatingAdmissionPolicy 'holdfast-injected'" in said and sentence in said

    without_webhook(True)
    try:
        until("the pod is refused by the final check", lambda: denied(bare, sentences[0]), 30)
        kubectl(*create, given=json.dumps(whole))
        tries = list(tampered(whole))
        must(len(tries) == len(sentences), f"{len(sentences)} validations, and {len(tries)} of them are tried")
        for (what, pod), sentence in zip(tries, sentences):
            must(denied(pod, sentence), f"{what}: {refused(*create, given=json.dumps(pod))}")
    finally:
        without_webhook(False)

    until("pods are injected again", lambda: is_injected(json.loads(kubectl(*create, given=json.dumps(bare)))), 30)

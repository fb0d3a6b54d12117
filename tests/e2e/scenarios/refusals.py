# SPDX-License-Identifier: Apache-2.0
"""Who may not start, and what is said of those that run without protection."""
import json

import stage
from app import began_after, log, policy, template, the_one, workload, written
from kube import apply, get, items, kubectl, must, pods, refused, say, until
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


@scenario
def webhook_away(store):
    """While no webhook answers, labelled pods are refused, others are not; what runs unprotected is reported within a minute."""
    stage.namespace(SPACE, store, level="restricted", policies=[policy("kept")])
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
    finally:
        kubectl("scale", "deployment", "-n", stage.SYSTEM, "holdfast-webhook", "--replicas=2")
        kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-webhook", "--timeout=120s", seconds=130)
    kubectl("delete", "deployment", "-n", SPACE, "naked")
    kubectl("delete", "pod", "-n", SPACE, "plain", seconds=120)

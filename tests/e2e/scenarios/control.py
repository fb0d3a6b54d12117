# SPDX-License-Identifier: Apache-2.0
"""Holdfast's own processes die; applications do not notice."""
import base64
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import stage
from app import agent_of, is_injected, policy, process_of, ready_pods, restarts, template, uids, workload
from kube import Unmet, apply, get, items, kubectl, must, name_of, pods, say, until
from scenario import scenario
from streams import LABEL, POLICY, nothing_restarted, pair, streaming

SPACE = "steady"
WEBHOOKS = "app.kubernetes.io/name=holdfast-webhook"
COORDINATORS = "app.kubernetes.io/name=holdfast-coordinator"


@scenario(alone=True)
def leader_is_killed(store):
    """The leading coordinator is killed while agents stream: none restarts, and their lag recovers."""
    found, lines = pair(SPACE, store)
    another_leader()
    nothing_restarted(SPACE, found, lines)


@scenario(alone=True)
def all_coordinators_are_killed(store):
    """All coordinators are killed at once: applications go on, no agent restarts, and their lag recovers when there is a leader again."""
    found, lines = streaming(SPACE)
    was = sorted(uids(pods(stage.SYSTEM, COORDINATORS)))
    kubectl("delete", "pod", "-n", stage.SYSTEM, "-l", COORDINATORS, "--grace-period=0", "--force")
    until("another leads", lambda: stage.leader() and not set(was) & set(uids(pods(stage.SYSTEM, COORDINATORS))), 120)
    nothing_restarted(SPACE, found, lines)


def another_leader():
    """Kills the leader, without a word to it."""
    was = until("there is a leader", stage.leader)
    os.kill(until("the leader is found", lambda: process_of(stage.SYSTEM, was, b"/holdfast-coordinator")), signal.SIGKILL)
    # nor does it come back
    kubectl("delete", "pod", "-n", stage.SYSTEM, was, "--grace-period=0", "--force")
    until("another leads", lambda: stage.leader() not in [None, was], 90)


@scenario(alone=True)
def certificates_change(store):
    """A new authority takes over while everything runs: no pod is refused, and no agent restarts. While the next one does, leader, webhook and agent die, and come back."""
    found, lines = streaming(SPACE)
    kubectl("set", "env", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "HOLDFAST_TRUST_SECONDS=30")
    try:
        kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "--timeout=180s", seconds=200)
        until("there is a leader", stage.leader)
        given = next_authority()
        refusals = []

        def signs():
            said = admitted()
            refusals.extend([said] if said else [])
            return authority("ca.crt") == given

        until("the given authority signs", signs, 120, every=1)
        until("the webhook shows its certificate", lambda: shown_by("holdfast-webhook", 443, given), 60)
        until("the coordinator shows its certificate", lambda: shown_by("holdfast-coordinator", 7420, given), 60)
        for _ in range(10):
            signs()
            time.sleep(1)
        must(not refusals, f"pods were refused meanwhile: {refusals[:2]}")
        deaths_meanwhile(found, lines)
    finally:
        kubectl("set", "env", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "HOLDFAST_TRUST_SECONDS-")
        kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "--timeout=180s", seconds=200)


def deaths_meanwhile(found, lines):
    """Yet another authority takes over, and one of each that knows the last one dies: what comes back knows the new one."""
    given = next_authority()
    another_leader()
    webhook = until("a webhook is found", lambda: next(filter(None, webhook_processes()), None), 60)
    os.kill(webhook, signal.SIGKILL)
    again = kill_agent(found[0])
    until("the authority signs that was given then", lambda: authority("ca.crt") == given, 120)
    until("both webhooks run", lambda: all(webhook_processes()), 60)
    for name, port in [("holdfast-webhook", 443), ("holdfast-coordinator", 7420)]:
        until(f"{name} shows its certificate", lambda name=name, port=port: shown_by(name, port, given), 90)
    until("pods are let in", lambda: not admitted(), 30)
    nothing_restarted(SPACE, found, lines, but={name_of(found[0]): again})


def kill_agent(pod):
    """Kills the agent of a pod, and waits until it is started again: how often it has been, by then."""
    name = name_of(pod)
    again = {"holdfast-agent": restarts(get("pod", name, SPACE)).get("holdfast-agent", 0) + 1}
    os.kill(until("the agent is found", lambda: agent_of(SPACE, name)), signal.SIGKILL)
    until("the agent is started again", lambda: restarts(get("pod", name, SPACE)) == again, 60)
    return again


@scenario(alone=True)
def agent_is_killed(store):
    """An agent is killed while it streams: it alone restarts, the application does not notice, and its lag recovers."""
    found, lines = streaming(SPACE)
    nothing_restarted(SPACE, found, lines, but={name_of(found[0]): kill_agent(found[0])} | already(found[1:]))
    kubectl("delete", "deployment", "-n", SPACE, "pair")


def already(found):
    """What of some pods was started again before."""
    return {name_of(pod): restarts(pod) for pod in found}


@scenario(alone=True)
def webhooks_are_killed(store):
    """Both webhooks are killed at once, and again when they are back: labelled pods that are made meanwhile are refused or injected, never bare."""
    stage.namespace(SPACE, store, policies=[policy(POLICY)])
    until("pods are let in", lambda: not admitted(), 30)
    refusals, bare = [], set()
    kill_webhooks()
    # they are started again at once, and with a pause if they have ended lately: that is when there is none for a while
    until("both are back", lambda: all(webhook_processes()), 120)
    kill_webhooks()
    made = workload("Deployment", "born", replicas=2)
    made["spec"]["template"]["metadata"]["labels"] |= LABEL
    apply(made, namespace=SPACE)

    def all_is_well():
        bare.update(name_of(pod) for pod in items("pods", SPACE, "holdfast.dev/policy") if not is_injected(pod))
        said = admitted()
        refusals.extend([said] if said else [])
        return not said and all(webhook_processes())

    until("the webhooks answer again", all_is_well, 180, every=0.2)
    must(not bare, f"made without an agent: {bare}")
    must(refusals and all("holdfast.dev" in said for said in refusals), f"nobody was refused for want of a webhook: {refusals[:1]}")
    found = ready_pods(SPACE, "born", 2, seconds=120)
    must(not any(restarts(pod) for pod in found), "something of the new pods was restarted")
    say(f"          {len(refusals)} were refused meanwhile")
    kubectl("delete", "deployment", "-n", SPACE, "born", "--wait=false")


def webhook_processes():
    """Of each webhook its process, or none."""
    return [process_of(stage.SYSTEM, name_of(pod), b"/holdfast-webhook") for pod in pods(stage.SYSTEM, WEBHOOKS)]


def kill_webhooks():
    processes = until("both webhooks run", lambda: all(found := webhook_processes()) and len(found) == 2 and found, 120)
    for process in processes:
        os.kill(process, signal.SIGKILL)


def authority(key):
    """A certificate of the authority's Secret."""
    held = get("secret", "holdfast-ca", stage.SYSTEM)["data"].get(key)
    return held and base64.b64decode(held).decode().strip()


def next_authority():
    """Puts an authority of one's own where the next one waits: it is trusted first, and signs later."""
    with tempfile.TemporaryDirectory() as directory:
        key, certificate = Path(directory) / "key", Path(directory) / "crt"
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Another CA", "-days", "90"]
        subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        data = {name: base64.b64encode(file.read_bytes()).decode() for name, file in [("next.key", key), ("next.crt", certificate)]}
        given = certificate.read_text().strip()
    kubectl("patch", "secret", "-n", stage.SYSTEM, "holdfast-ca", "--type=merge", "-p", json.dumps({"data": data}))
    return given


def admitted():
    """What is said against a labelled pod, made only to be seen by the webhook; nothing, if it is let in."""
    pod = {"apiVersion": "v1", "kind": "Pod", **template("tried", labels={"holdfast.dev/policy": "kept"})}
    pod["metadata"]["name"] = "tried"
    try:
        kubectl("create", "--dry-run=server", "-n", SPACE, "-f", "-", given=json.dumps(pod))
    except Unmet as refusal:
        return str(refusal)
    return None


def shown_by(service, port, given):
    """Whether a service shows a certificate that the given authority has signed."""
    address = get("service", service, stage.SYSTEM)["spec"]["clusterIP"]
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(given + "\n")
        file.flush()
        words = ["curl", "-sS", "-o", "/dev/null", "--http2", "--noproxy", "*", "--max-time", "5", "--cacert", file.name]
        name = f"{service}.{stage.SYSTEM}.svc"
        done = subprocess.run([*words, "--resolve", f"{name}:{port}:{address}", f"https://{name}:{port}/"], capture_output=True, check=False)
    return done.returncode == 0

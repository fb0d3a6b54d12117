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
from app import agent_of, policy, process_of, ready_pods, restarts, template, uids, workload, written
from kube import Unmet, apply, get, kubectl, must, name_of, pods, until
from scenario import scenario

SPACE = "steady"
COORDINATORS = "app.kubernetes.io/name=holdfast-coordinator"


@scenario(alone=True)
def leader_is_killed(store):
    """The leading coordinator is killed while agents stream: none restarts, and their lag recovers."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("Deployment", "pair", replicas=2, labels={"holdfast.dev/policy": "kept"}), namespace=SPACE)
    found = ready_pods(SPACE, "pair", 2, seconds=180)
    lines = {name_of(pod): written(SPACE, name_of(pod), 10) for pod in found}
    another_leader()
    nothing_restarted(found, lines)


@scenario(alone=True)
def all_coordinators_are_killed(store):
    """All coordinators are killed at once: applications go on, no agent restarts, and their lag recovers when there is a leader again."""
    found = ready_pods(SPACE, "pair", 2)
    lines = {name_of(pod): written(SPACE, name_of(pod)) for pod in found}
    was = sorted(uids(pods(stage.SYSTEM, COORDINATORS)))
    kubectl("delete", "pod", "-n", stage.SYSTEM, "-l", COORDINATORS, "--grace-period=0", "--force")
    until("another leads", lambda: stage.leader() and not set(was) & set(uids(pods(stage.SYSTEM, COORDINATORS))), 120)
    nothing_restarted(found, lines)


def another_leader():
    """Kills the leader, without a word to it."""
    was = until("there is a leader", stage.leader)
    os.kill(until("the leader is found", lambda: process_of(stage.SYSTEM, was, b"/holdfast-coordinator")), signal.SIGKILL)
    # nor does it come back
    kubectl("delete", "pod", "-n", stage.SYSTEM, was, "--grace-period=0", "--force")
    until("another leads", lambda: stage.leader() not in [None, was], 90)


def nothing_restarted(found, lines, but=None):
    """The pods of `pair` are those that were found, stream, and have more lines than they had; nothing of them was started again, but for some."""
    newest = {lineage["metadata"]["name"]: sequence(lineage) for lineage in stage.lineages(SPACE, "pair")}

    def caught_up():
        now = stage.lineages(SPACE, "pair")
        return len(now) == 2 and all(sequence(one) > newest[one["metadata"]["name"]] and one["status"].get("lagSeconds", 99) <= 5 for one in now)

    until("new checkpoints are made, and the lag is small", caught_up, 90)
    after = ready_pods(SPACE, "pair", 2)
    must(sorted(uids(after)) == sorted(uids(found)), "pods were replaced")
    for pod in after:
        again = restarts(pod)
        must(again == (but or {}).get(name_of(pod), {}), f"what restarted in {name_of(pod)}: {again}")
        must(written(SPACE, name_of(pod), len(lines[name_of(pod)])), "it went on")


def sequence(lineage):
    return lineage.get("status", {}).get("checkpoint", {}).get("sequence", 0)


@scenario(alone=True)
def certificates_change(store):
    """A new authority takes over while everything runs: no pod is refused, no agent restarts, and the next leader is known by the new one."""
    found = ready_pods(SPACE, "pair", 2)
    lines = {name_of(pod): written(SPACE, name_of(pod)) for pod in found}
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
        another_leader()
        nothing_restarted(found, lines)
    finally:
        kubectl("set", "env", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "HOLDFAST_TRUST_SECONDS-")
        kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-coordinator", "--timeout=180s", seconds=200)


@scenario(alone=True)
def agent_is_killed(store):
    """An agent is killed while it streams: it alone restarts, the application does not notice, and its lag recovers."""
    found = ready_pods(SPACE, "pair", 2)
    lines = {name_of(pod): written(SPACE, name_of(pod)) for pod in found}
    victim = name_of(found[0])
    os.kill(until("the agent is found", lambda: agent_of(SPACE, victim)), signal.SIGKILL)
    until("the agent is started again", lambda: restarts(get("pod", victim, SPACE)).get("holdfast-agent") == 1, 60)
    nothing_restarted(found, lines, but={victim: {"holdfast-agent": 1}})
    kubectl("delete", "deployment", "-n", SPACE, "pair")


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

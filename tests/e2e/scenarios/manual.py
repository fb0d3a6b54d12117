# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/operations.md, as they stand there."""
import os
import re
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import stage
from app import ready_pods, workload
from kube import CLUSTER, ROOT, Unmet, apply, kubectl, must, say
from scenario import scenario

SPACE = "notes"
# of which the manual speaks
MOMENT = "2026-03-01T14:03:00Z"


def chapters():
    """The headings of the chapter on Kubernetes, and the commands below each."""
    text = (ROOT / "docs/operations.md").read_text()
    chapter = re.search(r"^## In Kubernetes\n(.*?)^## ", text, re.S | re.M)
    parts = re.split(r"^### (.*)$", chapter[1], flags=re.M)
    return {heading: "".join(re.findall(r"```sh\n(.*?)```", body, re.S)) for heading, body in zip(parts[1::2], parts[2::2])}


def follow(commands, store):
    """Runs what a reader would type."""
    with tempfile.TemporaryDirectory() as directory:
        typed = Path(directory) / "kubectl"
        typed.write_text(f'#!/bin/sh\nexec "{CLUSTER}" kubectl "$@"\n')
        typed.chmod(0o755)
        known = {"AWS_ACCESS_KEY_ID": store.user, "AWS_SECRET_ACCESS_KEY": store.secret, "HOLDFAST_PASSPHRASE": "as the manual says",
                 "BUCKET": "holdfast", "S3_ENDPOINT": stage.S3, "PATH": f"{directory}:{os.environ['PATH']}"}
        # no registry has the images
        commands = commands.replace("-k deploy/", f"-k {stage.KUSTOMIZATION}")
        words = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(words, env=os.environ | known, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise Unmet(f"what the manual says ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-2500:]}")
    return done.stdout


@scenario(alone=True)
def manual(store):
    """Every command of the chapter on Kubernetes in docs/operations.md works as it stands there."""
    steps = chapters()
    followed = ["Install", "Say where the state goes", "Protect a workload", "Where network policies close a namespace",
                "Look", "Take a snapshot", "Bring a workload back", "Lose something", "Let go"]
    must(all(steps.get(heading) for heading in followed), f"chapters without commands among {list(steps)}")
    must(MOMENT in steps["Bring a workload back"], f"the manual doesn't go back to {MOMENT}")
    must(all(heading in followed or not commands for heading, commands in steps.items()), f"commands that nobody tries among {list(steps)}")
    follow(steps["Install"], store)
    follow(steps["Say where the state goes"], store)
    apply(workload("Deployment", "web", replicas=2), namespace=SPACE)
    ready_pods(SPACE, "web", 2, injected=False)
    follow(steps["Protect a workload"], store)
    ready_pods(SPACE, "web", 2)
    follow(steps["Where network policies close a namespace"], store)
    say("          " + follow(steps["Look"], store)[:1500].replace("\n", "\n          "))
    say("          " + follow(steps["Take a snapshot"], store)[-1500:].replace("\n", "\n          "))
    since_then = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    say("          " + follow(steps["Bring a workload back"].replace(MOMENT, since_then), store)[-1500:].replace("\n", "\n          "))
    follow(steps["Lose something"], store)
    ready_pods(SPACE, "web", 2)
    follow(steps["Let go"], store)
    ready_pods(SPACE, "web", 2, injected=False)
    kubectl("delete", "deployment", "-n", SPACE, "web")

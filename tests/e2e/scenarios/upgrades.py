# SPDX-License-Identifier: Apache-2.0
"""Another image of the agent, for pods that run."""
import io
import json
import tarfile

import stage
from app import began_after, log, policy, ready_pods, restarts, statuses, uids, workload, written
from kube import apply, cluster, events, get, kubectl, must, name_of, pods, until
from scenario import scenario

SPACE = "upgrades"
IMAGE = "holdfast.local/holdfast-agent"
UNDERWAY = "holdfast.dev/agent-upgrade"
WEBHOOKS = "app.kubernetes.io/name=holdfast-webhook"


def renamed(archive, image, to):
    """A copy of an image's archive, in which it has another name."""
    with tarfile.open(archive) as source, tarfile.open(to, "w") as copy:
        for member in source.getmembers():
            content = source.extractfile(member).read() if member.isfile() else None
            if member.name == "index.json":
                index = json.loads(content)
                index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = image
                content = json.dumps(index).encode()
                member.size = len(content)
            copy.addfile(member, io.BytesIO(content) if content is not None else None)
    return to


def inject(image):
    """What an upgrade changes: the image that the webhook adds."""
    kubectl("set", "env", "-n", stage.SYSTEM, "deployment/holdfast-webhook", f"HOLDFAST_AGENT_IMAGE={image}")
    kubectl("rollout", "status", "-n", stage.SYSTEM, "deployment/holdfast-webhook", "--timeout=180s", seconds=200)
    # as long as one of before is ending, it may still be asked
    until("no webhook of before is left", lambda: len(pods(stage.SYSTEM, WEBHOOKS, ending=True)) == 2, 90)


def images(pod):
    """Those of its agent and of its gate."""
    return [container["image"] for container in pod["spec"]["initContainers"]]


def instances(pod):
    """The containers of a pod, each by what its node calls it, without the agent's."""
    return {status["name"]: status["containerID"] for status in statuses(pod) if status["name"] != "holdfast-agent"}


def upgraded(image, away):
    """Whether all agents are of an image, and nothing is under way; how many of the workload were under way at once is noted."""
    found = pods(SPACE, "app=pair")
    underway = [pod for pod in found if UNDERWAY in pod["metadata"].get("annotations", {})]
    away.append(len(underway))
    return not underway and all(images(pod)[0] == image for pod in found)


@scenario(alone=True)
def agents_of_running_pods(store):
    """When the webhook adds another image, running agents are brought to it, one after the other: no application restarts, and no line is lost."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("StatefulSet", "pair", replicas=2, labels={"holdfast.dev/policy": "kept"}), namespace=SPACE)
    found = ready_pods(SPACE, "pair", 2, seconds=180)
    before = {name_of(pod): written(SPACE, name_of(pod), 10) for pod in found}
    must(all(images(pod) == [f"{IMAGE}:1"] * 2 for pod in found), f"{[images(pod) for pod in found]}")
    archive = renamed(stage.IMAGES / "holdfast-agent.tar", f"{IMAGE}:2", stage.IMAGES / "holdfast-agent-2.tar")
    try:
        cluster("load", archive)
        inject(f"{IMAGE}:2")
        away = []
        # other scenarios have left pods, and each has its turn
        until("all agents are of the new image, and back", lambda: upgraded(f"{IMAGE}:2", away), 420)
        must(max(away) == 1, f"{max(away)} agents of one workload were away at once")
        after = {name_of(pod): pod for pod in ready_pods(SPACE, "pair", 2)}
        must(sorted(uids(after.values())) == sorted(uids(found)), "pods were replaced")
        for pod in found:
            name = name_of(pod)
            must(restarts(after[name]) == {"holdfast-agent": 1}, f"what restarted in {name}: {restarts(after[name])}")
            must(instances(after[name]) == instances(pod), f"{name}: the gate or the application ran again")
            must(images(after[name]) == [f"{IMAGE}:2", f"{IMAGE}:1"], f"{name} has {images(after[name])}")
            lines = written(SPACE, name, len(before[name]))
            must(lines[:len(before[name])] == before[name], f"{name} has another history")
            told = [event["reason"] for event in events(SPACE, name)]
            must("AgentUpgraded" in told, f"what was told of {name}: {told}")
        heir("pair-0")
    finally:
        # others, if there are any, are brought back while the next scenarios go on
        kubectl("delete", "statefulset", "-n", SPACE, "pair", seconds=120)
        inject(f"{IMAGE}:1")
        archive.unlink()


def heir(name):
    """A pod that is replaced has both containers of the new image, and all lines of its predecessor."""
    was, lines = get("pod", name, SPACE), log(SPACE, name)
    kubectl("delete", "pod", "-n", SPACE, name, seconds=120)
    found = until(f"{name} is replaced", lambda: [pod for pod in ready_pods(SPACE, "pair", 2) if name_of(pod) == name and uids([pod]) != uids([was])], 120)
    must(images(found[0]) == [f"{IMAGE}:2"] * 2, f"its successor has {images(found[0])}")
    must(began_after(SPACE, name) >= len(lines), f"it began after line {began_after(SPACE, name)} of {len(lines)}")
    must(log(SPACE, name)[:len(lines)] == lines, "it has another history")

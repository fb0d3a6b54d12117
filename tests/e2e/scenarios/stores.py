# SPDX-License-Identifier: Apache-2.0
"""Stores that are not what they should be."""
import stage
from app import policy, the_one, workload
from kube import apply, condition, get, is_ready, kubectl, must, name_of, pods, say, until
from proxies import Forgetful
from scenario import scenario

SPACE = "unfenced"
PORT = 9102


def repository():
    return get("staterepository", "default", SPACE)


@scenario
def store_that_does_not_fence(store):
    """A store that replaces what it was told to create is never Ready, and says why; nothing starts on it, and all goes on once it fences."""
    with Forgetful(PORT, store) as forgetful:
        apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}, {**policy("kept"), "metadata": {"name": "kept", "namespace": SPACE}})
        stage.repository(SPACE, store, SPACE, endpoint=forgetful.url)
        until("the repository is not ready", lambda: condition(repository(), "Ready").get("status") == "False", 60)
        for kind in ["Ready", "Fences"]:
            said = condition(repository(), kind)
            must(said["status"] == "False" and said["reason"] == "StoreDoesNotFence", f"{kind} says {said}")
            must("If-None-Match" in said["message"], f"{kind} does not say what the store lacks: {said}")
        say(f"          {said['reason']}: {said['message']}")
        apply(workload("Deployment", "early", labels={"holdfast.dev/policy": "kept"}), namespace=SPACE)
        pod = name_of(until("a pod is made", lambda: pods(SPACE, "app=early"), 60)[0])
        until("its gate says so", lambda: "RepositoryNotReady" in kubectl("logs", "-n", SPACE, pod, "-c", "holdfast-gate"), 60)
        tried = forgetful.forgotten
        until("it was tried once more", lambda: forgetful.forgotten > tried, 60)
        must(condition(repository(), "Ready")["status"] == "False" and not is_ready(get("pod", pod, SPACE)), "it was believed in the end")
        objects = sorted(path.name for path in (stage.Store.directory / "data/holdfast" / SPACE).glob("*"))
        must(set(objects) <= {"probes"}, f"something was begun there: {objects}")
    stage.repository(SPACE, store, SPACE)
    stage.until_repository(SPACE)
    must(the_one(SPACE, "early", seconds=60) == pod, "the pod that waited was replaced")
    kubectl("delete", "deployment", "-n", SPACE, "early", "--wait=false")

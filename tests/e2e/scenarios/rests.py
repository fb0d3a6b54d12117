# SPDX-License-Identifier: Apache-2.0
"""Rest at every checkpoint: what a lost pod begins with is one moment of files that are written without pause."""
import stage
from app import STATE, policy, ready_pods, workload
from kube import apply, kubectl, must, name_of, say, until
from scenario import scenario

SPACE = "resting"
# Each number goes to one file, then to the other, without a pause; what is found at the beginning is told.
WRITER = f"""
cd {STATE}; touch log first second
echo "began with $(wc -l < first) and $(wc -l < second)"
i=$(wc -l < first)
while :; do i=$((i+1)); echo $i >> first; echo $i >> second; [ $((i % 50)) -ne 0 ] || sleep 0.02; done
"""


def writer(name):
    one = workload("Deployment", name, labels={"holdfast.dev/policy": name})
    one["spec"]["template"]["spec"]["containers"][0]["command"] = ["/bin/busybox", "sh", "-c", WRITER]
    return one


def quality(name):
    """Of the newest checkpoint, as the StateLineage tells it."""
    found = stage.lineages(SPACE, name)
    return found and found[0].get("status", {}).get("checkpoint", {}).get("quality")


def began(pod):
    """How much of each file a pod found."""
    words = kubectl("logs", "-n", SPACE, pod, "-c", "scribe").splitlines()[0].split()
    return int(words[2]), int(words[4])


@scenario
def rest_at_every_checkpoint(store):
    """Of a pod that never stops writing, checkpoints at rest are clean; its replacement finds both files as of one moment."""
    rest = {"consistency": {"mode": "Freeze", "when": "EveryCheckpoint", "pauseBudget": "2s"}}
    stage.namespace(SPACE, store, policies=[policy("restful", **rest), policy("restless")])
    apply(writer("restful"), writer("restless"), namespace=SPACE)
    [pod] = ready_pods(SPACE, "restful", 1, seconds=120)
    ready_pods(SPACE, "restless", 1, seconds=120)
    until("checkpoints of what never rests are fuzzy", lambda: quality("restless") == "Fuzzy", 60)
    until("checkpoints of what is brought to rest are clean", lambda: quality("restful") == "Clean", 60)
    kubectl("delete", "pod", "-n", SPACE, name_of(pod), "--grace-period=0", "--force")
    [new] = ready_pods(SPACE, "restful", 1, not_among=[pod["metadata"]["uid"]], seconds=180)
    first, second = until("it has told what it found", lambda: began(name_of(new)), 30)
    must(first > 0 and first - second in [0, 1], f"it began with {first} lines and {second}")
    say(f"          it began with {first} lines and {second}")
    kubectl("delete", "namespace", SPACE, "--wait=false")

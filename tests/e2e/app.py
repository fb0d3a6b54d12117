# SPDX-License-Identifier: Apache-2.0
"""The application under test: workloads that run `scribe`, and what they have written."""
from pathlib import Path

from kube import Unmet, get, is_ready, kubectl, must, name_of, pods, until

IMAGE = "holdfast.local/scribe:1"
STATE = "/state"
# what the application writes in a second
LINES = 5
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def template(name, volume="emptyDir", labels=None, grace=15, environment=None, restart=None, patience=None):
    """A pod template that fits Pod Security `restricted`. `volume`: emptyDir, claim (the StatefulSet's own), or none (the policy provides one)."""
    variables = {"STATE": STATE, **(environment or {})}
    container = {
        "name": "scribe", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "securityContext": RESTRICTED,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
        # asked only until it has begun: each question is a process of its own, which costs more than what it runs
        "startupProbe": {"exec": {"command": ["cat", f"{STATE}/log"]}, "periodSeconds": 1, "failureThreshold": 60},
    }
    spec = {
        "terminationGracePeriodSeconds": grace, "automountServiceAccountToken": False, "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    if restart:
        spec["restartPolicy"] = restart
    if patience:
        # on this cluster pods leave a node after 10 s of its silence, and nodes look silent when the API server has been away
        lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        spec["tolerations"] = [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": patience} for key in lost]
    if volume != "none":
        container["volumeMounts"] = [{"name": "state", "mountPath": STATE}]
    if volume == "emptyDir":
        spec["volumes"] = [{"name": "state", "emptyDir": {}}]
    return {"metadata": {"labels": {"app": name, **(labels or {})}}, "spec": spec}


def workload(kind, name, replicas=1, labels=None, more=None, **how):
    """A Deployment, StatefulSet, DaemonSet or Job."""
    spec = {"template": template(name, **how)}
    if kind != "Job":
        spec["selector"] = {"matchLabels": {"app": name}}
    if kind in ["Deployment", "StatefulSet"]:
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = name
        spec["podManagementPolicy"] = "Parallel"
    if kind == "StatefulSet" and how.get("volume") == "claim":
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "state"}, "spec": claim}]
    spec.update(more or {})
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1", "kind": kind,
        "metadata": {"name": name, "labels": labels or {}}, "spec": spec,
    }


def policy(name, provision=None, **more):
    """A StatePolicy for the state of `scribe`, with a cadence for impatient tests."""
    path = {"label": "data", "path": STATE}
    if provision:
        path["provision"] = provision
    cadence = {"settle": "100ms", "quiet": "300ms", "limit": "1s", "scan": "10s"}
    return {
        "apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": {"name": name},
        "spec": {"paths": [path], "cadence": cadence, **more},
    }


def containers(pod):
    """The names of its init containers, in order."""
    return [container["name"] for container in pod["spec"].get("initContainers", [])]


def statuses(pod):
    """What is said of its containers, the init containers first."""
    return pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]


def restarts(pod):
    """How often each container was started again."""
    return {status["name"]: status["restartCount"] for status in statuses(pod) if status["restartCount"]}


def is_injected(pod):
    return containers(pod)[:2] == ["holdfast-agent", "holdfast-gate"]


def ready_pods(namespace, name, count=1, injected=True, not_among=(), seconds=120):
    """Waits for exactly so many pods of a workload, ready, with or without the agent, none of them among some that were there before."""
    def settled():
        found = pods(namespace, f"app={name}", ending=True)
        good = all(is_ready(pod) and is_injected(pod) == injected and not pod["metadata"].get("deletionTimestamp") for pod in found)
        new = all(pod["metadata"]["uid"] not in not_among for pod in found)
        return found if good and new and len(found) == count else None

    agents = "with an agent" if injected else "without an agent"
    return until(f"{count} pods of {namespace}/{name} are ready {agents}", settled, seconds)


def agent_of(namespace, pod):
    """The process of a pod's agent on this machine; none, if it does not run."""
    return process_of(namespace, pod, b"/holdfast-agent", b"serve")


def process_of(namespace, pod, *begin):
    """The process of a pod whose command begins so, on this machine; none, if it does not run."""
    uid = get("pod", pod, namespace)["metadata"]["uid"]
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0") if process.name.isdigit() else []
            if words[:len(begin)] == list(begin) and uid in (process / "cgroup").read_text():
                return int(process.name)
        except OSError:
            continue
    return None


def uids(found):
    return [pod["metadata"]["uid"] for pod in found]


def log(namespace, pod):
    """The bytes of its state, as lines; they must be numbered without a gap."""
    text = kubectl("exec", "-n", namespace, pod, "-c", "scribe", "--", "cat", f"{STATE}/log")
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        must(line.split(" ")[0] == str(number), f"the state of {pod} is torn: line {number} is {line!r}")
    return lines


def began_after(namespace, pod):
    """The number of the line that the application found last when it began."""
    for line in kubectl("logs", "-n", namespace, pod, "-c", "scribe").splitlines():
        must(not line.startswith("broken"), f"{pod} found {line}")
        if line.startswith("began after "):
            return int(line.split()[-1])
    raise Unmet(f"{pod} has not said where it began")


def lost(namespace, pod, lines, lag, last=0):
    """
    How many of its predecessor's last lines a pod does not have, which may be no more than the lag that was shown; it goes on from the others. `last`: the
    number of the last line that the predecessor is known to have written, if that is more than was read.
    """
    began = began_after(namespace, pod)
    both = min(began, len(lines))  # lines that were read before the loss, and lines that were written after that
    must(log(namespace, pod)[:both] == lines[:both], f"{pod} has another history")
    gone = max(len(lines), last) - min(began, max(len(lines), last))
    # the line that was being written when the lag began is one more
    must(gone <= lag * LINES + 1, f"{gone} acknowledged lines were lost ({LINES} a second), and {lag} s of lag were shown")
    return gone


def shown_lag(lineages):
    """The lag that is shown of some lineages, at most, in seconds; waits until one is."""
    def shown():
        lags = [lineage["status"].get("lagSeconds") or 0 for lineage in lineages()]
        return lags and max(lags)

    return until("a lag is shown", shown, 30)


def last_said(directory):
    """The number of the last line that a container has told of, as its node keeps what it says."""
    numbers = [line.split()[-1] for line in said(directory).splitlines() if line.split()[-1].isdigit()]
    return int(numbers[-1]) if numbers else 0


def said(directory):
    """All that a container has said."""
    return "\n".join(file.read_text(errors="replace") for file in sorted(directory.glob("*.log")))


def written(namespace, pod, more_than=0, seconds=60):
    """Waits until the application has more than so many lines, and gives them."""
    def enough():
        lines = log(namespace, pod)
        return lines if len(lines) > more_than else None

    return until(f"{pod} has more than {more_than} lines", enough, seconds)


def the_one(namespace, name, **how):
    return name_of(ready_pods(namespace, name, 1, **how)[0])

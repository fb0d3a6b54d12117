# SPDX-License-Identifier: Apache-2.0
"""Applications that begin as root and go on as somebody else, as databases' images do."""
import os
import signal
from pathlib import Path

import stage
from app import agent_of, began_after, log, policy, process_of, ready_pods, restarts, uids, workload, written
from kube import apply, get, kubectl, must, name_of, until
from scenario import scenario
from streams import until_caught_up

SPACE = "users"
# postgres and redis in their images
USER = 999
BEGIN = f"chown -R {USER}:{USER} /state && chmod 700 /state && exec start-stop-daemon -S -c {USER}:{USER} -x /scribe"
# and a file that is another user's, which only root may read
MIXED = "[ -e /state/key ] || { echo secret > /state/key && chmod 600 /state/key && chown 1234:4321 /state/key; }; exec /scribe"


def switching(name, begin):
    made = workload("Deployment", name, labels={"holdfast.dev/policy": name})
    spec = made["spec"]["template"]["spec"]
    # nothing says as whom it runs, and the image has no user
    del spec["securityContext"]
    spec["containers"][0] |= {"command": ["sh", "-c", begin], "securityContext": {"readOnlyRootFilesystem": True}}
    return made


def owners(pod):
    """Whose each file is, and who may do what with it."""
    listed = kubectl("exec", "-n", SPACE, pod, "-c", "scribe", "--", "sh", "-c", "stat -c '%n %u:%g %a' /state /state/*")
    return dict(line.split(" ", 1) for line in listed.splitlines())


def container_restarts(name, pod):
    """The application ends by itself: its container is started again, and the agent goes on."""
    before = log(SPACE, pod)
    os.kill(until("the application is found", lambda: process_of(SPACE, pod, b"/bin/busybox", b"sh", b"/scribe"), 30), signal.SIGKILL)
    until("it is started again", lambda: restarts(get("pod", pod, SPACE)) == {"scribe": 1}, 60)
    lines = until("it goes on", lambda: len(now := log(SPACE, pod)) > len(before) + 5 and now, 60)
    must(lines[:len(before)] == before, f"{pod} has another history")
    until_caught_up(SPACE, name, 1)
    return lines


@scenario
def users_that_switch(store):
    """What begins as root and goes on as another user is captured and restored, as that user, or, with preserveOwner, each file with its owner."""
    policies = [policy("switched", runAs={"user": USER}), policy("mixed", preserveOwner=True)]
    stage.namespace(SPACE, store, policies=policies)
    apply(switching("switched", BEGIN), switching("mixed", MIXED), namespace=SPACE)
    found = {name: ready_pods(SPACE, name, 1, seconds=180)[0] for name in ["switched", "mixed"]}
    for name, pod in found.items():
        written(SPACE, name_of(pod), 10)
        agent = Path("/proc", str(agent_of(SPACE, name_of(pod)))).stat().st_uid
        must(agent == (USER if name == "switched" else 0), f"the agent of {name} runs as {agent}")
    before = {name: (container_restarts(name, name_of(pod)), owners(name_of(pod))) for name, pod in found.items()}
    must(before["switched"][1]["/state/log"] == f"{USER}:{USER} 644" and before["switched"][1]["/state"] == f"{USER}:{USER} 700", f"{before}")
    must(before["mixed"][1]["/state/key"] == "1234:4321 600" and before["mixed"][1]["/state/log"] == "0:0 644", f"{before}")
    for pod in found.values():
        kubectl("delete", "pod", "-n", SPACE, name_of(pod), seconds=120)
    for name, (lines, whose) in before.items():
        [pod] = ready_pods(SPACE, name, 1, not_among=uids(found.values()), seconds=180)
        must(began_after(SPACE, name_of(pod)) >= len(lines) and log(SPACE, name_of(pod))[:len(lines)] == lines, f"{name} has another history")
        must(owners(name_of(pod)) == whose, f"the owners of {name} were {whose}, and are {owners(name_of(pod))}")
    kubectl("delete", "deployment", "-n", SPACE, "--all")

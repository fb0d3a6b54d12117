# SPDX-License-Identifier: Apache-2.0
"""What an agent may use."""
import os
import re
from pathlib import Path

import stage
from app import STATE, agent_of, policy, restarts, the_one, workload, written
from kube import apply, get, kubectl, must, say, until
from scenario import scenario
from streams import SMALL, behind

SPACE = "bounds"
MIB = 1 << 20
LIMIT = 64 * MIB
# others are 30 MiB of program alone, which counts as resident, and which the kernel drops when memory is short
RELEASED = os.environ.get("HOLDFAST_IMAGE_PROFILE", "release") == "release"
# a file of 128 MiB that no compression helps, and then 4000 small ones
LOAD = f"dd if=/dev/urandom of={STATE}/big bs=1048576 count=128 2>/dev/null; mkdir {STATE}/many; n=0; " \
    f"while [ $n -lt 4000 ]; do echo $n $n >{STATE}/many/$n; n=$((n + 1)); done"


def resident(process):
    """What a process has in memory, now and at most, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return [int(re.search(rf"^{name}:\s*(\d+) kB", status, re.M)[1]) * 1024 for name in ["VmRSS", "VmHWM"]]


def digest(pod):
    """Of the big file, and of all small ones together."""
    words = f"cat {STATE}/big | sha256sum; cat {STATE}/many/* | sha256sum; ls {STATE}/many | wc -l"
    return kubectl("exec", "-n", SPACE, pod, "-c", "scribe", "--", "sh", "-c", words, seconds=120)


@scenario(alone=True)
def memory_of_an_agent(store):
    """Within its limit an agent captures a big file and thousands of small ones, and its successor restores them; neither is restarted."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    apply(workload("Deployment", "heavy", labels={"holdfast.dev/policy": "kept"}), namespace=SPACE)
    pod = the_one(SPACE, "heavy", seconds=180)
    written(SPACE, pod, 20)
    agent = get("pod", pod, SPACE)["spec"]["initContainers"][0]
    must(agent["resources"]["limits"]["memory"] == "64Mi", f"its limits: {agent['resources']}")
    process = until("the agent runs", lambda: agent_of(SPACE, pod))
    rest, _ = resident(process)
    kubectl("exec", "-n", SPACE, pod, "-c", "scribe", "--", "sh", "-c", LOAD, seconds=240)

    def captured():
        lineage = stage.lineages(SPACE, "heavy")[0]
        return behind(lineage) <= SMALL and lineage["status"]["checkpoint"]["bytes"] >= 128 * MIB

    until("all of it is durable", captured, 240)
    # beyond its limit the kernel would have ended it
    must(agent_of(SPACE, pod) == process, "the agent was restarted")
    now, most = resident(process)
    say(f"          resident: {rest / MIB:.1f} MiB at rest, {most / MIB:.1f} MiB at most while it captured, {now / MIB:.1f} MiB after that")
    must(most < LIMIT or not RELEASED, f"{most} bytes are more than its limit")
    held = digest(pod)
    kubectl("delete", "pod", "-n", SPACE, pod, seconds=120)
    heir = the_one(SPACE, "heavy", seconds=240)
    must(digest(heir) == held, "the successor has other bytes")
    _, most = resident(until("the successor's agent runs", lambda: agent_of(SPACE, heir)))
    say(f"          resident: {most / MIB:.1f} MiB at most while it restored")
    must(most < LIMIT or not RELEASED, f"{most} bytes are more than its limit")
    again = restarts(get("pod", heir, SPACE))
    must(not again, f"something was restarted: {again}")
    kubectl("delete", "deployment", "-n", SPACE, "heavy")

# SPDX-License-Identifier: Apache-2.0
"""One moment of several namespaces: programs that send each other numbered tokens, and whose snapshots must hold none that was not sent."""
import stage
from app import STATE, policy, ready_pods, uids, workload
from kube import apply, condition, get, kubectl, must, name_of, pods, say, until
from reading import read, reader
from scenario import scenario
from scenarios.restores import restore, settled as restore_settled
from scenarios.snapshots import STILL, settled, snapshot, taken

SPACES = ["ledgers-east", "ledgers-west"]
POLICY = "ledger"
# what is sent is on the disk before it goes; what comes is written down as it comes. Both go on from what they find
TELLER = """
cd "$STATE"; touch log sent got
busybox nc -ll -p 9000 -e /bin/busybox sh -c 'cat >> got' &
trap 'exit 0' TERM
n=$(wc -l < sent)
while :; do
  if [ -s peer ]; then n=$((n + 1)); echo $n >> sent; echo $n | busybox nc -w 1 "$(cat peer)" 9000; sleep 0.02; else sleep 0.2; fi
done
"""


def tellers(store):
    """A teller in each of two namespaces, which have the same repository, and speak to each other."""
    for space in SPACES:
        stage.namespace(space, store, prefix="ledgers", policies=[policy(POLICY, **STILL)])
        made = workload("StatefulSet", "teller", labels={"holdfast.dev/policy": POLICY}, volume="claim")
        made["spec"]["template"]["spec"]["containers"][0]["command"] = ["/bin/busybox", "sh", "-c", TELLER]
        apply(made, namespace=space)
    meet()


def meet(not_among=()):
    """Each is told where the other one is; returns their pods."""
    found = [ready_pods(space, "teller", not_among=not_among, seconds=240)[0] for space in SPACES]
    for space, pod, other in zip(SPACES, found, reversed(found)):
        address = get("pod", name_of(other), SPACES[1 - SPACES.index(space)])["status"]["podIP"]
        kubectl("exec", "-n", space, name_of(pod), "-c", "scribe", "--", "sh", "-c", f"echo {address} > {STATE}/peer")
    for space in SPACES:
        until(f"{space} has got some", lambda: len(now(space, "got")) > 20, 60)
    return found


def now(space, file):
    text = kubectl("exec", "-n", space, "teller-0", "-c", "scribe", "--", "cat", f"{STATE}/{file}")
    return numbers(text)


def numbers(text):
    # a last line that is not whole yet is none
    return [int(line) for line in text.split("\n")[:-1] if line.isdigit()]


def held(space, name):
    """What a snapshot holds of a namespace, as who may read there gets it."""
    how = reader(space)
    return {file: numbers(read("statefulset/teller/0", name, f"data/{file}", how)) for file in ["sent", "got"]}


def orphans(one, other):
    """Tokens that one has got, and the other has not sent: of one moment there are none."""
    return sorted(set(one["got"]) - set(other["sent"]))


@scenario
def snapshot_across_namespaces(store):
    """A StateSnapshot of two namespaces, or of the whole cluster, is one moment of both: no token was got that was not sent; each part goes back by itself."""
    tellers(store)
    names = {"both": {"policies": [POLICY], "namespaces": SPACES}, "cluster": {"policies": [POLICY], "namespaces": ["*"]}}
    for name, spec in names.items():
        snapshot(name, namespace=stage.SYSTEM, **spec)
        status = taken(name, namespace=stage.SYSTEM)
        must(status["consistency"] == "Frozen" and status["memberCount"] == 2, f"{status}")
        must(sorted(member["namespace"] for member in status["members"]) == SPACES, f"{status['members']}")
        east, west = (held(space, status["snapshotId"]) for space in SPACES)
        must(not orphans(east, west) and not orphans(west, east), f"{name}: got and not sent: {orphans(east, west)} {orphans(west, east)}")
        must(len(east["got"]) > 20 and len(west["got"]) > 20, f"they have hardly spoken: {east} {west}")
        say(f"          {name}: {len(east['sent'])} and {len(west['sent'])} sent, {len(west['got'])} and {len(east['got'])} got")
    # what two moments look like: without this, the question above would not be worth much
    apart = []
    for space in SPACES:
        snapshot("alone", namespace=space, policies=[POLICY])
        apart.append(held(space, taken("alone", namespace=space)["snapshotId"]))
    must(orphans(apart[1], apart[0]), "snapshots of two moments should hold tokens that were got and not sent")
    # from another namespace neither is had
    for name, namespaces, word in [("others", SPACES, SPACES[1]), ("whole", ["*"], "the whole cluster")]:
        snapshot(name, namespace=SPACES[0], policies=[POLICY], namespaces=namespaces)
        said = condition({"status": settled(name, SPACES[0])}, "Succeeded")
        must(said["reason"] == "NamespaceRefused" and word in said["message"] and stage.SYSTEM in said["message"], f"{name}: {said}")
        say(f"          {said['reason']}: {said['message']}")
    goes_back(get("statesnapshot", "both", stage.SYSTEM)["status"])


def goes_back(status):
    """Each namespace's part of a snapshot, by its name in the repository; the other one goes on."""
    then = {space: held(space, status["snapshotId"]) for space in SPACES}
    restore("whole", namespace=stage.SYSTEM, source={"snapshot": "both"})
    said = condition({"status": restore_settled("whole", stage.SYSTEM)}, "Succeeded")
    must(said["reason"] == "SeveralNamespaces" and all(space in said["message"] for space in SPACES), f"{said}")
    say(f"          {said['reason']}: {said['message']}")
    before = {space: pods(space, "app=teller") for space in SPACES}
    source = {"snapshot": status["snapshotName"]}
    for number, space in enumerate(SPACES):
        restore("back", namespace=space, source=source)
        done = restore_settled("back", space)
        said = condition({"status": done}, "Succeeded")
        must(said["status"] == "True" and said["reason"] == "Restored" and done["receiptCount"] == 1, f"{space}: {said}")
        if number == 0:
            must(uids(pods(SPACES[1], "app=teller")) == uids(before[SPACES[1]]), "the other namespace's pod was ended")
        ready_pods(space, "teller", not_among=uids(before[space]), seconds=240)
        for file, lines in then[space].items():
            must(now(space, file)[:len(lines)] == lines, f"{space} has other lines in {file} than it had")
        sequence = next(member["sequence"] for member in status["members"] if member["namespace"] == space)
        must(done["receipts"][0]["sequence"] == sequence, f"{space} went elsewhere: {done['receipts']}")
    for namespace in [stage.SYSTEM, *SPACES]:
        kubectl("delete", "staterestores,statesnapshots", "-n", namespace, "--all")
    for space in SPACES:
        kubectl("delete", "statefulset", "-n", space, "teller", seconds=120)

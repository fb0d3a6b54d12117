# SPDX-License-Identifier: Apache-2.0
"""The webhook's table of pods (webhook/tests/cases/pods.yaml), put to the API server: what it decides must be what the table says."""
import copy
import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from app import containers
from kube import CLUSTER, ROOT, Unmet, apply, get, kubectl, must, refused, say, until
from scenario import scenario
from stage import SYSTEM

CASES = ROOT / "webhook/tests/cases"
LABEL = "holdfast.dev/policy"
# what no API server can be asked, and why
NOT_PLAYED = {
    "policy-that-cannot-be-used": "its definition's schema refuses such a StatePolicy",
    "old-node": "the node would be too old for the pods of everybody, and this cluster's are not",
}
# what the API server wants besides
ALSO = {"mirror-pod": {"spec": {"nodeName": "node-1"}}}
SKIPS = ["NotLabelled", "Disabled", "NamespaceDisabled", "SystemNamespace", "MirrorPod"]
# both webhooks have read everything by then
SEEN_WITHIN = 30


def read(name):
    """A YAML file, as the API server's own client reads it."""
    text = "\n".join(f"  {line}" for line in (CASES / name).read_text().splitlines())
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: table}\nread:\n"
    said = kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", given=head + text)
    return json.loads(said)["read"]


def sentences():
    """What the webhook says, by its names in docs/injection.md, as patterns."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (ROOT / "docs/injection.md").read_text(), re.MULTILINE)
    return {code: re.compile(".+".join(re.escape(part) for part in re.split(r"\\<\w+>", sentence))) for code, sentence in rows}


def merged(base, change):
    """RFC 7396; nothing of it is shared with what it was made of."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    result = copy.deepcopy(base) if isinstance(base, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def namespace_of(case):
    settings = case.get("cluster") or {}
    if "namespace" in settings:
        return settings["namespace"]
    words = [key.replace("_", "-") if value is True else str(value) for key, value in sorted(settings.items()) if key != "no_policy"]
    return "-".join(["table", *words])


def make_namespace(name, settings):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if settings.get("restricted") else {}
    notes = {"holdfast.dev/inject": "disabled"} if settings.get("namespace_disabled") else {}
    if settings.get("assigns_users"):
        notes["openshift.io/sa.scc.uid-range"] = "1000/100"
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels, "annotations": notes}})
    if not settings.get("no_repository"):
        # without its secret it is never opened: the webhook asks for its port alone
        s3 = {"bucket": "table", "endpoint": f"https://s3.test:{settings.get('store_port', 443)}", "credentialsSecretRef": {"name": "none"}}
        spec = {"s3": s3, "passphrase": {"name": "none"}}
        apply({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRepository", "metadata": {"name": "default"}, "spec": spec}, namespace=name)


def policy_of(case, plain):
    spec = merged(plain["policy"], case.get("policy") or {})
    return {"apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": {"name": case["name"]}, "spec": spec}


def pod_of(case, plain):
    """The pod of a row, under a policy of the row's name."""
    pod = merged(merged(plain["pod"], case.get("pod") or {}), ALSO.get(case["name"], {}))
    # what the API server mounts for others is not the table's
    pod["spec"].setdefault("automountServiceAccountToken", False)
    labels = pod["metadata"]["labels"]
    if labels.get(LABEL) == "web":
        labels[LABEL] = case["name"]
    return pod


def ask(space, thing, verb="create"):
    """What the API server would make of an object, or none, and all that it says."""
    words = [str(CLUSTER), "kubectl", verb, "--dry-run=server", "-n", space, "-o", "json", "-f", "-"]
    done = subprocess.run(words, input=json.dumps(thing), capture_output=True, text=True, timeout=60, check=False)
    return (json.loads(done.stdout) if done.returncode == 0 else None), done.stderr.strip()


def at(value, pointer):
    """RFC 6901; none, if there is nothing."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def holds(value, wanted):
    """Whether it is that, but for what the API server fills in."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(key in value and holds(value[key], item) for key, item in wanted.items())
    return value == wanted


def count_empty_dirs(pod):
    return sum("emptyDir" in volume for volume in pod["spec"].get("volumes") or [])


def check_warnings(case, told, finds):
    """It warns of what the row says, and of nothing else; `finds`: what tells whether a warning is of a kind, by the kinds."""
    warnings = re.findall(r"Warning: Holdfast: (.+)", told)
    kinds = {code for code in finds for text in warnings if finds[code](text)}
    must(kinds == set(case.get("warns", [])) and bool(kinds) == bool(warnings), f"it warns of {sorted(kinds)}: {warnings}")


def check_injected(case, before, pod, told, known):
    inits = containers(pod)
    must("holdfast-agent" in inits, f"it has no agent: {inits}")
    place = inits.index("holdfast-agent")
    must(inits[place + 1:place + 2] == ["holdfast-gate"], f"its gate does not follow its agent: {inits}")
    must("inits" not in case or inits == case["inits"], f"its init containers are {inits}")
    agent, gate = pod["spec"]["initContainers"][place:place + 2]
    must(agent.get("restartPolicy") == "Always" and "restartPolicy" not in gate, "its agent is no sidecar, or its gate is one")
    for pointer, wanted in case.get("has", {}).items():
        must(holds(at(pod, pointer), wanted), f"{pointer} is {at(pod, pointer)}")
    for pointer in case.get("lacks", []):
        must(at(pod, pointer) is None, f"{pointer} is {at(pod, pointer)}")
    env = {entry["name"]: entry.get("value") for entry in agent["env"]}
    for name, wanted in case.get("env", {}).items():
        must(name in env and wanted in [None, env[name]], f"{name} is {env.get(name)}")
    every = pod["spec"]["initContainers"] + pod["spec"]["containers"]
    knows = [entry["name"] for entry in every if any(mount["name"] == "holdfast-token" for mount in entry.get("volumeMounts", []))]
    must(knows == ["holdfast-agent"], f"the agent's token is in {knows}")
    must(count_empty_dirs(pod) == count_empty_dirs(before) + case.get("empty_dirs", 0), "it has other emptyDirs")
    check_warnings(case, told, {code: pattern.search for code, pattern in known.items()})


def check(case, plain, known):
    """Puts one row to the API server."""
    space, decision, before = namespace_of(case), case["decision"], pod_of(case, plain)
    pod, told = ask(space, before)
    if decision == "Patched":
        must(pod, f"it is refused: {told}")
        check_injected(case, before, pod, told, known)
    elif decision in SKIPS:
        must(pod, f"it is refused: {told}")
        must("holdfast-agent" not in containers(pod), "it has an agent")
    else:
        must(not pod, "it is let in")
        must("Holdfast can't protect Pod" in told and known[decision].search(told), f"it is refused otherwise than by {decision}: {told}")
        says = case.get("says", "").replace("StatePolicy web", f"StatePolicy {case['name']}").replace("namespace shop", f"namespace {space}")
        must(says in told, f"it does not say {says!r}: {told}")


def rows_to_play(cases, not_played, others=()):
    """Those that can be asked; each row has a name of its own, and nothing is said of rows that there aren't."""
    names = {case["name"] for case in cases}
    must(len(names) == len(cases), "two rows have one name")
    must(not_played.keys() | set(others) <= names, f"no such row: {(not_played.keys() | set(others)) - names}")
    return [case for case in cases if case["name"] not in not_played]


def play_rows(played, holds):
    """What is wrong with rows, of which a function raises something. For a while webhooks may not have read all that a row rests on."""
    deadline = time.monotonic() + SEEN_WITHIN

    def play(case):
        while True:
            try:
                return holds(case)
            except Unmet as wrong:
                if time.monotonic() > deadline:
                    return f"{case['name']}: {wrong}"
            time.sleep(1)

    with ThreadPoolExecutor(4) as pool:
        return [text for text in pool.map(play, played) if text]


def conclude(wrong, played, not_played):
    """All rows that were played are decided as the table says."""
    must(not wrong, f"{len(wrong)} of {len(played)} rows are decided otherwise:\n          " + "\n          ".join(wrong))
    say(f"          {len(played)} rows; not played: {', '.join(sorted(not_played))}")


@scenario
def table_of_pods(_store):
    """Every row of the webhook's table of pods, asked through the API server, is decided as the table says."""
    plain, cases, known = read("plain.yaml"), read("pods.yaml"), sentences()
    played = rows_to_play(cases, NOT_PLAYED, ALSO)
    must({case["decision"] for case in cases} <= {"Patched", *known}, "a decision is not in docs/injection.md")
    spaces = {namespace_of(case): case.get("cluster") or {} for case in played}
    made = [space for space in spaces if space != SYSTEM]
    try:
        for space in made:
            make_namespace(space, spaces[space])
            here = [case for case in played if namespace_of(case) == space and not (case.get("cluster") or {}).get("no_policy")]
            apply(*[policy_of(case, plain) for case in here], namespace=space)
        for space in made:
            until(f"{space} has its service account", lambda space=space: get("serviceaccount", "default", space), 30)
        unusable = next(case for case in cases if case["name"] == "policy-that-cannot-be-used")
        refused("create", "-n", made[0], "--dry-run=server", "-f", "-", given=json.dumps(policy_of(unusable, plain)))
        wrong = play_rows(played, lambda case: check(case, plain, known))
    finally:
        kubectl("delete", "namespace", "--ignore-not-found", "--wait=false", *made)
    conclude(wrong, played, NOT_PLAYED)

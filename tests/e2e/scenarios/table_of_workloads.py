# SPDX-License-Identifier: Apache-2.0
"""The webhook's table of workloads (webhook/tests/cases/workloads.yaml), put to the API server, as new objects and as changes of what is there."""
import json

from kube import apply, kubectl, must, until
from scenario import scenario
from scenarios.table import (SEEN_WITHIN, SKIPS, ask, at, check_warnings, conclude, holds, make_namespace, merged, play_rows, read, rows_to_play,
                             sentences)
from stage import SYSTEM

NOT_PLAYED = {
    "no-template-labels": "the API server wants labels that the selector chooses",
    "daemonset-whose-strategy-is-a-word": "the API server refuses it before anybody is asked",
}
GROUPS = {"Job": "batch/v1", "CronJob": "batch/v1"}
# where what a row changes is made, before the webhook is to look
DISABLED = "holdfast.dev/inject"
POLICIES = ["web", "one", "two", "other"]
SHARED = "shared"


def space_of(case):
    settings = case.get("cluster") or {}
    return settings.get("namespace") or "-".join(["table-of-workloads", *[key.replace("_", "-") for key in sorted(settings)]])


def plain_of(case, pod):
    """What a row changes something about: the API server wants more than the table's own test."""
    kind = case.get("kind", "Deployment")
    template = {"metadata": {"labels": {"app": "web"}}, "spec": merged(pod["spec"], {"nodeSelector": {"nowhere": "nothing"}})}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    if kind == "CronJob":
        template["spec"]["restartPolicy"] = "Never"
        spec = {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}
    elif kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        spec |= {"suspend": True, "manualSelector": True}
    elif kind == "StatefulSet":
        del template["spec"]["volumes"]
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        spec |= {"replicas": 2, "serviceName": "web", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}
    elif kind == "Deployment" and "old" in case:
        spec["replicas"] = 0
    return {"apiVersion": GROUPS.get(kind, "apps/v1"), "kind": kind, "metadata": {"name": case["name"]}, "spec": spec}


def laid(case, pod, change):
    """An object of a row; where the row has a policy of its own, under that one."""
    text = json.dumps(merged(plain_of(case, pod), change or {}))
    return json.loads(text.replace('"holdfast.dev/policy": "web"', f'"holdfast.dev/policy": "{SHARED}"') if "policy" in case else text)


def is_so(value, wanted):
    """Nothing is nothing of ours."""
    return not any(key.startswith("holdfast.dev/") for key in value or {}) if wanted == {} else holds(value, wanted)


def ours(made):
    """All labels and annotations of an object and of its pod template that are Holdfast's."""
    template = at(made, "/spec/jobTemplate/spec/template/metadata") or at(made, "/spec/template/metadata") or {}
    pairs = [(where, key, value) for where, meta in [("object", made["metadata"]), ("template", template)]
             for kind in ["labels", "annotations"] for key, value in (meta.get(kind) or {}).items()]
    return {pair for pair in pairs if pair[1].startswith("holdfast.dev/")}


def check(case, pod, known):
    """Puts one row to the API server."""
    made, told = ask(space_of(case), laid(case, pod, case.get("object")), "replace" if "old" in case else "create")
    decision = case["decision"]
    if decision in [*SKIPS, "NotHandled"]:
        must(made, f"it is refused: {told}")
        must(ours(made) == ours(laid(case, pod, case.get("object"))), f"it was changed: {ours(made)}")
        return
    if decision != "Patched":
        must(not made, "it is let in")
        must("Holdfast can't protect" in told and known[decision].search(told), f"it is refused otherwise than by {decision}: {told}")
        says = case.get("says", "").replace("namespace shop", f"namespace {space_of(case)}")
        must(says in told, f"it does not say {says!r}: {told}")
        return
    must(made, f"it is refused: {told}")
    for pointer, wanted in case.get("has", {}).items():
        must(is_so(at(made, pointer), wanted), f"{pointer} is {at(made, pointer)}")
    for pointer in case.get("lacks", []):
        must(at(made, pointer) is None, f"{pointer} is {at(made, pointer)}")
    if case.get("unchanged"):
        asked = laid(case, pod, case.get("object"))
        must(ours(made) == ours(asked), f"it was changed: {ours(made)}")
        strategies = [(at(asked, part), at(made, part)) for part in ["/spec/strategy", "/spec/updateStrategy"]]
        must(all(holds(now, was) for was, now in strategies if was), f"its strategy was changed: {strategies}")
    # a warning may have another's sentence within
    check_warnings(case, told, {code: pattern.match for code, pattern in known.items()})


def prepare(spaces, played, plain):
    """The namespaces, and what is there before rows change it, which no webhook is to see."""
    for space, settings in spaces.items():
        make_namespace(space, {**settings, "namespace_disabled": True})
        names = [] if settings.get("no_policy") else [(name, {}) for name in POLICIES] + [(SHARED, {"scope": "Shared"})]
        for name, change in names:
            spec = merged(plain["policy"], change)
            apply({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": {"name": name}, "spec": spec}, namespace=space)
        for case in played:
            if space_of(case) == space and "old" in case:
                place(case, space, plain)
        if not settings.get("namespace_disabled"):
            kubectl("annotate", "namespace", space, f"{DISABLED}-")


def place(case, space, plain):
    """Makes what a row changes, once the webhooks know that they are not to look."""
    before = json.dumps(laid(case, plain["pod"], case["old"]))
    until(f"{case['name']} is made", lambda: kubectl("create", "-n", space, "-f", "-", given=before), SEEN_WITHIN)


@scenario
def table_of_workloads(_store):
    """Every row of the webhook's table of workloads, asked through the API server, is decided as the table says."""
    plain, cases, known = read("plain.yaml"), read("workloads.yaml"), sentences()
    played = rows_to_play(cases, NOT_PLAYED)
    policies = [case["policy"] for case in cases if "policy" in case]
    must(all(policy == {"scope": "Shared"} for policy in policies), f"policies that are not made here: {policies}")
    spaces = {space_of(case): case.get("cluster") or {} for case in played if space_of(case) != SYSTEM}
    try:
        prepare(spaces, played, plain)
        wrong = play_rows(played, lambda case: check(case, plain["pod"], known))
    finally:
        kubectl("delete", "namespace", "--ignore-not-found", "--wait=false", *spaces)
    conclude(wrong, played, NOT_PLAYED)

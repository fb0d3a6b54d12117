# SPDX-License-Identifier: Apache-2.0
"""Network policies: those of deploy/ let through what must pass and stop the rest, and Holdfast works where its users close their networks."""
import json
from contextlib import contextmanager

import stage
from app import log, policy, ready_pods, workload, written
from kube import ROOT, apply, get, items, kubectl, must, name_of, pods, refused, say, until
from networks import address_of, is_kept, is_open, knock, listening
from scenario import scenario
from scenarios.control import COORDINATORS, WEBHOOKS, admitted, kill_webhooks
from scenarios.control import SPACE as TRIED
from scenarios.manual import chapters, follow
from streams import LABEL, POLICY, nothing_restarted, replaced, until_caught_up

SPACE = "closed"
# who has nothing to do with Holdfast
STRANGERS = "strangers"
ASKS, ASKED = "asks", "asked"
NAMES = ["holdfast-coordinator", "holdfast-webhook"]
PORTS = {"holdfast-coordinator": [7420, 8080], "holdfast-webhook": [8080, 10250]}
HEARS = 7420


@contextmanager
def without(name, file):
    """A while in which a policy of deploy/ is gone."""
    kubectl("delete", "networkpolicy", "-n", stage.SYSTEM, name)
    try:
        yield
    finally:
        kubectl("apply", "-f", ROOT / "deploy" / file)


def lone(space, name):
    """A pod that does nothing here but be asked, and ask."""
    apply(workload("Deployment", name), namespace=space)
    [pod] = ready_pods(space, name, 1, injected=False)
    return pod


def network_policy(name, labels=None, **directions):
    """A NetworkPolicy for pods with labels, or all; `Ingress` and `Egress`: what is let through, by rules."""
    spec = {"podSelector": {"matchLabels": labels or {}}, "policyTypes": list(directions)}
    spec |= {direction.lower(): rules for direction, rules in directions.items()}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


@scenario
def network_policies_are_enforced(store):
    """The test cluster's own: what selectors, blocks of addresses, and ports by number, range and name let through, and what not."""
    for space in [ASKS, ASKED]:
        apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    named = workload("Deployment", "asked")
    named["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"name": "notes", "containerPort": 81}]
    apply(named, namespace=ASKED)
    asks, asked = lone(ASKS, "asks"), ready_pods(ASKED, "asked", 1, injected=False)[0]
    theirs = [{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [ASKS]}]}}]
    others = [{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [ASKS]}]}}]
    block, least = {"cidr": "10.88.0.0/16"}, [f"{address_of(asks)}/32"]
    for space, rule, passes in [
        (ASKED, {"Ingress": []}, []),
        (ASKED, {"Ingress": [{}]}, [80, 81, 82]),
        (ASKED, {"Ingress": [{"from": others}]}, []),
        (ASKED, {"Ingress": [{"from": theirs, "ports": [{"port": 80, "endPort": 81}]}]}, [80, 81]),
        (ASKED, {"Ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "asks"}}}]}]}, []),  # of its own namespace
        (ASKED, {"Ingress": [{"from": [{**theirs[0], "podSelector": {"matchLabels": {"app": "asks"}}}]}]}, [80, 81, 82]),
        (ASKED, {"Ingress": [{"from": [{"ipBlock": {**block, "except": least}}]}]}, []),
        (ASKED, {"Ingress": [{"from": [{"ipBlock": block}], "ports": [{"port": "notes"}, {"protocol": "UDP", "port": 80}]}]}, [81]),
        (ASKED, {"Egress": []}, [80, 81, 82]),
        (ASKS, {"Egress": []}, []),
        (ASKS, {"Egress": [{"ports": [{"port": "notes"}]}]}, [81]),
        (ASKS, {"Egress": [{"to": [{"podSelector": {}}]}]}, []),
        (ASKS, {"Egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP"}]}]}, [80, 81, 82]),
    ]:
        apply(network_policy("tried", **rule), namespace=space)
        expected = {"open": [], "closed": passes, "kept": 3 - len(passes)}
        until(f"{rule} in {space} lets through {passes}", lambda: knock(ASKS, name_of(asks), address_of(asked), "80-82") == expected, 15)
    for space in [ASKS, ASKED]:
        kubectl("delete", "namespace", space, "--wait=false")


@scenario(alone=True)
def network_policies(store):
    """The policies of deploy/: everybody reaches the ports that serve and no other, the API server the webhook, and nobody what else is put beside them."""
    stage.namespace(TRIED, store, policies=[policy(POLICY)])
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STRANGERS}})
    stranger = name_of(lone(STRANGERS, "stranger"))
    lodger, other = lone(stage.SYSTEM, "lodger"), name_of(lone(stage.SYSTEM, "other-lodger"))
    served = {name: pods(stage.SYSTEM, f"app.kubernetes.io/name={name}") for name in NAMES}
    must([len(found) for found in served.values()] == [3, 2], f"there are {[name_of(pod) for found in served.values() for pod in found]}")
    leads = until("there is a leader", stage.leader)
    served["holdfast-coordinator"].sort(key=lambda pod: name_of(pod) != leads)
    for name, found in served.items():
        for pod in found:
            for asks in [(STRANGERS, stranger), (stage.SYSTEM, other), *[(stage.SYSTEM, name_of(one)) for one in served["holdfast-coordinator"]]]:
                # one and itself: no policy stands between them
                near = asks == (stage.SYSTEM, name_of(pod))
                ports = PORTS[name] if near else [*PORTS[name], 7421, 10251]
                met = knock(*asks, address_of(pod), *ports)
                must(reached(met) == PORTS[name] and met["kept"] == len(ports) - len(PORTS[name]), f"{asks} meets {met} at {name_of(pod)}")
        met = knock(STRANGERS, stranger, address_of(found[0]), "1-65535")
        must((met["open"], met["closed"]) == (PORTS[name], []), f"a stranger meets {str(met)[:300]} at {name_of(found[0])}")
    must(is_open(STRANGERS, stranger, get("service", "holdfast-coordinator", stage.SYSTEM)["spec"]["clusterIP"], 7420), "the Service leads nowhere")
    must(not admitted(), "the API server does not reach the webhook")
    until("its repository was tried out", lambda: get("staterepository", "default", TRIED)["status"].get("repositoryId"))
    with listening(stage.SYSTEM, name_of(lodger), HEARS):
        for asks in [(STRANGERS, stranger), (stage.SYSTEM, other), (stage.SYSTEM, name_of(served["holdfast-coordinator"][0]))]:
            must(is_kept(*asks, address_of(lodger), HEARS), f"{asks} reaches what was put beside Holdfast")
        said = refused("get", "--raw", f"/api/v1/namespaces/{stage.SYSTEM}/pods/{name_of(lodger)}:{HEARS}/proxy/")
        must("no route to host" in said, f"the API server reaches what was put beside Holdfast, or not for a policy: {said}")
        without_each(stranger, lodger, served)
    kubectl("delete", "deployment", "-n", stage.SYSTEM, "lodger", "other-lodger", "--wait=false")
    kubectl("delete", "namespace", STRANGERS, "--wait=false")


def reached(met):
    """Ports that no policy kept; one who stands by does not listen on all of them."""
    return sorted(met["open"] + met["closed"])


def without_each(stranger, lodger, served):
    """Each policy is what it takes: without it, something is reached that was not, or not reached that was."""
    coordinator, webhook = [address_of(found[0]) for found in served.values()]

    def sees(what, holds, *arguments):
        until(what, lambda: holds(STRANGERS, stranger, *arguments), 20)

    with without("holdfast-nobody", "network.yaml"):
        sees("what was put beside Holdfast is heard", is_open, address_of(lodger), HEARS)
    sees("it is kept again", is_kept, address_of(lodger), HEARS)
    with without("holdfast-coordinator", "coordinator/network.yaml"):
        sees("the coordinator is kept", is_kept, coordinator, 7420)
    sees("the coordinator is reached again", is_open, coordinator, 7420)
    with without("holdfast-webhook", "webhook/network.yaml"):
        sees("the webhook is kept", is_kept, webhook, 10250)
        # connections that there are go on, whatever policies say
        kill_webhooks()
        until("the API server is kept from the webhook, and by nothing else", lambda: "no route to host" in (admitted() or ""), 60)
    until("the API server reaches the webhook again", lambda: not admitted(), 60)


def waits_for_coordinator(name):
    """Whether the gate of a workload's only pod says that it has no answer of a coordinator."""
    found = pods(SPACE, f"app={name}")
    said = kubectl("logs", "-n", SPACE, name_of(found[0]), "-c", "holdfast-gate") if len(found) == 1 else ""
    return "CoordinatorUnreachable" in said and said.splitlines()[-1]


@scenario
def network_policies_of_users(store):
    """In a namespace that lets nothing in or out, protected pods need the one policy of docs/operations.md, and every rule of it; they get by with that."""
    stage.namespace(SPACE, store, policies=[policy(POLICY)])
    apply(network_policy("default-deny", Ingress=[], Egress=[]), namespace=SPACE)
    apply(workload("Deployment", "shut", labels=LABEL), namespace=SPACE)
    say(f"          {until('the gate waits for a coordinator', lambda: waits_for_coordinator('shut'), 60)}")
    command = chapters()["Where network policies close a namespace"].replace("-n notes", f"-n {SPACE}")
    must(SPACE in command, f"the manual has another command: {command}")
    follow(command, store)
    [pod] = ready_pods(SPACE, "shut", 1, seconds=60)
    had = {name_of(pod): written(SPACE, name_of(pod), 10)}
    nothing_restarted(SPACE, [pod], had, name="shut")
    [leads] = [one for one in pods(stage.SYSTEM, COORDINATORS) if name_of(one) == stage.leader()]
    met = knock(SPACE, name_of(pod), address_of(leads), 7420, 8080)
    must(met == {"open": [7420], "closed": [], "kept": 1}, f"it meets {met} at the coordinator")
    for address, port in [(stage.HOST, 9100), (stage.HOST, 6443), (address_of(pods(stage.SYSTEM, WEBHOOKS)[0]), 10250)]:
        must(is_kept(SPACE, name_of(pod), address, port), f"it reaches {address}:{port}, too")
    must(is_kept(stage.SYSTEM, name_of(leads), address_of(pod), HEARS), "the coordinator reaches it")
    heir = replaced(SPACE, name_of(pod), name="shut", count=1)
    lines = had[name_of(pod)]
    must(log(SPACE, heir)[:len(lines)] == lines, "the successor has another history")
    every_rule_is_needed(heir, command, store)
    kubectl("delete", "deployment", "-n", SPACE, "shut", "--wait=false")


def every_rule_is_needed(pod, command, store):
    """Without one of the manual's rules, the next pod waits; with it, that goes on."""
    [given] = [one for one in items("networkpolicies", SPACE) if name_of(one) != "default-deny"]
    rules = given["spec"]["egress"]
    must(len(rules) == 2, f"the manual's rules are {rules}")
    for at in range(len(rules)):
        fewer = {"spec": {"egress": rules[:at] + rules[at + 1:]}}
        kubectl("patch", "networkpolicy", "-n", SPACE, name_of(given), "--type=merge", "-p", json.dumps(fewer))
        before = written(SPACE, pod)
        until_caught_up(SPACE, "shut", 1)
        kubectl("delete", "pod", "-n", SPACE, pod, seconds=120)
        until(f"a pod waits for want of {rules[at]}", lambda: waits_for_coordinator("shut"), 60)
        follow(command, store)
        [heir] = ready_pods(SPACE, "shut", 1, seconds=60)
        pod = name_of(heir)
        must(log(SPACE, pod)[:len(before)] == before, f"{pod} has another history")


@scenario(alone=True)
def network_policies_of_the_installation(store):
    """Where holdfast-system lets nothing out, coordinators need the API server, DNS and the store, webhooks the API server alone."""
    ways = {"holdfast-coordinator": [("TCP", 6443), ("UDP", 53), ("TCP", 53), ("TCP", 9100)], "holdfast-webhook": [("TCP", 6443)]}
    outs = []
    for name, ports in ways.items():
        rule = {"ports": [{"protocol": protocol, "port": port} for protocol, port in ports]}
        outs.append(network_policy(f"{name}-out", {"app.kubernetes.io/name": name}, Egress=[rule]))
    apply(network_policy("default-deny", Egress=[]), *outs, namespace=stage.SYSTEM)
    try:
        for name in NAMES:
            kubectl("rollout", "restart", "-n", stage.SYSTEM, f"deployment/{name}")
        for name in NAMES:
            kubectl("rollout", "status", "-n", stage.SYSTEM, f"deployment/{name}", "--timeout=180s", seconds=200)
        until("there is a leader", stage.leader, 60)
        leads = stage.leader()
        # by its name: without DNS it would not be found
        stage.namespace("let-out", store, policies=[policy(POLICY)], endpoint="http://s3.test:9100")
        apply(workload("Deployment", "pair", replicas=2, labels=LABEL), namespace="let-out")
        found = ready_pods("let-out", "pair", 2, seconds=120)
        nothing_restarted("let-out", found, {name_of(pod): written("let-out", name_of(pod), 10) for pod in found})
        must(is_kept(stage.SYSTEM, leads, address_of(found[0]), HEARS), "the coordinator is let out anywhere")
        kubectl("patch", "networkpolicy", "-n", stage.SYSTEM, "holdfast-coordinator-out", "--type=json",
                "-p", json.dumps([{"op": "remove", "path": "/spec/egress/0/ports/3"}]))
        until("the store is kept from it", lambda: is_kept(stage.SYSTEM, leads, stage.HOST, 9100), 20)
    finally:
        kubectl("delete", "networkpolicy", "-n", stage.SYSTEM, "default-deny", *[name_of(one) for one in outs])
    until("the store is reached again", lambda: is_open(stage.SYSTEM, leads, stage.HOST, 9100), 20)
    kubectl("delete", "deployment", "-n", "let-out", "pair", "--wait=false")

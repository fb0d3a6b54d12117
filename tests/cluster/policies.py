# SPDX-License-Identifier: Apache-2.0
"""What NetworkPolicies mean, as rules of nftables. Decided from objects alone; `enforcer.py` watches these and applies what comes of them."""
from dataclasses import dataclass, replace

from places import API_GROUP, POLICIES

# one that connects hears at once that it may not, which is not what it hears where nobody listens
REFUSE = "counter reject with icmp type admin-prohibited"


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own, or none yet."""
    uid: str
    namespace: str
    name: str
    address: str
    labels: dict
    ports: dict  # (protocol, name) to number
    created: str


def pod_of(thing):
    """What of a pod matters here; none, if it has no network of its own, or needs it no more."""
    spec, status = thing["spec"], thing.get("status", {})
    if spec.get("hostNetwork") or status.get("phase") in ["Succeeded", "Failed"]:
        return None
    named = {}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        for port in container.get("ports", []):
            if port.get("name"):
                named.setdefault((port.get("protocol", "TCP"), port["name"]), port["containerPort"])
    about = thing["metadata"]
    return Pod(about["uid"], about["namespace"], about["name"], status.get("podIP", ""), about.get("labels", {}), named, about["creationTimestamp"])


def chooses(selector, labels):
    """Whether a label selector chooses what has these labels; an empty one chooses all."""
    has = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, _: key in labels,
        "DoesNotExist": lambda key, _: key not in labels,
    }
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        has[one["operator"]](one["key"], one.get("values", [])) for one in selector.get("matchExpressions", []))


@dataclass(frozen=True)
class World:
    """All that policies speak of."""
    policies: list  # NetworkPolicy objects
    pods: list  # of Pod
    namespaces: dict  # a namespace's name to its labels

    def isolating(self, pod, direction):
        """The policies for a pod in one direction."""
        return [policy for policy in self.policies
                if policy["metadata"]["namespace"] == pod.namespace and direction in policy["spec"]["policyTypes"]
                and chooses(policy["spec"].get("podSelector", {}), pod.labels)]

    def peers(self, peer, namespace):
        """The pods that a peer of a policy in a namespace means."""
        elsewhere = peer.get("namespaceSelector")
        spaces = [namespace] if elsewhere is None else [name for name, labels in self.namespaces.items() if chooses(elsewhere, labels)]
        return [pod for pod in self.pods if pod.namespace in spaces and chooses(peer.get("podSelector", {}), pod.labels)]


def ends(peers, side, namespace, world):
    """Each other end that a rule names: how a packet matches it, and which pods it is. One that names none means everybody."""
    if not peers:
        yield "", world.pods
    for peer in peers or []:
        block = peer.get("ipBlock")
        if block:
            but = f" ip {side} != {{ {', '.join(block['except'])} }}" if block.get("except") else ""
            yield f"ip {side} {block['cidr']}{but}", []
            continue
        found = world.peers(peer, namespace)
        if found:
            yield f"ip {side} {{ {', '.join(sorted({pod.address for pod in found}))} }}", found


def let_through(policy, direction, pod, world):
    """What one policy lets come to a pod, or go from it."""
    incoming = direction == "Ingress"
    side, others = ("saddr", "from") if incoming else ("daddr", "to")
    for rule in policy["spec"].get("ingress" if incoming else "egress") or []:
        for match, known in ends(rule.get(others), side, pod.namespace, world):
            for port in rule.get("ports") or [{"protocol": "any"}]:
                protocol, number = port.get("protocol", "TCP"), port.get("port")
                if protocol == "any":
                    yield match
                elif number is None:
                    yield f"{match} ip protocol {protocol.lower()}"
                elif isinstance(number, int):
                    yield f"{match} {protocol.lower()} dport {number}{'-' + str(port['endPort']) if port.get('endPort') else ''}"
                else:  # a name, which means for each pod what that pod calls so
                    for target in [pod] if incoming else known:
                        if (protocol, number) in target.ports:
                            there = match if incoming else f"ip daddr {target.address}"
                            yield f"{there} {protocol.lower()} dport {target.ports[protocol, number]}"


def rules(world):
    """
    All of the table, which replaces what was there. A packet between two pods has to pass both; what belongs to a connection has passed. Kubelets reach
    the pods of their nodes, whatever policies say. The API server does not: it is a machine outside of the nodes, in most clusters, and so are DNS and
    the store here, for what goes out.
    """
    # after the loss of a node its addresses are given anew, and what had them may not be known as gone yet
    newest = {pod.address: pod for pod in sorted(world.pods, key=lambda pod: pod.created) if pod.address}
    world = replace(world, pods=sorted(newest.values(), key=lambda pod: (pod.namespace, pod.name)))
    chains, maps = [], []
    for direction, side, other in [("Egress", "saddr", "daddr"), ("Ingress", "daddr", "saddr")]:
        verdicts = []
        for pod in world.pods:
            policies = world.isolating(pod, direction)
            if policies:
                name = f"{direction.lower()}-{pod.address}"
                verdicts.append(f"{pod.address} : jump {name}")
                passes = {f"{match} return".strip() for policy in policies for match in let_through(policy, direction, pod, world)}
                # nobody is kept from himself
                lines = [f"ip {other} {pod.address} return", *sorted(passes), REFUSE]
                chains.append(f"  chain {name} {{ # {pod.namespace}/{pod.name}\n    " + "\n    ".join(lines) + "\n  }")
        if verdicts:
            maps.append(f"    ip {side} vmap {{ {', '.join(verdicts)} }}")
    check = "\n".join(["  chain check {", "    ct state established,related accept", *maps, "  }"])
    hooks = [f"  chain {hook} {{ type filter hook {hook} priority filter; {first}jump check; }}"
             for hook, first in [("forward", ""), ("input", ""), ("output", f"meta skgid != {API_GROUP} accept; ")]]
    # a table is deleted only if it is there
    return "\n".join([f"table ip {POLICIES}", f"delete table ip {POLICIES}", f"table ip {POLICIES} {{", *chains, check, *hooks, "}", ""])

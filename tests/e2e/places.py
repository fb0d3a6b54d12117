# SPDX-License-Identifier: Apache-2.0
"""Pods on one of the two nodes, to which they are not bound."""
from app import ready_pods
from kube import apply, is_ready, kubectl, must, name_of, pods


def placed(thing, node, other, space):
    """Makes a workload while the other node takes nothing; the name of its only pod."""
    name = thing["metadata"]["name"]
    kubectl("cordon", other)
    try:
        apply(thing, namespace=space)
        [pod] = ready_pods(space, name, 1, seconds=180)
    finally:
        kubectl("uncordon", other)
    must(pod["spec"]["nodeName"] == node, f"{name_of(pod)} is not on {node}")
    return name_of(pod)


def ready_on(node, name, space):
    """The name of a workload's pod that is ready on a node; none, if there is none."""
    found = [pod for pod in pods(space, f"app={name}") if pod["spec"].get("nodeName") == node]
    return found and is_ready(found[0]) and name_of(found[0])

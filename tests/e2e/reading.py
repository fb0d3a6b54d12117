# SPDX-License-Identifier: Apache-2.0
"""What the store holds, as somebody who may read files gets it from the coordinator."""
from calls import call, field, fields
from kube import apply, get, kubectl, must


def reader(namespace):
    """A token of somebody who has the cluster's own role `edit` in a namespace, and what it trusts."""
    return somebody("reader", "edit", namespace)


def somebody(name, role, namespace):
    """A token of a service account that has one of the cluster's own roles in a namespace, and what it trusts."""
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
          {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
           "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]}, namespace=namespace)
    token = kubectl("create", "token", name, "-n", namespace, "--audience=holdfast.dev/coordinator").strip()
    return {"token": token, "authority": get("configmap", "holdfast-ca", namespace)["data"]["ca.crt"], "repository": f"{namespace}/default"}


def read(lineage, name, path, how):
    """The bytes of a file of a lineage as it was in a snapshot; without one, in its newest checkpoint."""
    of = field(1, how["repository"].split("/")[0]) + field(2, lineage)
    code, said, answers = call("FileService/ReadFile", field(1, field(1, of) + (field(5, name) if name else b"")) + field(2, path), **how)
    must(code == "OK", f"{path} of {lineage} in {name}: {code} {said}")
    return b"".join(fields(answer).get(3, b"") for answer in answers).decode()

# SPDX-License-Identifier: Apache-2.0
"""Where the test cluster keeps what it has, and which addresses it uses."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def directory(variable, otherwise):
    return Path(os.environ.get(variable) or otherwise)


# compiled programs: `down` leaves them, and so may CI
PROGRAMS = directory("HOLDFAST_CLUSTER_PROGRAMS", ROOT / ".cache/cluster")
# keys, etcd's data, images, what nodes keep: `down` removes all of it
STATE = directory("HOLDFAST_CLUSTER_STATE", "/var/tmp/holdfast-cluster")
# the logs of all processes and pods: `down` leaves them, the next `up` begins anew
LOGS = directory("HOLDFAST_CLUSTER_LOGS", ROOT / ".cache/logs/cluster")
# process ids and sockets; it exists while a cluster runs, and there is one at a time on a machine
RUN = Path("/run/holdfast-cluster")
# where the controller manager's own provisioner puts volumes; the path is compiled into it
VOLUMES = Path("/tmp/hostpath_pv")

KUBERNETES = "v1.34.4"
MOST_NODES = 9
HOST = "10.89.0.1"
API = f"https://{HOST}:6443"
SERVICES = "10.96.0.0/16"
PODS = "10.88.0.0/16"
RANGES = [PODS, "10.89.0.0/16", SERVICES]
# the table of nftables in which NetworkPolicies are enforced
POLICIES = "holdfast-policies"
# where nodes tell which pod was given which address
ATTACHED = RUN / "attached.sock"
# the group that the API server runs as: by it, its packets are told from those of kubelets, which are of the same machine
API_GROUP = 10443


def node_address(number):
    """The host's side of a node."""
    return f"10.89.0.{number}"


def kubeconfig(name="admin"):
    return STATE / f"{name}.kubeconfig"


def program(name):
    return str(PROGRAMS / name)

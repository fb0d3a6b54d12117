# SPDX-License-Identifier: Apache-2.0
"""Nodes: a containerd and a kubelet each, with a bridge, a range of pod addresses and a cgroup of their own."""
import json
import os
import shutil
import signal
import time
from pathlib import Path

from control import KEYS, kubectl
from places import ATTACHED, HOST, LOGS, MOST_NODES, RANGES, ROOT, RUN, SERVICES, STATE, kubeconfig, node_address, program
from processes import Failed, began, pid, run, start, stop, succeeds, until

CGROUPS = Path("/sys/fs/cgroup")
PLUGINS = ["bridge", "host-local", "loopback", "portmap"]


def make_network():
    """Addresses on a bridge without ports. What is not ours to reach is dropped before anything else is set up: nothing leaves this machine."""
    for addresses in RANGES:
        run("ip", "route", "replace", "blackhole", addresses, "metric", "5000")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # without it, what goes from pod to pod on one node's bridge is seen by no rule
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not bridged.exists():
        run("modprobe", "br_netfilter", check=False)
    if not bridged.exists():
        raise Failed(f"there is no {bridged}: network policies could not be enforced (modprobe br_netfilter)")
    bridged.write_text("1")
    if not succeeds("ip", "link", "show", "hf-node"):
        run("ip", "link", "add", "hf-node", "type", "bridge")
    run("ip", "link", "set", "hf-node", "up")
    for number in range(1, MOST_NODES + 1):
        run("ip", "addr", "replace", f"{node_address(number)}/32", "dev", "hf-node")
    # a route to be found before kube-proxy rewrites the address; what it does not rewrite ends here
    run("ip", "route", "replace", SERVICES, "dev", "hf-node", "src", HOST)


def make_cgroup(number):
    name = f"holdfast-node{number}"
    if (CGROUPS / "cgroup.subtree_control").exists():
        (CGROUPS / "cgroup.subtree_control").write_text("+cpu +cpuset +memory +pids")
        (CGROUPS / name).mkdir(exist_ok=True)
        return
    for hierarchy in [entry for entry in CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink()]:
        (hierarchy / name).mkdir(exist_ok=True)
    for file in ["cpuset.cpus", "cpuset.mems"]:  # a child of this hierarchy begins without either
        if (CGROUPS / "cpuset" / file).exists():
            (CGROUPS / "cpuset" / name / file).write_text((CGROUPS / "cpuset" / file).read_text())


def socket(number):
    return RUN / f"node{number}/containerd.sock"


def is_up(number):
    return pid(f"node{number}-containerd") is not None


def running():
    return [number for number in range(1, MOST_NODES + 1) if is_up(number)]


def write_settings(number):
    directory, sockets = STATE / f"node{number}", RUN / f"node{number}"
    for path in [directory / "cni", directory / "plugins", directory / "kubelet", LOGS / f"node{number}-pods", sockets]:
        path.mkdir(parents=True, exist_ok=True)
    addresses = {"type": "host-local", "dataDir": f"{directory}/addresses", "ranges": [[{"subnet": f"10.88.{number}.0/24"}]],
                 "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": f"hf-br{number}", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    attach = {"type": "attach", "socket": str(ATTACHED)}
    network = {"cniVersion": "0.4.0", "name": f"node{number}", "plugins": [bridge, ports, attach]}
    # containerd looks in one directory only
    for name, file in [*[(name, Path("/usr/lib/cni") / name) for name in PLUGINS], ("attach", ROOT / "tests/cluster/attach.py")]:
        (directory / "plugins" / name).unlink(missing_ok=True)
        (directory / "plugins" / name).symlink_to(file)
    (directory / "cni/10-test.conflist").write_text(json.dumps(network))
    (directory / "containerd.toml").write_text(f"""version = 2
root = "{directory}/containerd"
state = "{sockets}/containerd"
[grpc]
  address = "{socket(number)}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "holdfast.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{directory}/plugins"
    conf_dir = "{directory}/cni"
""")
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": node_address(number), "port": 10250, "healthzBindAddress": node_address(number),
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}, "x509": {"clientCAFile": f"{KEYS}/ca.crt"}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs", "cgroupRoot": f"/holdfast-node{number}",
        "containerRuntimeEndpoint": f"unix://{socket(number)}", "podLogsDir": str(LOGS / f"node{number}-pods"),
        "failSwapOn": False, "failCgroupV1": False, "clusterDNS": [HOST], "clusterDomain": "cluster.local", "resolvConf": "",
        "evictionHard": {"memory.available": "100Mi"}, "imageGCHighThresholdPercent": 100,
        # also how soon pods see that a Secret or ConfigMap has changed
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 10,
    }
    (directory / "kubelet.json").write_text(json.dumps(settings))


def begin(number):
    """Starts a node, or the parts of it that don't run."""
    make_cgroup(number)
    write_settings(number)
    directory = STATE / f"node{number}"
    start(f"node{number}-containerd", ["containerd", "-c", directory / "containerd.toml"])
    until(f"containerd of node {number}", lambda: succeeds("ctr", "-a", socket(number), "version"), by=f"node{number}-containerd")
    for archive in sorted((STATE / "images").glob("*.tar")):
        import_image(number, archive)
    kubectl("taint", "node", f"node{number}", "node.kubernetes.io/out-of-service-", check=False)
    start(f"node{number}-kubelet", [
        program("kubelet"), f"--config={directory}/kubelet.json", f"--kubeconfig={kubeconfig(f'node{number}')}",
        f"--hostname-override=node{number}", f"--root-dir={directory}/kubelet", f"--node-ip={node_address(number)}",
    ])


def until_ready(number):
    def ready():
        jsonpath = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return kubectl("get", "node", f"node{number}", "-o", jsonpath, check=False).stdout == "True"

    until(f"node {number}", ready, by=f"node{number}-kubelet")


def import_image(number, archive):
    run("ctr", "-a", socket(number), "-n", "k8s.io", "images", "import", archive)


def silence(number):
    """The node's kubelet is gone at once; its containers go on, as behind a network that is cut."""
    if not pid(f"node{number}-kubelet"):
        raise Failed(f"node {number} has no kubelet that runs")
    stop(f"node{number}-kubelet", signal.SIGKILL)


def lose_runtime(number):
    """The node's containerd is gone at once; its containers' shims go on, and are found again by the next one."""
    if not is_up(number):
        raise Failed(f"node {number} has no containerd that runs")
    stop(f"node{number}-containerd", signal.SIGKILL)


def lose(number):
    """The node is gone at once: kubelet, containerd, every process of its pods, what it had mounted and written."""
    stop(f"node{number}-kubelet", signal.SIGKILL)
    stop(f"node{number}-containerd", signal.SIGKILL)
    deadline = time.monotonic() + 20
    while left := processes_of(number):
        if time.monotonic() > deadline:
            raise Failed(f"processes of node {number} can't be ended: {left}")
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.1)
    places = [RUN / f"node{number}", STATE / f"node{number}"]
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if any(mount.startswith(f"{place}/") for place in places):
            run("umount", "-l", mount, check=False)
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    run("ip", "link", "del", f"hf-br{number}", check=False)


def processes_of(number):
    """Who lives in the node's cgroups, and the shims of its containers, which don't."""
    found = set()
    for tasks in CGROUPS.glob(f"holdfast-node{number}/**/cgroup.procs"):
        found.update(read(tasks).split())
    for tasks in CGROUPS.glob(f"*/holdfast-node{number}/**/cgroup.procs"):
        found.update(read(tasks).split())
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            words = read(process / "cmdline").split("\0")
            if "containerd-shim" in words[0] and str(socket(number)) in words:
                found.add(process.name)
    return sorted(int(process) for process in found if began(process))


def read(path):
    """What a file of the kernel holds; nothing, if it has just gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


def remove_cgroup(number):
    for top in [*CGROUPS.glob(f"holdfast-node{number}"), *CGROUPS.glob(f"*/holdfast-node{number}")]:
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass


# SPDX-License-Identifier: Apache-2.0
"""The control plane: who may call it, and the processes that are it."""
import os
import secrets
import signal
import ssl
import sys
import urllib.request

from places import API, API_GROUP, HOST, KUBERNETES, MOST_NODES, PODS, POLICIES, PROGRAMS, ROOT, SERVICES, STATE, VOLUMES, kubeconfig, program
from processes import run, start, stop, succeeds, until

ETCD = "http://127.0.0.1:2379"
KEYS = STATE / "keys"
KUBERNETES_PROGRAMS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"]


def build():
    """Compiles what is not there yet, from the Go modules in the directories beside this file."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false"}
    here = ROOT / "tests/cluster"
    missing = [name for name in KUBERNETES_PROGRAMS if not (PROGRAMS / name).exists()]
    if missing:
        version = "k8s.io/component-base/version"
        flags = f"-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=34"
        packages = [f"k8s.io/kubernetes/cmd/{name}" for name in missing]
        run("go", "build", "-ldflags", flags, "-o", f"{PROGRAMS}/", *packages, cwd=here / "kubernetes", env=environment)
    if not (PROGRAMS / "dns").exists():
        run("go", "build", "-ldflags", "-s -w", "-o", PROGRAMS / "dns", ".", cwd=here / "dns", env=environment)


def certificate(name, subject, extensions):
    """A key, and a certificate of the cluster's authority."""
    key, request, file = KEYS / f"{name}.key", KEYS / f"{name}.csr", KEYS / f"{name}.ext"
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", subject)
    file.write_text(extensions)
    ca = ["-CA", KEYS / "ca.crt", "-CAkey", KEYS / "ca.key", "-CAcreateserial"]
    run("openssl", "x509", "-req", "-in", request, *ca, "-out", KEYS / f"{name}.crt", "-days", "30", "-extfile", file)


def make_keys():
    if (KEYS / "kubelet-client.crt").exists():
        return
    KEYS.mkdir(mode=0o700, parents=True, exist_ok=True)
    run("openssl", "genrsa", "-out", KEYS / "accounts.key", "2048")
    run("openssl", "rsa", "-in", KEYS / "accounts.key", "-pubout", "-out", KEYS / "accounts.pub")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *new, "-keyout", KEYS / "ca.key", "-out", KEYS / "ca.crt", "-subj", "/CN=test-cluster", "-days", "30")
    names = [f"DNS:{name}" for name in ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]]
    addresses = [f"IP:{address}" for address in ["127.0.0.1", "10.96.0.1", HOST]]
    certificate("api", "/CN=kube-apiserver", f"subjectAltName={','.join(names + addresses)}\nextendedKeyUsage=serverAuth\n")
    certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver", "extendedKeyUsage=clientAuth\n")


def make_identities():
    """A token for each caller, and a kubeconfig that holds it."""
    tokens = []
    if (KEYS / "tokens.csv").exists():
        return

    def add(name, user, group):
        token = secrets.token_hex(16)
        tokens.append(f"{token},{user},{name},{group}\n")
        kubeconfig(name).write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
            f'clusters: [{{name: test, cluster: {{server: "{API}", certificate-authority: {KEYS}/ca.crt}}}}]\n'
            f"users: [{{name: {name}, user: {{token: {token}}}}}]\n"
            f"contexts: [{{name: test, context: {{cluster: test, user: {name}}}}}]\n"
        )
        kubeconfig(name).chmod(0o600)

    for name in ["admin", "controller-manager", "scheduler", "proxy", "dns", "policies"]:
        add(name, "admin" if name == "admin" else f"system:kube-{name}", "system:masters")
    for number in range(1, MOST_NODES + 1):
        add(f"node{number}", f"system:node:node{number}", "system:nodes")
    (KEYS / "tokens.csv").write_text("".join(tokens))


def answers(url):
    context = ssl.create_default_context(cafile=KEYS / "ca.crt") if url.startswith("https") else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=5):
            return True
    except OSError:
        return False


def kubectl(*arguments, **more):
    return run(program("kubectl"), f"--kubeconfig={kubeconfig()}", *arguments, **more)


def start_api():
    start("etcd", [
        "etcd", "--data-dir", STATE / "etcd", "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD,
        "--listen-peer-urls", "http://127.0.0.1:2380",
    ])
    until("etcd", lambda: answers(f"{ETCD}/health"), by="etcd")
    start("apiserver", [
        program("kube-apiserver"), f"--etcd-servers={ETCD}", f"--advertise-address={HOST}", "--bind-address=0.0.0.0", "--secure-port=6443",
        f"--tls-cert-file={KEYS}/api.crt", f"--tls-private-key-file={KEYS}/api.key", f"--client-ca-file={KEYS}/ca.crt",
        f"--kubelet-client-certificate={KEYS}/kubelet-client.crt", f"--kubelet-client-key={KEYS}/kubelet-client.key",
        f"--token-auth-file={KEYS}/tokens.csv", "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={KEYS}/accounts.pub", f"--service-account-signing-key-file={KEYS}/accounts.key",
        f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
        # pods of a lost node are given up after seconds, not five minutes
        "--default-not-ready-toleration-seconds=10", "--default-unreachable-toleration-seconds=10",
    ], group=API_GROUP)
    until("the API server", lambda: answers(f"{API}/readyz"), by="apiserver")


def kill_api():
    """It is gone at once, as when its machine is started again."""
    stop("apiserver", signal.SIGKILL)


def start_controllers():
    start("controller-manager", [
        program("kube-controller-manager"), f"--kubeconfig={kubeconfig('controller-manager')}", "--use-service-account-credentials",
        f"--service-account-private-key-file={KEYS}/accounts.key", f"--root-ca-file={KEYS}/ca.crt",
        f"--cluster-signing-cert-file={KEYS}/ca.crt", f"--cluster-signing-key-file={KEYS}/ca.key",
        "--leader-elect=false", "--bind-address=127.0.0.1", "--enable-hostpath-provisioner=true",
        # a node that is silent is noticed soon
        "--node-monitor-period=2s", "--node-monitor-grace-period=12s",
    ])
    # the provisioner makes volumes for root alone; here they are for pods of any user, and kubelets don't change what is on the node
    VOLUMES.mkdir(exist_ok=True)
    start("volumes", ["sh", "-c", f"while sleep 0.2; do find {VOLUMES} -mindepth 1 -maxdepth 1 ! -perm 777 -exec chmod 777 {{}} +; done"])
    start("scheduler", [
        program("kube-scheduler"), f"--kubeconfig={kubeconfig('scheduler')}", "--leader-elect=false", "--bind-address=127.0.0.1",
    ])
    start("proxy", [
        program("kube-proxy"), f"--kubeconfig={kubeconfig('proxy')}", "--proxy-mode=iptables", f"--cluster-cidr={PODS}",
        "--hostname-override=node1", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ])
    corefile = STATE / "Corefile"
    corefile.write_text(
        f".:53 {{\n  bind {HOST}\n  errors\n  hosts {{\n    {HOST} s3.test\n    fallthrough\n  }}\n"
        f"  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {kubeconfig('dns')} test\n  }}\n}}\n"
    )
    start("dns", [program("dns"), "-conf", corefile])
    start("policies", [sys.executable, ROOT / "tests/cluster/enforcer.py", kubeconfig("policies")])
    until("network policies are enforced", policies_are_enforced, by="policies")
    storage = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: hostpath\n" \
        "  annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}\nprovisioner: kubernetes.io/host-path\n"
    kubectl("apply", "-f", "-", input=storage)
    until("the default service account", lambda: succeeds(
        program("kubectl"), f"--kubeconfig={kubeconfig()}", "get", "serviceaccount", "default"), by="controller-manager")


def policies_are_enforced():
    return succeeds("nft", "list", "table", "ip", POLICIES)

# SPDX-License-Identifier: Apache-2.0
"""What scenarios play on: a cluster of two nodes, an S3 server on the machine, the images, and Holdfast as `deploy/` has it."""
import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

from kube import CLUSTER, ROOT, Unmet, apply, cluster, condition, get, items, kubectl, text_of, until

HOST = "10.89.0.1"
S3 = f"http://{HOST}:9100"
SYSTEM = "holdfast-system"
LOGS = Path(os.environ.get("HOLDFAST_E2E_LOGS") or ROOT / ".cache/logs/e2e")
IMAGES = Path(os.environ.get("HOLDFAST_E2E_IMAGES") or ROOT / ".cache/images")
# one as whom the application's image may go on
PASSWD = "postgres:x:999:999::/:/bin/sh\n"
KUSTOMIZATION = ROOT / "tests/e2e/deploy"
# the same, with what a restore beside the original needs
BESIDE = ROOT / "tests/e2e/beside"


class Store:
    """An S3 server of this machine that pods reach, with a bucket. It outlives a run that keeps it."""

    directory = Path("/var/tmp/holdfast-e2e-store")

    def __init__(self):
        (self.directory / "data/holdfast").mkdir(parents=True, exist_ok=True)
        key = self.directory / "secret"
        if not key.exists():
            key.write_text(secrets.token_hex(16))
        self.user, self.secret = "holdfast", key.read_text()

    def start(self):
        if answers(f"{S3}/minio/health/ready"):
            return
        quiet = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CALLHOME_ENABLE": "off"}
        known = {"MINIO_ROOT_USER": self.user, "MINIO_ROOT_PASSWORD": self.secret}
        with open(LOGS / "s3.log", "ab") as log:
            minio = shutil.which("minio", path=f"{os.environ['PATH']}:{ROOT}/.cache/bin") or "minio"
            command = [minio, "server", "--quiet", "--address", f"{HOST}:9100", str(self.directory / "data")]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | quiet | known, start_new_session=True)
        (self.directory / "pid").write_text(str(process.pid))
        until("the S3 server answers", lambda: answers(f"{S3}/minio/health/ready"))

    def process(self):
        """The server that a run has started, this or an earlier one; none, if it does not run."""
        try:
            process = int((self.directory / "pid").read_text())
            ours = str(self.directory) in Path(f"/proc/{process}/cmdline").read_text()
        except OSError:
            return None
        return process if ours else None

    def silence(self):
        """The server answers nothing any more, and refuses nobody."""
        os.kill(self.process(), signal.SIGSTOP)

    def kill(self):
        """The server is gone at once."""
        process = self.process()
        if process:
            os.kill(process, signal.SIGKILL)
            until("the S3 server is gone", lambda: not self.process())

    def stop(self):
        """Ends the server, kindly."""
        process = self.process()
        if process:
            os.kill(process, signal.SIGCONT)
            os.kill(process, signal.SIGTERM)
            until("the S3 server has ended", lambda: not self.process())
        (self.directory / "pid").unlink(missing_ok=True)

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def answers(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2):
            return True
    except OSError:
        return False


def build_images():
    """The images of Holdfast, and that of the application; compiled only as far as something has changed."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    print(text_of([str(ROOT / "deploy/images.sh"), str(IMAGES)], seconds=3600), end="")


def raise_cluster():
    cluster("up", 2)
    cluster("load", IMAGES / "holdfast-agent.tar", IMAGES / "holdfast-coordinator.tar", IMAGES / "factoriser.tar")
    busybox = shutil.which("busybox")
    if not busybox:
        raise Unmet("there is no busybox: apt-get install busybox-static")
    applets = ["sh", "cat", "awk", "sleep", "dd", "ls", "sha256sum", "wget", "id", "mkdir", "rm", "stat", "wc", "chown", "chmod", "start-stop-daemon"]
    passwd = IMAGES / "passwd"
    passwd.write_text(PASSWD)
    files = [f"{busybox}=/bin/busybox", *[f"{busybox}=/bin/{applet}" for applet in applets], f"{passwd}=/etc/passwd"]
    cluster("image", "scribe", "/scribe", *files, f"{ROOT}/tests/e2e/scribe=/scribe")


def install():
    """What a user does: one apply, and waiting until it stands."""
    kubectl("apply", "-k", KUSTOMIZATION)
    for name in ["holdfast-coordinator", "holdfast-webhook"]:
        kubectl("rollout", "status", "-n", SYSTEM, f"deployment/{name}", "--timeout=180s", seconds=200)
    until("the webhook's configuration has an authority", trusts_webhook, 60)


def trusts_webhook():
    entries = get("mutatingwebhookconfiguration", "holdfast")["webhooks"]
    return all(entry["clientConfig"].get("caBundle") for entry in entries)


def namespace(name, store, level=None, prefix=None, policies=(), domain=None, endpoint=S3):
    """A namespace with a repository of its own, and policies; returns when the repository is ready. With another's prefix and domain it shares that one's."""
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    repository(name, store, prefix or name, domain, endpoint)
    if policies:
        apply(*policies, namespace=name)
    until_repository(name)


def repository(name, store, prefix, domain=None, endpoint=S3):
    def secret(of, **data):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": of}, "data": encoded}

    s3 = {"bucket": "holdfast", "prefix": f"{prefix}/", "endpoint": endpoint, "pathStyle": True, "credentialsSecretRef": {"name": "holdfast-s3"}}
    apply(
        secret("holdfast-s3", AWS_ACCESS_KEY_ID=store.user, AWS_SECRET_ACCESS_KEY=store.secret),
        secret("holdfast-passphrase", passphrase="correct horse battery staple"),
        {"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRepository", "metadata": {"name": "default"},
         "spec": {"s3": s3, "passphrase": {"name": "holdfast-passphrase"}, **({"domain": domain} if domain else {})}},
        namespace=name,
    )


def until_repository(name, seconds=90):
    until(f"the repository of {name} is ready", lambda: condition(get("staterepository", "default", name), "Ready").get("status") == "True", seconds)


def lineages(space, workload=None):
    found = items("statelineages", space)
    return [lineage for lineage in found if not workload or lineage["spec"]["workload"]["name"] == workload]


def leader():
    """The pod of the coordinator that leads; none, for the moment."""
    found = [pod for pod in items("pods", SYSTEM, "holdfast.dev/leader=true") if not pod["metadata"].get("deletionTimestamp")]
    return found[0]["metadata"]["name"] if len(found) == 1 else None


def keep_logs(name):
    """What tells later why something failed: objects, events, and what every pod has said."""
    directory = LOGS / name
    directory.mkdir(parents=True, exist_ok=True)

    def keep(file, *arguments):
        try:
            (directory / file).write_text(kubectl(*arguments, seconds=30))
        except Unmet as error:
            (directory / file).write_text(f"{error}\n")

    keep("objects.txt", "get", "nodes,deployments,statefulsets,daemonsets,jobs,pods,pvc,leases", "-A", "-o", "wide")
    keep("holdfast.yaml", "get", "staterepositories,statepolicies,statelineages,statesnapshots,staterestores", "-A", "-o", "yaml")
    keep("events.txt", "get", "events", "-A", "--sort-by=.lastTimestamp")
    keep("pods.txt", "describe", "pods", "-A")
    for pod in json.loads(kubectl("get", "pods", "-A", "-o", "json"))["items"]:
        where, who = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            keep(f"{where}.{who}.{container['name']}.log", "logs", "-n", where, who, "-c", container["name"], "--tail=2000")


def tear_down():
    text_of([str(CLUSTER), "down"], seconds=300)


def left_behind():
    """What of the cluster is still on this machine: nothing, if all is well."""
    ours = ["/var/tmp/holdfast-cluster/", "/run/holdfast-cluster/", str(Store.directory)]
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_text() if process.name.isdigit() and process.name != str(os.getpid()) else ""
        except OSError:
            continue
        if any(place in words for place in ours):
            found.append(f"process {process.name}: {words.replace(chr(0), ' ')[:100]}")
    found += [f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if any(place in line for place in ours)]
    found += [f"network namespace {space.name}" for space in Path("/run/netns").glob("cni-*")]
    found += [f"link {link.name}" for link in Path("/sys/class/net").glob("hf-*")]
    found += [f"rules: {table}" for table in text_of(["nft", "list", "tables"]).splitlines() if table.endswith(" holdfast-policies")]
    return found

# SPDX-License-Identifier: Apache-2.0
"""What databases and the bank are tried on: an S3 server, a coordinator, and the `holdfast` program, all on this machine, in one directory."""
import datetime
import json
import os
import secrets
import shutil
import socket
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from processes import Processes, Unmet, must, tail, until

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "holdfast"
BUILT = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug/holdfast"


@dataclass
class Moment:
    """A point in time that can be restored, as its own record tells of it."""

    name: str
    # which it is, for `holdfast restore`
    point: list
    # when all stood still and nothing had been captured: nanoseconds since 1970
    cut: int


@dataclass
class Snapshot(Moment):
    skew: float
    bytes: int
    pauses: dict


class Stage:
    """All of it, until it is struck."""

    def __init__(self, holdfast, freezes=True, name="databases"):
        self.holdfast, self.freezes, self.name = Path(holdfast).resolve(), freezes, name
        must(self.holdfast.exists(), f"there is no {self.holdfast}: cargo build --workspace")
        minio = shutil.which("minio", path=f"{os.environ['PATH']}:{ROOT}/.cache/bin")
        must(minio, "there is no minio in PATH nor in .cache/bin")
        self.directory = Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-"))
        try:
            # other users' programs find what is theirs in here, by name
            self.directory.chmod(0o711)
            self.processes = Processes(self.directory / "logs")
            self.start_store(minio)
            self.start_coordinator()
        except BaseException:
            self.strike()
            raise

    def strike(self):
        """Ends everything, and removes it."""
        try:
            self.processes.end_all()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def place(self, name, owner=None):
        """A new directory for its owner only."""
        path = self.directory / name
        path.mkdir(mode=0o700)
        if owner:
            shutil.chown(path, owner, owner)
        return path

    def start_store(self, minio):
        data = self.place("store")
        (data / BUCKET).mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.s3, user, secret = f"http://{address}", "holdfast", secrets.token_hex(16)
        self.credentials = {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}
        quiet = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CALLHOME_ENABLE": "off"}
        known = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": secret, "HOME": str(self.directory)}
        server = self.processes.start("minio", [minio, "server", "--quiet", "--address", address, data], quiet | known)
        until("the S3 server answers", lambda: alive(server) and answers(f"{self.s3}/minio/health/ready"))

    def start_coordinator(self):
        self.secrets = {"HOLDFAST_PASSPHRASE": secrets.token_hex(16), **self.credentials}
        self.repository = ["--repo", f"s3://{BUCKET}/{self.name}", "--endpoint", self.s3]
        self.processes.run([self.holdfast, "repo", "init", *self.repository], self.secrets)
        self.token = self.directory / "token"
        self.coordinate("127.0.0.1:0")

    def coordinate(self, address):
        """A coordinator that listens there."""
        command = [self.holdfast, "-o", "json", "coordinator", *self.repository, "--token-file", self.token, "--listen", address]
        log = self.processes.logs / "coordinator"
        # one that has ended has left what it said
        before = len(log.read_text().splitlines()) if log.exists() else 0
        self.coordinator = self.processes.start(log.name, command, self.secrets)

        def listens():
            lines = log.read_text().splitlines()[before:]
            said = [json.loads(line)["listening"] for line in lines if line.startswith('{"listening"')]
            return alive(self.coordinator) and said
        self.url = until("the coordinator listens", listens)[0]

    def connect(self):
        return ["--coordinator", self.url, "--token-file", self.token]

    def fuzzy(self):
        """What has to be asked for where nothing stands still."""
        return [] if self.freezes else ["--accept-fuzzy"]

    def protect(self, name, state, command, exclude=(), talks=False):
        """A program under `holdfast run`, which stops it for the moment of a snapshot."""
        options = ["--state", f"data={state}", "--lineage", name, "--scratch", self.place(f"{name}.scratch")]
        options += ["--freeze", "--every-checkpoint", "--every", "1", "--pause-budget", "20"] if self.freezes else []
        options += [word for pattern in exclude for word in ("--exclude", pattern)]
        return self.processes.start(name, [self.holdfast, "run", *self.connect(), *options, "--", *command], talks=talks)

    def snapshot(self, name):
        """All that is protected, at one moment."""
        self.processes.run([self.holdfast, "snapshot", "create", name, *self.fuzzy(), *self.connect()], seconds=90)
        return self.taken(name)

    def taken(self, name):
        """A snapshot that is there, and must be of one moment."""
        told = self.shown(name)
        must(told["consistency"] == "frozen" or not self.freezes, f"{name} is of no moment: {told['consistency']}")
        must(all(member["quality"] == "clean" for member in told["members"]) or not self.freezes, f"{name} has changed meanwhile: {told['members']}")
        pauses = {member["lineage"]: member.get("pause_ns", 0) / 1e9 for member in told["members"]}
        cut = min(nanoseconds(member["first_open"]) for member in told["members"])
        return Snapshot(name, ["--snapshot", name], cut, told["skew_ns"] / 1e9, told["bytes"], pauses)

    def shown(self, name):
        return json.loads(self.processes.run([self.holdfast, "-o", "json", "snapshot", "show", name, *self.connect()]))

    def checkpoints(self, lineage):
        """Those of its checkpoints that are one moment, the newest first."""
        told = json.loads(self.processes.run([self.holdfast, "-o", "json", "timeline", lineage, *self.connect()]))
        clean = [checkpoint for checkpoint in told["checkpoints"] if checkpoint["quality"] == "clean"]
        return [Moment(f"checkpoint-{one['checkpoint']}", ["--checkpoint", str(one["checkpoint"])], nanoseconds(one["last_close"])) for one in clean]

    def restore(self, moment, lineage, within=None):
        """What a lineage was at a moment, in a new directory, and how long that took."""
        target = (within or self.directory) / f"{lineage}.{moment.name}"
        target.mkdir(mode=0o700)
        command = [self.holdfast, "-o", "json", "restore", *moment.point, "--lineage", lineage, *self.fuzzy(), *self.connect(), target]
        receipt = json.loads(self.processes.run(command, seconds=120))
        must(receipt["proven"] and receipt["proven_by"] == "root", f"{lineage} of {moment.name} is not what was stored: {receipt}")
        return target, receipt["took_ms"] / 1e3


def nanoseconds(text):
    """RFC 3339, to the microsecond below."""
    since = datetime.datetime.fromisoformat(text) - datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    return since // datetime.timedelta(microseconds=1) * 1000


def alive(process):
    if process.poll() is not None:
        raise Unmet(f"{process.name} ended with {process.returncode}: {tail(process.log)}")
    return True


def answers(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2):
            return True
    except OSError:
        return False

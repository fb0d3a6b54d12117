# SPDX-License-Identifier: Apache-2.0
"""The S3 server that all tools store to: MinIO on a free port of this machine, in a directory of its own."""

import os
import secrets
import shutil
import socket
import time
import urllib.error
import urllib.request

from processes import Failed, cpu_of, tail

BUCKET = "bench"
MIB = 1 << 20


def free_port():
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """MinIO, as long as the benchmark runs."""

    def __init__(self, program, work, processes):
        self.program, self.processes = program, processes
        self.directory = os.path.join(work, "minio")
        self.user, self.password = "bench" + secrets.token_hex(4), secrets.token_hex(16)
        self.process, self.endpoint = None, None

    def start(self):
        """Starts it and waits until it answers."""
        # to this server, a directory is a bucket
        os.makedirs(os.path.join(self.directory, BUCKET))
        address = f"127.0.0.1:{free_port()}"
        self.endpoint = f"http://{address}"
        env = {"MINIO_ROOT_USER": self.user, "MINIO_ROOT_PASSWORD": self.password, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        self.process = self.processes.start([self.program, "server", "--address", address, self.directory], env)
        until = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise Failed(f"MinIO does not start\n{tail(self.process.log)}")
            time.sleep(0.1)

    def _answers(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.endpoint + "/minio/health/live", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        """Ends it and deletes what it holds."""
        if self.process:
            self.processes.end(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def cpu(self):
        """Its processor time so far."""
        return cpu_of(self.process.pid)

    def path(self, name):
        """Where it keeps the objects whose names begin so."""
        return os.path.join(self.directory, BUCKET, name)

    def stored(self, name):
        """MiB of the files that it keeps them in."""
        total = 0
        for path, _, names in os.walk(self.path(name)):
            for each in names:
                try:
                    total += os.path.getsize(os.path.join(path, each))
                except FileNotFoundError:
                    pass  # a lock that was just taken away
        return total / MIB

    def credentials(self):
        """What a client of S3 needs in its environment."""
        return {"AWS_ACCESS_KEY_ID": self.user, "AWS_SECRET_ACCESS_KEY": self.password, "AWS_REGION": "us-east-1"}

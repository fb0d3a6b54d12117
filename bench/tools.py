# SPDX-License-Identifier: Apache-2.0
"""The tools that are compared, each with the settings it comes with."""

import hashlib
import os
import shutil

from processes import Failed
from server import BUCKET

PASSPHRASE = "bench-passphrase"
MARKER = "user.holdfast.marker"


def unmark(directory):
    """Makes a directory one that no holdfast has seen, so that it can go into a new repository."""
    for path in (os.path.join(directory, ".holdfast-marker"),):
        if os.path.exists(path):
            os.remove(path)
    try:
        os.removexattr(directory, MARKER)
    except OSError:
        pass  # it has none


class Tool:
    """A program that stores a directory to S3 and brings it back."""

    name = ""

    def __init__(self, program, work, server, processes):
        self.program, self.server, self.processes = program, server, processes
        self.cache = os.path.join(work, "cache", self.name)
        self.repository = ""
        self.count = 0

    def version(self):
        """What it says it is."""
        return self.processes.output([self.program, "--version"]).splitlines()[0]

    def begin(self, directory):
        """A new, empty repository, and nothing cached."""
        self.count += 1
        self.repository = f"{self.name}-{self.count}"
        shutil.rmtree(self.cache, ignore_errors=True)
        os.makedirs(self.cache)
        unmark(directory)

    def forget(self):
        """Deletes the repository and what was cached."""
        if self.repository:
            shutil.rmtree(self.server.path(self.repository), ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)

    def stored(self):
        """MiB in the repository."""
        return self.server.stored(self.repository)

    def measure(self, arguments):
        """Runs it, and says what that took, here and at the server."""
        self.processes.run(["sync", "-f", self.server.directory])
        before, cpu = self.stored(), self.server.cpu()
        usage = self.processes.measure([self.program, *arguments], self.env())
        usage.server_cpu, usage.stored = self.server.cpu() - cpu, self.stored() - before
        return usage

    def env(self):
        """Its environment, beside the common one."""
        return self.server.credentials() | {"XDG_CACHE_HOME": self.cache}

    def restored(self, directory, target):
        """Where in the target the directory is."""
        below = os.path.join(target, directory.lstrip("/"))
        return below if os.path.isdir(below) else target


class Holdfast(Tool):
    """The one this is about. A full backup is a start, a capture of everything, and an end in good order."""

    name = "holdfast"

    def version(self):
        with open(self.program, "rb") as program:
            digest = hashlib.file_digest(program, "sha256").hexdigest()
        return f"{super().version()} (SHA-256 {digest[:16]})"

    def env(self):
        return super().env() | {"HOLDFAST_PASSPHRASE": PASSPHRASE}

    def place(self):
        """Where its repository is, for the command line."""
        return ["--repo", f"s3://{BUCKET}/{self.repository}", "--endpoint", self.server.endpoint, "--lineage", "bench"]

    def protecting(self, directory, *command):
        """The arguments of `holdfast run`."""
        return ["run", "--state", f"state={directory}", *self.place(), "--take-over", "--", *command]

    def backup(self, directory):
        """Everything that is not stored yet, from a cold start to the end."""
        return self.measure(self.protecting(directory, "true"))

    def agent(self, directory):
        """An agent that runs until it is ended."""
        return self.processes.start([self.program, *self.protecting(directory, "sleep", "86400")], self.env())

    def has_restore(self):
        """Whether this build has the command; older ones restore only before a program starts."""
        try:
            self.processes.output([self.program, "restore", "--help"])
            return True
        except Failed:
            return False

    def restore(self, target):
        """Everything, into a new directory."""
        if self.has_restore():
            return self.measure(["restore", *self.place(), target])
        return self.measure(self.protecting(target, "true"))

    def restored(self, directory, target):
        return target


class Restic(Tool):
    """https://restic.net"""

    name = "restic"

    def version(self):
        return self.processes.output([self.program, "version"]).splitlines()[0]

    def env(self):
        repository = f"s3:{self.server.endpoint}/{BUCKET}/{self.repository}"
        return super().env() | {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": PASSPHRASE, "RESTIC_CACHE_DIR": self.cache}

    def begin(self, directory):
        super().begin(directory)
        self.processes.run([self.program, "-q", "init"], self.env())

    def backup(self, directory):
        """A snapshot; the last one of the same directory is its parent."""
        return self.measure(["-q", "backup", directory])

    def restore(self, target):
        """The last snapshot, into a new directory."""
        return self.measure(["-q", "restore", "latest", "--target", target])


class Rustic(Tool):
    """https://rustic.cli.rs"""

    name = "rustic"

    def env(self):
        return super().env() | {"RUSTIC_CACHE_DIR": self.cache, "RUSTIC_LOG_LEVEL": "error"}

    def options(self):
        """Its profile, in the cache directory, which is as private as the work directory is."""
        return ["-P", os.path.join(self.cache, "profile"), "--no-progress"]

    def begin(self, directory):
        super().begin(directory)
        profile = f'''[repository]
repository = "opendal:s3"
password = "{PASSPHRASE}"

[repository.options]
bucket = "{BUCKET}"
root = "/{self.repository}"
endpoint = "{self.server.endpoint}"
region = "us-east-1"
access_key_id = "{self.server.user}"
secret_access_key = "{self.server.password}"
'''
        with open(os.path.join(self.cache, "profile.toml"), "w", encoding="utf-8") as file:
            file.write(profile)
        self.processes.run([self.program, *self.options(), "init"], self.env())

    def backup(self, directory):
        """A snapshot; the last one of the same directory is its parent."""
        return self.measure([*self.options(), "backup", directory])

    def restore(self, target):
        """The last snapshot, into a new directory."""
        return self.measure([*self.options(), "restore", "latest", target])

# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL with pages that have checksums, under pgbench."""
import os
import pwd
import signal
import time

from pgbench import SUMS
from processes import Dialogue, Unmet, must, until
from stage import alive

SCALE = 5
# checkpoints are to happen while it is tried
OPTIONS = {"fsync": "on", "listen_addresses": "", "max_wal_size": "64MB", "min_wal_size": "32MB", "checkpoint_timeout": "30s", "shared_buffers": "32MB"}
NUMBERS = "SELECT count(*), coalesce(max(n), 0), count(*) FILTER (WHERE digest <> md5(n::text)) FROM numbers"


class Postgresql:
    """A server, a load, and one who counts."""

    name = "postgresql"

    def __init__(self, stage, paths):
        self.stage, self.paths, self.processes = stage, paths, stage.processes
        # it refuses to run as root
        self.owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.as_owner = ["setpriv", f"--reuid={self.owner}", f"--regid={self.owner}", "--init-groups", "--"] if os.geteuid() == 0 else []

    def version(self):
        return "PostgreSQL " + self.processes.run([self.paths["postgres"], "--version"]).split()[2]

    def server(self, directory, socket):
        options = OPTIONS | {"unix_socket_directories": socket}
        return [*self.as_owner, self.paths["postgres"], "-D", directory, *(word for name, value in options.items() for word in ("-c", f"{name}={value}"))]

    def begin(self):
        data, self.socket = self.stage.place(self.name, self.owner), self.stage.place("postgresql.socket", self.owner)
        self.processes.run([*self.as_owner, self.paths["initdb"], "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--data-checksums", "--no-sync"])
        # as PostgreSQL's manual says of copies: whoever starts the copy would take the first one's process for its own
        self.process = self.stage.protect(self.name, data, self.server(data, self.socket), exclude=["postmaster.pid"])
        until("PostgreSQL answers", lambda: alive(self.process) and self.answers(self.socket))
        self.ask(self.socket, "CREATE TABLE numbers (n integer PRIMARY KEY, digest text NOT NULL)")
        self.processes.run([self.paths["pgbench"], *self.reach(self.socket), "-i", "-q", "-s", SCALE], seconds=120)
        load = [*self.reach(self.socket), "-n", "-c", 4, "-j", 2, "-T", 3600]
        self.load = self.processes.start("pgbench", [self.paths["pgbench"], *load])
        self.client = self.processes.start("psql", self.psql(self.socket), talks=True)
        self.dialogue = Dialogue(self.client.stdin, self.client.stdout)

    def put(self, number):
        """A transaction with this number; returns when it is committed."""
        said = self.dialogue.ask(f"INSERT INTO numbers VALUES ({number}, md5('{number}')) RETURNING n;\n")
        must(said == [str(number)], f"PostgreSQL said {said}")

    def end(self):
        must(alive(self.load), "pgbench has ended")
        self.processes.end(self.load, signal.SIGKILL)
        self.processes.end(self.client)
        must(self.processes.end(self.process, signal.SIGINT) == 0, "PostgreSQL, or its agent, did not end in good order")

    def check(self, directory):
        """The numbers that a restored server has, and how long it took until it answered; all that it says of itself must be well."""
        must(not (directory / "postmaster.pid").exists(), "what was excluded is there")
        socket = self.stage.place(f"{directory.name}.socket", self.owner)
        began = time.monotonic()
        server = self.processes.start(f"{directory.name}.server", self.server(directory, socket))
        try:
            until("the restored PostgreSQL answers", lambda: alive(server) and self.answers(socket), 120)
            took = time.monotonic() - began
            log = server.log.read_text()
            must("automatic recovery in progress" in log and "PANIC" not in log, f"no recovery: {log}")
            amcheck = ["--install-missing", "--heapallindexed", "--parent-check", "--rootdescend", "-d", "postgres"]
            self.processes.run([self.paths["pg_amcheck"], *self.reach(socket, database=None), *amcheck], seconds=120)
            count, last, torn = map(int, self.ask(socket, NUMBERS).split("|"))
            *sums, rows = self.ask(socket, SUMS).split("|")
        finally:
            code = self.processes.end(server, signal.SIGINT)
        must(code == 0, f"the restored PostgreSQL ended with {code}")
        self.processes.run([self.paths["pg_checksums"], "--check", "-D", directory])
        must(count == last and torn == 0, f"PostgreSQL has {count} numbers up to {last}, {torn} of them torn")
        must(len(set(sums)) == 1, f"the sums of pgbench differ: {sums}")
        must(int(rows) > 0, "the load has left nothing")
        return last, took, f"{rows} transactions of pgbench"

    def reach(self, socket, database="postgres"):
        return ["-h", socket, "-U", "postgres", *([database] if database else [])]

    def psql(self, socket):
        return [self.paths["psql"], "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *self.reach(socket)]

    def answers(self, socket):
        try:
            return self.ask(socket, "SELECT 1") == "1"
        except Unmet:
            return False

    def ask(self, socket, question):
        return self.processes.run([*self.psql(socket), "-c", question]).strip()

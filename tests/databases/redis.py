# SPDX-License-Identifier: Apache-2.0
"""Redis with its append-only file, which is written anew now and then."""
import signal
import socket
import time

from processes import Dialogue, Unmet, must, until
from stage import alive

OPTIONS = {
    "port": 0, "save": "", "appendonly": "yes", "appendfsync": "always", "aof-use-rdb-preamble": "no", "auto-aof-rewrite-min-size": "4mb",
    # what is cut off is to be seen, not mended
    "aof-load-truncated": "no",
}


class Redis:
    """A server, a load, and one who counts."""

    name = "redis"

    def __init__(self, stage, paths):
        self.stage, self.paths, self.processes = stage, paths, stage.processes

    def version(self):
        return "Redis " + self.processes.run([self.paths["redis-server"], "--version"]).split("v=")[1].split()[0]

    def server(self, directory, where):
        options = OPTIONS | {"dir": directory, "unixsocket": where}
        return [self.paths["redis-server"], *(str(word) for name, value in options.items() for word in (f"--{name}", value))]

    def begin(self):
        state, self.socket = self.stage.place(self.name), self.stage.directory / "redis.socket"
        self.process = self.stage.protect(self.name, state, self.server(state, self.socket))
        until("Redis answers", lambda: alive(self.process) and self.answers(self.socket))
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(str(self.socket))
        self.dialogue = Dialogue(self.connection, self.connection)
        load = ["-s", self.socket, "-t", "set", "-n", 1_000_000_000, "-r", 20_000, "-d", 200, "-c", 8, "-q"]
        self.load = self.processes.start("redis-benchmark", [self.paths["redis-benchmark"], *load])

    def put(self, number):
        """A transaction with this number; returns when it is in the file."""
        said = self.dialogue.ask(f"MULTI\r\nSET counter {number}\r\nRPUSH numbers {number}\r\nEXEC\r\n", answers=6)
        must(said[-1] == f":{number}", f"Redis said {said}")

    def end(self):
        self.processes.end(self.load, signal.SIGKILL)
        self.connection.close()
        must(self.processes.end(self.process) == 0, "Redis, or its agent, did not end in good order")

    def check(self, directory):
        """The numbers that a restored server has, and how long it took until it answered; all that it says of itself must be well."""
        said = self.processes.run([self.paths["redis-check-aof"], directory / "appendonlydir/appendonly.aof.manifest"])
        must("All AOF files and manifest are valid" in said, f"redis-check-aof: {said}")
        where, began = self.stage.directory / "restored.socket", time.monotonic()
        server = self.processes.start("redis-restored", self.server(directory, where))
        try:
            until("the restored Redis answers", lambda: alive(server) and self.answers(where))
            took = time.monotonic() - began
            numbers = self.ask(where, "LRANGE", "numbers", "0", "-1").split()
            counter, keys = self.ask(where, "GET", "counter"), int(self.ask(where, "DBSIZE"))
        finally:
            self.processes.end(server)
        must(numbers == [str(number) for number in range(1, len(numbers) + 1)], f"Redis lacks numbers: {numbers[-3:]}, {len(numbers)} in all")
        must(counter == str(len(numbers)), f"the counter is {counter}, and there are {len(numbers)} numbers")
        must(keys > 2, "the load has left nothing")
        return len(numbers), took, f"{keys} keys"

    def answers(self, where):
        try:
            return self.ask(where, "PING") == "PONG"
        except Unmet:
            return False

    def ask(self, where, *words):
        return self.processes.run([self.paths["redis-cli"], "-s", where, *words]).strip()

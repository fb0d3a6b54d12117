# SPDX-License-Identifier: Apache-2.0
"""SQLite, with a write-ahead log or with a rollback journal."""
import signal
import sys
import time
from pathlib import Path

import teller
from processes import Dialogue, must

TELLER = Path(teller.__file__).resolve()
# what a transaction leaves beside the database until it is over
BESIDE = {"wal": "bank.db-wal", "delete": "bank.db-journal"}


class Sqlite:
    """A program that keeps its accounts in SQLite."""

    def __init__(self, stage, paths, mode):
        self.stage, self.mode, self.sqlite3 = stage, mode, paths["sqlite3"]
        self.name = f"sqlite-{mode}"

    def version(self):
        return f"SQLite {self.stage.processes.run([self.sqlite3, '--version']).split()[0]}, the program's {teller.sqlite3.sqlite_version}"

    def begin(self):
        state = self.stage.place(self.name)
        self.teller = self.stage.protect(self.name, state, [sys.executable, "-I", TELLER, state / "bank.db", self.mode], talks=True)
        self.dialogue = Dialogue(self.teller.stdin, self.teller.stdout)

    def put(self, number):
        """A transaction with this number; returns when it is committed."""
        said = self.dialogue.ask(f"{number}\n")
        must(said == [str(number)], f"{self.name} said {said}")

    def end(self):
        code = self.stage.processes.end(self.teller, signal.SIGTERM)
        must(code == 128 + signal.SIGTERM or code == 0, f"{self.name} ended with {code}")

    def check(self, directory):
        """The numbers that a restored database has, and how long it took until it said so; all that it says of itself must be well."""
        beside = directory / BESIDE[self.mode]
        left = beside.stat().st_size if beside.exists() else 0
        began = time.monotonic()
        numbers = self.ask(directory, "SELECT count(*), coalesce(max(n), 0), coalesce(sum(twice != 2 * n), 0) FROM numbers")
        took = time.monotonic() - began
        must(self.ask(directory, "PRAGMA integrity_check") == "ok", f"{self.name} is damaged")
        total = self.ask(directory, "SELECT count(*), sum(balance) FROM accounts")
        must(total == f"{teller.ACCOUNTS}|{teller.ACCOUNTS * teller.EACH}", f"{self.name} has other accounts: {total}")
        count, last, torn = map(int, numbers.split("|"))
        must(count == last and torn == 0, f"{self.name} has {count} numbers up to {last}, {torn} of them torn")
        return last, took, f"{BESIDE[self.mode]} had {left} bytes"

    def ask(self, directory, question):
        return self.stage.processes.run([self.sqlite3, "-init", "/dev/null", "-batch", directory / "bank.db", question]).strip()

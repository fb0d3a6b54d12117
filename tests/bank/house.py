# SPDX-License-Identifier: Apache-2.0
"""A house of the bank: `house.py DIRECTORY NUMBER HOST:PORT...`, with where all houses listen, in their order. It sends money to the others without end,
and takes what they send, until it is killed.

What happens is an entry of the journal first, is booked in SQLite then, and in the file with the balance at last. Only then is it said to anybody:
a transfer is sent when it is booked, and acknowledged when it is booked. What is not acknowledged is sent again over each new connection, and who
has booked it already says so without booking it twice."""
import collections
import os
import random
import select
import socket
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ACCOUNTS, EACH = 1000, 1000
# So many transfers to each other house are under way at most. They are sent at once; the next ones after so many seconds, for the sake of whoever
# shares the machine.
WINDOW, BREATH = 4, 0.1
KINDS = SEND, RECEIVE, ACKNOWLEDGED = "send", "receive", "acknowledged"
JOURNAL, DATABASE, BALANCE = "journal", "accounts.db", "balance"


class Entry(NamedTuple):
    """What happened: its number, and which transfer it is of those between this house and another in one direction."""

    number: int
    kind: str
    other: int
    transfer: int
    amount: int

    @property
    def change(self):
        return {SEND: -self.amount, RECEIVE: self.amount, ACKNOWLEDGED: 0}[self.kind]


def entries(journal):
    """All whole entries of a journal, and what follows them."""
    *lines, rest = journal.split(b"\n")
    return [entry(line) for line in lines], rest


def entry(line):
    number, kind, other, transfer, amount = line.decode().split(" ")
    return Entry(int(number), kind, int(other), int(transfer), int(amount))


def balance(text):
    """The last entry that the file with the balance knows, and the balance."""
    last, amount = text.split()
    return int(last), int(amount)


class Ledger:
    """The state of a house; one thread at a time changes it."""

    def __init__(self, directory):
        self.lock = threading.Lock()
        first = not (directory / JOURNAL).exists()
        self.bank = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False)
        self.bank.execute("PRAGMA journal_mode=wal")
        self.bank.execute("PRAGMA synchronous=FULL")
        self.file = os.open(directory / BALANCE, os.O_RDWR | os.O_CREAT, 0o600)
        self.last, self.balance = 0, ACCOUNTS * EACH
        # the last transfer from each house, the last one to it, and those to it that are not acknowledged
        self.received, self.sent, self.open = collections.Counter(), collections.Counter(), collections.defaultdict(dict)
        if first:
            self.begin()
        self.journal = os.open(directory / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.recover()

    def begin(self):
        self.bank.execute("BEGIN")
        self.bank.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0), note TEXT NOT NULL)")
        self.bank.execute("CREATE TABLE last (entry INTEGER NOT NULL)")
        self.bank.execute("INSERT INTO last VALUES (0)")
        self.bank.executemany("INSERT INTO accounts VALUES (?, ?, ?)", ((account, EACH, "-" * 100) for account in range(ACCOUNTS)))
        self.bank.execute("COMMIT")
        self.write_balance()

    def recover(self):
        """The journal is right. At most its last entry is not booked: a house that was killed had not come to it."""
        size = os.fstat(self.journal).st_size
        written, torn = entries(os.pread(self.journal, size, 0))
        if torn:
            os.ftruncate(self.journal, size - len(torn))
        booked = self.bank.execute("SELECT entry FROM last").fetchone()[0]
        for past in written:
            self.note(past)
            if past.number > booked:
                self.book_accounts(past)
        self.write_balance()

    def note(self, happened):
        """Keeps in memory what an entry tells."""
        self.last, self.balance = happened.number, self.balance + happened.change
        if happened.kind == SEND:
            self.sent[happened.other] = happened.transfer
            self.open[happened.other][happened.transfer] = happened.amount
        elif happened.kind == RECEIVE:
            self.received[happened.other] = happened.transfer
        else:
            del self.open[happened.other][happened.transfer]

    def book(self, kind, other, transfer, amount):
        happened = Entry(self.last + 1, kind, other, transfer, amount)
        os.write(self.journal, (" ".join(map(str, happened)) + "\n").encode())
        os.fdatasync(self.journal)
        self.note(happened)
        self.book_accounts(happened)
        self.write_balance()

    def book_accounts(self, happened):
        self.bank.execute("BEGIN IMMEDIATE")
        if happened.change:
            enough = "SELECT id FROM accounts WHERE balance + ? >= 0 AND id >= ? LIMIT 1"
            found = [self.bank.execute(enough, (happened.change, least)).fetchone() for least in (random.randrange(ACCOUNTS), 0)]
            account = next(row[0] for row in found if row)
            self.bank.execute("UPDATE accounts SET balance = balance + ?, note = ? WHERE id = ?", (happened.change, f"{happened.number:0100}", account))
        self.bank.execute("UPDATE last SET entry = ?", (happened.number,))
        self.bank.execute("COMMIT")

    def write_balance(self):
        os.pwrite(self.file, f"{self.last:15} {self.balance:15}\n".encode(), 0)

    def send(self, other):
        """Books a new transfer to another house, which may be sent then."""
        with self.lock:
            transfer, amount = self.sent[other] + 1, random.randint(1, 100)
            self.book(SEND, other, transfer, amount)
            return transfer, amount

    def receive(self, other, transfer, amount):
        """Books a transfer from another house, unless that has been done."""
        with self.lock:
            if transfer > self.received[other] + 1:
                raise SystemExit(f"transfer {transfer} of house {other} follows {self.received[other]}")
            if transfer == self.received[other] + 1:
                self.book(RECEIVE, other, transfer, amount)

    def acknowledge(self, other, transfer):
        with self.lock:
            if transfer in self.open[other]:
                self.book(ACKNOWLEDGED, other, transfer, 0)

    def unacknowledged(self, other):
        with self.lock:
            return sorted(self.open[other].items())


def pay(ledger, own, other, address):
    """Sends money to another house, as long as that takes it; one that is gone will be back."""
    while True:
        try:
            with socket.create_connection(address) as line:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                talk(ledger, own, other, line)
        except OSError:
            # nobody listens there, and nothing tells when somebody will
            time.sleep(0.05)


def talk(ledger, own, other, line):
    line.sendall(f"{own}\n".encode())
    for transfer, amount in ledger.unacknowledged(other):
        line.sendall(f"{transfer} {amount}\n".encode())
    rest, pause_ends = b"", 0
    while True:
        may_send = len(ledger.unacknowledged(other)) < WINDOW
        pause = max(pause_ends - time.monotonic(), 0)
        if select.select([line], [], [], pause if may_send else None)[0]:
            more = line.recv(4096)
            if not more:
                return
            *said, rest = (rest + more).split(b"\n")
            for transfer in said:
                ledger.acknowledge(other, int(transfer))
        elif may_send:
            transfer, amount = ledger.send(other)
            line.sendall(f"{transfer} {amount}\n".encode())
            if len(ledger.unacknowledged(other)) == WINDOW:
                pause_ends = time.monotonic() + BREATH


def take(ledger, line):
    """Takes what another house sends over a connection of its own."""
    try:
        with line, line.makefile("r", encoding="ascii") as lines:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            other = int(lines.readline() or -1)
            for text in lines:
                if not text.endswith("\n"):
                    return
                transfer, amount = map(int, text.split())
                ledger.receive(other, transfer, amount)
                line.sendall(f"{transfer}\n".encode())
    except ConnectionError:
        return


def fatal(what):
    """A house of which a part does not work must not go on."""
    sys.excepthook(what.exc_type, what.exc_value, what.exc_traceback)
    sys.stderr.flush()
    os._exit(1)


def address(word):
    host, port = word.rsplit(":", 1)
    return host, int(port)


def main():
    directory, own, addresses = Path(sys.argv[1]), int(sys.argv[2]), [address(word) for word in sys.argv[3:]]
    threading.excepthook = fatal
    ledger = Ledger(directory)
    with socket.create_server(addresses[own]) as server:
        for other, where in enumerate(addresses):
            if other != own:
                threading.Thread(target=pay, args=(ledger, own, other, where), daemon=True).start()
        while True:
            line, _ = server.accept()
            threading.Thread(target=take, args=(ledger, line), daemon=True).start()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A program that keeps accounts in SQLite: `teller.py FILE MODE`. Each number on its standard input is a transaction of its own, and said again when
that is committed; nobody being there, it moves money to and fro. The sum of all accounts stays what it was."""
import random
import select
import sqlite3
import sys

ACCOUNTS, EACH = 20_000, 1000


def opened(file, mode):
    bank = sqlite3.connect(file, isolation_level=None)
    said = bank.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
    if said != mode:
        raise SystemExit(f"the journal is {said}")
    bank.execute("PRAGMA synchronous=FULL")
    bank.execute("BEGIN")
    bank.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT NOT NULL)")
    bank.execute("CREATE INDEX balances ON accounts (balance)")
    bank.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, twice INTEGER NOT NULL)")
    bank.executemany("INSERT INTO accounts VALUES (?, ?, ?)", ((account, EACH, "-" * 100) for account in range(ACCOUNTS)))
    bank.execute("COMMIT")
    return bank


def transact(bank, number=None):
    """Money from one account to another, five times; and a number, if there is one."""
    bank.execute("BEGIN IMMEDIATE")
    for _ in range(5):
        giver, taker = random.sample(range(ACCOUNTS), 2)
        amount = random.randint(1, 100)
        for account, change in ((giver, -amount), (taker, amount)):
            bank.execute("UPDATE accounts SET balance = balance + ?, note = ? WHERE id = ?", (change, f"{amount:0100}", account))
    if number:
        bank.execute("INSERT INTO numbers VALUES (?, ?)", (number, 2 * number))
    bank.execute("COMMIT")


def main():
    bank = opened(*sys.argv[1:])
    while True:
        if not select.select([sys.stdin], [], [], 0)[0]:
            transact(bank)
            continue
        line = sys.stdin.readline()
        if not line:
            return
        transact(bank, int(line))
        print(int(line), flush=True)


if __name__ == "__main__":
    main()

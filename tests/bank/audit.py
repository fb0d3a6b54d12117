# SPDX-License-Identifier: Apache-2.0
"""What must be true of the houses of a bank, all at one moment, whatever they were doing: read from copies of their directories."""
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass

from house import ACCOUNTS, BALANCE, DATABASE, EACH, JOURNAL, KINDS, RECEIVE, SEND, balance, entries
from processes import Unmet, must


class Violation(Unmet):
    """The houses of a snapshot are not what they must be, which is more than that something could not be done."""


class Journal:
    """The entries of one house, and those of later copies, which can only add some."""

    def __init__(self, name):
        self.name, self.written, self.length, self.end = name, b"", 0, None
        # amounts by the other house, in their order; and how many it is known to have received
        self.sent, self.received, self.acknowledged = defaultdict(list), defaultdict(list), Counter()

    def grow(self, written):
        """Reads what a copy adds to those before it."""
        must(written.startswith(self.written), f"{self.name}: the journal is not what it was in an earlier snapshot")
        try:
            more, torn = entries(written[len(self.written):])
        except ValueError as error:
            raise Unmet(f"{self.name}: an entry of the journal is none: {error}") from error
        must(not torn, f"{self.name}: the journal ends within an entry: {torn}")
        for entry in more:
            self.add(entry)
        self.written = written

    def add(self, entry):
        must(entry.number == self.length + 1, f"{self.name}: after {self.length} entries of the journal comes {entry}")
        must(entry.kind in KINDS, f"{self.name}: no entry is of this kind: {entry}")
        if entry.kind == SEND:
            self.sent[entry.other].append(entry.amount)
            place = len(self.sent[entry.other])
        elif entry.kind == RECEIVE:
            self.received[entry.other].append(entry.amount)
            place = len(self.received[entry.other])
        else:
            self.acknowledged[entry.other] += 1
            place = self.acknowledged[entry.other]
        must(entry.transfer == place, f"{self.name}: {place - 1} times {entry.kind}, then {entry}")
        self.length, self.end = entry.number, entry

    def after(self, entries):
        """What it tells of the moment when so many entries were booked: all of them, or all but the last one."""
        lacks = self.length - entries
        ends = (self.end.kind, self.end.other) if lacks else None

        def first(kind, of):
            return {other: amounts[:-1] if ends == (kind, other) else amounts for other, amounts in of.items()}
        known = Counter(self.acknowledged)
        if ends and ends[0] not in (SEND, RECEIVE):
            known[ends[1]] -= 1
        return Told(first(SEND, self.sent), first(RECEIVE, self.received), known)


@dataclass
class Told:
    """What one house has sent and received, and knows to have been received, by the other house."""

    sent: dict
    received: dict
    known: Counter

    def balance(self):
        return ACCOUNTS * EACH - sum(map(sum, self.sent.values())) + sum(map(sum, self.received.values()))


@dataclass
class Booked:
    """A balance as a house has it, and the last entry that this includes."""

    entries: int
    balance: int


@dataclass
class Found:
    """What is told of houses that are as they must be."""

    entries: int
    under_way: int
    half_booked: int


class Auditor:
    """Sees one snapshot of all houses after the other."""

    def __init__(self):
        self.journals, self.wrong = {}, []

    def audit(self, directories):
        """Reads the houses, in their order; a violation says all that is wrong with them."""
        self.wrong = []
        names = [directory.name.partition(".")[0] for directory in directories]
        journals = [self.journals.setdefault(name, Journal(name)) for name in names]
        for journal, directory in zip(journals, directories):
            self.tried(lambda journal, file: journal.grow(read(journal.name, file)), journal, directory / JOURNAL)
        # all the rest is measured by the journals
        found = None if self.wrong else self.compare(journals, directories)
        if self.wrong:
            # what was read of these is not what later ones must go on from
            self.journals.clear()
            raise Violation("; ".join(self.wrong))
        return found

    def tried(self, check, *arguments):
        """What a check gives; what it finds wrong is kept."""
        try:
            return check(*arguments)
        except Unmet as wrong:
            self.wrong.append(str(wrong))
            return None

    def compare(self, journals, directories):
        files = [self.tried(in_file, journal.name, directory / BALANCE) for journal, directory in zip(journals, directories)]
        accounts = [self.tried(in_database, journal.name, directory / DATABASE) for journal, directory in zip(journals, directories)]
        for journal, file, account in zip(journals, files, accounts):
            if file and account:
                self.tried(agree, journal, file, account)
        # Each by itself is a bank: whoever sends has booked in all of them before anybody can hear of it.
        written = [Booked(journal.length, journal.after(journal.length).balance()) for journal in journals]
        under_way = self.tried(whole, journals, "journals", written)
        if self.wrong:
            # of what does not agree with them, the journals can't tell what it has of the others
            return None
        self.tried(whole, journals, "SQLite", accounts)
        self.tried(whole, journals, "files", files)
        return Found(sum(one.length for one in journals), under_way, sum(file.entries < one.length for one, file in zip(journals, files)))


def read(name, file):
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unmet(f"{name}: {error}") from error


def in_file(name, file):
    text = read(name, file)
    try:
        return Booked(*balance(text.decode()))
    except ValueError as error:
        raise Unmet(f"{name}: the file with the balance is torn: {text}") from error


def in_database(name, file):
    try:
        bank = sqlite3.connect(file)
        try:
            said = bank.execute("PRAGMA integrity_check").fetchone()[0]
            must(said == "ok", f"{name}: SQLite finds itself damaged: {said}")
            (last,), = bank.execute("SELECT entry FROM last").fetchall()
            count, together = bank.execute("SELECT count(*), sum(balance) FROM accounts").fetchone()
        finally:
            bank.close()
    except (sqlite3.Error, ValueError) as error:
        raise Unmet(f"{name}: SQLite says: {error}") from error
    must(count == ACCOUNTS, f"{name}: it has {count} accounts")
    return Booked(last, together)


def agree(journal, file, accounts):
    """An entry is in the journal, in SQLite and in the file, one after the other, and the next one is begun when all have it."""
    must(journal.length - 1 <= file.entries <= accounts.entries <= journal.length,
         f"{journal.name}: {journal.length} entries in the journal, {accounts.entries} in SQLite, {file.entries} in the file")
    for place, booked in (("SQLite", accounts), ("the file", file)):
        expected = journal.after(booked.entries).balance()
        must(booked.balance == expected, f"{journal.name}: {place} has {booked.balance}, and the journal {expected}")


def whole(journals, place, booked):
    """Nothing was received that was not sent, none known to be received that was not, and no money is lost or made. What is under way."""
    told, under_way = [journal.after(one.entries) for journal, one in zip(journals, booked)], 0
    for giver, gives in enumerate(told):
        for taker, takes in enumerate(told):
            if giver == taker:
                continue
            names, sent, received = (journals[giver].name, journals[taker].name), gives.sent.get(taker, []), takes.received.get(giver, [])
            must(len(received) <= len(sent), f"{place}: {names[1]} has received transfer {len(received)} of {names[0]}, which has sent {len(sent)}")
            must(received == sent[:len(received)], f"{place}: {names[1]} has received other amounts than {names[0]} has sent")
            must(gives.known[taker] <= len(received), f"{place}: {names[0]} knows {gives.known[taker]} to be received, and {names[1]} has {len(received)}")
            under_way += sum(sent[len(received):])
    held, began = sum(one.balance for one in booked), len(booked) * ACCOUNTS * EACH
    must(held + under_way == began, f"{place}: {held} in the houses and {under_way} under way are not {began}")
    return under_way

# SPDX-License-Identifier: Apache-2.0
"""What scenarios work with: the data, the tools in turn, and a place for what they bring back."""

import contextlib
import os
import shutil
import time

import data
from processes import Failed

MIB = 1 << 20
GENERATORS = {"big": data.big, "pages": data.pages, "small": data.small}


class Lab:
    """Everything that one call of the benchmark shares."""

    def __init__(self, args, work, server, processes, tools, results):
        self.args, self.work, self.server, self.processes = args, work, server, processes
        self.tools, self.results = tools, results
        self.target = os.path.join(work, "restored")

    def holdfast(self):
        """The tool that this is about."""
        return self.tools[0]

    def turns(self):
        """Each run with each tool; every run begins with another one."""
        for run in range(self.args.runs):
            for place in range(len(self.tools)):
                yield run, self.tools[(run + place) % len(self.tools)]

    def size(self, name):
        """How much data: bytes, or files."""
        return self.args.files if name == "small" else self.args.size * MIB

    def data(self, name, below=None):
        """Makes the data, unless an earlier call has kept it."""
        root = os.path.join(below or self.work, "data", name)
        stamp, wanted = root + ".made", f"{name} {self.size(name)} {os.path.getmtime(data.__file__)}"
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as made:
                if made.read() == wanted:
                    return root
        self.say(f"making the data of {name!r}")
        self.touched(root)
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        GENERATORS[name](root, self.size(name))
        with open(stamp, "w", encoding="utf-8") as made:
            made.write(wanted)
        return root

    @staticmethod
    def touched(root):
        """The data is not what was made any more: another call must make it anew."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(root + ".made")

    def forget(self, root):
        """Deletes data that is not needed any more."""
        if not self.args.keep:
            self.touched(root)
            shutil.rmtree(root, ignore_errors=True)

    @contextlib.contextmanager
    def trial(self, scenario, run, tool, root):
        """One tool's turn, with a repository of its own. What goes wrong in it is noted, and ends only it."""
        self.say(f"{scenario}: {tool.name}, run {run + 1} of {self.args.runs}")
        try:
            tool.begin(root)
            yield
        except Failed as error:
            self.results.failed(f"{scenario}, {tool.name}: {error}")
        finally:
            tool.forget()
            shutil.rmtree(self.target, ignore_errors=True)

    def restore(self, tool, root, wanted, title, scenario):
        """Restores into a new directory, and compares that with the source."""
        shutil.rmtree(self.target, ignore_errors=True)
        usage = tool.restore(self.target)
        began = time.monotonic()
        self.processes.run(["sync", "-f", self.target])
        usage.sync, usage.stored = time.monotonic() - began, None
        usage.verified = data.checksum(tool.restored(root, self.target)) == wanted
        self.results.table(scenario, title).add(tool.name, usage)
        if not usage.verified:
            self.results.failed(f"{scenario}, {tool.name}: what was restored is not what was stored")

    @staticmethod
    def say(what):
        """How far it is."""
        print(f"[{time.strftime('%H:%M:%S')}] {what}", flush=True)

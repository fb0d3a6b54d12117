# SPDX-License-Identifier: Apache-2.0
"""Watches a repository from outside: when has what an agent captured become durable?

Every checkpoint ends with a record in the log, an object of its own. Whatever the agent says of itself, a state can be
restored from the moment at which the server has that object.
"""

import glob
import os
import time

from processes import Failed, tail

# so long after the newest record, nothing more belongs to what was written
QUIET = 2.0
EVERY = 0.02


def records(repository):
    """The log's objects that the server has whole."""
    found = glob.glob(os.path.join(glob.escape(repository), "domains", "*", "lineages", "*", "log", "*"))
    return {path for path in found if os.path.exists(os.path.join(path, "xl.meta"))}


class Watch:
    """What is in the log, before something happens and after it."""

    def __init__(self, repository, agent=None):
        self.repository, self.agent = repository, agent
        self.known = records(repository)

    def durable(self, since, at_least=1, timeout=600):
        """Seconds from `since` until the last record of a burst was there. A start makes two: the claim and the checkpoint."""
        last, new = None, 0
        while True:
            found = records(self.repository) - self.known
            now = time.monotonic()
            if found:
                self.known |= found
                last, new = now, new + len(found)
            if new >= at_least and now - last >= QUIET:
                return last - since
            if self.agent and self.agent.poll() is not None:
                raise Failed(f"the agent ended too early\n{tail(self.agent.log)}")
            if now - since > timeout:
                raise Failed(f"nothing durable after {timeout} s\n{tail(self.agent.log) if self.agent else ''}")
            time.sleep(EVERY)

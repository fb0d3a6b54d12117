# SPDX-License-Identifier: Apache-2.0
"""Deaths while a snapshot is taken: of the coordinator, or of an agent."""
import statistics
import time
from collections import Counter

from processes import must, until


# A rest is short beside all that is done before it and after it: every other kill comes so many seconds, at most, after the first house rests.
REST = 0.1


class Chaos:
    """Who is killed, and when: by a chance that can be repeated."""

    def __init__(self, bank, chance):
        self.bank, self.stage, self.chance = bank, bank.stage, chance
        # of those that nothing was done to, in seconds
        self.usual = []
        self.kills, self.gone_on, self.untold = Counter(), [], 0
        # snapshots by name: of those some are not there, and others say that they are not of one moment
        self.failed, self.loose = set(), set()

    def snapshot(self, name):
        """Takes a snapshot, and kills somebody meanwhile: that snapshot, or none if it is not there, or not of one moment."""
        # by then most have just ended
        whole = 1.2 * statistics.median(self.usual)
        in_rest, part = self.chance.random() < 0.5, self.chance.random()
        victim = self.chance.choice(["coordinator", *self.bank.houses])
        command = [self.stage.holdfast, "snapshot", "create", name, *self.stage.connect()]
        asking = self.stage.processes.start(f"create-{name}", command)
        phase = self.watch(asking, whole, REST * part) if in_rest else self.watch(asking, whole * part)
        self.kills["coordinator" if victim == "coordinator" else "agent", phase] += 1
        self.kill(victim)
        until(f"whoever asked for {name} has an answer", lambda: asking.poll() is not None, 90)
        self.stage.processes.live.remove(asking)
        self.bank.is_protected()
        self.bank.goes_on()
        if not self.bank.listed(name):
            must(asking.returncode != 0, f"{name} is not there, and whoever asked for it was told that it is")
            self.failed.add(name)
            return None
        # whoever asks can't always be told
        self.untold += asking.returncode != 0
        if self.stage.shown(name)["consistency"] != "frozen":
            self.loose.add(name)
            return None
        return self.stage.taken(name)

    def watch(self, asking, seconds, of_rest=None):
        """Waits for so long at most, or until a part of the rest is over, and tells where the snapshot is then, as far as it can be seen."""
        deadline, rested = time.monotonic() + seconds, False
        while True:
            resting = sum(house.rests() for house in self.bank.houses)
            if resting and not rested:
                rested, deadline = True, deadline if of_rest is None else time.monotonic() + of_rest
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, 0.002))
        if asking.poll() is not None:
            return "after all"
        if resting == len(self.bank.houses):
            return "all rest"
        if resting:
            return "some rest"
        return "after the rest" if rested else "before the rest"

    def kill(self, victim):
        if victim == "coordinator":
            address = self.stage.url.removeprefix("http://")
            self.stage.coordinator.kill()
            self.stage.coordinator.wait()
            self.stage.processes.live.remove(self.stage.coordinator)
            self.stage.coordinate(address)
        else:
            self.gone_on.append(victim.lose_agent())
            victim.start()
            victim.begins()

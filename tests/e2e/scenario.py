# SPDX-License-Identifier: Apache-2.0
"""The scenarios, in the order of their files."""
from dataclasses import dataclass
from typing import Callable

ALL = []


@dataclass
class Scenario:
    name: str
    tells: str
    play: Callable
    lane: str
    alone: bool


def scenario(function=None, *, alone=False):
    """
    A function that is given the store and raises if something is not as its first line tells. Those of a file are played one after the other, those of
    several files at the same time; `alone`: it takes away what the others need, a node or a webhook, and is played while nothing else is.
    """
    def entered(function):
        ALL.append(Scenario(function.__name__, (function.__doc__ or "").splitlines()[0], function, function.__module__, alone))
        return function

    return entered(function) if function else entered

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


def scenario(function):
    """A function that is given the store and raises if something is not as its first line tells."""
    ALL.append(Scenario(function.__name__, (function.__doc__ or "").splitlines()[0], function))
    return function

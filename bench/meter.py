# SPDX-License-Identifier: Apache-2.0
"""Runs one command and writes what it took to a file, as JSON: meter.py FILE COMMAND [ARGUMENT ...]

This is a process of its own because Linux carries the peak memory of whoever starts a program over to that program:
measured from the benchmark itself, no tool could show less than the benchmark's own peak.
"""

import json
import os
import sys
import time


def main():
    out, command = sys.argv[1], sys.argv[2:]
    began = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - began
    figures = {
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 1024,
        "code": os.waitstatus_to_exitcode(status),
    }
    with open(out, "w", encoding="utf-8") as file:
        json.dump(figures, file)


main()

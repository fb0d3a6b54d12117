# SPDX-License-Identifier: Apache-2.0
"""A program that never stops writing: writer.py FILE PAGES-PER-SECOND overwrites pages of a file in place, at random, until it is ended."""

import os
import random
import sys
import time

PAGE = 4096
# it wakes so often
TICKS = 100


def main():
    path, rate = sys.argv[1], int(sys.argv[2])
    file = os.open(path, os.O_RDWR)
    pages, rng = os.fstat(file).st_size // PAGE, random.Random()
    due, last = 0.0, time.monotonic()
    print("writing", flush=True)
    while True:
        time.sleep(1 / TICKS)
        now = time.monotonic()
        # what was not written while it stood still isn't made up for: it writes steadily, not in bursts
        due, last = due + min(now - last, 2 / TICKS) * rate, now
        for _ in range(int(due)):
            page = rng.randrange(pages)
            os.pwrite(file, (b"PAGE%12d" % page + rng.randbytes(2000)).ljust(PAGE, b"\0"), page * PAGE)
        due -= int(due)


if __name__ == "__main__":
    main()

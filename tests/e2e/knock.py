# SPDX-License-Identifier: Apache-2.0
"""
Tries TCP ports of an address, from wherever it runs: `knock.py ADDRESS FIRST-LAST...`. Prints which are open, which are closed (their host says that
nobody listens), and how many are kept from whoever asks: refused on the way, or never answered.
"""
import errno
import json
import resource
import selectors
import socket
import sys
import time

AT_ONCE = 15000
# an answer on one machine takes no time; what is lost of it is asked for again after a second
PATIENCE = 2.5


def knock(address, ports):
    found = {"open": [], "closed": [], "kept": 0}

    def note(port, code):
        if code == 0:
            found["open"].append(port)
        elif code == errno.ECONNREFUSED:
            found["closed"].append(port)
        else:
            found["kept"] += 1

    waiting = selectors.DefaultSelector()
    for port in ports:
        end = socket.socket()
        end.setblocking(False)
        code = end.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            waiting.register(end, selectors.EVENT_WRITE, port)
        else:
            note(port, code)
            end.close()
    deadline = time.monotonic() + PATIENCE
    while waiting.get_map() and time.monotonic() < deadline:
        for key, _ in waiting.select(max(0, deadline - time.monotonic())):
            note(key.data, key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            waiting.unregister(key.fileobj)
            key.fileobj.close()
    for key in list(waiting.get_map().values()):
        found["kept"] += 1
        key.fileobj.close()
    waiting.close()
    return found


def main():
    address, *ranges = sys.argv[1:]
    ports = []
    for text in ranges:
        first, _, last = text.partition("-")
        ports.extend(range(int(first), int(last or first) + 1))
    most = max(AT_ONCE + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = {"open": [], "closed": [], "kept": 0}
    for at in range(0, len(ports), AT_ONCE):
        some = knock(address, ports[at:at + AT_ONCE])
        found = {what: found[what] + some[what] for what in found}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

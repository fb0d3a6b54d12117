#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The last plugin of a node's network (CNI): tells the enforcer of policies which address a pod was given; nothing of the pod runs before that has acted."""
import json
import os
import socket
import sys

PATIENCE = 20


def tell(place, **what):
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(PATIENCE)
        end.connect(place)
        end.sendall(json.dumps(what).encode() + b"\n")
        answer = end.makefile().readline().strip()
    if answer != "done":
        raise OSError(answer or "the enforcer of network policies has not answered")


def main():
    command, settings = os.environ["CNI_COMMAND"], json.load(sys.stdin)
    if command == "VERSION":
        print(json.dumps({"cniVersion": settings["cniVersion"], "supportedVersions": [settings["cniVersion"]]}))
    if command not in ["ADD", "DEL"]:
        return 0
    about = dict(pair.split("=", 1) for pair in os.environ.get("CNI_ARGS", "").split(";") if "=" in pair)
    given = settings.get("prevResult") or {}
    address = given["ips"][0]["address"].split("/")[0] if command == "ADD" else ""
    try:
        tell(settings["socket"], uid=about.get("K8S_POD_UID", ""), address=address)
    except OSError as error:
        # who goes is not kept
        if command == "ADD":
            print(json.dumps({"cniVersion": settings["cniVersion"], "code": 100, "msg": f"network policies: {error}"}))
            return 1
    if command == "ADD":
        print(json.dumps(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())

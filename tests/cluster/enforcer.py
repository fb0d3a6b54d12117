#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Enforces NetworkPolicies on all nodes, which share one kernel: `enforcer.py KUBECONFIG`, one process of the test cluster's. It hears of policies, pods and
namespaces from the API server, and of a pod's address from `attach.py` first: before anything of the pod runs, its rules are in force.
"""
import http.client
import json
import re
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from control import KEYS
from places import API, ATTACHED
from policies import World, pod_of, rules

# what a policy is made of, and how each is seen here
KINDS = {
    "/apis/networking.k8s.io/v1/networkpolicies": lambda thing: {"metadata": {"namespace": thing["metadata"]["namespace"]}, "spec": thing["spec"]},
    "/api/v1/pods": pod_of,
    "/api/v1/namespaces": lambda thing: thing["metadata"].get("labels", {}),
}
# a watch says nothing for so long at most: the API server ends it by itself before
SILENCE = 330
# how long a pod's start waits for its rules: less than `attach.py` does
PATIENCE = 15


class Watch(threading.Thread):
    """All objects of one kind, as the API server last told of them."""

    def __init__(self, path, sees, token, changed):
        super().__init__(daemon=True)
        self.path, self.sees, self.token, self.changed = path, sees, token, changed
        self.known, self.complete, self.lock = {}, False, threading.Lock()

    def run(self):
        while True:
            try:
                self.follow(self.begin())
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                # what was known last stays in force
                print(f"{self.path}: {error}", flush=True)
                time.sleep(0.5)

    def ask(self, query):
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=KEYS / "ca.crt"))
        request = urllib.request.Request(f"{API}{self.path}{query}", headers={"Authorization": f"Bearer {self.token}"})
        return urllib.request.build_opener(urllib.request.ProxyHandler({}), trust).open(request, timeout=SILENCE)

    def begin(self):
        """Takes in all there is; the version from which on to watch."""
        with self.ask("") as answer:
            listed = json.load(answer)
        with self.lock:
            self.known = {}
            for thing in listed["items"]:
                self.take(thing)
            self.complete = True
        self.changed.set()
        return listed["metadata"]["resourceVersion"]

    def follow(self, version):
        with self.ask(f"?watch=1&timeoutSeconds=300&resourceVersion={version}") as lines:
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                with self.lock:
                    self.take(event["object"], gone=event["type"] == "DELETED")
                self.changed.set()

    def take(self, thing, gone=False):
        seen = None if gone else self.sees(thing)
        about = thing["metadata"]
        key = about.get("namespace", ""), about["name"]
        if seen is None:
            self.known.pop(key, None)
        else:
            self.known[key] = seen

    def now(self):
        with self.lock:
            return dict(self.known)


class Attached(socketserver.ThreadingUnixStreamServer):
    """Which addresses pods were given, by their nodes' own word, and which of these have their rules."""

    daemon_threads = True

    def __init__(self, changed):
        ATTACHED.unlink(missing_ok=True)
        super().__init__(str(ATTACHED), Attachment)
        self.changed, self.known, self.in_force, self.told = changed, {}, set(), threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def add(self, uid, address):
        """Whether a pod has its rules, in time."""
        with self.told:
            self.known[uid] = address
            self.changed.set()
            return self.told.wait_for(lambda: (uid, address) in self.in_force, PATIENCE)

    def remove(self, uid):
        with self.told:
            self.known.pop(uid, None)

    def addressed(self, pods):
        """The pods, with the addresses that they were given last."""
        with self.told:
            return [replace(pod, address=self.known.get(pod.uid, pod.address)) for pod in pods]

    def acknowledge(self, pods):
        with self.told:
            self.in_force = {(pod.uid, pod.address) for pod in pods}
            self.told.notify_all()


class Attachment(socketserver.StreamRequestHandler):
    def handle(self):
        said = json.loads(self.rfile.readline())
        if not said["address"]:
            self.server.remove(said["uid"])
        elif not self.server.add(said["uid"], said["address"]):
            self.wfile.write(b"its rules took too long\n")
            return
        self.wfile.write(b"done\n")


def apply(script):
    done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"nft refuses this:\n{script}\n{done.stderr}")


def main():
    token = re.search(r"token: (\w+)", Path(sys.argv[1]).read_text())[1]
    changed = threading.Event()
    attached = Attached(changed)
    watches = [Watch(path, sees, token, changed) for path, sees in KINDS.items()]
    for watch in watches:
        watch.start()
    applied = None
    while all(watch.is_alive() for watch in watches):
        changed.wait(5)
        changed.clear()
        if not all(watch.complete for watch in watches):
            continue
        policies, pods, namespaces = [watch.now() for watch in watches]
        pods = attached.addressed(pods.values())
        script = rules(World(list(policies.values()), pods, {name: labels for (_, name), labels in namespaces.items()}))
        if script != applied:
            apply(script)
            applied = script
            print(f"{time.strftime('%H:%M:%S')} {len(policies)} policies for {len(pods)} pods are in force", flush=True)
        attached.acknowledge(pods)
    sys.exit("a watch has ended")


if __name__ == "__main__":
    main()

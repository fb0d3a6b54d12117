# SPDX-License-Identifier: Apache-2.0
"""Who is let in by the coordinator, and to what: a table of calls that are refused."""
import hashlib
import os
import signal

import stage
from app import agent_of, policy, the_one, workload, written
from calls import Refused, call, field, hello, open_session
from kube import apply, get, kubectl, must, say, until
from reading import read, reader, somebody
from scenario import scenario
from streams import SMALL, behind

SPACE = "guarded"
# its repository is the same place, where it has a domain of its own
BESIDE = "guarded-beside"
AUDIENCE = "holdfast.dev/coordinator"
SESSION = "AgentService/Session"


def token(pod=None, audience=AUDIENCE):
    """A token of the namespace's service account, bound to a pod or not."""
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}", f"--bound-object-uid={get('pod', pod, SPACE)['metadata']['uid']}"] if pod else []
    return kubectl("create", "token", "default", "-n", SPACE, f"--audience={audience}", *bound).strip()


def lineage_prefixes():
    """Where the lineages of the namespace's repository lie in the bucket."""
    root = stage.Store.directory / "data/holdfast" / SPACE
    return sorted(str(path.relative_to(root)) + "/" for path in root.glob("domains/*/lineages/*") if path.is_dir())


def domain_of(prefix):
    return prefix.split("/")[1]


# of somebody who writes where it is not his
BODY = b"not what its holder has written"
# the number that a log would have last: nobody has written it
LAST = "log/0000000000000001"


def creation(prefix):
    """Asks for a record in a lineage's log."""
    return field(1, f"{prefix}{LAST}") + field(2, BODY) + field(3, hashlib.sha256(BODY).digest())


def planted():
    """What came of it."""
    return sorted((stage.Store.directory / "data/holdfast" / SPACE).glob(f"domains/*/lineages/*/{LAST}"))


@scenario
def tokens_of_others(store):
    """A token opens its own pod's lineage, and nothing else: not another pod's, another namespace's, or a gone pod's."""
    stage.namespace(SPACE, store, policies=[policy("kept")])
    stage.namespace(BESIDE, store, prefix=SPACE, policies=[policy("kept")])
    apply(workload("Deployment", "theirs", labels={"holdfast.dev/policy": "kept"}), namespace=BESIDE)
    apply(workload("Deployment", "mine", labels={"holdfast.dev/policy": "kept"}),
          workload("Deployment", "yours", labels={"holdfast.dev/policy": "kept"}), workload("Deployment", "plain"), namespace=SPACE)
    pod, other = the_one(SPACE, "mine", seconds=180), the_one(SPACE, "yours", seconds=180)
    unprotected = the_one(SPACE, "plain", injected=False)
    for each in [pod, other]:
        written(SPACE, each, 5)
    stranger = the_one(BESIDE, "theirs", seconds=120)
    written(BESIDE, stranger, 5)
    authority = get("configmap", "holdfast-ca", SPACE)["data"]["ca.crt"]
    good = token(pod)

    def refused(what, code, words, method, message, **how):
        found, said, _ = call(method, message, authority=authority, **how)
        must(found == code and words in said, f"{what}: {found} {said!r}, not {code} with {words!r}")
        say(f"          {what}: {code}, {said}")

    refused("no token", "UNAUTHENTICATED", "authorization", SESSION, hello())
    refused("nonsense", "UNAUTHENTICATED", "", SESSION, hello(), token="a.b.c")
    refused("a token for the API server", "UNAUTHENTICATED", "", SESSION, hello(), token=token(pod, "https://kubernetes.default.svc"))
    refused("a token that is bound to no pod", "UNAUTHENTICATED", "not bound", SESSION, hello(), token=token())
    refused("an unprotected pod's token", "UNAUTHENTICATED", "not protected", SESSION, hello(), token=token(unprotected))
    theirs = stage.lineages(SPACE, "yours")[0]["spec"]["lineage"]
    foreign = stage.lineages(BESIDE, "theirs")[0]["spec"]["lineage"]
    refused("another pod's lineage by name", "PERMISSION_DENIED", "does not choose", SESSION, hello((SPACE, theirs)), token=good)
    refused("another namespace's lineage by name", "PERMISSION_DENIED", "does not choose", SESSION, hello((BESIDE, foreign)), token=good)
    refused("an agent's token for people's calls", "PERMISSION_DENIED", "may not", "LineageService/ListLineages", b"",
            token=good, repository=f"{SPACE}/default")
    refused("another namespace's repository", "PERMISSION_DENIED", "may not", "LineageService/ListLineages", b"",
            token=good, repository="first/default")
    viewer = somebody("viewer", "view", SPACE)
    code, said, _ = call("LineageService/ListLineages", b"", **viewer)
    must(code == "OK", f"the cluster's role `view` does not see lineages: {code} {said}")
    of = field(1, SPACE) + field(2, theirs)
    refused("who may only look, the bytes", "PERMISSION_DENIED", "files", "FileService/ReadFile", field(1, field(1, of)) + field(2, "data/log"),
            token=viewer["token"], repository=viewer["repository"])
    must(read(theirs, None, "data/log", reader(SPACE)), "the cluster's role `edit` does not read what is stored")
    prefixes = lineage_prefixes()
    must(len(prefixes) >= 3 and len({domain_of(prefix) for prefix in prefixes}) == 2, f"the bucket has {prefixes}")
    listing = field(1, f"{prefixes[0]}log/")
    refused("objects without a grant", "UNAUTHENTICATED", "grant", "ObjectService/ListObjects", listing, token=good)
    refused("objects with a made-up grant", "UNAUTHENTICATED", "grant", "ObjectService/ListObjects", listing, token=good, grant=bytes(32))
    grant, its_own = of_its_own(pod, good, prefixes, authority, refused)
    until("the agent's lineage goes on", lambda: any(behind(one) <= SMALL for one in stage.lineages(SPACE, "mine")), 60)
    restarts = [status["restartCount"] for status in get("pod", pod, SPACE)["status"]["initContainerStatuses"]]
    must(restarts == [0, 0], f"containers were restarted: {restarts}")
    kubectl("delete", "deployment", "-n", SPACE, "mine", seconds=60)
    until("the pod is gone", lambda: not get("pod", pod, SPACE), 90)
    # a verdict about a token may be kept for half a minute; that the pod is gone is known at once
    must(not lets_in(authority, good), "the token of a pod that is gone opens a session")
    refused("what was granted to a pod that is gone", "UNAUTHENTICATED", "grant", "ObjectService/ListObjects", field(1, f"{its_own}log/"), grant=grant)
    refused("to write with it", "UNAUTHENTICATED", "grant", "ObjectService/CreateObject", creation(its_own), grant=grant)
    must(not planted(), f"somebody's bytes are in the bucket: {planted()}")
    until("the token is void", lambda: call(SESSION, hello(), authority=authority, token=good)[0] == "UNAUTHENTICATED", 60, every=5)
    kubectl("delete", "deployment", "-n", SPACE, "yours", "plain")


def lets_in(authority, token):
    try:
        return open_session(authority, token)
    except Refused:
        return None


def of_its_own(pod, good, prefixes, authority, refused):
    """With the agent held still, its token opens a session: the grant reaches the pod's own lineage alone."""
    process = until("the agent is found", lambda: agent_of(SPACE, pod))
    os.kill(process, signal.SIGSTOP)
    try:
        grant = open_session(authority, good)
        able = []
        for prefix in prefixes:
            listing = field(1, f"{prefix}log/")
            code, said, pages = call("ObjectService/ListObjects", listing, grant=grant, authority=authority)
            if code == "OK":
                able.append((prefix, len(pages[0])))
            else:
                must(code == "PERMISSION_DENIED", f"{prefix}: {code} {said}")
        must(len(able) == 1 and able[0][1] > 100, f"the grant opens {able} of {prefixes}")
        own = able[0][0]
        neighbour = next(prefix for prefix in prefixes if prefix != own and domain_of(prefix) == domain_of(own))
        stranger = next(prefix for prefix in prefixes if domain_of(prefix) != domain_of(own))
        for whose, prefix in [("another lineage", neighbour), ("another namespace", stranger)]:
            name = field(1, f"{prefix}log/{2**64 - 2:016x}")
            refused(f"{whose}'s record", "PERMISSION_DENIED", "does not cover", "ObjectService/GetObject", name, grant=grant)
            refused(f"whether {whose} has a record", "PERMISSION_DENIED", "does not cover", "ObjectService/HeadObject", name, grant=grant)
            refused(f"a write to {whose}", "PERMISSION_DENIED", "does not cover", "ObjectService/CreateObject", creation(prefix), grant=grant)
        must(not planted(), f"somebody's bytes are in the bucket: {planted()}")
        refused("the repository's own object", "PERMISSION_DENIED", "does not cover", "ObjectService/GetObject", field(1, "repository"), grant=grant)
    finally:
        os.kill(process, signal.SIGCONT)
    return grant, own

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures holdfast, restic and rustic side by side: the same data, the same S3 server, on this machine.

    python3 bench/bench.py [--quick] [--scenario NAME ...] [--runs N] [--xfs] [--json FILE]

bench/README.md says what is measured, and what is not.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys

sys.dont_write_bytecode = True

import machine  # noqa: E402
from lab import Lab  # noqa: E402
from processes import Failed, Processes  # noqa: E402
from scenarios import SCENARIOS, needs  # noqa: E402
from server import Server  # noqa: E402
from tables import Results  # noqa: E402
from tools import Holdfast, Restic, Rustic  # noqa: E402

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REMARKS = """\
Remarks
- Server and tools share this machine: "CPU s" is the tool's, "server CPU s" MinIO's. A network would change the proportions.
- A restore by holdfast ends with a proof: all data is synced to the disk, read back, and its root compared with the one that was stored.
  restic and rustic do neither here; "then sync s" is how long a sync took afterwards. The comparison with the source is this program's own,
  for every tool, and not in the times.
- "holdfast" in a backup is the whole of a run: open or create the repository, claim the lineage, capture, seal. The peers' repositories are
  created before; opening one costs each tool the derivation of its key.
- All tools run with the settings they come with. They differ in more than speed: chunk sizes, compression levels, what is deduplicated,
  what is kept on this machine between backups.
- "stored MiB" is what the server's files take, with its own frame around each object."""


def arguments():
    """The command line."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(PROJECT, "target")
    parser = argparse.ArgumentParser(description="Measures holdfast, restic and rustic side by side on this machine.")
    parser.add_argument("--quick", action="store_true", help="little data, for CI: does everything work, and about how fast")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be given several times")
    parser.add_argument("--runs", type=positive, default=1, help="measure so often, the tools in turn, and show medians")
    parser.add_argument("--size", type=positive, help="MiB of large data [2048; quick: 96]")
    parser.add_argument("--files", type=positive, help="number of small files [1000000; quick: 20000]")
    parser.add_argument("--state", type=positive, help="MiB of state of each program that writes [1024; quick: 32]")
    parser.add_argument("--snapshots", type=positive, help="how many, of programs that write [30; quick: 5]")
    parser.add_argument("--rate", type=positive, default=250, help="pages of 4 KiB that each of these programs overwrites in a second")
    parser.add_argument("--changes", type=positive, default=1, help="changes while the agent runs, in each run")
    parser.add_argument("--xfs", action="store_true", help="pages also on an XFS with reflinks, in a file; needs root")
    parser.add_argument("--work", default=os.path.join(target, "bench"), help="where data and the server's files go [target/bench]")
    parser.add_argument("--keep", action="store_true", help="leave the data and the logs there, for another call")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured to this file")
    parser.add_argument("--timeout", type=positive, help="seconds for each step [3600; quick: 100]")
    parser.add_argument("--holdfast", metavar="PATH", help="[target/release/holdfast, which is built if it is missing]")
    for name in ("restic", "rustic", "minio"):
        parser.add_argument(f"--{name}", metavar="PATH", help="the program or the directory it is in [looked for in PATH]")
    args = parser.parse_args()
    sizes = {"size": 96, "files": 20_000, "timeout": 100, "rest": 5, "state": 32, "snapshots": 5} if args.quick else {
        "size": 2048, "files": 1_000_000, "timeout": 3600, "rest": 30, "state": 1024, "snapshots": 30}
    for name, value in sizes.items():
        setattr(args, name, getattr(args, name, None) or value)
    args.built = os.path.join(target, "release", "holdfast")
    args.work = os.path.join(os.path.abspath(args.work), "holdfast-bench")
    return args


def positive(text):
    """A number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def program(name, given):
    """Where a program is; None if it is nowhere."""
    if given and os.path.isdir(given):
        given = os.path.join(given, name)
    found = shutil.which(os.path.abspath(given) if given else name)
    if given and not found:
        raise Failed(f"{given} is not a program")
    return found


def own(args, processes):
    """The holdfast to measure."""
    if args.holdfast:
        return program("holdfast", args.holdfast)
    if not os.path.exists(args.built):
        print(f"building {args.built}", flush=True)
        command = ["cargo", "build", "--release", "--package", "holdfast", "--manifest-path", os.path.join(PROJECT, "Cargo.toml")]
        processes.run(command, {"HOME": os.environ.get("HOME", "/")}, timeout=7200)
    return args.built


def tools_of(args, server, processes):
    """Holdfast and those of its peers that are here."""
    tools = [Holdfast(own(args, processes), args.work, server, processes)]
    for kind, given in ((Restic, args.restic), (Rustic, args.rustic)):
        if found := program(kind.name, given):
            tools.append(kind(found, args.work, server, processes))
        else:
            print(f"no {kind.name} here: it is left out", flush=True)
    return tools


def introduce(args, tools, server_program, processes):
    """Says what is measured where; returns it for the JSON file."""
    about = machine.describe(args.work)
    versions = {tool.name: tool.version() for tool in tools}
    versions["minio"] = processes.output([server_program, "--version"]).splitlines()[0]
    print(f"{about['date']}: {about['cores']} cores ({about['processor']}), {about['memory_gib']} GiB, {about['kernel']}, {about['file_system']}")
    for name, version in versions.items():
        print(f"  {name}: {version}")
    if about["load"] > 0.3 * about["cores"]:
        print(f"  THIS MACHINE IS BUSY (load {about['load']}): these figures say little")
    print(f"{'quick, ' if args.quick else ''}{args.size} MiB of large data, {args.files} small files, runs: {args.runs}\n", flush=True)
    settings = {name: getattr(args, name) for name in ("quick", "size", "files", "runs", "changes", "xfs", "rest", "state", "snapshots", "rate")}
    return {"machine": about, "versions": versions, "settings": settings}


@contextlib.contextmanager
def workplace(path):
    """The work directory, for one benchmark at a time."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    with open(os.path.join(path, "lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed(f"another benchmark is working in {path}") from None
        yield


def clean(args, processes, last):
    """Deletes what this call, or one that was killed, has left."""
    machine.unmount(os.path.join(args.work, "xfs"), processes)
    for name in ("minio", "restored", "cache", "home", "xfs.img"):
        path = os.path.join(args.work, name)
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.exists(path):
            os.remove(path)
    if last and not args.keep:
        shutil.rmtree(args.work, ignore_errors=True)


def measure(args, processes, results):
    """Everything that was asked for."""
    chosen = [name for name in SCENARIOS if name in (args.scenario or SCENARIOS)]
    found = program("minio", args.minio)
    if not found:
        raise Failed("there is no minio: name it with --minio")
    server = Server(found, args.work, processes)
    tools = tools_of(args, server, processes)
    wanted = [needs(name, args) for name in chosen]
    beside = args.size << 20 if len(chosen) > 1 else 0
    machine.room(args.work, max(size for size, _ in wanted) + beside, max(entries for _, entries in wanted))
    about = introduce(args, tools, found, processes)
    server.start()
    try:
        lab = Lab(args, args.work, server, processes, tools, results)
        for name in chosen:
            SCENARIOS[name](lab)
    finally:
        server.stop()
    print(f"\n{REMARKS}")
    if args.json:
        results.write(args.json, about)


def interrupted(*_):
    """Whoever ends this wants everything cleaned up, too."""
    raise KeyboardInterrupt


def main():
    """Measures; the exit code says whether everything could be measured and came back as it was."""
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # which nohup asks for
            signal.signal(number, interrupted)
    results = Results()
    try:
        with workplace(args.work):
            processes = Processes(args.work, args.timeout)
            clean(args, processes, last=False)
            os.makedirs(processes.env["HOME"], exist_ok=True)
            try:
                measure(args, processes, results)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # once is enough
                processes.end_all()
                clean(args, processes, last=True)
    except Failed as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    for failure in results.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())

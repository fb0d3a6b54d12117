# SPDX-License-Identifier: Apache-2.0
"""The databases' own programs, from Debian's packages; installed if they are missing, without any of their services being started."""
import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from processes import Unmet, must

NEEDED = {
    "postgresql": ["initdb", "postgres", "psql", "pgbench", "pg_amcheck", "pg_checksums"],
    "redis-server": ["redis-server", "redis-benchmark", "redis-check-aof", "redis-cli"],
    "sqlite3": ["sqlite3"],
}
POLICY = Path("/usr/sbin/policy-rc.d")
# what it answers: this action is forbidden
FORBIDDEN = 101


def found(program):
    """Where a program is; none, if it is nowhere. PostgreSQL's lie beside each other by version, and not in PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return shutil.which(program, path=os.pathsep.join([*map(str, versions), os.environ["PATH"], "/usr/sbin"]))


def programs(packages):
    """The paths of all programs of some packages, by their names."""
    missing = [package for package in packages if not all(map(found, NEEDED[package]))]
    if missing:
        install(missing)
    paths = {program: found(program) for package in packages for program in NEEDED[package]}
    lacking = [program for program, path in paths.items() if not path]
    must(not lacking, f"{', '.join(lacking)}: missing, though {', '.join(missing)} is installed")
    return paths


def install(missing):
    """Debian's packages. Their services are neither started now nor with the machine."""
    what = f"apt-get install {' '.join(missing)}"
    must(os.geteuid() == 0 and shutil.which("apt-get"), f"some programs are missing: {what}")
    print(f"installing {', '.join(missing)}", flush=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60", *missing]
    with no_services():
        for before in (None, ["apt-get", "update", "-qq"]):
            if before:
                subprocess.run(before, check=False, stdin=subprocess.DEVNULL)
            done = subprocess.run(command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
        else:
            raise Unmet(f"{what} failed: {(done.stdout + done.stderr)[-2000:]}")
    for service in missing:
        if Path("/etc/init.d", service).exists():
            subprocess.run(["update-rc.d", service, "disable"], check=False, capture_output=True)


@contextlib.contextmanager
def no_services():
    """As long as this lasts, no package starts a service. Somebody else's rule about that is asked, and left alone."""
    if POLICY.exists():
        answer = subprocess.run([POLICY, "redis-server", "start"], check=False, capture_output=True).returncode
        must(answer == FORBIDDEN, f"{POLICY} would let services start: install {', '.join(NEEDED)} by hand")
        yield
        return
    POLICY.write_text(f"#!/bin/sh\nexit {FORBIDDEN}\n")
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink()

# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL in the cluster: an image of Debian's own programs, and what is asked of a server in a pod."""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kube import CLUSTER, ROOT, Unmet, cluster, kubectl, must
from links import put, put_linked, put_shell, put_start

sys.path.append(str(ROOT / "tests/databases"))

from packages import programs  # noqa: E402
from pgbench import SUMS  # noqa: E402

# what runs in pods, of Debian's
PROGRAMS = ["postgres", "initdb", "psql", "pgbench", "pg_isready", "pg_amcheck"]
# one that pods run as
PASSWD = "postgres:x:1000:1000::/:/bin/sh\n"


def image():
    """Puts it on every node: the programs and what they are linked with, and nothing else of Debian."""
    home = Path(programs(["postgresql"])["postgres"]).resolve().parent.parent
    share = Path("/usr/share/postgresql", home.name)
    with tempfile.TemporaryDirectory(prefix="holdfast-postgres-") as work:
        root = Path(work)
        # whoever runs in it
        root.chmod(0o755)
        # what is loaded by name, without what compiles queries
        files = [path for path in (home / "lib").glob("*.so") if "llvm" not in path.name]
        files += [home / "bin" / name for name in PROGRAMS]
        put_linked(files, root)
        for zone in ["UTC", "GMT", "Etc/UTC"]:
            path = Path("/usr/share/zoneinfo", zone)
            put(path, root / str(path).lstrip("/"))
        shutil.copytree(share, root / str(share).lstrip("/"))
        put_shell(["sh", "cat"], root)
        for name in PROGRAMS:
            (root / "bin" / name).symlink_to(home / "bin" / name)
        (root / "etc").mkdir()
        (root / "etc/passwd").write_text(PASSWD)
        put_start("postgres", root)
        cluster("image", "postgres", "/start", f"{root}=/")


class Database:
    """A server in a pod."""

    def __init__(self, namespace, pod):
        self.where = ["exec", "-n", namespace, pod, "-c", "scribe", "--"]

    def run(self, program, *arguments, seconds=120):
        return kubectl(*self.where, program, "-h", "/tmp", "-U", "postgres", *arguments, seconds=seconds)

    def ask(self, question):
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", question).strip()

    def load(self):
        """A hundred transactions a second for two minutes, or until it is gone."""
        words = [CLUSTER, "kubectl", *self.where, "pgbench", "-h", "/tmp", "-U", "postgres", "-n", "-c", "2", "-R", "100", "-T", "120", "postgres"]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def transactions(self):
        """How many are there, and the last one's time; all that the server says of itself must be well."""
        *sums, count = self.ask(SUMS).split("|")
        must(len(set(sums)) == 1, f"the sums of pgbench differ: {sums}")
        self.run("pg_amcheck", "--install-missing", "--heapallindexed", "--parent-check", "-d", "postgres")
        return int(count), float(self.ask("SELECT coalesce(extract(epoch FROM max(mtime)), 0) FROM pgbench_history"))

    def answers(self):
        try:
            return self.ask("SELECT 1") == "1"
        except Unmet:
            return False

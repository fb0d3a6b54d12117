# SPDX-License-Identifier: Apache-2.0
"""The `holdfast` program, as somebody runs it who has a kubeconfig."""
import os
import subprocess
from pathlib import Path

from kube import CLUSTER_STATE, ROOT, must

BUILT = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug/holdfast"


def built():
    """The program as tests have it; compiled where nobody has done so."""
    if not BUILT.exists():
        subprocess.run(["cargo", "build", "--locked", "--workspace", "--bin", "holdfast"], cwd=ROOT, check=True, timeout=3600)
    return BUILT


def holdfast(*words, code=0, given=""):
    """What it writes, with what it says beside that; it must end with this code."""
    known = os.environ | {"KUBECONFIG": str(CLUSTER_STATE / "admin.kubeconfig")}
    done = subprocess.run([built(), *words], env=known, input=given, capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    must(done.returncode == code, f"holdfast {' '.join(words)} ended with {done.returncode}, not {code}:\n{said}")
    return said

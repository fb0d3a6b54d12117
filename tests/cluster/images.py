# SPDX-License-Identifier: Apache-2.0
"""Container images without a registry: made from files, carried as archives."""
import os
import shutil

from nodes import import_image, running
from places import STATE
from processes import run

BUILDAH = os.environ | {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
PAUSE = "int pause(void); int main(void) { for (;;) pause(); }"


def load(archives):
    """Puts image archives, as docker or buildah write them, on every node, and on those that come."""
    for archive in archives:
        kept = STATE / "images" / os.path.basename(archive)
        shutil.copyfile(archive, kept)
        for number in running():
            import_image(number, kept)


def make(name, entrypoint, files):
    """An image `holdfast.local/NAME:1` from nothing but files on disk, each SOURCE=DESTINATION."""
    archive = STATE / "images" / f"{name}.tar"
    container = run("buildah", "from", "scratch", env=BUILDAH).stdout.split()[-1]
    try:
        for file in files:
            source, _, destination = file.partition("=")
            run("buildah", "copy", "-q", container, source, destination, env=BUILDAH)
        run("buildah", "config", "--entrypoint", f'["{entrypoint}"]', "--env", "PATH=/bin", container, env=BUILDAH)
        run("buildah", "commit", "-q", container, f"localhost/made-{name}", env=BUILDAH)
        archive.unlink(missing_ok=True)
        run("buildah", "push", "-q", f"localhost/made-{name}", f"docker-archive:{archive}:holdfast.local/{name}:1", env=BUILDAH)
    finally:
        run("buildah", "rm", container, env=BUILDAH, check=False)
        run("buildah", "rmi", f"localhost/made-{name}", env=BUILDAH, check=False)
    for number in running():
        import_image(number, archive)


def make_pause():
    """What holds a pod's namespaces."""
    if not (STATE / "images/pause.tar").exists():
        run("cc", "-static", "-Os", "-x", "c", "-o", STATE / "pause", "-", input=PAUSE)
        make("pause", "/pause", [f"{STATE}/pause=/pause"])

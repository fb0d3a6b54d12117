#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An image that compiles, made of what this machine has, where no registry gives one: `deploy/compiler.sh FILE` leaves an OCI archive there. In it is a
# Debian with gcc, and this machine's Rust with its target for musl. As root, with debootstrap and buildah; the rest is in deploy/images.sh.
set -euo pipefail
[ $# = 1 ] || { sed -n '3,4s/^# //p' "$0"; exit 2; }
mkdir -p "$(dirname "$1")"
to=$(realpath "$1")
work=$(mktemp -d -p "$(dirname "$to")")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
rust=$(rustc --print sysroot)
gnu=$(uname -m)-unknown-linux-gnu
musl=$(uname -m)-unknown-linux-musl
if [ ! -d "$rust/lib/rustlib/$musl" ]; then
  echo "Rust's target for musl is missing: rustup target add $musl" >&2
  exit 1
fi

debian=$(. /etc/os-release && echo "$VERSION_CODENAME")
debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,musl-tools "$debian" "$root" >"$work/log" || { tail -20 "$work/log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
mkdir -p "$root/usr/local/lib/rustlib"
cp -a "$rust"/bin/{cargo,rustc} "$root/usr/local/bin/"
find "$rust/lib" -maxdepth 1 -type f -exec cp -a -t "$root/usr/local/lib" {} +
cp -a "$rust/lib/rustlib/$gnu" "$rust/lib/rustlib/$musl" "$root/usr/local/lib/rustlib/"

# with a storage of its own, which goes with the rest
builds() {
  BUILDAH_ISOLATION=chroot buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}
printf 'FROM scratch\nCOPY root /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n' >"$work/Dockerfile"
printf '*\n!root\n' >"$work/.dockerignore"
TMPDIR=$work builds build -q -t localhost/compiler "$work" >/dev/null
rm -f "$to"
TMPDIR=$work builds push -q --disable-compression localhost/compiler "oci-archive:$to"
echo "$to"

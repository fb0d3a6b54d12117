#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images on this machine, without a registry: `deploy/images.sh DIRECTORY` leaves holdfast-agent.tar, holdfast-coordinator.tar and
# factoriser.tar there, OCI archives of holdfast.local/holdfast-agent:1 and so on. Cargo compiles here, static; the Dockerfiles put what it made on nothing.
# In the wild, docker builds the same Dockerfiles alone.
# HOLDFAST_IMAGE_PROFILE=dev takes the programs as tests have them, together with the system's libraries: to try things out, nothing to publish.
# HOLDFAST_IMAGE_COMPILE=inside compiles as docker would, in the Dockerfiles' first stage; HOLDFAST_IMAGE_COMPILER is an image that compiles, where no
# registry has one: oci-archive:FILE, as deploy/compiler.sh makes it. What was compiled stays in .cache/compile.
# HOLDFAST_IMAGE_ARCH=amd64 or arm64 is what they are for, unless it is this machine's; for the other one, cargo-zigbuild compiles (pip install
# ziglang cargo-zigbuild).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 1 ] || { sed -n '3,11s/^# //p' "$0"; exit 2; }
mkdir -p "$1"
to=$(cd "$1" && pwd)
cd "$here"
export BUILDAH_ISOLATION=chroot
work=$(mktemp -d -p "$to")
trap 'rm -rf "$work"' EXIT
most=$((20 * 1024 * 1024)) # bytes that an agent's image may have, unpacked
profile=${HOLDFAST_IMAGE_PROFILE:-release}
compile=${HOLDFAST_IMAGE_COMPILE:-outside}

machine=$(uname -m)
case ${HOLDFAST_IMAGE_ARCH:-$machine} in
  amd64 | x86_64) arch=amd64 cpu=x86_64 ;;
  arm64 | aarch64) arch=arm64 cpu=aarch64 ;;
  *) echo "HOLDFAST_IMAGE_ARCH is amd64 or arm64, not $HOLDFAST_IMAGE_ARCH" >&2; exit 2 ;;
esac

# with a storage of its own, which goes with the rest
builds() {
  buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

target=""
case $compile-$profile in
  inside-release)
    if [ "$cpu" != "$machine" ]; then
      echo "HOLDFAST_IMAGE_COMPILE=inside is for this machine alone: docker buildx has others" >&2
      exit 2
    fi
    export TMPDIR=$here/.cache/compile # where buildah keeps what the Dockerfiles' caches hold
    mkdir -p "$TMPDIR"
    # their default; but some versions of buildah know a stage by it only if it is said
    inside=(--build-arg BINARIES=compiled)
    if [ -n "${HOLDFAST_IMAGE_COMPILER:-}" ]; then
      builds tag "$(builds pull -q "$HOLDFAST_IMAGE_COMPILER")" localhost/holdfast-compiler
      inside+=(--build-arg COMPILER=localhost/holdfast-compiler)
    fi
    # how this machine's cargo finds its registry, and whom it trusts, if it was told
    settings=${CARGO_HOME:-$HOME/.cargo}/config.toml
    if [ -f "$settings" ]; then
      inside+=(--volume "$settings:/.cargo/config.toml:ro")
    fi
    trusted=${CARGO_HTTP_CAINFO:-${SSL_CERT_FILE:-}}
    if [ -n "$trusted" ]; then
      inside+=(--volume "$trusted:/.cargo/trusted.crt:ro")
    fi
    ;;
  outside-release)
    # static: musl's target where the toolchain has it; else glibc's, linked statically
    target=$cpu-unknown-linux-musl
    build=build
    if [ "$cpu" != "$machine" ]; then
      # C for another processor, and the linking of it
      build=zigbuild
    elif [ ! -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
      target=$cpu-unknown-linux-gnu
      export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
    fi
    # the agent by itself: together with the others it would get the parts of the store's library that only they need
    cargo "$build" --locked --release --target "$target" -p holdfast-agent
    cargo "$build" --locked --release --target "$target" \
      -p holdfast-coordinator -p holdfast-webhook -p holdfast-factoriser -p holdfast-factoriser-operator
    ;;
  outside-dev)
    if [ "$cpu" != "$machine" ]; then
      echo "HOLDFAST_IMAGE_PROFILE=dev is for this machine alone" >&2
      exit 2
    fi
    # with the tests: without them, crates would have other features, and be compiled again
    cargo build --locked --workspace --bins --tests
    ;;
  *)
    echo "HOLDFAST_IMAGE_PROFILE is release or dev, HOLDFAST_IMAGE_COMPILE inside or outside, and dev never inside: not $profile and $compile" >&2
    exit 2
    ;;
esac
built=$(cargo metadata --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/$target/${profile/#dev/debug}

mkdir -p "$work/programs/out/scratch"
chmod 1777 "$work/programs/out/scratch"
out=$work/programs/out
printf 'FROM scratch\nCOPY out /out\n' >"$work/programs/Dockerfile"

libraries() { # what a program is linked with, where it looks for it
  local library
  for library in $(ldd "$1" | grep -o '/[^ ]*'); do
    install -D -m 755 "$(readlink -f "$library")" "$out/$library"
  done
}

image() { # image NAME DOCKERFILE PROGRAM…
  local name=$1 file=$2
  shift 2
  if [ "$compile" = inside ]; then
    builds build -f "$file" "${inside[@]}" -t "localhost/$name" . >&2
  else
    binaries "$@"
    builds build -q --platform "linux/$arch" -f "$file" --build-arg BINARIES=localhost/holdfast-binaries -t "localhost/$name" . >/dev/null
  fi
  rm -f "$to/$name.tar"
  builds push -q "localhost/$name" "oci-archive:$to/$name.tar:holdfast.local/$name:1"
  echo "$to/$name.tar"
}

binaries() { # binaries PROGRAM…: an image of them, to copy from
  local program
  for program in "$@"; do
    install -m 755 "$built/$program" "$out/$program"
    if [ "$profile" = dev ]; then
      strip "$out/$program"
      libraries "$out/$program"
    elif readelf -lW "$out/$program" | grep -q INTERP; then
      echo "$program is not static" >&2
      return 1
    fi
  done
  builds build -q --platform "linux/$arch" -t localhost/holdfast-binaries "$work/programs" >/dev/null
  for program in "$@"; do rm "$out/$program"; done
}

# The bytes of an image's layers, unpacked and packed.
sizes() {
  python3 - "$1" <<'PYTHON'
import gzip, json, sys, tarfile
archive = tarfile.open(sys.argv[1])
def blob(digest):
    return archive.extractfile("blobs/" + digest.replace(":", "/")).read()
index = json.load(archive.extractfile("index.json"))
layers = json.loads(blob(index["manifests"][0]["digest"]))["layers"]
packed = [blob(layer["digest"]) for layer in layers]
print(sum(len(gzip.decompress(each) if each[:2] == b"\x1f\x8b" else each) for each in packed), sum(map(len, packed)))
PYTHON
}

image holdfast-agent Dockerfile.agent holdfast-agent
read -r unpacked pulled < <(sizes "$to/holdfast-agent.tar")
echo "the agent's image: $unpacked bytes unpacked, $pulled as they are pulled ($profile)"
# what other profiles make is bigger, and never leaves this machine
if [ "$profile" = release ] && [ "$unpacked" -gt "$most" ]; then
  echo "the agent's image holds more than $most bytes" >&2
  exit 1
fi
rm -r "$out/scratch"
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/ca-certificates.crt"
image holdfast-coordinator Dockerfile.coordinator holdfast-coordinator holdfast-webhook
rm -r "$out/etc"
image factoriser deploy/examples/factoriser/Dockerfile factoriser factoriser-operator

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images on this machine, without a registry: `deploy/images.sh DIRECTORY` leaves holdfast-agent.tar, holdfast-coordinator.tar and
# factoriser.tar there, OCI archives of local/holdfast-agent:1 and so on. Cargo compiles here, static; the Dockerfiles put what it made on nothing.
# In the wild, docker builds the same Dockerfiles alone.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 1 ] || { sed -n '3,6s/^# //p' "$0"; exit 2; }
mkdir -p "$1"
to=$(cd "$1" && pwd)
cd "$here"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
most=$((20 * 1024 * 1024)) # bytes that an agent's image may have
profile=${HOLDFAST_IMAGE_PROFILE:-release}

# static: musl's target where the toolchain has it; else glibc's, linked statically
target=x86_64-unknown-linux-musl
if [ ! -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
  target=x86_64-unknown-linux-gnu
  export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
fi
cargo build --locked --profile "$profile" --target "$target" \
  -p holdfast-agent -p holdfast-coordinator -p holdfast-webhook -p holdfast-factoriser -p holdfast-factoriser-operator
built=$(cargo metadata --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/$target/$profile

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/out/scratch"
chmod 1777 "$work/out/scratch"
printf 'FROM scratch\nCOPY out /out\n' >"$work/Dockerfile"

image() { # image NAME DOCKERFILE PROGRAM…
  local name=$1 file=$2 program
  shift 2
  for program in "$@"; do
    install -m 755 "$built/$program" "$work/out/$program"
    if readelf -lW "$work/out/$program" | grep -q INTERP; then
      echo "$program is not static" >&2
      return 1
    fi
  done
  buildah build -q -t localhost/holdfast-binaries "$work" >/dev/null
  buildah build -q -f "$file" --build-arg BINARIES=localhost/holdfast-binaries -t "localhost/$name" . >/dev/null
  rm -f "$to/$name.tar"
  buildah push -q "localhost/$name" "oci-archive:$to/$name.tar:docker.io/local/$name:1"
  for program in "$@"; do rm "$work/out/$program"; done
  echo "$to/$name.tar"
}

image holdfast-agent Dockerfile.agent holdfast-agent
size=$(stat -c %s "$built/holdfast-agent")
[ "$size" -le "$most" ] || { echo "the agent's image holds $size bytes, more than $most" >&2; exit 1; }
rm -r "$work/out/scratch"
install -m 644 /etc/ssl/certs/ca-certificates.crt "$work/out/ca-certificates.crt"
image holdfast-coordinator Dockerfile.coordinator holdfast-coordinator holdfast-webhook
image factoriser deploy/examples/factoriser/Dockerfile factoriser factoriser-operator
buildah rmi localhost/holdfast-agent localhost/holdfast-coordinator localhost/factoriser localhost/holdfast-binaries >/dev/null

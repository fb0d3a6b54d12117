#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the Dockerfiles' first stage does: `deploy/compile.sh PROGRAM…` compiles programs of this workspace, static, for the processor that it runs on,
# and puts them into /out. It runs on a Debian with gcc and Rust, as the official image or that of deploy/compiler.sh. What it compiles lies in /cache,
# which the builds of all three images share; of that, only others' crates are taken as they are.
set -eu
target=$(uname -m)-unknown-linux-musl
export CARGO_HOME=/cache/cargo CARGO_TARGET_DIR="/cache/$target" CARGO_INCREMENTAL=0

if ! command -v musl-gcc >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends musl-tools >/dev/null
fi
export "CC_$(echo "$target" | tr - _)=musl-gcc"
if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
  rustup target add "$target"
fi

# cargo goes by times, and what is in the cache may be younger than these sources and made of others
find . -type f -exec touch {} +
# whom deploy/images.sh was told to trust
if [ -f /.cargo/trusted.crt ]; then
  export CARGO_HTTP_CAINFO=/.cargo/trusted.crt
fi
packages=""
for program; do
  packages="$packages --package holdfast-${program#holdfast-}"
done
# shellcheck disable=SC2086
cargo build --locked --release --target "$target" $packages
mkdir -p /out
for program; do
  cp "$CARGO_TARGET_DIR/$target/release/$program" /out
  if readelf -lW "/out/$program" | grep -q INTERP; then
    echo "$program is not static" >&2
    exit 1
  fi
done

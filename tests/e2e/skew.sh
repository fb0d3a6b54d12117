#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `tests/e2e/skew.sh COMMIT`: images of an older commit are built, and agents and coordinators of both are tried beside each other on the test cluster. As root.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
[ $# = 1 ] || { sed -n '3s/^# //p' "$0"; exit 2; }
older=$here/.cache/older
git -C "$here" worktree remove --force "$older" 2>/dev/null || true
git -C "$here" worktree add --quiet --detach "$older" "$1"
trap 'git -C "$here" worktree remove --force "$older"' EXIT
export HOLDFAST_IMAGE_PROFILE=dev HOLDFAST_E2E_OLDER=$here/.cache/older-images
# Both compile to the same place, and what they have in common is compiled once. Cargo takes the crates of one for those of the other, unless
# they are compiled in another way.
CARGO_PROFILE_DEV_DEBUG=1 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target} "$older/deploy/images.sh" "$HOLDFAST_E2E_OLDER"
"$here/tests/e2e/run.py" versions_apart

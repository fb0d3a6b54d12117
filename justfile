# SPDX-License-Identifier: Apache-2.0
# Everything a contributor runs by name. CI runs .ci/run, as `just ci` does.

# What there is
default:
    @just --list --unsorted

# The `holdfast` program, as it is released
build:
    cargo build --release

# All tests
test:
    cargo test --workspace

# Form and lints
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The suite that every store must pass, on a MinIO that is installed and started for it
conformance:
    .ci/run conformance

# How fast, how small: ratios, printed
bench *arguments:
    cargo build --release
    python3 bench/bench.py {{arguments}}

# Simulated agents at one coordinator: the time of a snapshot of all, memory and processor time of those at rest
fleet agents="10,100,1000,5000":
    cargo test --release -p holdfast --test fleet -- --agents {{agents}}

# Any second: a program counts for so many minutes, and is restored as it was at 50 random moments
any-second minutes="5":
    cargo test -p holdfast --test any_second -- --minutes {{minutes}}

# See it work
demo *arguments:
    cargo run --release -- demo {{arguments}}

# On a real Kubernetes of its own, from nothing: cluster, images, deploy/, scenarios that compare the bytes of an application's state; as root
e2e *arguments:
    .ci/run --needs e2e
    tests/e2e/run.py {{arguments}}

# Agents and coordinators of this version and of an older commit beside each other, on the test cluster; as root
skew commit:
    .ci/run --needs e2e
    tests/e2e/skew.sh {{commit}}

# Databases as Debian has them: frozen under load, restored, checked; as root, which installs those that are missing
databases *arguments:
    .ci/run --needs databases
    tests/databases/run.py {{arguments}}

# Snapshots of a bank whose houses never stop moving money, each restored and audited (--snapshots 200 --file-system xfs as root)
bank *arguments:
    .ci/run --needs bank
    tests/bank/run.py {{arguments}}

# All that CI does; or only the named steps
ci *steps:
    .ci/run {{steps}}

# Licences, bans and sources of dependencies; needs cargo-deny
deny:
    cargo deny check bans licenses sources

# Write deploy/crds anew from api/src
crds:
    HOLDFAST_WRITE=1 cargo test -p holdfast-api --test crds

# Write a repository of the present format into a directory that does not exist; as root
vectors directory:
    cargo run -p holdfast-tests --example write-format-v1 -- {{directory}}

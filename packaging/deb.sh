#!/usr/bin/env bash
# Builds the Debian package and prints its path. Needs cargo-deb (`cargo install
# cargo-deb --locked`) and Debian's dpkg-dev. The package runs on the release it was
# built on and on later ones.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked
binary=${CARGO_TARGET_DIR:-target}/release/pushmux

generated=packaging/generated
mkdir -p "$generated"
"$binary" man > "$generated/pushmux.1" # cargo-deb compresses it
"$binary" completions bash > "$generated/pushmux.bash"

cargo deb --no-build --locked "$@"

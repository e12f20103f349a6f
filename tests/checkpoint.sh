#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole checkpoint suite: what tests/integration/checkpoint.bats has, and what takes longer: all variants, real
# programs from Debian's packages, 512 MiB. Usage: checkpoint.sh OUT [FILE…]
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- tests/integration/checkpoint.bats tests/integration/ctr_checkpoint.bats \
    tests/integration/faults.bats tests/integration/ctr_faults.bats tests/checkpoint/*.bats
tests/checkpoint/roots.sh "$out"
exec tests/integration.sh "$out" "$@"

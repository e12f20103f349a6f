#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the integration tests (bats) against the programs in OUT. Usage: integration.sh OUT [FILE…]
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- tests/integration/*.bats
export STASIS_OUT=$out STASIS_SRC=$PWD
tests/integration/prepare.sh "$out"
status=0
bats --tap --timing "$@" | tee "$out/integration.tap" || status=$?
ok=$(grep -c '^ok ' "$out/integration.tap" || true)
bad=$(grep -c '^not ok ' "$out/integration.tap" || true)
echo "integration: $ok passed, $bad failed"
[ "$status" = 0 ] && [ "$ok" -gt 0 ]

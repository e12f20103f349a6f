#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the integration tests (bats) against the programs in OUT, LANES files at a time (default 2), each with a root of its
# own. Usage: integration.sh OUT [FILE…]
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath "$1")
shift
# The long ones first, so that none is left alone at the end.
if [ $# -eq 0 ]; then
    mapfile -t files < <(wc -l tests/integration/*.bats | sort -rn | awk '$2 != "total" {print $2}')
    set -- "${files[@]}"
fi
export STASIS_OUT=$out STASIS_SRC=$PWD
tests/integration/prepare.sh "$out"
taps=$out/integration.d
rm -rf "$taps"
mkdir -p "$taps"
status=0
# A file's output is shown whole when the file is done.
run_file() {
    local tap r=0
    tap=$taps/$(basename "$1").tap
    bats --tap --timing "$1" >"$tap" 2>&1 || r=1
    sed "1s|^1\.\.|$1: |" "$tap"
    return $r
}
export -f run_file
export taps
# shellcheck disable=SC2016 # for the shell that xargs starts
printf '%s\n' "$@" | xargs -P "${LANES:-2}" -I{} bash -c 'run_file "$1"' _ {} || status=$?
cat "$taps"/*.tap >"$out/integration.tap"
ok=$(grep -c '^ok ' "$out/integration.tap" || true)
bad=$(grep -c '^not ok ' "$out/integration.tap" || true)
echo "integration: $ok passed, $bad failed"
[ "$status" = 0 ] && [ "$ok" -gt 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer. Usage: unit.sh OUT
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh
build=$1/build-asan
mkdir -p "$1"
sanitizer_build "$1" || exit
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
status=0
meson test -C "$build" --no-rebuild --print-errorlogs -t 4 >"$1/unit.log" 2>&1 || status=$?
ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$1/unit.log")
bad=$(awk '/^(Fail|Timeout|Unexpected Pass): /{n += $NF} END {print n + 0}' "$1/unit.log")
[ "$status" = 0 ] || grep -v '^ *[0-9]*/[0-9]* .* OK ' "$1/unit.log" | tail -n 150
echo "unit: ${ok:-0} passed, $bad failed"
[ "$status" = 0 ] && [ "${ok:-0}" -gt 0 ]

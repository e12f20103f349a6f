#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All checks; the last line is "N passed, N failed". Usage: run.sh OUT
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
for part in unit lint fuzz integration; do
    echo "== $part"
    log=$1/test-$part.log
    start=$(date +%s)
    "tests/$part.sh" "$1" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    line=$(grep -E "^$part: [0-9]+ passed, [0-9]+ failed$" "$log" | tail -n 1)
    p=$(sed -E 's/.*: ([0-9]+) passed.*/\1/' <<<"$line")
    f=$(sed -E 's/.*, ([0-9]+) failed.*/\1/' <<<"$line")
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-0}))
    # A part that ended badly without saying so counts as a failure.
    if [ "$status" != 0 ] && [ "${f:-0}" = 0 ]; then failed=$((failed + 1)); fi
    echo "   ($part took $(($(date +%s) - start)) s)"
done
# What failed, once more and in short: a CI that keeps only the end of the output has it.
if [ "$failed" != 0 ]; then
    echo "== failed"
    grep -hE '^FAIL ' "$1"/test-{unit,lint,fuzz}.log
    awk '/^tests\/integration\//  {file = $1}
         /^(not )?ok /             {left = 0}
         /^not ok /                {print file " " $0; left = 5}
         /^# / && left-- > 0       {print "    " substr($0, 3, 200)}' "$1/test-integration.log"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]

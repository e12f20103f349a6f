#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Cold boots in a row (STASIS_SOAK_ROUNDS, default 100): each runs /bin/true in a VM of its own; nothing may be left.
# Usage: soak.sh OUT
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath "$1")
tests/integration/prepare.sh "$out"
work=$(mktemp -d /tmp/stasis-soak.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root" "$work/b"
"$out/bin/stasis" spec --bundle "$work/b"
jq --arg r "$out/test-rootfs" '.process.terminal = false | .process.args = ["/bin/true"] | .root.path = $r' \
    "$work/b/config.json" >"$work/c" && mv "$work/c" "$work/b/config.json"
rounds=${STASIS_SOAK_ROUNDS:-100}
good=0
for i in $(seq "$rounds"); do
    if timeout 120 "$out/bin/stasis" --root "$work/root" run --bundle "$work/b" "soak$i" </dev/null; then
        good=$((good + 1))
    else
        echo "boot $i failed with exit code $?"
    fi
done
left=$(find "$work/root" -mindepth 1 | wc -l)
processes=$(pgrep -fc -- "-root $work/root " || true)
echo "$good of $rounds boots succeeded; $left files and $processes processes left"
[ "$good" = "$rounds" ] && [ "$left" = 0 ] && [ "$processes" = 0 ]

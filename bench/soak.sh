#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The same over and over (STASIS_SOAK_ROUNDS, default 100); nothing may be left of any round.
#   boot      cold boots: each runs /bin/true in a VM of its own
#   snapshot  start, snapshot, restore beside it, delete both and the snapshot; starts are copies of a template
# The machine's shared memory is looked at, so nothing else may run. Usage: soak.sh OUT [boot|snapshot]
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath "$1")
mode=${2:-boot}
tests/integration/prepare.sh "$out"
work=$(mktemp -d /tmp/stasis-soak.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root" "$work/b"
rounds=${STASIS_SOAK_ROUNDS:-100}
template=true
[ "$mode" != boot ] || template=false
printf '%s\n' '[vm]' 'memory = 256M' "template = $template" '[snapshot]' "dir = $work/snapshots" \
    "templates = $work/templates" >"$work/conf"

stasis() {
    timeout 120 "$out/bin/stasis" --root "$work/root" --config "$work/conf" "$@" </dev/null
}
# bundle ARG… : what the container runs.
bundle() {
    "$out/bin/stasis" spec --bundle "$work/b"
    jq --arg r "$out/test-rootfs" '.process.terminal = false | .process.args = $ARGS.positional | .root.path = $r' \
        --args -- "$@" <"$work/b/config.json" >"$work/c"
    mv "$work/c" "$work/b/config.json"
}

boot() {
    stasis run --bundle "$work/b" "soak$1"
}
snapshot() {
    round "$1" >"$work/out" 2>&1 && return
    cat "$work/out"
    return 1
}
round() {
    stasis run --detach --bundle "$work/b" "a$1" && stasis snapshot create --quiet "a$1" "s$1" &&
        stasis snapshot restore --quiet --id "b$1" "s$1" && stasis exec "b$1" true && stasis exec "a$1" true &&
        stasis delete --force "a$1" && stasis delete --force "b$1" && stasis snapshot rm "s$1"
}
# What is there now: files of sandboxes and store, processes, mounts; and memory without a name (a guest's).
shared_memory() {
    awk '$1 == "Shmem:" {print $2}' /proc/meminfo
}
left() {
    local files processes mounts
    files=$(find "$work/root" "$work/snapshots" -mindepth 1 2>/dev/null | wc -l)
    processes=$(pgrep -fc -- "-root $work/root " || true)
    mounts=$(grep -c " $work/" /proc/self/mounts || true)
    [ ! -d "$work/templates" ] || files=$((files + $(find "$work/templates" -mindepth 1 -maxdepth 1 -name '.[no]*' | wc -l)))
    echo "$files files, $processes processes, $mounts mounts left"
}

case $mode in
boot) bundle /bin/true ;;
snapshot) bundle sleep 100000 ;;
*)
    echo "soak.sh: there is no mode $mode" >&2
    exit 2
    ;;
esac
good=0
for i in $(seq "$rounds"); do
    if "$mode" "$i"; then
        good=$((good + 1))
    else
        echo "round $i failed"
        for id in $(stasis list -q); do stasis delete --force "$id"; done
        stasis snapshot rm --all >/dev/null
    fi
    [ "$i" != 1 ] || first=$(shared_memory)
done
result=$(left)
more=$(($(shared_memory) - first))
echo "$good of $rounds rounds succeeded; $result; shared memory $more KiB more than after the first"
# The smallest guest has a hundred MiB.
[ "$good" = "$rounds" ] && [ "$result" = "0 files, 0 processes, 0 mounts left" ] && [ $more -lt 65536 ]

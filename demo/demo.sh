#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis from Debian's package, in a VM of its own, through stasis. Usage: demo.sh OUT
set -euo pipefail
out=$(realpath "$1")
stasis=$out/bin/stasis
work=$out/demo
root=$work/run
bundle=$work/redis

step_start=0
say() {
    printf '\n\033[1m%s\033[0m\n' "$1"
    step_start=$(date +%s%N)
}
took() {
    local ms=$((($(date +%s%N) - step_start) / 1000000))
    printf '   (%d.%02d s)\n' $((ms / 1000)) $((ms % 1000 / 10))
}
run() {
    printf '   $ stasis %s\n' "$*"
    "$stasis" --root "$root" "$@" | sed 's/^/   /'
}
cleanup() {
    "$stasis" --root "$root" delete --force redis >/dev/null 2>&1 || true
}
trap cleanup EXIT

mkdir -p "$root" "$bundle"
say "1. A root file system with Redis, from Debian packages"
if [ ! -e "$work/rootfs/usr/bin/redis-server" ]; then
    rm -rf "$work/rootfs"
    mmdebstrap --quiet --variant=extract --include=redis-server,redis-tools,dash,coreutils,procps \
        bookworm "$work/rootfs"
    [ -e "$work/rootfs/bin/sh" ] || ln -s dash "$work/rootfs/bin/sh"
    mkdir -p "$work/rootfs"/{proc,sys,dev,tmp,var/lib/redis}
fi
du -sh "$work/rootfs" | sed 's/^/   /'
took

say "2. A bundle: config.json as every OCI runtime takes it"
"$stasis" spec --bundle "$bundle.new.$$" 2>/dev/null || {
    mkdir -p "$bundle.new.$$"
    "$stasis" spec --bundle "$bundle.new.$$"
}
jq --arg root "$work/rootfs" '
    .root = {path: $root, readonly: false} | .hostname = "redis" | .process.terminal = false | .process.cwd = "/var/lib/redis"
    | .process.args = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]' \
    "$bundle.new.$$/config.json" >"$bundle/config.json"
rm -rf "$bundle.new.$$"
jq -c '.process.args' "$bundle/config.json" | sed 's/^/   /'
took

cleanup
say "3. Run it: a VM boots, the container starts in it"
# Its output goes to a file: a pipe would stay open as long as the container runs.
printf '   $ stasis run --detach --bundle %s redis\n' "$bundle"
"$stasis" --root "$root" run --detach --bundle "$bundle" redis >"$work/redis.log" 2>&1 </dev/null || {
    cat "$work/redis.log"
    exit 1
}
until "$stasis" --root "$root" exec redis redis-cli ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
run list
took

say "4. Set keys and read them back"
run exec redis redis-cli set greeting "hello from a VM"
run exec redis redis-cli get greeting
run exec redis sh -c 'for i in 1 2 3 4 5; do redis-cli incr counter; done | tail -n 1'
[ "$("$stasis" --root "$root" exec redis redis-cli get counter)" = 5 ]
took

say "5. Look inside: another kernel than the host's"
printf '   host:  %s\n' "$(uname -r)"
printf '   guest: %s\n' "$("$stasis" --root "$root" exec redis uname -r)"
run ps redis
took

say "6. Stop it"
run kill redis TERM
until [ "$("$stasis" --root "$root" state redis | jq -r .status)" = stopped ]; do sleep 0.05; done
run delete redis
[ -z "$("$stasis" --root "$root" list -q)" ]
took
printf '\nNothing is left: no process, no mount, no file below %s.\n' "$root"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis from Debian's package, in a VM of its own, through stasis: run, checkpointed into an archive, restored from it in
# another VM. Usage: demo.sh OUT
set -euo pipefail
out=$(realpath "$1")
stasis=$out/bin/stasis
work=$out/demo
root=$work/run
bundle=$work/redis
archive=$work/redis.tar.zst

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
    "$stasis" --root "$root" "$@" 2>&1 | sed 's/^/   /'
}
# What goes on in the background writes to a file: a pipe would stay open as long as the container runs.
background() {
    printf '   $ stasis %s\n' "$*"
    "$stasis" --root "$root" "$@" >"$work/redis.log" 2>&1 </dev/null || {
        cat "$work/redis.log"
        exit 1
    }
}
ask() {
    "$stasis" --root "$root" exec "$1" redis-cli "${@:2}"
}
answers() {
    until ask "$1" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
}
gone() {
    until [ "$("$stasis" --root "$root" state "$1" | jq -r .status)" = stopped ]; do sleep 0.05; done
    run delete "$1"
    [ -z "$("$stasis" --root "$root" list -q)" ]
}
cleanup() {
    local id
    for id in redis again; do "$stasis" --root "$root" delete --force $id >/dev/null 2>&1 || true; done
    rm -f "$archive"
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
background run --detach --bundle "$bundle" redis
answers redis
run list
took

say "4. Set keys and read them back"
run exec redis redis-cli set greeting "hello from a VM"
run exec redis redis-cli get greeting
run exec redis sh -c 'for i in 1 2 3 4 5; do redis-cli incr counter; done | tail -n 1'
ask redis eval "for i = 1, 20000 do redis.call('set', 'square:' .. i, i * i) end" 0 >/dev/null
run exec redis redis-cli dbsize
printf '   Redis holds %s of memory\n' "$(ask redis info memory | sed -n 's/^used_memory_human:\([0-9.KMG]*\).*/\1/p')"
[ "$(ask redis get counter)" = 5 ]
took

say "5. Look inside: another kernel than the host's"
printf '   host:  %s\n' "$(uname -r)"
printf '   guest: %s\n' "$("$stasis" --root "$root" exec redis uname -r)"
run ps redis
took

say "6. Checkpoint it into an archive. Redis saves nothing itself: its keys are in its memory only"
redis_run=$(ask redis info server | grep -a '^run_id:')
run checkpoint --export "$archive" redis
printf '   %s: %s\n' "$archive" "$(du -h "$archive" | cut -f 1)"
took

say "7. Destroy the VM"
gone redis
took

say "8. See what the archive holds"
run checkpoint inspect "$archive"
took

say "9. Restore it from the archive, in a fresh VM and under another name"
background restore --detach --import "$archive" --bundle "$bundle" again
answers again
run list
took

say "10. Read the keys: it is the same Redis, which has never stopped, as far as it knows"
run exec again redis-cli get greeting
run exec again redis-cli get square:12345
run exec again redis-cli incr counter
run exec again redis-cli dbsize
[ "$(ask again get counter)" = 6 ]
[ "$(ask again get square:12345)" = 152399025 ]
[ "$(ask again info server | grep -a '^run_id:')" = "$redis_run" ]
took

say "11. Stop it"
run kill again TERM
gone again
took
printf '\nNothing is left: no process, no mount, no file below %s, no archive.\n' "$root"

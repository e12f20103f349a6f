#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Redis from Debian's package, in a VM of its own, through stasis: run, checkpointed into an archive, restored from it in
# another VM; then the whole VM as a snapshot, cloned and rewound. Usage: demo.sh OUT
set -euo pipefail
out=$(realpath "$1")
stasis=$out/bin/stasis
work=$out/demo
root=$work/run
bundle=$work/redis
archive=$work/redis.tar.zst
config=$work/stasis.conf

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
    "$stasis" --config "$config" --root "$root" "$@" 2>&1 | sed 's/^/   /'
}
# What goes on in the background writes to a file: a pipe would stay open as long as the container runs.
background() {
    printf '   $ stasis %s\n' "$*"
    "$stasis" --config "$config" --root "$root" "$@" >"$work/redis.log" 2>&1 </dev/null || {
        cat "$work/redis.log"
        exit 1
    }
}
ask() {
    "$stasis" --config "$config" --root "$root" exec "$1" redis-cli "${@:2}"
}
inside() {
    "$stasis" --config "$config" --root "$root" exec "$1" sh -c "$2"
}
answers() {
    until ask "$1" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
}
gone() {
    until [ "$("$stasis" --config "$config" --root "$root" state "$1" | jq -r .status)" = stopped ]; do sleep 0.05; done
    run delete "$1"
    [ -z "$("$stasis" --config "$config" --root "$root" list -q)" ]
}
# What a run that was broken off has left, too. Templates stay: they hold nothing of anybody.
cleanup() {
    local id
    for id in redis again ready-1 ready-2 ready-3; do
        "$stasis" --config "$config" --root "$root" delete --force $id >/dev/null 2>&1 || true
    done
    "$stasis" --config "$config" --root "$root" snapshot rm ready >/dev/null 2>&1 || true
    rm -f "$archive"
}
trap cleanup EXIT

mkdir -p "$root" "$bundle"
printf '[snapshot]\ndir = %s\ntemplates = %s\n' "$work/snapshots" "$work/templates" >"$config"
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
say "3. Run it: a VM starts, from a template if there is one, and the container in it"
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
printf '   guest: %s\n' "$("$stasis" --config "$config" --root "$root" exec redis uname -r)"
run ps redis
took

say "6. Checkpoint it into an archive. Redis saves nothing itself: its keys are in its memory only"
redis_run=$(ask redis info server | tr -d '\r' | grep '^run_id:')
run checkpoint --export "$archive" redis
printf '   %s: %s\n' "$archive" "$(du -h "$archive" | cut -f 1)"
took

say "7. The VM is gone with it"
run list
[ -z "$("$stasis" --config "$config" --root "$root" list -q)" ]
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
[ "$(ask again info server | tr -d '\r' | grep '^run_id:')" = "$redis_run" ]
took

say "11. A snapshot of the whole VM, which goes on"
run snapshot create again ready
run snapshot ls
took

say "12. Three clones of it, side by side: each goes on from that moment"
run snapshot clone --number 3 ready
took

say "13. Another key in each; each sees only its own"
for i in 1 2 3; do run exec ready-$i redis-cli set "key:$i" "of clone $i"; done
for i in 1 2 3; do
    found=$(inside ready-$i 'cat /proc/sys/kernel/hostname; redis-cli keys "key:*"; redis-cli get counter')
    printf '   host name, keys, counter: %s\n' "${found//$'\n'/, }"
    [ "$found" = "ready-$i"$'\n'"key:$i"$'\n6' ]
done
took

say "14. The original has none of them. Now it loses everything"
found=$(inside again 'redis-cli keys "key:*"; redis-cli flushall; redis-cli dbsize')
printf '   keys, flushall, dbsize: %s\n' "${found//$'\n'/, }"
[ "$found" = $'\nOK\n0' ]
took

say "15. Rewind it: the snapshot takes its place"
run snapshot restore --replace ready
run exec again redis-cli get greeting
found=$(inside again 'redis-cli get counter; redis-cli dbsize; redis-cli info server' | sed -n '1,2p; s/\r$//; /^run_id:/p')
printf '   counter, dbsize, the same Redis: %s\n' "${found//$'\n'/, }"
[ "$found" = $'6\n20002\n'"$redis_run" ]
run list
took

say "16. Stop them all"
for id in ready-1 ready-2 ready-3; do run delete --force $id; done
run kill again TERM
gone again
run snapshot rm ready
took
printf '\nNothing is left: no process, no mount, no file below %s, no archive, no snapshot. (Templates stay in %s.)\n' "$root" \
    "$work/templates"

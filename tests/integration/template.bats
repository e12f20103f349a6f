#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Templates: the first start makes one, the others are copies of it; what happens when that cannot be.
bats_require_minimum_version 1.5.0
load helpers
load snapshot
setup_file() {
    file_setup
    snapshot_setup
    export TEMPLATES=$T/templates
    # Also the agent's level, and so another machine: for all of them the same.
    printf '%s\n' "templates = $TEMPLATES" '[log]' 'level = debug' >>"$CONF"
    sed 's/^\[vm\]/[vm]\ntemplate = false/' "$CONF" >"$T/cold.conf"
    bundle b '.process.env += ["SECRET=only-the-first-one-has-this"]'
    args b cat /proc/sys/kernel/random/boot_id
}
teardown_file() { file_teardown; }

# start ID [CONF] : runs it to its end; its daemon's log is $T/ID.log, what it printed $T/ID.out.
start() {
    local r=0
    timeout --foreground 300 "$STASIS" --root "$R" --config "${2:-$CONF}" run --keep --bundle "$T/b" "$1" \
        >"$T/$1.out" 2>"$T/$1.err" </dev/null 3>&- || r=$?
    # A start that fails takes its directory along, and says what the log did.
    [ $r = 0 ] || {
        cat "$T/$1.err"
        return 1
    }
    cp "$R/$1/log" "$T/$1.log"
    stasis delete "$1"
}
made() { grep -q 'made a template' "$T/$1.log"; }
copied() { grep -q 'timing: filled' "$T/$1.log"; }
# booted ID : and was no copy at all.
booted() { grep -q 'timing: agent' "$T/$1.log" && not copied "$1"; }
warnings() { grep -c 'level=warning' "$T/$1.log" || true; }
names() { stasis template ls --quiet | paste -sd ' '; }
# Nothing but whole templates and the lock.
tidy() {
    [ -z "$(find "$TEMPLATES" -mindepth 1 -maxdepth 1 -name '.*' ! -name .lock)" ] || {
        ls -lA "$TEMPLATES"
        return 1
    }
}

@test "the first start makes it, the next ones are copies; no two have the same boot id" {
    start first
    booted first
    made first
    [ "$(warnings first)" = 0 ]
    NAME=$(names)
    [[ $NAME == tcg-256M-*cpu-* ]]
    tidy
    # Made before the guest had heard of the first container.
    not grep -qa only-the-first-one-has-this "$TEMPLATES/$NAME/memory"
    [ ! -e "$TEMPLATES/$NAME/roots" ] || [ -z "$(ls -A "$TEMPLATES/$NAME/roots")" ]
    local id
    for id in second third; do
        start "$id"
        copied "$id"
        not made "$id"
        [ "$(warnings "$id")" = 0 ]
    done
    cat "$T"/{first,second,third}.out
    [ "$(sort -u "$T"/{first,second,third}.out | wc -l)" = 3 ]
    [ "$(names)" = "$NAME" ]
}

@test "template ls, inspect, build, rm" {
    local name
    name=$(names)
    stasis template ls | grep -q "^$name "
    stasis template inspect --json "$name" >"$T/inspect"
    jq -e '.machine.memory == 268435456 and (.containers == [] or .containers == null)' "$T/inspect"
    stasis template build | grep -q "^$name: is there already"
    fails "there is no template nothing" -- template rm nothing
    fails "there is no template nothing" -- template inspect nothing
    local before
    before=$(stat -c %i "$TEMPLATES/$name")
    [ "$(stasis template build --rebuild --quiet)" = "$name" ]
    [ "$(stat -c %i "$TEMPLATES/$name")" != "$before" ]
    tidy
    [ "$(stasis template rm "$name")" = "$name" ]
    [ -z "$(names)" ]
    tidy
}

@test "two first starts at once: one makes it, neither fails nor waits" {
    start one &
    local pid=$!
    start two
    wait $pid
    [ "$(cat "$T/one.log" "$T/two.log" | grep -c 'made a template')" = 1 ]
    [ "$(names | wc -w)" = 1 ]
    tidy
    # The second had the choice: to boot, or to be a copy of what the first had made already.
    [ "$(warnings one)$(warnings two)" = 00 ]
}

@test "template = false: boots, and makes none" {
    stasis template rm --all >/dev/null
    start cold "$T/cold.conf"
    booted cold
    not made cold
    [ -z "$(names)" ]
}

@test "a damaged one: one warning, it boots, and the template is made anew" {
    local item at name
    start again
    name=$(names)
    for item in memory device manifest.json; do
        at=1000
        [ $item != memory ] || at=$(python3 -c 'import os, sys; print(os.lseek(os.open(sys.argv[1], 0), 1 << 24, os.SEEK_DATA))' "$TEMPLATES/$name/memory")
        flip "$TEMPLATES/$name/$item" "$at"
        [ $item != device ] || rm "$TEMPLATES/$name/$item" # or all of it
        start damaged
        grep 'level=warning' "$T/damaged.log"
        [ "$(warnings damaged)" = 1 ]
        grep 'level=warning' "$T/damaged.log" | grep "$TEMPLATES/$name" | grep -q "${item%.json}"
        made damaged
        [ "$(names)" = "$name" ]
        tidy
        [ $item != manifest.json ] || break
        start damaged
        copied damaged
    done
}

@test "another machine has another template" {
    start again
    sed 's/^memory = .*/memory = 192M\ncpus = 1/' "$CONF" >"$T/small.conf"
    start small "$T/small.conf"
    booted small
    made small
    [ "$(names | wc -w)" = 2 ]
    [[ $(names) == *tcg-192M-1cpu-* ]]
    args b sh -c 'nproc; grep MemTotal /proc/meminfo'
    start copy "$T/small.conf"
    copied copy
    machine_is() { awk -v cpus="$2" -v kib="$3" 'NR == 1 {c = $1} NR == 2 {m = $2}
        END {exit !(c == cpus && m > kib * 0.6 && m <= kib)}' "$T/$1.out"; }
    machine_is copy 1 $((192 * 1024))
    start again
    copied again
    machine_is again 2 $((256 * 1024))
    start again
    copied again
}

@test "eight are kept: those that were used last" {
    local i
    stasis template rm --all >/dev/null
    start again
    # As if other machines had made them, long ago.
    for i in 1 2 3 4 5 6 7 8; do
        cp -a "$TEMPLATES"/tcg-256M-* "$T/other"
        touch -d "@$((1000 + i))" "$T/other"
        mv "$T/other" "$TEMPLATES/other-$i"
    done
    [ "$(names | wc -w)" = 9 ]
    sed 's/^memory = .*/memory = 192M\ncpus = 1/' "$CONF" >"$T/small.conf"
    start small "$T/small.conf"
    made small
    names
    [ "$(names | wc -w)" = 8 ]
    # The one of this machine, the new one, and all but the oldest two of the others.
    [[ " $(names) " == *" tcg-192M-"* && " $(names) " == *" tcg-256M-"* ]]
    [[ " $(names) " != *" other-1 "* && " $(names) " != *" other-2 "* && " $(names) " == *" other-3 "* ]]
    tidy
    start again
    copied again
    stasis template rm --all >/dev/null
}

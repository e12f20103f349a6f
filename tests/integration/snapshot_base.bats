#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Memory that a sandbox still has from its template is stored once; each snapshot stands by itself all the same.
bats_require_minimum_version 1.5.0
load helpers
load snapshot
setup_file() {
    file_setup
    snapshot_setup
    export TEMPLATES=$T/templates
    printf 'templates = %s\n' "$TEMPLATES" >>"$CONF"
    bundle_own_rootfs a
    args a sh -c "$COUNTER"
}
teardown_file() {
    stasis snapshot rm --all >/dev/null
    file_teardown
}
teardown() {
    delete_all
    rm -f "$T"/a/rootfs/n*
}

# on_disk FILE… : KiB.
on_disk() {
    du -ck "$@" | awk 'END {print $1}'
}
# shares SNAPSHOT : most of its memory, with a file that has other names as well.
shares() {
    stasis snapshot inspect --json "$1" | jq -e '.sharedMemory > 30000000'
    [ "$(stat -c %h "$S/$1/base")" -ge 2 ] || return 1
    [ "$(on_disk "$S/$1/memory")" -lt $(($(on_disk "$S/$1/base") / 3)) ]
}

@test "saved, restored, saved again: each stores what changed, and none needs the template or another" {
    local name
    run_detached a
    # Also of the one that the template was made of.
    stasis snapshot create --json a one | jq -e '.shared_bytes > 30000000 and .memory_bytes > .shared_bytes'
    shares one
    stasis template rm --all
    [ "$(stat -c %h "$S/one/base")" = 1 ]
    stasis snapshot verify one
    counts a
    stasis delete --force a
    restore --id b one
    counts b
    create b two
    shares two
    [ "$(stat -c %i "$S/one/base")" = "$(stat -c %i "$S/two/base")" ]
    stasis delete --force b
    stasis snapshot rm one
    stasis snapshot verify two
    clones -n 2 two
    counts two-1
    counts two-2
    stasis delete --force two-1
    stasis delete --force two-2
    # Elsewhere, where there is nothing to share it with.
    stasis snapshot export --quiet two "$T/two.tar.zst"
    stasis snapshot import --name three "$T/two.tar.zst"
    stasis snapshot verify three
    stasis snapshot rm two
    restore --id c three
    counts c
    # One without a base is one.
    create c four
    stasis snapshot verify four
    stasis delete --force c
    for name in three four; do
        restore --id d $name
        counts d
        stasis delete --force d
    done
    stasis snapshot rm three four
    store_holds
}

@test "of a VM that booted nothing is shared; nor is one snapshot another's base, which may have other secrets" {
    sed 's/^\[vm\]/[vm]\ntemplate = false/' "$CONF" >"$T/cold.conf"
    CONF=$T/cold.conf run_detached a
    stasis snapshot create --json a whole | jq -e '.shared_bytes == 0'
    [ ! -e "$S/whole/base" ]
    stasis delete --force a
    restore --id b whole
    counts b
    stasis snapshot create --json b more | jq -e '.shared_bytes == 0'
    [ ! -e "$S/more/base" ]
    stasis delete --force b
    stasis snapshot rm whole
    restore --id b more
    counts b
    stasis delete --force b
    stasis snapshot rm more
}

@test "a base that is damaged, exchanged or gone is named; where no link can be made all is stored" {
    local at
    run_detached a
    create a good
    stasis delete --force a
    at=$(python3 -c 'import os, sys; print(os.lseek(os.open(sys.argv[1], 0), 1 << 24, os.SEEK_DATA))' "$S/good/base")
    cp -a "$S/good" "$S/bad"
    flip "$S/bad/base" $((at + 1000))
    fails "memory at 0x" "do not fit the digest" -- snapshot verify bad
    fails "memory at 0x" -- snapshot restore --id x bad
    truncate -s 1M "$S/bad/base"
    fails "the base has 1048576 bytes" -- snapshot verify bad
    rm "$S/bad/base"
    fails base -- snapshot verify bad
    fails base -- snapshot restore --id x bad
    mkfifo "$S/bad/base"
    fails base -- snapshot verify bad
    fails base -- snapshot restore --id x bad
    [ ! -e "$R/x" ]
    rm -r "$S/bad"
    stasis snapshot rm good
    # No name is left of what it is a copy of.
    run_detached a
    stasis template rm --all
    stasis snapshot create --json a alone | jq -e '.shared_bytes == 0'
    stasis delete --force a
    [ ! -e "$S/alone/base" ]
    restore --id b alone
    counts b
    stasis delete --force b
    stasis snapshot rm alone
}

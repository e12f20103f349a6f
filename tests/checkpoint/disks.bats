#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the disk has to do with it: archives whose every write fails once, a device that fails under what the guest
# writes, a file system that shares what is copied.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
load ../integration/snapshot
setup_file() {
    file_setup
    snapshot_setup
    # A device whose back has room for less than it says, and one whose file system knows reflinks. Before the daemon,
    # which on a host with private mounts sees no later ones.
    mkdir "$T/back" "$T/failing" "$T/shared" "$T/out"
    mount -t tmpfs -o size=24m tmpfs "$T/back"
    device failing "$T/back" mkfs.ext4 -q -E nodiscard -O ^has_journal
    device shared "$T" mkfs.btrfs -q
    command="head -c 3000000 /dev/urandom >/big; $COUNTER" bundle_own_rootfs src '.process.args = ["sh", "-c", env.command]'
    run_detached src
    counts src
}
teardown_file() {
    local dir
    stasis delete --force src || true
    for dir in failing shared back; do
        # A loop device lets go of its file a moment later.
        ! mountpoint -q "$T/$dir" || wait_until 20 umount "$T/$dir"
    done
    file_teardown
}
# device NAME DIR MKFS… : mounted at $T/NAME, from a file in DIR; it goes when it is unmounted.
device() {
    local name=$1 file=$2/$1.disk
    shift 2
    truncate -s 256M "$file"
    "$@" "$file"
    mount -o loop "$file" "$T/$name"
}

# each CALL N… -- COMMAND… : the N-th such system call of each process of it fails for want of space; the last of them
# is one too many.
each() {
    local call=$1 n numbers=() hits=0
    shift
    while [ "$1" != -- ]; do
        numbers+=("$1")
        shift
    done
    shift
    for n in "${numbers[@]}"; do
        echo "-- $call $n"
        run strace -f -o "$T/calls" -e "trace=$call" -e "inject=$call:error=ENOSPC:when=$n" "$@" 3>&-
        # shellcheck disable=SC2154 # run sets them
        echo "$output"
        judge
        grep -q INJECTED "$T/calls" || break
        hits=$((hits + 1))
    done
    echo "$hits of them failed"
    [ $hits -gt 0 ] && ! grep -q INJECTED "$T/calls"
}
stasis_words() {
    printf '%s\n' "$STASIS" --root "$R" --config "$CONF"
}

# What came of the last one is whole, or it is not there and the reason is said.
judge() {
    if [ "$status" = 0 ]; then
        not grep -q '^[0-9 ]*\(fsync\|syncfs\)(.*INJECTED' "$T/calls"
        whole
    elif grep -q 'write([12],.*INJECTED' "$T/calls"; then
        # It was a message, or the result, that could not be written.
        nothing || whole
    else
        [[ $output == *"No space left on device"* ]]
        nothing
    fi
    counts src "$(in_root src n)"
}

@test "no room at each write of a snapshot's archive" {
    local words
    mapfile -t words < <(stasis_words)
    create src one
    whole() {
        stasis snapshot import --name two "$T/out/x.tar.zst" && stasis snapshot rm two >/dev/null &&
            rm "$T/out/x.tar.zst"
    }
    nothing() {
        [ -z "$(ls -A "$T/out")" ]
    }
    each write 1 2 3 4 5 10 40 60000 -- "${words[@]}" snapshot export --quiet one "$T/out/x.tar.zst"
    each fsync 1 2 3 4 5 -- "${words[@]}" snapshot export --quiet one "$T/out/x.tar.zst"
    each renameat2 1 2 3 -- "${words[@]}" snapshot export --quiet one "$T/out/x.tar.zst"
}

@test "no room at each write of what is imported" {
    local words call
    mapfile -t words < <(stasis_words)
    stasis snapshot export --quiet one "$T/one.tar.zst"
    whole() {
        stasis snapshot verify two && stasis snapshot rm two >/dev/null && [ "$(ls -A "$S")" = one ]
    }
    nothing() {
        [ "$(ls -A "$S")" = one ]
    }
    for call in write pwrite64 mkdirat ftruncate symlinkat fchownat utimensat syncfs renameat2; do
        each $call 1 2 3 4 5 10 40 60000 -- "${words[@]}" snapshot import --name two "$T/one.tar.zst"
    done
}

@test "no room at each write of a checkpoint's archive: the one before stays" {
    local words call
    mapfile -t words < <(stasis_words)
    echo before >"$T/out/x.tar.zst"
    whole() {
        stasis checkpoint inspect "$T/out/x.tar.zst" | grep -q '^restorable    yes$' && echo before >"$T/out/x.tar.zst"
    }
    nothing() {
        [ "$(ls -A "$T/out")" = x.tar.zst ] && [ "$(cat "$T/out/x.tar.zst")" = before ]
    }
    for call in write fsync renameat2; do
        each $call 1 2 3 4 5 10 40 60000 -- "${words[@]}" checkpoint --leave-running --export "$T/out/x.tar.zst" \
            --work-path "$T/work" src
        status_is src running
    done
    rm "$T/out/x.tar.zst"
}

@test "the device fails under what virtiofsd writes: said, nothing is left, the container goes on" {
    MEMORY_MIB=64 pack mem memory
    start_pack mem mem
    run stasis checkpoint --image-path "$T/failing/images" --work-path "$T/work" mem
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"cannot checkpoint container mem"* ]]
    [[ $output == *"rror 5"* || $output == *"nput/output error"* || $output == *"No space left"* ]]
    [ -z "$(find "$T/failing" -mindepth 1 ! -name lost+found)" ]
    all_pass mem
    # The next one, elsewhere.
    checkpoint mem --leave-running
    all_pass mem
    stasis delete --force mem
}

@test "where the file system can, what is copied is shared" {
    # shared FILE : so says the file system of all its data.
    shared() {
        filefrag -v "$1" | awk '/^ *[0-9]+:/ {n++; if (/shared/) s++} END {exit !(n > 0 && s == n)}'
    }
    sed "s#^dir = .*#dir = $T/shared/store#" "$CONF" >"$T/shared.conf"
    CONF=$T/shared.conf
    bundle_own_rootfs b
    mv "$T/b/rootfs" "$T/shared/rootfs"
    edit "$T/b" '.root.path = "'"$T/shared/rootfs"'"'
    args b sh -c "head -c 8000000 /dev/urandom >/big; sync; $COUNTER"
    quiet stasis run --detach --bundle "$T/b" b
    wait_until 60 test -s "$T/shared/rootfs/n"
    create b two
    sync -f "$T/shared"
    shared "$T/shared/store/two/roots/0/big"
    cmp "$T/shared/rootfs/big" "$T/shared/store/two/roots/0/big"
    stasis snapshot verify two
    stasis delete --force b
    stasis snapshot rm two >/dev/null
}

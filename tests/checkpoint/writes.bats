#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A snapshot, and a checkpoint, whose disk fails: every call of the daemon and its processes that writes to it fails once, and the disk is
# full at every stage. tests/integration/faults_snapshot.bats has the steps, one each, with every change.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
load ../integration/snapshot
setup_file() {
    file_setup
    snapshot_setup
    mkdir "$S"
    mount -t tmpfs -o mode=700 tmpfs "$S"
    command="head -c 3000000 /dev/urandom >/big; $COUNTER" bundle_own_rootfs src '.process.args = ["sh", "-c", env.command]'
    run_detached src
    counts src
}
teardown_file() {
    stasis delete --force src
    umount "$S"
    file_teardown
}

# fails WORDS : the snapshot does not come about, says so, leaves nothing, and its source counts on.
fails() {
    run stasis snapshot create src x
    echo "$output"
    [ "$status" = 1 ] && [[ $output == *"snapshot x"*"$1"* ]] || return 1
    [ -z "$(ls -A "$S")" ] || {
        ls -lA "$S"
        return 1
    }
    counts src "$(in_root src n)"
}
succeeds() {
    create src x
    stasis snapshot verify x
    counts src "$(in_root src n)"
    stasis snapshot rm x >/dev/null
}

# with_error CALL N COMMAND… : while the N-th such system call of the daemon, and of each process it starts, fails.
with_error() {
    local strace call=$1 n=$2
    shift 2
    : >"$T/strace"
    strace -f -p "$(daemon_of src)" -o "$T/calls" -e "trace=$call" -e "inject=$call:error=EIO:when=$n" 2>"$T/strace" 3>&- &
    strace=$!
    wait_until 20 grep -q attached "$T/strace"
    "$@"
    kill "$strace" || cat "$T/strace"
    wait "$strace" || true
}
# The call is made while the error is there; what became of it is judged after.
attempt() {
    run stasis snapshot create src x
}
judge() {
    echo "$output"
    counts src "$(in_root src n)"
    if grep -q INJECTED "$T/calls"; then
        [ "$status" = 1 ]
        [[ $output == *"snapshot x"*"Input/output error"* ]]
        [ -z "$(ls -A "$S")" ]
    else
        [ "$status" = 0 ]
        stasis snapshot verify x
        stasis snapshot rm x
    fi
}
attempt_checkpoint() {
    run stasis checkpoint --leave-running --image-path "$T/images/c" --work-path "$T/work" src
}
judge_checkpoint() {
    echo "$output"
    counts src "$(in_root src n)"
    if grep -q INJECTED "$T/calls"; then
        [ "$status" = 1 ]
        [[ $output == *"Input/output error"* ]]
        [ -z "$(ls -A "$T/images")" ]
    else
        [ "$status" = 0 ]
        [ -s "$T/images/c/inventory.img" ]
    fi
    rm -rf "$T/images/c"
}
# each CALL N… : the N-th such call fails; the last of them is one too many. WHAT: "" for a snapshot, or _checkpoint.
each() {
    local call=$1 n hit=0
    shift
    for n; do
        echo "-- $call $n"
        with_error "$call" "$n" "attempt${WHAT-}"
        "judge${WHAT-}"
        grep -q INJECTED "$T/calls" || break
        hit=$((hit + 1))
    done
    [ $hit -gt 0 ] && ! grep -q INJECTED "$T/calls"
}

@test "an I/O error at each write of the memory" {
    each pwrite64 1 2 20 100 60000
}
@test "an I/O error at each file and directory of the root" {
    each mkdirat $(seq 40)
    each ftruncate $(seq 40)
    each copy_file_range $(seq 40)
}
@test "an I/O error at the manifest, at the way to the disk, at the name" {
    each write $(seq 10)
    each syncfs 1 2 3
    each fsync 1 2 3
    each renameat2 1 2 3
}
@test "an I/O error at each step of a checkpoint that makes it last" {
    mkdir -p "$T/images"
    WHAT=_checkpoint
    each renameat 1 2 9 1000
    each fsync 1 2 9 $(seq 14 60)
    each renameat2 1 2 3
}
@test "a disk that is full, whichever write finds it so" {
    local size
    for size in 16k 128k 400k 1m 3m 5m 30m 60m; do
        mount -o "remount,size=$size" "$S"
        echo "-- $size"
        fails "No space left on device"
    done
    mount -o remount,size=1g "$S"
    succeeds
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Checkpoint and restore in all variants; see tests/integration/checkpoint.bats for those that run with every change.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
setup_file() { file_setup; }
teardown_file() { file_teardown; }

# Each test's own names, so that one that fails does not spoil the next.
setup() {
    N=v$BATS_TEST_NUMBER
}
teardown() {
    local id
    for id in $(stasis list -q); do
        stasis delete --force "$id"
    done
}

# try FLAGS WORKLOAD… : dump, VM gone, fresh VM, new id, check; twice.
try() {
    local flags
    read -ra flags <<<"$1"
    shift
    pack "$N" "$@"
    start_pack "$N" "$N"
    checkpoint "$N" "${flags[@]}"
    gone "$N"
    restore "$N" "$N-new" "$N" "${flags[@]}"
    all_pass "$N"
    checkpoint "$N-new" "${flags[@]}"
    gone "$N-new"
    restore "$N" "$N-third" "$N-new" "${flags[@]}"
    all_pass "$N"
}

@test "processes: tree, threads, signals, identity, calculations, locks" {
    try '' shell tree signals identity compute futex
}
@test "time and events: timers, timerfd, eventfd, signalfd, epoll, inotify" {
    try '' timers events inotify
}
@test "memory: private, System V, POSIX, memfd" {
    try '' memory shared sysv
}
@test "files: open, deleted, mapped, on a tmpfs, a removed directory" {
    try '' files tmpfs removed_cwd
}
@test "sockets and terminals" {
    try '' sockets pty
}
@test "file locks, with --file-locks" {
    try --file-locks locks
}
@test "file locks, without --file-locks: refused by CRIU, and goes on" {
    pack "$N" locks signals
    start_pack "$N" "$N"
    run checkpoint "$N"
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *lock* ]]
    status_is "$N" running
    all_pass "$N"
}
@test "established TCP, with --tcp-established" {
    try --tcp-established tcp
}
@test "established TCP, without: refused by CRIU, and goes on; the next attempt works" {
    pack "$N" tcp signals timers
    start_pack "$N" "$N"
    run checkpoint "$N"
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *TCP* || $output == *tcp* ]]
    [ ! -e "$T/images/$N" ]
    [ -s "$T/work/dump.log" ]
    status_is "$N" running
    all_pass "$N"
    checkpoint "$N" --tcp-established
    gone "$N"
    restore "$N" "$N" "$N" --tcp-established
    all_pass "$N"
}

@test "paused before: stays paused when left running, and is restored running" {
    pack "$N" signals timers shell
    start_pack "$N" "$N"
    stasis pause "$N"
    checkpoint "$N" --leave-running
    status_is "$N" paused
    stasis resume "$N"
    all_pass "$N"
    stasis pause "$N"
    checkpoint "$N" --image-path "$T/images/$N-2"
    gone "$N"
    restore "$N" "$N" "$N-2"
    status_is "$N" running
    all_pass "$N"
}

@test "left running, then a second and a third checkpoint; each can be restored" {
    pack "$N" signals timers memory
    start_pack "$N" "$N"
    checkpoint "$N" --leave-running --image-path "$T/images/$N-1"
    all_pass "$N"
    checkpoint "$N" --leave-running --image-path "$T/images/$N-2"
    all_pass "$N"
    checkpoint "$N" --image-path "$T/images/$N-3"
    gone "$N"
    local n
    for n in 1 2 3; do
        restore "$N" "$N-$n" "$N-$n"
        all_pass "$N"
        stasis delete --force "$N-$n"
    done
}

@test "three generations, each pre-dumped" {
    local from=$N to g
    pack "$N" memory tree signals
    start_pack "$N" "$N"
    for g in 1 2 3; do
        checkpoint "$from" --image-path "$T/images/$N-$g-pre" --pre-dump
        all_pass "$N"
        checkpoint "$from" --image-path "$T/images/$N-$g" --parent-path "../$N-$g-pre"
        gone "$from"
        to=$N-$g
        restore "$N" "$to" "$N-$g"
        all_pass "$N"
        from=$to
    done
}

@test "512 MiB of memory" {
    MEMORY_MIB=512 pack "$N" memory
    start_pack "$N" "$N"
    checkpoint "$N" --print-stats >"$T/stats"
    cat "$T/stats"
    [ "$(stat_of "$T/stats" pages_written)" -ge 131072 ]
    gone "$N"
    restore "$N" "$N" "$N"
    all_pass "$N"
}

@test "through an archive" {
    pack "$N" "${WORKLOADS[@]}"
    start_pack "$N" "$N"
    stasis checkpoint --export "$T/$N.tar.zst" "$N"
    gone "$N"
    [ -s "$T/$N.tar.zst" ]
    stasis restore --detach --bundle "$T/$N" --import "$T/$N.tar.zst" "$N-new" >"$T/$N.out" 2>&1 </dev/null || {
        cat "$T/$N.out"
        false
    }
    all_pass "$N"
}

@test "a terminal: goes on with it, on a new one" {
    bundle "$N" '.process.terminal = true'
    args "$N" sh
    timeout 300 python3 "$BATS_TEST_DIRNAME/terminal.py" "$STASIS" "$R" "$T/$N" "$T/$N-images"
}

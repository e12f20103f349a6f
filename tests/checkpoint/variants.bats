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

@test "on a terminal: how long a dump and the writing of an archive have taken so far" {
    local at=$T/$N.tar.gz
    MEMORY_MIB=256 pack "$N" memory
    start_pack "$N" "$N"
    # shows WORD COMMAND… : a line with the seconds.
    shows() {
        local word=$1
        shift
        timeout 300 python3 "$BATS_TEST_DIRNAME/../integration/pty_driver.py" "expect(b'$word: 1 s')" \
            "$STASIS" --root "$R" "$@" | tail -n 1 | grep -q '^exit 0$'
    }
    shows "checkpointing $N" checkpoint --leave-running --image-path "$T/images/$N" "$N"
    shows "writing $at" checkpoint --export "$at" "$N"
    gone "$N"
    stasis checkpoint inspect "$at" | grep -q '^restorable    yes$'
}

@test "an archive whose configuration asks for more than the request: it means nothing" {
    local n mark=$T/$N-mark dir=$T/$N-archive
    bundle_own_rootfs "$N"
    args "$N" sh -c "$COUNTER"
    stasis run --detach --bundle "$T/$N" "$N" >"$T/$N.out" 2>&1 </dev/null
    reached() { [ "$(cat "$T/$N/rootfs/n" 2>/dev/null || echo 0)" -gt "$1" ]; }
    wait_until 60 reached 5
    stasis checkpoint --export "$T/$N.tar" "$N"
    gone "$N"
    n=$(cat "$T/$N/rootfs/n")
    mkdir "$dir"
    tar -C "$dir" -xf "$T/$N.tar"
    jq --arg mark "$mark" '.hooks = ([("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop") |
            {(.): [{path: "/bin/touch", args: ["touch", $mark]}]}] | add) |
        .mounts += [{destination: "/of-the-host", type: "bind", source: "/etc", options: ["rbind", "rw"]}] |
        .root.path = "/" | .process.args = ["/bin/false"] | .process.capabilities.bounding += ["CAP_SYS_ADMIN"] |
        .linux.devices = [{path: "/dev/disk", type: "b", major: 254, minor: 0, fileMode: 438, uid: 0, gid: 0}] |
        .linux.resources.devices = [{allow: true, access: "rwm"}] | .linux.cgroupsPath = "/../../evil" |
        .annotations = {"io.stasis.vm.memory": "1T", "run.oci.keep_original_groups": "1"}' \
        "$dir/spec.dump" >"$dir/spec.new"
    mv "$dir/spec.new" "$dir/spec.dump"
    jq '.id = "../../evil" | .name = "/evil" | .runtime = "/bin/false"' "$dir/config.dump" >"$dir/config.new" 2>/dev/null &&
        mv "$dir/config.new" "$dir/config.dump"
    tar -C "$dir" -cf "$T/$N.tar" .
    stasis restore --detach --bundle "$T/$N" --import "$T/$N.tar" "$N" >"$T/$N.out" 2>&1 </dev/null || {
        cat "$T/$N.out"
        false
    }
    wait_until 60 reached "$n"
    stasis exec "$N" sh -c 'test ! -e /of-the-host && test ! -e /dev/disk && test -e /bin/busybox'
    ! stasis exec "$N" sh -c 'mknod /disk b 254 0 && head -c 1 /disk' || false
    stasis delete --force "$N"
    [ ! -e "$mark" ] && [ ! -e "$T/$N/rootfs$mark" ]
}

@test "a terminal: goes on with it, on a new one" {
    bundle "$N" '.process.terminal = true'
    args "$N" sh
    timeout 300 python3 "$BATS_TEST_DIRNAME/terminal.py" "$STASIS" "$R" "$T/$N" "$T/$N-images"
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Whole sandboxes saved, their source deleted, restored and compared: all workloads, also what CRIU does not take; many
# copies and generations. tests/integration/snapshot.bats has what runs with every change.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
load ../integration/snapshot
setup_file() {
    file_setup
    snapshot_setup
}
teardown_file() {
    stasis snapshot rm --all >/dev/null
    file_teardown
}
setup() {
    N=s$BATS_TEST_NUMBER
}
teardown() {
    local id
    for id in $("$STASIS" --root "$R" list -q); do
        "$STASIS" --root "$R" delete --force "$id"
    done
    no_layers
    stasis snapshot rm --all >/dev/null
}

# try WORKLOAD… : saved, source gone, restored under another id, checked; twice.
try() {
    pack "$N" "$@"
    edit "$T/$N" '.linux.devices += [{path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 438, uid: 0, gid: 0}] |
        .linux.resources.devices += [{allow: true, type: "c", major: 10, minor: 229, access: "rwm"}]'
    run_detached "$N"
    pack_set_up "$N"
    create --stop "$N" "$N-1"
    stasis delete --force "$N"
    restore --id "$N-b" "$N-1"
    pack_passes "$N-b"
    create --stop "$N-b" "$N-2"
    stasis delete --force "$N-b"
    stasis snapshot rm "$N-1" >/dev/null
    restore --id "$N-c" "$N-2"
    pack_passes "$N-c"
    store_holds "$N-2"
}

@test "processes: tree, threads, signals, identity, calculations, locks" {
    try shell tree signals identity compute futex locks lock_wait
}
@test "time and events: timers, timerfd, eventfd, signalfd, epoll, inotify" {
    try timers events inotify
}
@test "memory: private, System V, POSIX, memfd" {
    try memory shared sysv
}
@test "files: open, mapped, on a tmpfs; a terminal; a device" {
    FILES_DELETED=no try files tmpfs pty device
}
@test "inotify on the root" {
    INOTIFY_AT=/w try inotify
}
@test "inotify on a volume" {
    INOTIFY_AT=/volume try inotify
}
@test "established TCP, an io_uring" {
    try tcp io_uring
}

@test "deleted files and directories in use: refused, though a tmpfs' are none of it" {
    pack "$N" removed_cwd
    run_detached "$N"
    pack_set_up "$N"
    # A directory and a file of the root, which is on the share.
    stasis exec --detach "$N" sh -c 'mkdir /gone && cd /gone && rmdir /gone && exec 5>/deleted && rm /deleted && echo >/there && exec sleep 1000'
    wait_until 60 test -e "$T/$N/rootfs/there"
    fails "deleted files of the share" "/gone (" "/deleted (" "in $N" -- snapshot create "$N" "$N"
    pack_passes "$N"
    store_holds
    stasis exec "$N" killall sleep
    wait_until 60 create "$N" "$N"
    stasis delete --force "$N"
    restore "$N"
    pack_passes "$N"
    store_holds "$N"
}

@test "512 MiB of memory" {
    MEMORY_MIB=512 pack "$N" memory
    sed -i 's/^memory = .*/memory = 1G/' "$CONF"
    run_detached "$N"
    snapshot_setup
    pack_set_up "$N"
    stasis snapshot create --stop --json "$N" "$N" >"$T/created"
    cat "$T/created"
    jq -e '.memory_bytes > 536870912 and .memory_bytes < 900000000' "$T/created"
    stasis delete --force "$N"
    restore --id "$N-b" "$N"
    pack_passes "$N-b"
}

@test "processes blocked in odd system calls go on" {
    bundle_own_rootfs "$N"
    mkfifo "$T/$N/rootfs/fifo"
    # An open that waits for a writer, a wait for a child, a sleep. (A lock that another holds: the workload lock_wait.)
    # shellcheck disable=SC2016 # for the container's shell
    args "$N" sh -c 'mkfifo /dev/shm/fifo
        (read -r x </dev/shm/fifo; echo $x >/opened) &
        (sleep 1000 & wait $!; echo $? >/waited) &
        echo up >/up; wait; echo over >/over; exit 9'
    run_detached "$N"
    wait_until 120 test -s "$T/$N/rootfs/up"
    create --stop "$N" "$N"
    stasis delete --force "$N"
    restore "$N"
    local early
    for early in opened waited over; do
        [ ! -e "$(root_of "$N")/$early" ]
    done
    stasis exec "$N" sh -c 'echo word >/dev/shm/fifo; killall sleep'
    wait_until 120 status_is "$N" stopped
    [ "$(in_root "$N" opened) $(in_root "$N" waited) $(in_root "$N" over)" = "word 143 over" ]
}

@test "8 copies at once: nothing that is to be random is the same in two" {
    local i
    # With the host's programs, for keys.
    bundle_own_rootfs "$N" '.mounts += [{destination: "/usr", type: "bind", source: "/usr", options: ["rbind", "ro"]}]'
    ln -s usr/lib usr/lib64 "$T/$N/rootfs/"
    echo 0123456789abcdef0123456789abcdef >"$T/$N/rootfs/etc/machine-id"
    # shellcheck disable=SC2016 # for the container's shell
    args "$N" sh -c 'cat /proc/sys/kernel/random/boot_id >/boot; i=0
        while :; do
            i=$((i + 1)); read -r u </proc/sys/kernel/random/uuid; echo "$u" >>/drawn
            head -c 32 /dev/urandom | sha256sum >>/drawn; echo $i >/n.new; mv /n.new /n; sleep 1
        done'
    run_detached "$N"
    counts "$N" 3
    create --stop "$N" "$N"
    stasis delete --force "$N"
    clones "$N" -n 8
    for ((i = 1; i <= 8; i++)); do
        counts "$N-$i" 12
        stasis exec "$N-$i" sh -c 'cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname'
        stasis exec "$N-$i" /usr/bin/openssl genpkey -algorithm ed25519 | grep -v -e -----
        # Not the next one, which may have been drawn by then.
        tail -n "+$(($(wc -l <"$S/$N/roots/0/drawn") + 2))" "$(root_of "$N-$i")/drawn"
    done >"$T/all"
    [ "$(wc -l <"$T/all")" -gt 64 ]
    [ "$(grep -c '^MC4CAQAwBQYDK2Vw' "$T/all")" = 8 ]
    [ -z "$(sort "$T/all" | uniq -d)" ]
}

@test "ten generations" {
    local g n=0 id=$N
    bundle_own_rootfs "$N"
    args "$N" sh -c "$COUNTER"
    run_detached "$N"
    for g in 1 2 3 4 5 6 7 8 9 10; do
        counts "$id" "$n"
        quiet stasis exec "$id" sh -c "echo $g >>/generations"
        n=$(in_root "$id" n)
        create --stop "$id" "$N-$g"
        stasis delete --force "$id"
        [ $g = 1 ] || stasis snapshot rm "$N-$((g - 1))" >/dev/null
        id=$N-g$g
        restore --id "$id" "$N-$g"
    done
    counts "$id" "$n"
    in_root "$id" generations | cmp - <(seq 10)
}

# forks ID : how often the kernel was told that its machine is a copy.
forks() {
    timeout 120 python3 "$BATS_TEST_DIRNAME/../integration/pty_driver.py" \
        "expect(b'# '); send(b'''echo forks=\$(dmesg | grep -c 'virtual machine fork') en''d\n'''); expect(b' end\r\n', 60); send(b'exit\n')" \
        "$STASIS" --root "$R" --config "$CONF" console "$1" | sed -n 's/.*forks=\([0-9][0-9]*\).*/\1/p'
}

@test "vmgenid: each copy's kernel is told that it is one, and so is that of a rewound sandbox" {
    local CONF=$T/console.conf before
    sed '/^\[agent\]/a debug_console = true' "$T/stasis.conf" >"$CONF"
    pack "$N" signals
    run_detached "$N"
    pack_set_up "$N"
    before=$(forks "$N") # one if it was started from a template
    create "$N" "$N-1"
    [ "$(forks "$N")" = "$before" ]
    restore --id "$N-b" "$N-1"
    [ "$(forks "$N-b")" = $((before + 1)) ]
    create --stop "$N-b" "$N-2"
    restore --id "$N-c" "$N-2"
    [ "$(forks "$N-c")" = $((before + 2)) ]
    restore --replace "$N-1"
    [ "$(forks "$N")" = $((before + 1)) ]
}

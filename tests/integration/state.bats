#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The state directory is full, or its daemon hangs: what a command says is what is so, what cannot be recorded fails before
# it begins, and `delete --force` leaves nothing, in time.
bats_require_minimum_version 1.5.0
load helpers
load faults
setup_file() {
    faults_setup
    # A disk of its own: before the daemons, which on a host with private mounts see no later ones.
    mkdir "$T/disk"
    mount -t tmpfs -o size=2m,nr_inodes=200 tmpfs "$T/disk"
}
teardown() {
    rm -f "$T/disk/fill"
    local dir id
    for dir in "$T/disk/root" "$R"; do
        [ -d "$dir" ] || continue
        for id in $("$STASIS" --root "$dir" list -q); do
            "$STASIS" --root "$dir" delete --force "$id"
        done
    done
    R=$T/root
}
teardown_file() {
    ! mountpoint -q "$T/disk" || umount "$T/disk"
    file_teardown
}

# on_disk : the sandboxes of this test are on the small disk.
on_disk() {
    R=$T/disk/root
    mkdir -p "$R"
}
full() {
    dd if=/dev/zero of="$T/disk/fill" bs=4k >/dev/null 2>&1 || true
    [ "$(df --output=avail "$T/disk" | tail -n 1)" -eq 0 ]
}
room() {
    rm "$T/disk/fill"
}
recorded() {
    [ "$(jq -r '.containers[0].status' "$R/$1/state.json")" = "$2" ]
}
# delete_in_time ID : by force, within 10 s, and some more for a machine under load.
delete_in_time() {
    local begun=$SECONDS
    timeout --foreground 60 "$STASIS" --root "$R" delete --force "$1" 3>&-
    echo "took $((SECONDS - begun)) s"
    [ $((SECONDS - begun)) -lt 30 ]
    [ ! -e "$R/$1" ]
}

@test "a full disk: pause, resume, start, exec and delete do what they say" {
    on_disk
    prepare f1
    launch f1
    full
    stasis pause f1
    status_is f1 paused
    [ "$(stasis list --format json | jq -r '.[0].status')" = paused ]
    recorded f1 running # it could not be
    stasis resume f1
    status_is f1 running
    counts f1
    [ "$(stasis exec f1 echo hello)" = hello ]
    stasis pause f1
    # As soon as there is room it is written.
    room
    wait_until 20 recorded f1 paused
    full
    stasis kill f1 KILL
    wait_until 20 status_is f1 stopped
    stasis delete f1
    [ -z "$(ls -A "$R")" ]
}

@test "a full disk: run fails, names it and leaves nothing" {
    on_disk
    prepare f1
    full
    run stasis --config "$T/f1.conf" run --detach --bundle "$T/f1" f1
    echo "$output"
    # shellcheck disable=SC2154 # run sets them
    [ "$status" != 0 ]
    [[ $output == *"No space left on device"* ]]
    [ -z "$(ls -A "$R")" ]
    wait_until 20 no_processes_left
}

@test "a full disk: a checkpoint that could not be cleaned up after is refused" {
    on_disk
    prepare f1
    launch f1
    full
    dump_fails f1 "state.json" "No space left"
    room
    undisturbed f1
    dump_works f1
}

@test "every point is tried" {
    diff <(points | grep -E '^(dir|state)\.' | sort) - <<'POINTS'
dir.bundle
dir.log
dir.make
dir.share
dir.socket
state.save
POINTS
}

@test "each write into the state directory fails: said, nothing left" {
    local point error words
    prepare c1
    while read -r point error words; do
        fault "$point" "$error"
        run stasis --config "$T/c1.conf" run --detach --bundle "$T/c1" c1
        echo "$point: $output"
        [ "$status" = 1 ]
        [[ $output == *"$words"* ]]
        [[ $output == *"$(python3 -c 'import errno, os, sys; print(os.strerror(getattr(errno, sys.argv[1])))' "$error")"* ]]
        hit "$point"
        [ -z "$(ls -A "$R")" ]
        wait_until 20 no_processes_left
    done <<<'dir.make ENOSPC cannot create directory
dir.socket ENOSPC cannot listen on
dir.log ENOSPC cannot open log
dir.share EDQUOT cannot create directory
state.save ENOSPC cannot write'
}

@test "a state that cannot be written later on is written again" {
    prepare c1
    launch c1
    fault state.save EIO
    stasis pause c1
    hit state.save
    status_is c1 paused
    recorded c1 running
    no_fault
    wait_until 20 recorded c1 paused
    stasis resume c1
    fault collect.dir ENOSPC
    dump c1 --leave-running # only logs
    hit collect.dir
    rm -r "$T/images/c1"
    undisturbed c1
}

@test "a snapshot's copy whose bundle cannot be written" {
    local store=$T/snapshots
    prepare c1
    printf '%s\n' '[snapshot]' "dir = $store" >>"$T/c1.conf"
    launch c1
    stasis --config "$T/c1.conf" snapshot create c1 s1
    fault dir.bundle ENOSPC
    run stasis --config "$T/c1.conf" snapshot clone --id c2 s1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"No space left"* ]]
    [ ! -e "$R/c2" ]
}

@test "a daemon that hangs: state and list say so, delete without force refuses" {
    prepare c1
    launch c1
    kill -STOP "$DAEMON"
    run --separate-stderr stasis state c1
    [ "$status" = 0 ]
    [ "$(jq -r .status <<<"$output")" = running ]
    # shellcheck disable=SC2154 # run sets it
    [[ $stderr == *"(pid $DAEMON) does not answer"* ]]
    run stasis delete c1
    [ "$status" = 1 ]
    delete_in_time c1
    dead "$DAEMON" && dead "$QEMU" && dead "$VIRTIOFSD"
    kill -CONT "$DAEMON" 2>/dev/null || true
}

@test "a daemon that hangs in the midst of a checkpoint: memory and cgroup go as well" {
    local cgroup=/stasis-test-$$
    prepare c1
    edit "$T/c1" ".linux.cgroupsPath = \"$cgroup\""
    launch c1
    [ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "${cgroup#/}" -print -quit)" ]
    fault checkpoint.dumped hold
    background c1 --leave-running
    wait_until 60 hit checkpoint.dumped
    [ -n "$(find "$T/images" -name 'pages-*.img' -print -quit)" ]
    kill -STOP "$DAEMON"
    delete_in_time c1
    dead "$DAEMON" && dead "$QEMU" && dead "$VIRTIOFSD"
    no_images
    [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "${cgroup#/}" -print -quit)" ]
    its_error "the sandbox daemon of c1 died"
}

@test "a daemon that hangs in the midst of a snapshot: what it wrote goes" {
    local store=$T/snapshots2
    prepare c1
    printf '%s\n' '[snapshot]' "dir = $store" >>"$T/c1.conf"
    launch c1
    fault snapshot.saved hold
    stasis --config "$T/c1.conf" snapshot create c1 s1 >"$T/background" 2>&1 3>&- &
    # shellcheck disable=SC2034 # for its_error
    PID=$!
    wait_until 60 hit snapshot.saved
    kill -STOP "$DAEMON"
    local begun=$SECONDS
    timeout --foreground 60 "$STASIS" --root "$R" --config "$T/c1.conf" delete --force c1 3>&-
    [ $((SECONDS - begun)) -lt 30 ]
    [ -z "$(ls -A "$store")" ]
    its_error "the sandbox daemon of c1 died"
}

# with_fds N COMMAND… : with descriptors below N only, also for the daemon.
with_fds() {
    prlimit --nofile="$1" timeout --foreground 100 "$STASIS" --root "$R" --config "$T/c1.conf" "${@:2}" 3>&-
}

@test "each number of descriptors: run says what is missing and leaves nothing, or works" {
    local n
    prepare c1
    # virtiofsd wants some hundred, so from there on it is the same.
    for n in $(seq 4 50); do
        run with_fds "$n" run --detach --bundle "$T/c1" c1
        echo "$n: $output"
        [ "$status" = 1 ]
        [[ $output == *"Too many open files"* || $output == *"file descriptors"* ]]
        [[ $output != *"does not answer"* ]]
        [ -z "$(ls -A "$R")" ]
    done
    wait_until 20 no_processes_left
    with_fds 1024 run --detach --bundle "$T/c1" c1 >"$T/c1.out" 2>&1 </dev/null
    wait_until 20 test -e "$T/c1/rootfs/n"
    counts c1
    stasis delete --force c1
}

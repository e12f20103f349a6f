#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Faults in the middle of a checkpoint and of a restore, at every point of src/base/fault.h: the call ends in time with an
# error that names cause and object, the container runs on or is cleanly dead, nothing is left.
bats_require_minimum_version 1.5.0
load helpers
load faults
setup_file() {
    faults_setup
    # Before the daemon, which on a host with private mounts sees no later ones.
    mkdir "$T/small"
    mount -t tmpfs -o size=64k tmpfs "$T/small"
    # One for all tests that leave it running.
    prepare c1 '[agent]' 'debug_console = true'
    launch c1
}
setup() {
    [ ! -e "$R/c1" ] || know c1
}
teardown() {
    # What a failed test left must not be the next one's.
    [ ! -e "$R/c2" ] || stasis delete --force c2
}
teardown_file() {
    ! mountpoint -q "$T/small" || umount "$T/small"
    file_teardown
}

# What each step of a checkpoint says when it fails: POINT ERROR WORDS.
CHECKPOINT_STEPS='
images.make ENOSPC cannot make a directory in
images.dirs EDQUOT cannot make directories in
share.bind ENOMEM cannot mount
share.work ENOMEM cannot bind
checkpoint.call ENOBUFS cannot call the agent
agent.freeze EIO cgroup.freeze
agent.probe EROFS cannot write to /share/
agent.work ENOSPC cannot create directory
agent.crun EAGAIN cannot start /usr/bin/crun
worker.start EMFILE commit of a checkpoint
commit.ready ENOSPC cannot make
commit.move EIO cannot move it
commit.sync EIO cannot make it durable
commit.sync-dir EIO cannot sync
commit.rename EROFS cannot rename the images to
commit.sync-name EIO cannot sync the directory of
'
# The same of a restore. Where its first mount fails nothing has begun.
RESTORE_STEPS='
share.work ENOMEM cannot bind
restore.call ENOBUFS cannot call the agent
restore.watch ENOMEM cannot watch process
agent.points ENOSPC cannot make the mount points
agent.network ENOSPC cannot make a network namespace
agent.crun EAGAIN cannot start /usr/bin/crun
agent.adopt EIO cannot open the cgroup
view.copy EIO cannot copy the mount
'
# Nothing is lost with these but logs.
HARMLESS='collect.dir collect.log agent.collect agent.report'
# Tried by tests of their own: a process that ends or stands still there, a restore, the end.
OTHERS='checkpoint.dumped checkpoint.exit agent.dumped agent.resume agent.restored'

strerror() {
    python3 -c 'import errno, os, sys; print(os.strerror(getattr(errno, sys.argv[1])))' "$1"
}

@test "every point is tried" {
    diff <(points | grep -vE '^(snapshot|template|load|dir|state|archive)\.' | sort) <({ # those are faults_snapshot.bats', state.bats' and interrupt.bats'
        awk 'NF {print $1}' <<<"$CHECKPOINT_STEPS$RESTORE_STEPS"
        tr ' ' '\n' <<<"$HARMLESS $OTHERS"
    } | sort -u)
}

@test "each step of a checkpoint fails: said, undone, and the container goes on" {
    local point error words
    dump_works c1
    while read -r point error words; do
        fault "$point" "$error"
        dump_fails c1 "$words" "$(strerror "$error")"
        hit "$point"
        undisturbed c1
    done < <(grep . <<<"$CHECKPOINT_STEPS")
    dump_works c1
}

@test "logs that cannot be written: the checkpoint is as good" {
    local point
    for point in $HARMLESS; do
        fault "$point" ENOSPC
        dump c1 --leave-running
        hit "$point"
        rm -r "$T/images/c1"
        undisturbed c1
    done
    grep -q 'level=warning.*No space left' "$R/c1/log"
}

@test "a container that cannot be thawed counts as paused, and can be resumed" {
    fault commit.ready EIO agent.resume EIO
    dump_fails c1 "Input/output error" "it stays paused"
    hit agent.resume
    status_is c1 paused
    no_fault
    stasis resume c1
    undisturbed c1
}

@test "an older checkpoint stays when the new one cannot be made" {
    dump c1 --leave-running
    local before
    before=$(sha256sum "$T"/images/c1/*)
    for point in commit.rename commit.sync-name; do
        fault "$point" EIO
        dump_fails c1 "Input/output error"
        hit "$point"
        [ "$(sha256sum "$T"/images/c1/*)" = "$before" ]
        [ "$(ls -A "$T/images")" = c1 ]
    done
    rm -r "$T/images/c1"
    undisturbed c1
}

@test "the process that commits is killed: the container goes on" {
    fault commit.move kill
    dump_fails c1 "commit of a checkpoint" "signal 9"
    undisturbed c1
}

@test "no room for the images: CRIU's own reason, and the container goes on" {
    run dump c1 --image-path "$T/small/images"
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"No space left"* ]]
    undisturbed c1
    [ -z "$(ls -A "$T/small")" ]
}

# kill_in_guest NAME : as soon as the dump writes memory, from outside of all containers; the pid is in killed.
kill_in_guest() {
    cat >"$T/c1/rootfs/kill.sh" <<SCRIPT
until [ -e /run/criu/work/dump.log ]; do sleep 0.05; done
pid=\$(pidof $1)
set -- /share/c1/checkpoint/images*/pages-1.img
until [ -e "\$1" ]; do set -- /share/c1/checkpoint/images*/pages-1.img; done
kill -KILL \$pid; echo "\$pid" >/share/c1/rootfs/killed
SCRIPT
    rm -f "$T/c1/rootfs/killed"
    timeout 120 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        "expect(b'# '); send(b'setsid sh /share/c1/rootfs/kill.sh >/dev/null 2>&1 & exit\\n')" \
        "$STASIS" --root "$R" console c1 | tail -n 1 | grep -q '^exit 0$'
}

@test "crun or CRIU killed in the middle: said, and the container goes on" {
    kill_in_guest crun
    dump_fails c1 "signal 9"
    wait_until 20 test -s "$T/c1/rootfs/killed" # it kills first, then it writes
    undisturbed c1
    kill_in_guest criu
    dump_fails c1 "CRIU checkpointing failed"
    wait_until 20 test -s "$T/c1/rootfs/killed" # it kills first, then it writes
    undisturbed c1
    dump_works c1
}

@test "the daemon stands still: the client's call ends at its deadline, and the daemon gives up what it wanted" {
    cp "$T/c1.conf" "$T/conf"
    printf '%s\n' 'timeout = 1' '[checkpoint]' 'timeout = 1' >>"$T/c1.conf" # the last section is [agent]
    fault checkpoint.call hold
    run dump c1 --leave-running
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"Checkpoint: no answer within 4.000 s"* ]]
    mv "$T/conf" "$T/c1.conf"
    no_fault
    undisturbed c1
    dump_works c1
}

@test "the kill after the checkpoint is lost: bounded, said, and the container can go on" {
    fault checkpoint.exit EIO
    dump_fails c1 "the checkpoint is at $T/images/c1" "has not ended"
    hit checkpoint.exit
    [ -s "$T/images/c1/inventory.img" ]
    rm -r "$T/images/c1"
    no_fault
    status_is c1 paused
    stasis resume c1
    undisturbed c1
}

# guest_clock SECONDS : the wall clock of c1's guest, from the host's; set by its root.
guest_clock() {
    timeout 120 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        "expect(b'# '); send(b'date -s @$(($(date +%s) + $1)) && exit\\n')" \
        "$STASIS" --root "$R" console c1 | tail -n 1 | grep -q '^exit 0$'
}
# near SECONDS FROM : so does the container see it.
near() {
    local is
    is=$(stasis exec c1 date +%s </dev/null)
    [ $((is - $2 - $1)) -ge 0 ] && [ $((is - $2 - $1)) -lt 120 ]
}

@test "the guest's clock jumps a year ahead and back: all goes on, and the host's times are its own" {
    local year=$((365 * 86400)) by from created
    created=$(stasis state c1 | jq -r .created)
    for by in $year -$year 0; do
        from=$(date +%s)
        quiet stasis exec --detach c1 tail -f /dev/null
        quiet stasis exec --detach c1 sleep 4
        guest_clock $by
        near $by "$from"
        stasis ps c1 | grep -q 'tail -f /dev/null$'
        [ "$(guest_pids c1 | wc -l)" -ge 2 ]
        stasis events --stats c1 | jq -e '.data.cpu.usage.total > 0'
        run stasis exec c1 sh -c 'sleep 0.2; exit 7' </dev/null
        [ "$status" = 7 ]
        counts c1
        stasis exec c1 killall tail </dev/null
        # A sleep is as long as it was to be.
        dump c1 --leave-running --wait-exec
        [ $(($(date +%s) - from)) -lt 60 ]
        [ -z "$(find "$T/images/c1" "$T/work" "$R/c1/state.json" -newermt "@$((from + 300))")" ]
        [ -z "$(find "$T/images/c1" ! -newermt "@$((from - 300))")" ]
        rm -r "$T/images/c1"
        [ "$(stasis state c1 | jq -r .created)" = "$created" ]
        undisturbed c1
    done
}

# Restores. The checkpoint that they start from is the end of c1; then they have its id, bundle and configuration. A
# container that runs on for a moment before its restore fails writes to its files; CRIU wants those of the checkpoint.

# restore_fails WORDS… : with an error that says them, and nothing is left of the container and its VM.
restore_fails() {
    local word
    run restore c1
    echo "$output"
    [ "$status" = 1 ] || return 1
    for word; do
        [[ $output == *"$word"* ]] || return 1
    done
    [ ! -e "$R/c1" ]
    wait_until 10 no_processes_left
    [ -s "$T/kept/inventory.img" ]
}
restore() {
    rm -f "$T/c1"/rootfs/n*
    cp -a "$T"/files/n* "$T/c1/rootfs/"
    timeout --foreground 200 "$STASIS" --root "$R" --config "$T/$1.conf" restore --detach --bundle "$T/$1" \
        --image-path "$T/kept" --work-path "$T/work" "$1" </dev/null 3>&-
}

@test "steps of a restore fail: said, and nothing is left" {
    local point error words
    dump c1
    [ ! -e "$R/c1" ]
    mv "$T/images/c1" "$T/kept"
    mkdir "$T/files"
    cp -a "$T/c1"/rootfs/n* "$T/files/"
    while read -r point error words; do
        fault "$point" "$error"
        restore_fails "$words" "$(strerror "$error")"
        hit "$point"
    done < <(grep . <<<"$RESTORE_STEPS")
    # The agent ends, and with it the guest.
    fault agent.restored kill
    restore_fails panic
    hit agent.restored
    no_fault
    # QEMU killed, then virtiofsd, while crun is about to restore.
    local process
    for process in QEMU virtiofsd; do
        fault agent.crun hold
        restore c1 >"$T/background" 2>&1 3>&- &
        PID=$!
        wait_until 120 hit agent.crun
        # shellcheck disable=SC2046
        set -- $(sandbox_pids c1)
        [ "$process" = QEMU ] && kill -KILL "$2" || kill -KILL "$3"
        its_error "$process"
        no_fault
        [ ! -e "$R/c1" ]
        wait_until 10 no_processes_left
    done
}

@test "a checkpoint that lost a file: CRIU's reason, and nothing is left; with the file it is restored" {
    mv "$T"/kept/core-1.img "$T/core-1.img"
    restore_fails "CRIU restoring failed" "empty-image"
    mv "$T/core-1.img" "$T/kept/"
    restore c1 >"$T/c1.out" 2>&1 || {
        cat "$T/c1.out"
        false
    }
    know c1
    undisturbed c1
    dump_works c1
}

# From here on each test has a machine of its own, which does not outlive it.

@test "the agent stands still: the call ends at its deadline, the container goes on; QEMU killed: named, nothing is left" {
    prepare c2 '[checkpoint]' 'timeout = 8'
    launch c2
    fault agent.probe hold
    background c2
    wait_until 60 hit agent.probe
    # The daemon has given up when it has taken the mounts away. Its next call, to thaw, has a deadline of its own.
    wait_until 30 grep -q /checkpoint/ "/proc/$DAEMON/mountinfo"
    wait_until 30 gave_up
    no_fault
    its_error "cannot checkpoint container c2" "no answer within 8.000 s"
    undisturbed c2

    fault agent.probe hold
    background c2
    wait_until 60 hit agent.probe
    kill -KILL "$QEMU"
    its_error "cannot checkpoint container c2" QEMU
    ended c2
}
gave_up() {
    ! grep -q /checkpoint/ "/proc/$DAEMON/mountinfo"
}

@test "the images do not get to the disk: the call ends at its deadline, nothing is left, the container goes on" {
    prepare c2 '[checkpoint]' 'timeout = 20'
    launch c2
    fault commit.sync hold
    dump_fails c2 "not on the disk within 20 s"
    hit commit.sync
    no_fault
    undisturbed c2
    # It has its name, but not for good: it stays, and it is said.
    fault commit.sync-name hold
    run dump c2 --leave-running
    echo "$output"
    [[ $output == *"may be there nevertheless"*" in $T/images/.c2."* ]]
    [ -s "$T/images/c2/inventory.img" ]
    no_fault
    rm -r "$T"/images/c2 "$T"/images/.c2.*
    undisturbed c2
    dump_works c2
    stasis delete --force c2
}

@test "virtiofsd killed while CRIU is about to dump: the same" {
    prepare c2
    launch c2
    fault agent.crun hold
    background c2
    wait_until 120 hit agent.crun
    kill -KILL "$VIRTIOFSD"
    its_error "cannot checkpoint container c2" virtiofsd
    ended c2
}

@test "the agent ends after the dump: a guest panic, nothing is left" {
    prepare c2
    launch c2
    fault agent.dumped kill
    dump_fails c2 panic
    ended c2
}

@test "the daemon killed while it commits: delete removes files and cgroup" {
    prepare c2
    edit "$T/c2" '.linux.cgroupsPath = "/stasis-faults-'"${T##*.}"'/c2"'
    launch c2
    fault commit.move hold
    background c2
    wait_until 120 hit commit.move
    [ "$(ls -A "$T/images")" != "" ]
    kill -KILL "$DAEMON"
    its_error ""
    [ ! -e "$T/images/c2" ]
    ended c2
    [ -z "$(find /sys/fs/cgroup -path "*/stasis-faults-${T##*.}/c2")" ]
    find /sys/fs/cgroup -depth -type d -name "stasis-faults-${T##*.}" -exec rmdir {} +
}

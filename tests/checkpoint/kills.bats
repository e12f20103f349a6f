#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The daemon, QEMU and virtiofsd, each killed at each step (src/base/fault.h) of a checkpoint, a restore, a snapshot and
# the loading of one. Whatever the outcome is: the call ends, what it says is true, nothing is left. What the messages say
# is looked at by tests/integration/faults*.bats.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/faults
setup_file() {
    faults_setup
    mkdir "$T/store" "$T/templates"
    # One machine for all, so that a template serves them.
    prepare c '[snapshot]' "dir = $T/store" "templates = $T/templates"
    sed -i 's/^template = false/template = true/' "$T/c.conf"
    launch c
    snapshot create --quiet c base
    dump c --leave-running
    mv "$T/images/c" "$T/kept"
    stasis delete --force c
}
teardown_file() {
    file_teardown
}
setup() {
    configure c
}
teardown() {
    no_fault
    [ ! -e "$R/c" ] || stasis delete --force c || true
}

snapshot() {
    timeout --foreground 200 "$STASIS" --root "$R" --config "$T/c.conf" snapshot "$@" </dev/null 3>&-
}

# of SORT… : the points where a daemon's or its workers' step can be held.
of() {
    points | grep -E "^($1)\\."
}

# killed_at POINT PART COMMAND… : it runs, and the part of c is killed at that point. CODE is its exit code. Where there
# may be no such part yet nothing is killed, and it must succeed.
killed_at() {
    local point=$1 part=$2
    shift 2
    echo "$part at $point"
    fault "$point" hold
    "$@" >"$T/background" 2>&1 3>&- &
    PID=$!
    wait_until 90 hit_or_over "$point"
    set --
    # shellcheck disable=SC2046
    [ ! -e "$R/c/state.json" ] || set -- $(sandbox_pids c)
    # shellcheck disable=SC2034 # used by name
    DAEMON=$(pgrep -of -- "-root $R -id c ") QEMU=${2:-} VIRTIOFSD=${3:-}
    # 0: the state has been recorded, and there is none yet.
    [ "$QEMU" != 0 ] || QEMU=
    [ "$VIRTIOFSD" != 0 ] || VIRTIOFSD=
    KILLED=
    if hit "$point"; then
        KILLED=${!part}
        [ "${KILLED:-0}" -gt 1 ] || KILLED=
        [ -z "$KILLED" ] || kill -KILL "$KILLED"
    fi
    no_fault
    wait_until 90 dead "$PID"
    CODE=0
    wait "$PID" || CODE=$?
    cat "$T/background"
    echo "killed: ${KILLED:-nothing}, exit code $CODE"
    if [ -z "$KILLED" ]; then
        # There is no such part yet.
        [[ $part != DAEMON && " share.bind load.root load.fill worker.start " == *" $point "* ]]
        [ "$CODE" = 0 ]
    fi
}
hit_or_over() {
    hit "$1" || dead "$PID"
}

# no_part : none of c's processes is there, nor a mount of it that the host sees.
no_part() {
    [ -z "$(pgrep -f -- "-root $R -id c ")" ] && { [ -z "$QEMU" ] || dead "$QEMU"; } &&
        { [ -z "$VIRTIOFSD" ] || dead "$VIRTIOFSD"; } && ! grep -qF "$R/c" /proc/self/mountinfo
}
# over : the VM is cleanly dead, `delete` leaves nothing.
over() {
    if [ -z "$KILLED" ]; then
        stasis delete --force c # a checkpoint may have done so
    elif [ -e "$R/c" ]; then
        wait_until 20 status_is c stopped
        stasis delete c
    fi
    [ ! -e "$R/c" ]
    wait_until 20 no_part
}

# whole_or_none : of the checkpoint under its final name; nothing hidden is left, or the next one takes it away.
whole_or_none() {
    [ -e "$T/images/c" ] || return 0
    no_fault
    restore
    status_is c running
    stasis delete --force c
    rm -r "$T/images/c"
}
restore() {
    timeout --foreground 200 "$STASIS" --root "$R" --config "$T/c.conf" restore --detach --bundle "$T/c" \
        --image-path "$T/images/c" --work-path "$T/work" c >"$T/c.out" 2>&1 </dev/null 3>&- || {
        cat "$T/c.out"
        return 1
    }
}

checkpoint_with_killed() {
    local point
    for point in $(of 'images|share|checkpoint|commit' | grep -v exit) worker.start \
        agent.freeze agent.probe agent.work agent.crun agent.dumped agent.collect agent.report; do
        launch c
        killed_at "$point" "$1" dump c
        if [ $CODE = 0 ]; then
            [ -s "$T/images/c/inventory.img" ]
        else
            grep -q "cannot checkpoint container c" "$T/background"
        fi
        over
        whole_or_none
        no_images
    done
}

@test "a checkpoint: the daemon is killed at each step" {
    checkpoint_with_killed DAEMON
}
@test "a checkpoint: QEMU is killed at each step" {
    checkpoint_with_killed QEMU
}
@test "a checkpoint: virtiofsd is killed at each step" {
    checkpoint_with_killed VIRTIOFSD
}

restore_with_killed() {
    local point
    rm -rf "$T/images/c"
    for point in share.bind share.work $(of restore) agent.points agent.network agent.crun agent.restored agent.adopt; do
        cp -a "$T/kept" "$T/images/c"
        killed_at "$point" "$1" restore
        if [ $CODE != 0 ]; then
            grep -q "restore failed" "$T/c.out"
            [ ! -e "$R/c" ]
        fi
        over
        # What it was made of is as it was.
        diff -r "$T/kept" "$T/images/c"
        rm -r "$T/images/c"
    done
}

@test "a restore: the daemon is killed at each step" {
    restore_with_killed DAEMON
}
@test "a restore: QEMU is killed at each step" {
    restore_with_killed QEMU
}
@test "a restore: virtiofsd is killed at each step" {
    restore_with_killed VIRTIOFSD
}

# store_is_sound : of the snapshot x all or nothing is there, and nothing hidden once another one was written.
store_is_sound() {
    if [ -e "$T/store/x" ]; then
        snapshot verify x
        snapshot restore --quiet --id c x
        status_is c running
    else
        snapshot restore --quiet --id c base
    fi
    snapshot create --quiet c y
    stasis delete --force c
    snapshot rm y >/dev/null
    [ ! -e "$T/store/x" ] || snapshot rm x >/dev/null
    [ "$(ls -A "$T/store")" = base ] || {
        ls -lA "$T/store"
        return 1
    }
}

snapshot_with_killed() {
    local point
    for point in $(of snapshot) worker.start; do
        snapshot restore --quiet --id c base
        killed_at "$point" "$1" snapshot create c x
        if [ $CODE = 0 ]; then
            [ -e "$T/store/x" ]
        else
            grep -q "cannot make snapshot x" "$T/background"
        fi
        over
        store_is_sound
    done
}

@test "a snapshot: the daemon is killed at each step" {
    snapshot_with_killed DAEMON
}
@test "a snapshot: QEMU is killed at each step" {
    snapshot_with_killed QEMU
}
@test "a snapshot: virtiofsd is killed at each step" {
    snapshot_with_killed VIRTIOFSD
}

load_with_killed() {
    local point
    for point in $(of load) worker.start; do
        killed_at "$point" "$1" snapshot restore --quiet --id c base
        if [ $CODE != 0 ]; then
            grep -q "cannot restore snapshot base" "$T/background"
            [ ! -e "$R/c" ]
        fi
        over
        store_is_sound
    done
}

@test "a snapshot is loaded: the daemon is killed at each step" {
    load_with_killed DAEMON
}
@test "a snapshot is loaded: QEMU is killed at each step" {
    load_with_killed QEMU
}
@test "a snapshot is loaded: virtiofsd is killed at each step" {
    load_with_killed VIRTIOFSD
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Faults in the middle of a snapshot, of its restore and of a template, at every point of src/base/fault.h: the call ends
# with an error that names cause and object, the source runs on or is cleanly dead, the store holds nothing half made.
bats_require_minimum_version 1.5.0
load helpers
load faults
setup_file() {
    faults_setup
    # Before the daemon, which on a host with private mounts sees no later ones.
    mkdir "$T/small" "$T/store"
    mount -t tmpfs -o size=1m tmpfs "$T/small"
    prepare s1 '[snapshot]' "dir = $T/store"
    launch s1
}
setup() {
    # One that a test has killed shall fail that test alone.
    status_is s1 running || {
        configure s1
        no_fault
        stasis delete --force s1 || true
        launch s1
    }
    know s1
}
teardown() {
    no_fault
    [ -n "$BATS_TEST_COMPLETED" ] || [ ! -e "$R/s2" ] || stasis delete --force s2
}
teardown_file() {
    umount "$T/small"
    file_teardown
}

# What each step of a snapshot says when it fails: POINT ERROR WORDS.
SNAPSHOT_STEPS='
snapshot.begin ENOSPC cannot make a file in
snapshot.freeze ENOBUFS cannot call the agent
snapshot.frozen EIO cannot stop the CPUs
snapshot.saved EIO cannot save the state of the devices
worker.start EMFILE copying the memory
snapshot.copy ENOSPC cannot copy the memory
snapshot.copied EIO copying the memory
snapshot.manifest ENOSPC cannot write manifest.json
snapshot.sync EIO to the disk
snapshot.rename EROFS cannot rename
snapshot.sync-name EIO to the disk
'
# The same of its restore.
LOAD_STEPS='
load.root ENOMEM cannot mount
worker.start EMFILE loading the memory
load.fill EIO cannot load the memory
load.filled EIO cannot load the memory
load.loaded EIO cannot load the state of the devices
load.thaw ENOBUFS cannot call the agent
'
# Tried by tests of their own.
OTHERS='snapshot.committed template.lock'

strerror() {
    python3 -c 'import errno, os, sys; print(os.strerror(getattr(errno, sys.argv[1])))' "$1"
}

# snapshot ARG… : bounded from outside as well.
snapshot() {
    timeout --foreground 200 "$STASIS" --root "$R" --config "${SNAPSHOT_CONF:-$T/s1.conf}" snapshot "$@" </dev/null 3>&-
}
# says COMMAND… -- WORDS… : it fails, with all of them.
says() {
    local command=() word
    while [ "$1" != -- ]; do
        command+=("$1")
        shift
    done
    shift
    run "${command[@]}"
    echo "$output"
    [ "$status" = 1 ] || {
        echo "exit code $status"
        return 1
    }
    for word; do
        [[ $output == *"$word"* ]] || {
            echo "that does not say: $word"
            return 1
        }
    done
}
store_is() {
    [ "$(ls -A "$T/store" | paste -sd ' ')" = "$*" ] || {
        ls -lA "$T/store"
        return 1
    }
}
in_background() {
    "$@" >"$T/background" 2>&1 3>&- &
    PID=$!
}
# restored ID : is gone with all it had.
nothing_of() {
    [ ! -e "$R/$1" ] && [ -z "$(find "$T/store" -name ".new-*")" ] && no_process_of "$1"
}

@test "every point is tried" {
    diff <(points | grep -E '^(snapshot|template|load)\.' | sort) <({
        awk 'NF && $1 !~ /^worker/ {print $1}' <<<"$SNAPSHOT_STEPS$LOAD_STEPS"
        printf '%s\n' $OTHERS
    } | sort -u)
}

@test "each step of a snapshot fails: said, undone, and the source goes on" {
    local point error words
    while read -r point error words; do
        fault "$point" "$error"
        says snapshot create s1 x -- "snapshot x" "$words" "$(strerror "$error")"
        hit "$point"
        store_is
        undisturbed s1
    done < <(grep . <<<"$SNAPSHOT_STEPS")
    # Also one that was to end it.
    for point in snapshot.copied snapshot.sync; do
        fault "$point" EIO
        says snapshot create --stop s1 x -- "Input/output error"
        store_is
        undisturbed s1
    done
}

@test "--no-sync does not wait for the disk, and is whole; never for a sandbox that it ends" {
    local point
    for point in snapshot.sync snapshot.sync-name; do
        fault "$point" EIO
        snapshot create --quiet --no-sync s1 x
        snapshot verify x
        store_is x
        snapshot rm x
        undisturbed s1
    done
    no_fault
    says snapshot create --stop --no-sync s1 x -- "--stop" "--no-sync"
    store_is
    undisturbed s1
}

@test "the processes that copy and complete it are killed: said, undone, and the source goes on" {
    fault snapshot.copy kill
    says snapshot create s1 x -- "copying the memory" "signal 9"
    store_is
    undisturbed s1
    fault snapshot.rename kill
    says snapshot create s1 x -- "completing the snapshot" "signal 9"
    store_is
    undisturbed s1
}

@test "no room in the store: said, undone, and the source goes on" {
    sed "s|^dir = .*|dir = $T/small/store|" "$T/s1.conf" >"$T/small.conf"
    SNAPSHOT_CONF=$T/small.conf says snapshot create s1 x -- "No space left" s1
    [ -z "$(ls -A "$T/small/store")" ]
    undisturbed s1
    no_fault
    snapshot create --quiet s1 base
    store_is base
    undisturbed s1
}

@test "each step of a restore fails: said, and nothing is left; the next one works" {
    local point error words
    store_is base
    while read -r point error words; do
        fault "$point" "$error"
        says snapshot restore --id s2 base -- base "$words" "$(strerror "$error")"
        hit "$point"
        wait_until 20 nothing_of s2
    done < <(grep . <<<"$LOAD_STEPS")
    fault load.fill kill
    says snapshot restore --id s2 base -- "loading the memory" "signal 9"
    wait_until 20 nothing_of s2
    fault load.filled kill # the daemon
    says snapshot restore --id s2 base -- "cannot restore snapshot base"
    # What a killed daemon left in the store goes with the next one that writes there.
    [ ! -e "$R/s2" ]
    wait_until 20 no_process_of s2
    no_fault
    snapshot restore --quiet --id s2 base
    stasis delete --force s2
    wait_until 20 nothing_of s2
    undisturbed s1
}
no_process_of() {
    [ -z "$(pgrep -f -- "-root $R -id $1 ")" ]
}

# parts_of ID : DAEMON, QEMU and VIRTIOFSD of it, while it starts or runs.
parts_of() {
    # shellcheck disable=SC2046
    set -- $(sandbox_pids "$1")
    DAEMON=$1 QEMU=$2 VIRTIOFSD=$3
    alive "$QEMU" && alive "$VIRTIOFSD"
}

@test "QEMU or virtiofsd killed while a snapshot is loaded: named, and nothing is left" {
    fault load.filled hold
    in_background snapshot restore --id s2 base
    wait_until 60 hit load.filled
    parts_of s2
    kill -KILL "$QEMU"
    no_fault
    its_error "cannot restore snapshot base" QEMU
    wait_until 20 nothing_of s2
    fault load.loaded hold
    in_background snapshot restore --id s2 base
    wait_until 60 hit load.loaded
    parts_of s2
    kill -KILL "$VIRTIOFSD"
    no_fault
    its_error "cannot restore snapshot base" virtiofsd
    wait_until 20 nothing_of s2
}

# in_the_middle POINT PART… : a copy of base is to be saved as x, and a part of it killed there. Its faults are in s1's
# file, which its daemon was started with.
in_the_middle() {
    local point=$1 part=$2
    snapshot restore --quiet --id s2 base
    fault "$point" hold
    in_background snapshot create s2 x
    wait_until 60 hit "$point"
    parts_of s2
    kill -KILL "${!part}"
    no_fault
}
dead_and_deleted() {
    wait_until 20 dead "$QEMU"
    wait_until 20 dead "$VIRTIOFSD"
    wait_until 20 status_is s2 stopped
    stasis delete s2
    [ ! -e "$R/s2" ]
}

@test "QEMU or virtiofsd killed while it is saved: named, nothing is left in the store" {
    in_the_middle snapshot.frozen QEMU
    its_error "cannot make snapshot x" QEMU
    dead_and_deleted
    wait_until 20 store_is base
    in_the_middle snapshot.copied VIRTIOFSD
    its_error "cannot make snapshot x" virtiofsd
    dead_and_deleted
    wait_until 20 store_is base
}

# copy_counts ID : the container of a copy does, in its own root.
copy_counts() {
    local n dir
    dir=/proc/$(jq -r .stasis.daemonPid "$R/$1/state.json")/root$R/$1/roots/0
    n=$(cat "$dir/n")
    status_is "$1" running
    wait_until 20 not_at "$dir/n" "$n"
}
not_at() {
    [ "$(cat "$1")" != "$2" ]
}
# swapped POINT NAME : while base is loaded and held there, another one gets its place; afterwards the first is back.
swapped() {
    local point=$1 name=$2 code=0
    echo "$name at $point"
    fault "$point" hold
    in_background snapshot restore --quiet --id s2 base
    wait_until 60 hit "$point"
    # Of the same size, but nothing that could be loaded.
    mv "$T/store/base/$name" "$T/original"
    if [ -d "$T/original" ]; then
        mkdir "$T/other"
        echo 1000000 >"$T/other/n"
    else
        truncate -s "$(stat -c %s "$T/original")" "$T/other"
    fi
    mv -T "$T/other" "$T/store/base/$name"
    no_fault
    wait_until 120 dead "$PID"
    wait "$PID" || code=$?
    cat "$T/background"
    rm -r "$T/store/base/$name"
    mv "$T/original" "$T/store/base/$name"
    if [ $code = 0 ]; then
        copy_counts s2
        stasis delete --force s2
    else
        grep "cannot restore snapshot base" "$T/background" | grep -q damaged
    fi
    wait_until 20 nothing_of s2
}

@test "a file of a snapshot gets replaced while it is loaded: what was checked is what runs, or it is damaged" {
    local name
    for name in device memory roots/0; do
        swapped load.fill $name
    done
    swapped load.filled device
    swapped load.filled memory
    snapshot verify base
}

@test "the daemon killed while it saves: the next one who writes to the store clears up; what was complete stays" {
    local point
    for point in snapshot.saved snapshot.rename; do
        in_the_middle $point DAEMON
        its_error "cannot make snapshot x"
        dead_and_deleted
        [ ! -e "$T/store/x" ]
    done
    in_the_middle snapshot.committed DAEMON
    its_error ""
    dead_and_deleted
    know s1
    undisturbed s1
    snapshot create --quiet s1 y
    store_is base x y
    snapshot verify x
    snapshot rm x y >/dev/null
}

# meanwhile ID COMMAND… : while ID is saved as x and its guest stands still, the command begins. SAVED and CODE are the
# exit codes of both, $T/background and $T/said what they say.
meanwhile() {
    local id=$1 idle other
    shift
    fault snapshot.copy hold
    in_background snapshot create --quiet "$id" x
    wait_until 60 hit snapshot.copy
    parts_of "$id"
    idle=$(daemon_fds)
    "$@" >"$T/said" 2>&1 </dev/null 3>&- &
    other=$!
    wait_until 60 begun "$other" "$idle"
    # The daemon answers this one by itself, and by then has read what came before it.
    says snapshot create "$id" y -- "cannot make snapshot y" "a snapshot is under way"
    alive "$PID"
    no_fault
    wait_until 120 dead "$PID"
    wait_until 120 dead "$other"
    SAVED=0 CODE=0
    wait "$PID" || SAVED=$?
    wait "$other" || CODE=$?
    cat "$T/background" "$T/said"
    echo "the snapshot: $SAVED, $*: $CODE"
}
begun() {
    dead "$1" || [ "$(daemon_fds)" -gt "$2" ]
}
# done_or_said WORDS… : of the command.
done_or_said() {
    [ "$CODE" = 0 ] || grep -qF -- "$*" "$T/said"
}
# x_is_sound : or it is not there, and why is said. Then it goes.
x_is_sound() {
    if [ "$SAVED" = 0 ]; then
        snapshot verify x
        snapshot restore --quiet --id s3 x
        copy_counts s3
        stasis exec s3 true </dev/null
        stasis delete --force s3
        snapshot rm x >/dev/null
    else
        grep -q "cannot make snapshot x: ." "$T/background"
    fi
    wait_until 20 store_is base
}

@test "an exec, a pause, a checkpoint, a kill while the memory is copied: done or said, the snapshot is whole" {
    meanwhile s1 stasis exec s1 sh -c 'exit 7'
    [ "$CODE" = 7 ]
    x_is_sound
    undisturbed s1
    meanwhile s1 stasis pause s1
    done_or_said snapshot
    [ "$CODE" != 0 ] || {
        status_is s1 paused
        stasis resume s1
    }
    x_is_sound
    undisturbed s1
    meanwhile s1 dump s1 --leave-running
    done_or_said snapshot
    rm -rf "$T/images/s1"
    x_is_sound
    undisturbed s1
    meanwhile s1 stasis kill s1 CONT
    [ "$CODE" = 0 ]
    x_is_sound
    undisturbed s1
}

@test "its end while the memory is copied: done, and the snapshot is whole or not there" {
    local command
    for command in "kill s2 KILL" "delete --force s2"; do
        snapshot restore --quiet --id s2 base
        # shellcheck disable=SC2086
        meanwhile s2 stasis $command
        [ "$CODE" = 0 ]
        if [[ $command == kill* ]]; then
            wait_until 20 status_is s2 stopped
            stasis delete s2
        fi
        wait_until 20 nothing_of s2
        know s1
        x_is_sound
    done
    undisturbed s1
}

@test "its end while the copying of the memory does not end: within its deadline, and there is no snapshot" {
    local begin
    # One whose daemon does not wait as long for its guest.
    (cat "$T/s1.conf" && printf '%s\n' '[agent]' 'timeout = 5') >"$T/quick.conf"
    SNAPSHOT_CONF=$T/quick.conf snapshot restore --quiet --id s2 base
    fault snapshot.copy hold
    in_background snapshot create --quiet s2 x
    wait_until 60 hit snapshot.copy
    parts_of s2
    begin=$SECONDS
    stasis delete --force s2
    [ $((SECONDS - begin)) -lt 40 ]
    its_error "cannot make snapshot x: sandbox s2 was shut down"
    wait_until 20 nothing_of s2
    no_fault
    wait_until 20 dead "$QEMU"
    store_is base
    know s1
    undisturbed s1
}

# Templates. A machine of another size, so that it is not s1's.

# start_one : a container that ends at once; its daemon's log is $T/t.log.
start_one() {
    local r=0
    timeout --foreground 200 "$STASIS" --root "$R" --config "$T/t.conf" run --keep --bundle "$T/t" t >"$T/t.out" 2>&1 \
        </dev/null 3>&- || r=$?
    cp "$R/t/log" "$T/t.log"
    stasis delete t
    [ $r = 0 ] || {
        cat "$T/t.out" "$T/t.log"
        return 1
    }
}
warned() {
    [ "$(grep -c level=warning "$T/t.log")" = 1 ] && grep level=warning "$T/t.log" | grep -qF -- "$1"
}
templates_are() {
    [ "$(find "$T/templates" -mindepth 1 -maxdepth 1 ! -name .lock | wc -l)" = "$1" ]
}

@test "a template that cannot be made or loaded: one warning, and the container runs" {
    bundle t
    args t true
    printf '%s\n' '[vm]' 'memory = 192M' 'cpus = 1' '[snapshot]' "templates = $T/templates" >"$T/t.conf"
    fault template.lock EIO
    start_one
    warned "cannot lock"
    templates_are 0
    fault snapshot.copy ENOSPC
    start_one
    warned "No space left"
    templates_are 0
    no_fault
    start_one
    templates_are 1
    # Nobody waits for the disk.
    fault snapshot.sync EIO snapshot.sync-name EIO
    rm -r "$T"/templates/*
    start_one
    not grep level=warning "$T/t.log"
    templates_are 1
    fault load.loaded EIO
    start_one
    warned "cannot load the state of the devices"
    templates_are 1 # a new one
    fault load.fill kill
    start_one
    warned "signal 9"
    templates_are 1
    # What takes too long is not waited for.
    rm -r "$T"/templates/*
    sed -i '/cpus/ a boot_timeout = 20' "$T/t.conf"
    fault snapshot.copy hold
    start_one
    warned "it was not written within 20 s ([vm] boot_timeout)"
    templates_are 0
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Each long command is interrupted, by SIGINT and SIGTERM, and killed: it says what comes of it, the container goes on, and
# nothing stays. Fault points hold the work at a place where it takes long.
bats_require_minimum_version 1.5.0
load helpers
load faults
setup_file() {
    faults_setup
    mkdir "$T/out" "$T/store" "$T/templates"
    prepare c1 '[snapshot]' "dir = $T/store"
    launch c1
}
setup() {
    know c1
}
teardown() {
    no_fault
    ! dead "$DAEMON" || return 1
    stasis --config "$T/c1.conf" snapshot rm s1 2>/dev/null || true # of a test that failed
    [ ! -e "$R/c2" ] || stasis delete --force c2
}
teardown_file() {
    file_teardown
}

# begin COMMAND… : a stasis command in the background that takes signals as one in a terminal does; PID.
begin() {
    env --default-signal=INT,TERM "$STASIS" --root "$R" --config "$T/c1.conf" "$@" >"$T/background" 2>&1 </dev/null 3>&- &
    PID=$!
}
# until_held POINT COMMAND… : begins it and waits until it stands at that point.
until_held() {
    fault "$1" hold
    begin "${@:2}"
    wait_until 60 hit "$1"
}
# interrupted SIGNAL WORDS… : it ends with the signal's status, and says the words.
interrupted() {
    local code=0 word
    wait_until 60 dead "$PID"
    wait "$PID" || code=$?
    cat "$T/background"
    [ "$code" = $((128 + $(kill -l "$1"))) ] || {
        echo "status $code"
        return 1
    }
    for word in "${@:2}"; do
        grep -qF -- "$word" "$T/background" || return 1
    done
}
says() {
    grep -qF -- "$1" "$T/background"
}
nothing_out() {
    [ -z "$(ls -A "$T/out")" ]
}
empty_store() {
    [ -z "$(ls -A "$T/store")" ]
}
gone() {
    [ ! -e "$R/$1" ]
}
# goes_on : c1 does, and nothing is left of what was given up.
goes_on() {
    wait_until 60 status_is c1 running
    wait_until 60 nothing_out
    undisturbed c1
}

@test "checkpoint, in CRIU's dump: waited for, thrown away" {
    local signal option
    for signal in INT TERM; do
        for option in --leave-running --work-path="$T/work"; do
            until_held agent.dumped checkpoint "$option" --image-path "$T/images/c1" --work-path "$T/work" c1
            kill -"$signal" "$PID"
            wait_until 20 says "CRIU cannot be stopped in the midst of a dump"
            alive "$PID"
            no_fault
            interrupted "$signal" "SIG$signal: cancelling" "cannot checkpoint container c1: cancelled"
            goes_on
        done
    done
    dump_works c1
}

@test "checkpoint: a second signal does not wait, and neither does one that is killed" {
    until_held agent.dumped checkpoint --image-path "$T/images/c1" --work-path "$T/work" c1
    kill -INT "$PID"
    wait_until 20 says "cancelling"
    kill -INT "$PID"
    interrupted INT
    no_fault
    goes_on
    until_held agent.dumped checkpoint --image-path "$T/images/c1" --work-path "$T/work" c1
    kill -KILL "$PID"
    interrupted KILL
    no_fault
    goes_on
    dump_works c1
}

@test "checkpoint, while it is made durable: at once" {
    until_held commit.move checkpoint --image-path "$T/images/c1" --work-path "$T/work" c1
    kill -INT "$PID"
    interrupted INT "cannot checkpoint container c1: cancelled"
    goes_on
    until_held commit.move checkpoint --leave-running --image-path "$T/images/c1" --work-path "$T/work" c1
    kill -KILL "$PID"
    interrupted KILL
    goes_on
}

@test "checkpoint --export: in the dump, and while the archive is written" {
    local point signal
    for point in agent.dumped archive.write; do
        for signal in INT TERM KILL; do
            until_held "$point" checkpoint --export "$T/out/c1.tar" c1
            [ -n "$(find "$T/out" -name inventory.img -print -quit)" ]
            kill -"$signal" "$PID"
            [ "$signal" = KILL ] || [ "$point" != agent.dumped ] || wait_until 20 says "CRIU cannot be stopped"
            no_fault
            interrupted "$signal"
            goes_on
        done
    done
    # One that the user has paused stays so.
    stasis pause c1
    until_held archive.write checkpoint --export "$T/out/c1.tar" c1
    kill -INT "$PID"
    interrupted INT "interrupted by SIGINT"
    wait_until 20 nothing_out
    status_is c1 paused
    stasis resume c1
    goes_on
}

@test "snapshot create: while it is copied, and while it is made durable" {
    local point signal option
    for point in snapshot.copy snapshot.manifest; do
        for signal in INT TERM KILL; do
            for option in --quiet --stop; do
                until_held "$point" snapshot create "$option" c1 s1
                kill -"$signal" "$PID"
                interrupted "$signal"
                [ "$signal" = KILL ] || says "cannot save sandbox c1 as s1: cancelled"
                wait_until 20 empty_store
                no_fault
                goes_on
            done
        done
    done
}

@test "snapshot export" {
    local signal
    stasis --config "$T/c1.conf" snapshot create c1 s1
    for signal in INT TERM KILL; do
        until_held archive.write snapshot export s1 "$T/out/s1.tar"
        kill -"$signal" "$PID"
        interrupted "$signal"
        wait_until 20 nothing_out
    done
    no_fault
    stasis --config "$T/c1.conf" snapshot rm s1
}

only_s1() {
    [ "$(ls -A "$T/store")" = s1 ]
}

@test "snapshot restore and clone" {
    local signal command
    stasis --config "$T/c1.conf" snapshot create c1 s1
    for command in restore clone; do
        for signal in INT TERM KILL; do
            until_held load.fill snapshot "$command" --id c2 s1
            kill -"$signal" "$PID"
            wait_until 60 dead "$PID"
            ! wait "$PID" || return 1
            cat "$T/background"
            wait_until 60 gone c2
            no_fault
            wait_until 20 only_s1
        done
    done
    status_is c1 running
    stasis --config "$T/c1.conf" snapshot rm s1
}

@test "restore" {
    local signal
    dump c1 --leave-running
    bundle_own_rootfs c2
    cp "$T/c1/config.json" "$T/c2/config.json"
    for signal in INT TERM KILL; do
        printf '%s\n' '[vm]' 'memory = 256M' 'template = false' 'kernel_params = agent.fault=/share/c2/rootfs/fault' \
            >"$T/c2.conf"
        configure c2
        fault agent.restored hold
        env --default-signal=INT,TERM "$STASIS" --root "$R" --config "$T/c2.conf" restore --detach --image-path \
            "$T/images/c1" --work-path "$T/work" --bundle "$T/c2" c2 >"$T/background" 2>&1 </dev/null 3>&- &
        PID=$!
        wait_until 60 hit agent.restored
        kill -"$signal" "$PID"
        interrupted "$signal"
        wait_until 60 gone c2
        no_fault
    done
    configure c1
    rm -r "$T/images/c1"
}

only_c1() {
    [ "$(ls -A "$R")" = c1 ]
}

@test "template build" {
    local signal
    for signal in INT TERM KILL; do
        printf '%s\n' '[vm]' 'memory = 256M' 'kernel_params = agent.log=info' "[snapshot]" "templates = $T/templates" >"$T/t.conf"
        fault snapshot.copy hold
        env --default-signal=INT,TERM "$STASIS" --root "$R" --config "$T/t.conf" template build >"$T/background" 2>&1 \
            </dev/null 3>&- &
        PID=$!
        wait_until 60 hit snapshot.copy
        kill -"$signal" "$PID"
        wait_until 60 dead "$PID"
        ! wait "$PID" || return 1
        no_fault
        wait_until 60 only_c1
        [ -z "$(find "$T/templates" -mindepth 1 ! -name .lock -print -quit)" ]
    done
}

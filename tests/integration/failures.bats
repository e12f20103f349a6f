#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Parts that die: the call ends with an error that names the cause, and nothing is left.
load helpers
setup_file() { file_setup; }
teardown_file() { file_teardown; }

start_sleeper() {
    bundle b
    args b sleep 10000
    quiet stasis run -d --bundle "$T/b" --pid-file "$T/pid" c1
    # shellcheck disable=SC2046
    set -- $(sandbox_pids c1)
    DAEMON=$1 QEMU=$2 VIRTIOFSD=$3
}

@test "QEMU killed: the container counts as killed, calls say why, delete cleans up" {
    start_sleeper
    kill -KILL "$QEMU"
    wait_until 10 status_is c1 stopped
    wait_until 10 dead "$(cat "$T/pid")"
    wait_until 10 dead "$VIRTIOFSD"
    run stasis exec c1 true
    echo "$output"
    [ "$status" = 255 ]
    [[ $output == *"cannot exec in a stopped container"* ]]
    stasis delete c1
    [ ! -e "$R/c1" ]
}

@test "virtiofsd killed: the same" {
    start_sleeper
    kill -KILL "$VIRTIOFSD"
    wait_until 10 status_is c1 stopped
    wait_until 10 dead "$QEMU"
    stasis delete c1
}

@test "daemon killed: QEMU, virtiofsd and the monitor die with it, delete cleans up, the id is free again" {
    start_sleeper
    kill -KILL "$DAEMON"
    wait_until 10 dead "$QEMU"
    wait_until 10 dead "$VIRTIOFSD"
    wait_until 10 dead "$(cat "$T/pid")"
    status_is c1 stopped
    run stasis exec c1 true
    echo "$output"
    [ "$status" = 255 ]
    [[ $output == *"cannot exec in a stopped container"* ]]
    stasis delete c1
    [ ! -e "$R/c1" ]
    start_sleeper
    stasis delete --force c1
}

# killed_under_calls WHICH : the sandbox's process (1 the daemon, 2 QEMU, 3 virtiofsd) is killed while a `run` and
# an `exec` of a container wait. Their exit codes are in RUN and EXEC, what they printed in $T/run and $T/exec.
killed_under_calls() {
    local run exec
    RUN=0 EXEC=0
    bundle b
    args b sleep 10000
    stasis run --bundle "$T/b" c1 >"$T/run" 2>&1 </dev/null 3>&- &
    run=$!
    wait_until 30 status_is c1 running
    stasis exec c1 sleep 1000 >"$T/exec" 2>&1 </dev/null 3>&- &
    exec=$!
    wait_until 20 bash -c "'$STASIS' --root '$R' ps c1 | grep -q 'sleep 1000\$'"
    kill -KILL "$(sandbox_pids c1 | sed -n "$1p")"
    wait_until 20 dead $run
    wait_until 20 dead $exec
    wait $run || RUN=$?
    wait $exec || EXEC=$?
    head "$T/run" "$T/exec"
    stasis delete --force c1
}

@test "QEMU killed during run and exec: both end with an error that names it" {
    killed_under_calls 2
    [ "$RUN $EXEC" = "137 137" ]
    grep -q 'the virtual machine of c1 died' "$T/run"
    grep -q 'the virtual machine of c1 died' "$T/exec"
    grep -q 'QEMU was killed by signal 9' "$T/run"
    grep -q 'QEMU was killed by signal 9' "$T/exec"
}

@test "QEMU killed, and the container removed before exec looks: it has been told the cause" {
    bundle b
    args b sleep 10000
    stasis run --bundle "$T/b" c1 >"$T/run" 2>&1 </dev/null 3>&- &
    run=$!
    wait_until 30 status_is c1 running
    "$STASIS" --root "$R" exec c1 sleep 1000 >"$T/exec" 2>&1 </dev/null 3>&- &
    exec=$!
    wait_until 20 bash -c "'$STASIS' --root '$R' ps c1 | grep -q 'sleep 1000\$'"
    kill -STOP $exec
    kill -KILL "$(sandbox_pids c1 | sed -n 2p)"
    wait_until 20 dead $run
    [ ! -e "$R/c1" ]
    kill -CONT $exec
    wait_until 20 dead $exec
    EXEC=0
    wait $exec || EXEC=$?
    cat "$T/exec"
    [ $EXEC = 137 ]
    grep -q 'the virtual machine of c1 died: QEMU was killed by signal 9' "$T/exec"
}

@test "virtiofsd killed during run and exec: the same" {
    killed_under_calls 3
    [ "$RUN $EXEC" = "137 137" ]
    grep -q 'the virtual machine of c1 died' "$T/run"
    grep -q 'the virtual machine of c1 died' "$T/exec"
    grep -q 'virtiofsd was killed by signal 9' "$T/run"
    grep -q 'virtiofsd was killed by signal 9' "$T/exec"
}

@test "the daemon killed during run and exec: the same" {
    killed_under_calls 1
    [ "$RUN $EXEC" = "137 255" ]
    grep -q 'the sandbox daemon of c1 died' "$T/run"
    grep -q 'the sandbox daemon of c1 died' "$T/exec"
}

# boots_cold : the next sandboxes are no copies of a template.
boots_cold() {
    printf '[vm]\ntemplate = false\n' >"$T/cold.conf"
}

@test "QEMU killed while it boots: create fails, with the cause, and nothing is left" {
    bundle b
    boots_cold
    stasis --config "$T/cold.conf" create --bundle "$T/b" c2 >"$T/out" 2>&1 </dev/null &
    local pid=$! code=0
    wait_until 10 bash -c "jq -e '.stasis.qemuPid > 0' '$R/c2/state.json' >/dev/null 2>&1"
    kill -KILL "$(jq .stasis.qemuPid "$R/c2/state.json")"
    wait $pid || code=$?
    cat "$T/out"
    [ "$code" = 1 ]
    grep -q 'QEMU' "$T/out"
    [ ! -e "$R/c2" ]
}

@test "daemon killed while the VM boots: create fails and says so, nothing is left" {
    bundle b
    boots_cold
    stasis --config "$T/cold.conf" create --bundle "$T/b" c2 >"$T/out" 2>&1 </dev/null &
    local pid=$! code=0
    wait_until 10 bash -c "jq -e '.stasis.qemuPid > 0' '$R/c2/state.json' >/dev/null 2>&1"
    kill -KILL "$(jq .stasis.daemonPid "$R/c2/state.json")"
    wait $pid || code=$?
    cat "$T/out"
    [ "$code" = 1 ]
    grep -q 'daemon' "$T/out"
    stasis delete --force c2
    [ ! -e "$R/c2" ]
}

@test "a VM that does not come up: the last console lines are in the message" {
    bundle b
    printf '[vm]\nkernel_params = init=/nothing rdinit=/nothing\nboot_timeout = 40\n' >"$T/conf"
    run stasis --config "$T/conf" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *panic* ]] || [[ $output == *nothing* ]]
    [ ! -e "$R/c1" ]
}

@test "an agent that does not answer: the deadline is named" {
    bundle b
    printf '[vm]\ntemplate = false\nboot_timeout = 1\n' >"$T/conf"
    run stasis --config "$T/conf" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *boot_timeout* ]]
    [ ! -e "$R/c1" ]
}

@test "an agent that stops answering: calls end at their deadline with its cause" {
    bundle b
    args b sleep 10000
    printf '[agent]\ntimeout = 3\n' >"$T/conf"
    quiet stasis --config "$T/conf" run -d --bundle "$T/b" c1
    kill -STOP "$(jq .stasis.qemuPid "$R/c1/state.json")"
    run timeout 60 "$STASIS" --root "$R" --config "$T/conf" exec c1 true
    echo "$output"
    [ "$status" = 255 ]
    [[ $output == *answer* ]] || [[ $output == *"timed out"* ]] || [[ $output == *deadline* ]]
    timeout 60 "$STASIS" --root "$R" --config "$T/conf" delete --force c1
    [ ! -e "$R/c1" ]
}

@test "the root's disk full: the error names it and nothing is left" {
    mkdir -p "$T/small"
    mount -t tmpfs -o size=64k,nr_inodes=3 tmpfs "$T/small"
    bundle b
    run "$STASIS" --root "$T/small" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"No space"* ]]
    [ ! -e "$T/small/c1" ]
    umount "$T/small"
}

@test "not root: refused with the reason" {
    bundle b
    chmod 755 "$T"
    run setpriv --reuid 65534 --regid 65534 --clear-groups "$STASIS" --root "$T/nobody" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *ermission* ]] || [[ $output == *root* ]]
}

@test "the CLI killed in the middle of create: the daemon ends by itself" {
    bundle b
    boots_cold
    stasis --config "$T/cold.conf" create --bundle "$T/b" c3 >"$T/out" 2>&1 </dev/null &
    wait_until 10 bash -c "jq -e '.stasis.qemuPid > 0' '$R/c3/state.json' >/dev/null 2>&1"
    local pids p
    pids=$(sandbox_pids c3)
    kill -KILL "$(pgrep -f -- "create --bundle $T/b c3" | head -n 1)"
    wait || true
    for p in $pids; do wait_until 60 dead "$p"; done
    stasis delete --force c3
    [ ! -e "$R/c3" ]
}

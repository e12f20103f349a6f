#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A VM that stands still for a while, longer than calls wait: they end with an error, and what the guest does with them when
# it goes on again leaves nothing behind: nothing stays frozen, nothing runs that nobody knows.
bats_require_minimum_version 1.5.0
load helpers
setup_file() {
    file_setup
    printf '%s\n' '[vm]' 'memory = 256M' '[agent]' 'timeout = 3' >"$T/conf"
    command=$COUNTER bundle_own_rootfs c1 '.process.args = ["sh", "-c", env.command]'
    stasis run --detach --bundle "$T/c1" c1 >"$T/c1.out" 2>&1 </dev/null
}
teardown_file() {
    stasis delete --force c1
    stasis delete --force c2 # of a test that failed
    file_teardown
}
setup() {
    QEMU=$(jq .stasis.qemuPid "$R/c1/state.json")
    goes_on
}
teardown() {
    kill -CONT "$QEMU"
}
stasis() {
    timeout --foreground 100 "$STASIS" --root "$R" --config "$T/conf" "$@" 3>&-
}

count() {
    cat "$T/c1/rootfs/n" 2>/dev/null || echo 0
}
beyond() {
    local n
    n=$(count)
    [ "${n:-0}" -gt "$1" ]
}
goes_on() {
    local n
    n=$(count)
    wait_until 60 beyond "${n:-0}"
}

# stalled COMMAND… : it is called while the VM stands still, and fails for want of an answer; then the VM goes on.
stalled() {
    kill -STOP "$QEMU"
    run stasis "$@"
    kill -CONT "$QEMU"
    echo "$output"
    # shellcheck disable=SC2154 # run sets them
    [ "$status" != 0 ] || return 1
    [[ $output == *"no answer within 3.000 s"* ]]
}

@test "pause: the container is running, and it is so" {
    stalled pause c1
    status_is c1 running
    goes_on
    stasis pause c1
    status_is c1 paused
    # The other way round.
    stalled resume c1
    status_is c1 paused
    stasis resume c1
    status_is c1 running
    goes_on
}

@test "start: what may run, and was said not to, is killed" {
    bundle c2
    args c2 sleep 1000
    stasis create --bundle "$T/c2" c2 >"$T/c2.out" 2>&1 </dev/null
    local first=$QEMU
    QEMU=$(jq .stasis.qemuPid "$R/c2/state.json")
    stalled start c2
    wait_until 60 status_is c2 stopped
    stasis delete c2
    QEMU=$first
}

@test "exec: it does not run on, and its place is free" {
    no_sleep() { ! stasis exec c1 ps | grep -q 'sleep 1000'; }
    stalled exec c1 sleep 1000
    goes_on
    wait_until 30 no_sleep
    # One that is waited for runs, and is seen.
    stasis exec --detach c1 sleep 1000 >"$T/out" 2>&1 </dev/null
    stasis exec c1 ps | grep -q 'sleep 1000'
    stasis exec c1 killall sleep || true
    wait_until 30 no_sleep
    # Nothing of it is left that a checkpoint would be refused for.
    stasis checkpoint --leave-running --image-path "$T/after" --work-path "$T/work" c1
}

@test "a checkpoint that is to end it: it runs on" {
    stalled checkpoint --image-path "$T/images" --work-path "$T/work" c1
    status_is c1 running
    goes_on
    [ ! -e "$T/images" ]
    stasis checkpoint --leave-running --image-path "$T/images" --work-path "$T/work" c1
    goes_on
}

@test "a short stall disturbs nobody" {
    kill -STOP "$QEMU"
    stasis exec c1 echo after-a-while >"$T/out" &
    local pid=$!
    sleep 1
    kill -CONT "$QEMU"
    wait $pid
    grep -qx after-a-while "$T/out"
    goes_on
}

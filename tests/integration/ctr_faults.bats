#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# containerd or the daemon killed in the middle of a checkpoint and of a restore. The daemon, one with fault points, is held
# there (src/base/fault.h).
bats_require_minimum_version 1.5.0
load helpers
load containerd
load faults
RUNTIME=io.containerd.faults.v2
setup_file() {
    (cd "$STASIS_SRC" && tests/integration/prepare_faults.sh "$STASIS_OUT")
    SHIMS=$(mktemp -d /tmp/stasis-shims.XXXXXX)
    STASIS_FAULT=$SHIMS/fault
    export SHIMS STASIS_FAULT
    ln -s "$STASIS_OUT/faults/bin/containerd-shim-stasis-v2" "$SHIMS/containerd-shim-faults-v2"
    PATH=$SHIMS:$PATH containerd_setup
}
teardown_file() {
    containerd_teardown
    rm -rf "$SHIMS"
}
setup() {
    containerd_test_setup
    FAULT=$STASIS_FAULT
    no_fault
    ID=c$BATS_TEST_NUMBER
    REF=stasis.test/checkpoint:$BATS_TEST_NUMBER
}
teardown() {
    no_fault # whoever stands still there goes on
    containerd_test_teardown
}

COUNTER='i=0; while :; do i=$((i + 1)); echo $i >/count.new; mv /count.new /count; sleep 0.2; done'
counting() {
    local n
    n=$(ex "$1" cat /count) && wait_until 10 past "$1" "$n"
}
past() {
    [ "$(ex "$1" cat /count)" -gt "$2" ]
}
again() {
    PATH=$SHIMS:$PATH start_containerd
}
checkpoint() {
    ctr container checkpoint --rw --image --task "$1" "$2"
}
# over ID : a task of the id is not running (any more), and the list can be asked.
over() {
    ctr task ls >/dev/null && [[ $(task_field "$1" 3) =~ ^(STOPPED|)$ ]]
}

@test "containerd killed while a checkpoint is committed: the task can be resumed, and checkpointed" {
    start "$ID" sh -c "$COUNTER"
    wait_until 20 counting "$ID"
    fault commit.move hold
    in_background "$T/out.$ID" task checkpoint "$ID"
    wait_until 120 hit commit.move
    kill_containerd
    ended_with 1 "$PID"
    no_fault
    again
    # containerd pauses for a checkpoint and resumes afterwards; now nobody does.
    wait_until 20 task_is "$ID" PAUSED
    ctr task resume "$ID"
    counting "$ID"
    checkpoint "$ID" "$REF"
    counting "$ID"
    remove "$ID"
    fault restore.call hold
    in_background "$T/out.$ID" container restore --rw --live "$ID" "$REF"
    wait_until 120 hit restore.call
    kill_containerd
    ended_with 1 "$PID"
    no_fault
    again
    # The daemon goes on with what it was asked for; and the checkpoint is as good as before.
    wait_until 60 task_is "$ID" RUNNING
    counting "$ID"
    stop_clients
    remove "$ID"
    wait_until 20 no_leftovers
    ctr container restore --rw --live "$ID" "$REF" </dev/null >/dev/null 2>&1
    counting "$ID"
    remove "$ID"
    ctr images rm --sync "$REF" >/dev/null
}

@test "the daemon killed while a checkpoint is committed, and in a restore: the task is gone, its id free again" {
    start "$ID" sh -c "$COUNTER"
    wait_until 20 counting "$ID"
    checkpoint "$ID" "$REF"
    fault checkpoint.dumped kill
    run ctr task checkpoint "$ID"
    echo "$output"
    [ "$status" = 1 ]
    no_fault
    wait_until 30 over "$ID"
    remove "$ID"
    wait_until 20 no_leftovers
    fault restore.watch kill
    run ctr container restore --rw --live "$ID" "$REF" </dev/null
    echo "$output"
    [ "$status" = 1 ]
    no_fault
    wait_until 30 over "$ID"
    remove "$ID"
    ctr images rm --sync "$REF" >/dev/null
}

# containerd passes its client's deadline on.
@test "the client's deadline passes in a checkpoint: given up, and it can be done again" {
    start "$ID" sh -c "$COUNTER"
    wait_until 20 counting "$ID"
    fault commit.move hold
    run ctr --timeout 15s task checkpoint "$ID"
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"deadline exceeded"* ]]
    hit commit.move
    # The point still holds: it is the deadline that has ended it. containerd pauses for a checkpoint.
    wait_until 20 resumed "$ID"
    no_fault
    counting "$ID"
    checkpoint "$ID" "$REF"
    counting "$ID"
    remove "$ID"
    ctr images rm --sync "$REF" >/dev/null
}
resumed() {
    case $(task_field "$1" 3) in
    RUNNING) ;;
    PAUSED) ctr task resume "$1" ;;
    *) return 1 ;;
    esac
}

@test "delete of a shim whose daemon hangs: it is ended, nothing is left, in time" {
    start "$ID" sleep 1000
    local bundle=$T/containerd/state/io.containerd.runtime.v2.task/$NS/$ID pid begun
    pid=$(jq -e .stasis.daemonPid "$R/$ID/state.json")
    kill -STOP "$pid"
    begun=$SECONDS
    (cd "$bundle" && STASIS_ROOT=$T/run timeout 60 "$SHIMS/containerd-shim-faults-v2" -namespace "$NS" \
        -address "$CTR_ADDRESS" -publish-binary /usr/bin/containerd -id "$ID" delete >/dev/null 3>&-)
    [ $((SECONDS - begun)) -lt 30 ]
    dead "$pid"
    [ ! -e "$R/$ID" ]
    wait_until 30 over "$ID"
    remove "$ID"
    wait_until 20 no_leftovers
}

@test "each write into the state directory fails at a start: said, nothing left" {
    local point
    for point in dir.make dir.socket state.save; do
        fault "$point" ENOSPC
        run ctr_run -d -- "$ID" sleep 1000 </dev/null
        echo "$point: $output"
        [ "$status" = 1 ]
        [[ ${output,,} == *"no space left on device"* ]]
        hit "$point"
        no_fault
        remove "$ID"
        wait_until 20 no_leftovers
        [ ! -e "$R/$ID" ]
    done
}

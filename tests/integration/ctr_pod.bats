#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Pods, as the CRI plugin makes them: a sandbox's container and its members, told apart by annotations, in one VM.
bats_require_minimum_version 1.5.0
load helpers
load containerd
load pod
setup_file() { containerd_setup; }
teardown_file() { containerd_teardown; }
setup() {
    containerd_test_setup
    POD=pod$BATS_TEST_NUMBER
}
teardown() { containerd_test_teardown; }

stasis_only() {
    [[ $RUNTIME == *stasis* ]] || skip "$RUNTIME has no VM"
}
@test "a pod is one VM and one daemon: its members share what the spec says and nothing else" {
    local seen
    sandbox "$POD"
    member "$POD" -- a sh -c 'while :; do echo from-a | nc -l -p 8080; done'
    member "$POD" --with-ns "pid:/proc/$(task_pid "$POD")/ns/pid" -- b sleep 1000
    [ "$(ctr task ls | grep -c RUNNING)" = 3 ]
    [ "$(boot_id a)" = "$(boot_id b)" ]
    [ "$(boot_id "$POD")" = "$(boot_id b)" ]
    [ "$(shims)" = 1 ]
    [[ $RUNTIME != *stasis* ]] || [ "$(vms)" = 1 ]

    [ "$(ns a net ipc uts)" = "$(ns "$POD" net ipc uts)" ]
    [ "$(ns b net ipc uts pid)" = "$(ns "$POD" net ipc uts pid)" ]
    [ "$(ns a pid)" != "$(ns "$POD" pid)" ]
    [ "$(ns a mnt)" != "$(ns b mnt)" ]
    # b sees the sandbox's processes, a its own.
    ex b ps | grep -q 'sleep 10000'
    seen=$(ex a ps)
    [[ $seen == *from-a* && $seen != *'sleep 10000'* ]]
    # The network is one, so that a's port is on b's localhost.
    answered() { [ "$(ex b nc -w 3 127.0.0.1 8080)" = from-a ]; }
    wait_until 30 answered
    # Roots are apart.
    ex a touch /only-a
    run ex b test -e /only-a
    [ "$status" = 1 ]
    # So are limits, processes and numbers.
    ctr task metrics a | grep -q '^pids.current'
    [ "$(ctr task ps b | awk 'NR > 1' | wc -l)" = 1 ]
    remove b a "$POD"
}

@test "a member exits, is removed and added again while the others run on; the sandbox goes last" {
    sandbox "$POD"
    member "$POD" -- stays sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/m; mv /tmp/m /tmp/n; sleep 0.1; done'
    local boot n code
    boot=$(boot_id stays)
    for code in 3 4; do
        member "$POD" --cap-add CAP_NET_ADMIN -- goes sh -c "until [ -e /go ]; do sleep 0.1; done; echo bye; exit $code"
        [ "$(boot_id goes)" = "$boot" ]
        or_killed ex goes touch /go
        wait_until 20 task_is goes STOPPED
        run ctr task delete goes
        echo "$output"
        [[ $output == *"non-zero exit code $code"* ]]
        ctr container delete goes
        task_is stays RUNNING
        # Nothing that is removed on the host stays open there.
        [[ $RUNTIME != *stasis* ]] || wait_until 20 holds_nothing_of '^/goes|deleted' "$POD"
    done
    [ "$(boot_id stays)" = "$boot" ]
    n=$(ex stays cat /tmp/n)
    goes_on() { [ "$(ex stays cat /tmp/n)" -gt "$n" ]; }
    wait_until 20 goes_on
    [ "$(shims)" = 1 ]

    # With its own members gone the sandbox is as it was.
    remove stays
    task_is "$POD" RUNNING
    [ "$(boot_id "$POD")" = "$boot" ]
    remove "$POD"
    wait_until 20 no_leftovers
}

@test "signals, pause, exec and a wrong program concern one member only" {
    sandbox "$POD"
    member "$POD" -- a sleep 1000
    member "$POD" -- b sleep 1000
    events
    ctr task pause a
    task_is a PAUSED
    task_is b RUNNING
    [ "$(ex b echo on)" = on ]
    ctr task resume a
    [ "$(ex a echo on)" = on ]
    run member "$POD" -- wrong no-such-program
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *no-such-program* ]]
    ctr container delete wrong
    ctr task kill -s KILL a
    wait_until 20 task_is a STOPPED
    task_is b RUNNING
    task_is "$POD" RUNNING
    wait_until 20 has_topic a exit
    [ "$(topics a)" = "paused exec-added exec-started resumed exit" ] ||
        [ "$(topics a)" = "paused resumed exec-added exec-started exit exit" ]
    not has_topic "$POD" exit
    remove a b "$POD"
}

@test "the sandbox's process ends before its members: they run on until they are removed" {
    sandbox "$POD"
    member "$POD" -- a sleep 1000
    ctr task kill -s KILL "$POD"
    wait_until 20 task_is "$POD" STOPPED
    task_is a RUNNING
    [ "$(ex a echo on)" = on ]
    remove a "$POD"
}

@test "containerd killed: the pod is there afterwards, and takes another member" {
    sandbox "$POD"
    member "$POD" -- a sleep 1000
    local boot
    boot=$(boot_id a)
    kill_containerd
    start_containerd
    task_is "$POD" RUNNING
    task_is a RUNNING
    member "$POD" -- b sleep 1000
    [ "$(boot_id b)" = "$boot" ]
    [ "$(shims)" = 1 ]
    remove a b "$POD"
}

@test "the daemon killed: none of the pod is live, all of it can be removed, the ids are free" {
    sandbox "$POD"
    member "$POD" -- a sleep 1000
    kill -KILL "$(pgrep -f -- "containerd-shim-.* -address $CTR_ADDRESS")"
    over() {
        local list
        list=$(ctr task ls) && [[ ! $list =~ RUNNING|CREATED|PAUSED ]]
    }
    wait_until 30 over
    remove a "$POD"
    wait_until 20 no_leftovers
    sandbox "$POD"
    member "$POD" -- a sleep 1000
    remove a "$POD"
}

@test "a member of a pod that is not there is refused by the pod's name" {
    stasis_only
    run ctr_run --rm --annotation $CRI.container-type=container --annotation $CRI.sandbox-id=no-such-pod \
        -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *no-such-pod* ]]
    run ctr_run --rm --annotation $CRI.container-type=container -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *sandbox-id* ]]
}

@test "annotations size the VM, ours and the CRI's; one that is not known is refused by name" {
    stasis_only
    sandbox "$POD" --annotation io.stasis.vm.memory=400M --annotation io.stasis.vm.cpus=2
    [ "$(ex "$POD" grep -c ^processor /proc/cpuinfo)" = 2 ]
    # The kernel keeps a part of it for itself.
    ex "$POD" awk '$1 == "MemTotal:" {exit !($2 > 250000 && $2 <= 409600)}' /proc/meminfo
    remove "$POD"
    run ctr_run --rm --annotation io.stasis.vm.colour=red -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *io.stasis.vm.colour* ]]
    run ctr_run --rm --annotation io.stasis.vm.memory=lots -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *io.stasis.vm.memory* ]]
}

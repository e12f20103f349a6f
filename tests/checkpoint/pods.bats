#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Pods of containerd: a member is checkpointed and goes on in the same VM; a whole pod is saved and copied.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/containerd
load ../integration/ctr_snapshot
load ../integration/pod
setup_file() {
    containerd_setup
    copies_setup
}
teardown_file() {
    copies_teardown
    containerd_teardown
}
setup() {
    containerd_test_setup
    POD=pod$BATS_TEST_NUMBER
}
teardown() {
    copies_deleted
    containerd_test_teardown
}

@test "a member is checkpointed and restored in the VM it was in, beside the one it was made of" {
    local boot n
    sandbox "$POD"
    member "$POD" -- first sh -c "echo mine >/own; $COUNTER"
    member "$POD" -- other sh -c "$COUNTER"
    wait_until 120 reached 2 ex first
    boot=$(boot_id first)
    ctr container checkpoint --rw --image --task first checkpoint/member >/dev/null
    task_is first RUNNING
    n=$(ex first cat /count)
    wait_until 60 reached "$n" ex first
    ctr container restore --rw --live second checkpoint/member </dev/null >"$T/out" 2>&1 3>&-
    [ "$(shims)" = 1 ]
    [ "$(vms)" = 1 ]
    [ "$(boot_id second)" = "$boot" ]
    [ "$(ex second cat /own)" = mine ]
    wait_until 120 reached 2 ex second
    # Each has a root of its own.
    ex second touch /of-second
    ex first test ! -e /of-second
    # And with the first one gone.
    ctr task kill -s KILL first
    wait_until 60 task_is first STOPPED
    n=$(ex second cat /count)
    wait_until 60 reached "$n" ex second
    n=$(ex other cat /count)
    wait_until 60 reached "$n" ex other
    remove first second other "$POD"
    ctr images rm --sync checkpoint/member >/dev/null
}

@test "a member in the pod's pid namespace: refused, as it could not be restored, and goes on" {
    local pid n
    sandbox "$POD"
    pid=$(task_pid "$POD")
    member "$POD" --with-ns "pid:/proc/$pid/ns/pid" -- first sh -c "$COUNTER"
    wait_until 120 reached 2 ex first
    [ "$(ns first pid)" = "$(ns "$POD" pid)" ]
    run ctr container checkpoint --rw --image --task first checkpoint/shared 3>&-
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"no pid namespace of its own"* ]]
    n=$(ex first cat /count)
    wait_until 60 reached "$n" ex first
    remove first "$POD"
}

@test "a pod is saved: each of its containers is in the copy, with its own root and what they share" {
    local a b copies
    sandbox "$POD"
    member "$POD" -- a sh -c "echo of-a >/own; while :; do echo from-a | nc -l -p 8080; done & $COUNTER"
    member "$POD" -- b sh -c "echo of-b >/own; $COUNTER"
    wait_until 120 reached 2 ex a
    wait_until 120 reached 2 ex b
    theirs snapshot create "$POD" saved
    theirs snapshot inspect --json saved | jq -e '[.containers[].id] | sort == (["'"$POD"'", "a", "b"] | sort)'
    a=$(ex a cat /count) b=$(ex b cat /count)
    ours snapshot restore --id copy saved </dev/null >"$T/out" 2>&1 3>&-
    copies=$(ours list -q | sort | paste -sd ' ')
    [ "$copies" = "copy copy-a copy-b" ]
    [ "$(ours exec copy-a cat /own)" = of-a ]
    [ "$(ours exec copy-b cat /own)" = of-b ]
    wait_until 120 reached 2 ours exec copy-a
    wait_until 120 reached 2 ours exec copy-b
    answered() { [ "$(ours exec copy-b nc -w 3 127.0.0.1 8080)" = from-a ]; }
    wait_until 60 answered
    # The original goes on, and neither sees the other.
    ours exec copy-a touch /of-the-copy
    ex a test ! -e /of-the-copy
    wait_until 60 reached "$a" ex a
    wait_until 60 reached "$b" ex b
    # A member of the copy ends, the others go on; saved again it is what it was.
    ours delete --force copy-a
    ours snapshot create copy again
    ours delete --force copy-b
    ours delete --force copy
    ours snapshot restore --id twice again </dev/null >"$T/out" 2>&1 3>&-
    wait_until 120 reached "$b" ours exec twice-copy-b
    ours delete --force twice-copy-b
    ours delete --force twice
    ours snapshot rm saved again
    remove a b "$POD"
}

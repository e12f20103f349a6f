#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# containerd's sandboxes saved through their daemon's own socket, and restored as the CLI's.
bats_require_minimum_version 1.5.0
load helpers
load containerd
load ctr_snapshot
setup_file() {
    containerd_setup
    copies_setup
}
teardown_file() {
    copies_teardown
    containerd_teardown
}
setup() { containerd_test_setup; }
teardown() {
    copies_deleted
    containerd_test_teardown
}

@test "a task is saved while it runs; the copy goes on where it was, and neither disturbs the other" {
    local n
    start "$ID" sh -c "echo of-containerd >/own; $COUNTER"
    wait_until 120 reached 2 ex "$ID"
    theirs snapshot create "$ID" saved
    task_is "$ID" RUNNING
    n=$(ex "$ID" cat /count)
    wait_until 60 reached "$n" ex "$ID"
    ours snapshot restore --id copy saved </dev/null >"$T/out" 2>&1 3>&-
    wait_until 120 reached 2 ours exec copy
    [ "$(ours exec copy cat /own)" = of-containerd ]
    ours exec copy touch /of-the-copy
    ex "$ID" test ! -e /of-the-copy
    # The copy's root stands on the directories of containerd's snapshot; they are as they were.
    ours delete --force copy
    wait_until 60 reached "$((n + 2))" ex "$ID"
    [ "$(ls -A "$T/snapshots")" = saved ]
    ctr task kill -s KILL "$ID"
    wait_until 60 task_is "$ID" STOPPED
    remove "$ID"
    ours snapshot rm saved
}

@test "saved and ended: containerd learns of it as of any other end" {
    start "$ID" sh -c "$COUNTER"
    wait_until 120 reached 2 ex "$ID"
    theirs snapshot create --stop "$ID" ended
    wait_until 60 task_is "$ID" STOPPED
    ours snapshot restore --id copy ended </dev/null >"$T/out" 2>&1 3>&-
    wait_until 120 reached 2 ours exec copy
    ours delete --force copy
    remove "$ID"
    ours snapshot rm ended
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What virtiofsd holds open: each name that the guest remembers is an open file of the host. What came into the share for
# one operation and is removed afterwards is forgotten with it, however soon it is looked at.
bats_require_minimum_version 1.5.0
load helpers
load snapshot
setup_file() {
    file_setup
    snapshot_setup
    bundle_own_rootfs c
    args c sleep 100000
}
teardown_file() {
    delete_all
    stasis snapshot rm --all >/dev/null
    file_teardown
}
teardown() { delete_all; }

holds_as_before() {
    [ "$(share_fds "$1" | sort)" = "$before" ]
}
checkpoint() { quiet stasis checkpoint --image-path "$T/images" --work-path "$T/work" "$@"; }

@test "ten checkpoints of a container that runs on: it holds what it held before the first" {
    local before
    run_detached c
    checkpoint --leave-running c
    rm -r "$T/images" "$T/work"
    wait_until 20 holds_nothing_of '^/c/checkpoint/|deleted' c
    before=$(share_fds c | sort)
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        checkpoint --leave-running c
        rm -r "$T/images" "$T/work"
    done
    wait_until 20 holds_as_before c || {
        diff <(echo "$before") <(share_fds c | sort)
        return 1
    }
    # A pre-dump has a parent beside it.
    quiet stasis checkpoint --pre-dump --image-path "$T/images/first" --work-path "$T/work" c
    quiet stasis checkpoint --leave-running --parent-path ../first --image-path "$T/images/second" --work-path "$T/work" c
    rm -r "$T/images" "$T/work"
    wait_until 20 holds_as_before c
}

@test "a restore holds nothing of its images" {
    run_detached c
    checkpoint c
    quiet stasis restore --detach --bundle "$T/c" --image-path "$T/images" --work-path "$T/work" c
    rm -r "$T/images" "$T/work"
    wait_until 20 holds_nothing_of '^/c/checkpoint/|deleted' c
}

@test "a snapshot after a checkpoint: no error of virtiofsd in the log, and its copy comes up" {
    run_detached c
    checkpoint --leave-running c
    rm -r "$T/images" "$T/work"
    create c after
    not grep -i 'level=error\|inode' "$R/c/log"
    restore --id copy after
    not grep -i 'level=error\|inode' "$R/copy/log"
    stasis exec copy true
}

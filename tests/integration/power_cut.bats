#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The power fails in the middle of a checkpoint and of a snapshot: while each step of its way to the disk is held, the disk
# is copied as it is, without what only memory holds. In the copy it is there whole or not there, and once the command has
# ended, it is there.
bats_require_minimum_version 1.5.0
load helpers
load faults
setup_file() {
    faults_setup
    # Before the daemon, which on a host with private mounts sees no later ones. Nothing gets to the disk unasked.
    truncate -s 1G "$T/disk.img"
    mkfs.ext4 -q "$T/disk.img"
    mkdir "$T/disk" "$T/cut"
    mount -o loop,commit=900 "$T/disk.img" "$T/disk"
    prepare c1 '[snapshot]' "dir = $T/disk/store" "templates = $T/templates"
    launch c1
}
setup() {
    know c1
}
teardown_file() {
    no_fault
    stasis delete --force c1
    ! mountpoint -q "$T/cut" || umount "$T/cut"
    umount "$T/disk"
    file_teardown
}

# cut NAME : a copy of the disk, of one moment.
cut() {
    for _ in {1..20}; do
        cp --sparse=always "$T/disk.img" "$T/$1.img"
        ! cmp -s "$T/disk.img" "$T/$1.img" || return 0
    done
    echo "the disk does not come to rest"
    return 1
}

# sums DIRECTORY
sums() {
    (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

# whole_or_not NAME DIRECTORY : in that copy; prints "whole" or "not there".
whole_or_not() {
    local r=0
    mount -o loop "$T/$1.img" "$T/cut"
    if [ ! -e "$T/cut/$2" ]; then
        echo "not there"
    elif diff <(sums "$T/disk/$2") <(sums "$T/cut/$2") >&2; then
        echo whole
    else
        r=1
    fi
    umount "$T/cut"
    rm "$T/$1.img"
    return $r
}

# tried_at POINTS DIRECTORY COMMAND… : the command makes the directory, and is held at each point in turn.
tried_at() {
    local points=$1 dir=$2 point
    shift 2
    for point in $points; do
        fault "$point" hold
        "$@" >"$T/background" 2>&1 3>&- &
        PID=$!
        wait_until 120 hit "$point"
        cut "$point"
        no_fault
        wait "$PID" || {
            cat "$T/background"
            return 1
        }
        cut end
        # shellcheck disable=SC2034 # bats shows it
        output=$(whole_or_not "$point" "$dir") || {
            echo "cut off at $point, it is neither whole nor missing"
            return 1
        }
        # A name that has not been made durable may be lost; all before that is no checkpoint.
        [ "$output" = "not there" ] || [[ $point == *.sync-name ]]
        [ "$(whole_or_not end "$dir")" = whole ]
        rm -r "${T:?}/disk/$dir"
        sync -f "$T/disk"
    done
}

checkpoint() {
    "$STASIS" --root "$R" --config "$T/c1.conf" checkpoint --leave-running --image-path "$T/disk/images/c1" \
        --work-path "$T/work" c1
}

snapshot() {
    "$STASIS" --root "$R" --config "$T/c1.conf" snapshot create c1 s1
}

@test "a checkpoint" {
    mkdir "$T/disk/images"
    sync -f "$T/disk"
    tried_at 'commit.move commit.sync commit.sync-dir commit.rename commit.sync-name' images/c1 checkpoint
}

@test "a snapshot" {
    tried_at 'snapshot.manifest snapshot.sync snapshot.rename snapshot.sync-name' store/s1 snapshot
}

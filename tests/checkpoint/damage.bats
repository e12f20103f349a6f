#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Checkpoints that are damaged, one file of each kind at a time: a restore ends in time, with CRIU's reason and nothing
# left, or with a container that goes on. Files that are not there at all: tests/integration/faults.bats.
bats_require_minimum_version 1.5.0
load ../integration/helpers
setup_file() {
    file_setup
    bundle_own_rootfs d
    args d sh -c "$COUNTER"
    stasis run --detach --bundle "$T/d" d >"$T/out" 2>&1 </dev/null
    wait_until 60 counted 5
    mkdir "$T/images" "$T/files"
    stasis checkpoint --image-path "$T/images/d" --work-path "$T/work" d
    [ ! -e "$R/d" ]
    cp -a "$T/d"/rootfs/n* "$T/files/"
    printf '%s\n' '[checkpoint]' 'timeout = 60' >"$T/conf"
}
teardown_file() { file_teardown; }
teardown() {
    [ ! -e "$R/d" ] || stasis delete --force d
}

# All kinds that this container has; CRIU reads them in about this order.
KINDS='inventory pstree core mm pagemap files fdinfo ids'
# Of these one damage each is tried; pages have a test of their own.
OTHER_KINDS='pages descriptors cpuinfo timens utsns ipcns-var mountpoints tmpfs-dev cgroup netns fs seccomp pipes-data'
# A restore may go on without what is lost in these.
SPARED='pages pipes-data tmpfs-dev'

counted() {
    [ "$(cat "$T/d/rootfs/n" 2>/dev/null || echo 0)" -gt "$1" ]
}
# one_of KIND : the name of a file.
one_of() {
    local all=("$T/images/d/$1"[-.]*)
    echo "${all[0]##*/}"
}

# The damages; each changes the file.
to_nothing() { truncate -s 0 "$1"; }
to_half() { truncate -s $(($(stat -c %s "$1") / 2)) "$1"; }
by_one() { truncate -s -1 "$1"; }
# Of the magic number, which tells the kind.
in_magic() { other_byte "$1" 5; }
# Of the first message's length.
in_length() { other_byte "$1" 8; }
other_byte() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf '%b' "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# With other bytes in its memory a container may end, but its VM does not.
goes_on_or_ends() {
    wait_until 30 counted_or_ended "$1"
    stasis delete --force d
    [ ! -e "$R/d" ]
}
counted_or_ended() {
    counted "$1" || status_is d stopped
}

# damaged HOW KIND… : what a restore makes of it.
damaged() {
    local how=$1 kind file code n
    shift
    n=$(cat "$T/files/n")
    for kind; do
        file=$(one_of "$kind")
        echo "$file, $how"
        rm -rf "$T/images/x"
        cp -r "$T/images/d" "$T/images/x"
        "$how" "$T/images/x/$file"
        # A container that runs for a moment writes; CRIU wants the files of the checkpoint.
        rm -f "$T/d"/rootfs/n*
        cp -a "$T"/files/n* "$T/d/rootfs/"
        code=0
        timeout 90 "$STASIS" --root "$R" --config "${CONF:-$T/conf}" restore --detach --bundle "$T/d" \
            --image-path "$T/images/x" --work-path "$T/work" d >"$T/out" 2>&1 </dev/null || code=$?
        cat "$T/out"
        if [ $code = 0 ]; then
            [[ " $SPARED " == *" $kind "* ]] || return 1
            goes_on_or_ends "$n"
        else
            [ $code = 1 ] || return 1
            # By CRIU, or before it.
            grep "restore failed: ." "$T/out" | grep -F "$T/images/x" | grep -qE "${SAYS:-CRIU|pagemap-1.img}"
            [ ! -e "$R/d" ]
        fi
        wait_until 20 no_processes_left
    done
}

@test "every kind of file is tried" {
    local file kind
    for file in "$T"/images/d/*; do
        file=${file##*/}
        kind=${file%%.*}
        kind=${kind%-[0-9]*}
        [[ " $KINDS $OTHER_KINDS " == *" $kind "* ]] || {
            echo "$file is not"
            return 1
        }
    done
}

@test "cut to nothing" {
    # shellcheck disable=SC2086 # words
    damaged to_nothing $KINDS cgroup
}
@test "cut in half" {
    # shellcheck disable=SC2086
    damaged to_half $KINDS descriptors cpuinfo tmpfs-dev seccomp mountpoints
}
@test "without the last byte" {
    # shellcheck disable=SC2086
    damaged by_one $KINDS fs pipes-data
}
@test "another byte in the header" {
    damaged in_magic inventory core pagemap fdinfo timens ipcns-var
    damaged in_length pstree mm files ids pages utsns netns
}
@test "memory that is cut: refused before CRIU asks for it for ever" {
    local SAYS=pages-1.img how
    for how in to_nothing to_half by_one; do
        damaged "$how" pages
        stasis checkpoint inspect "$T/images/x" >"$T/out"
        grep -q '^restorable    no: pages-1.img is cut off' "$T/out"
    done
}
@test "as it was: it is restored" {
    SPARED=inventory damaged true inventory
}

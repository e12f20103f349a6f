# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded by every bats file. Each file has a root directory of its own for sandboxes, so that what one leaves behind
# cannot hide in another's, and checks at its end that nothing is left.

STASIS=$STASIS_OUT/bin/stasis
ROOTFS=$STASIS_OUT/test-rootfs

# To be called from setup_file: T is the file's scratch directory, R the --root.
file_setup() {
    T=$(mktemp -d /tmp/stasis-test.XXXXXX)
    R=$T/root
    mkdir -p "$R"
    export T R
}

# From teardown_file: everything the file started is gone.
file_teardown() {
    local id
    for id in $("$STASIS" --root "$R" list -q); do
        "$STASIS" --root "$R" delete --force "$id"
    done
    assert_nothing_left
    rm -rf "$T"
}

stasis() {
    "$STASIS" --root "$R" "$@"
}

# bundle NAME [JQ-FILTER…] : makes $T/NAME with a config.json from `stasis spec`, not a terminal, changed by the filters
# one after the other. The root file system is shared: tests that write to it use bundle_own_rootfs.
bundle() {
    local dir=$T/$1
    shift
    mkdir -p "$dir"
    rm -f "$dir/config.json"
    "$STASIS" spec --bundle "$dir"
    rm -rf "$dir/rootfs"
    edit "$dir" '.process.terminal = false | .root.readonly = false | .root.path = "'"$ROOTFS"'"' "$@"
}

bundle_own_rootfs() {
    local dir=$T/$1
    bundle "$@"
    cp -a "$ROOTFS" "$dir/rootfs"
    edit "$dir" '.root.path = "rootfs"'
}

# edit BUNDLE-DIR FILTER…
edit() {
    local dir=$1 f
    shift
    for f in "$@"; do
        jq "$f" "$dir/config.json" >"$dir/config.json.new"
        mv "$dir/config.json.new" "$dir/config.json"
    done
}

# For a container's shell: it counts in its memory, and writes down how far it is, in /n.
# shellcheck disable=SC2016,SC2034 # for that shell; for the files that load this
COUNTER='i=0; while :; do i=$((i + 1)); echo $i >/n.new; mv /n.new /n; sleep 0.1; done'

# args BUNDLE-NAME ARG… : sets process.args.
args() {
    local dir=$T/$1
    shift
    jq --args '.process.args = $ARGS.positional' -- "$@" <"$dir/config.json" >"$dir/config.json.new"
    mv "$dir/config.json.new" "$dir/config.json"
}

# wait_until SECONDS COMMAND… : polls until the command succeeds.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            echo "still not after the deadline: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

# quiet COMMAND… : its output only when it fails. For what leaves processes that would hold the test's pipes.
quiet() {
    local r=0
    "$@" >"$T/quiet.$BASHPID" 2>&1 </dev/null 3>&- || r=$?
    [ $r = 0 ] || cat "$T/quiet.$BASHPID"
    rm -f "$T/quiet.$BASHPID"
    return $r
}

# not COMMAND… : it says no, with status 1. `! COMMAND` cannot fail a test: set -e takes no notice of it. A higher status
# is the command's own failure, as of grep without the file it was to search.
not() {
    local r=0
    "$@" || r=$?
    [ $r = 1 ] || {
        echo "status $r: $*" >&2
        return 1
    }
}

# or_killed COMMAND… : for an exec that lets its container end. The container may be quicker, and takes it along.
or_killed() {
    local r=0
    "$@" || r=$?
    [ $r = 0 ] || [ $r = 137 ]
}

status_is() {
    [ "$("$STASIS" --root "$R" state "$1" | jq -r .status)" = "$2" ]
}

# guest_pids ID : of its processes.
guest_pids() {
    stasis ps "$1" | awk 'NR > 1 { print $2 }'
}

# sandbox_pids ID : daemon, QEMU and virtiofsd, as state.json names them.
sandbox_pids() {
    jq -r '.stasis | .daemonPid, .qemuPid, .virtiofsdPid' "$R/$1/state.json"
}

# share_fds ID : what the sandbox's virtiofsd has open of the share, one path a line. The jail's process has a child that
# serves.
share_fds() {
    local pid
    pid=$(pgrep -P "$(jq .stasis.virtiofsdPid "$R/$1/state.json")")
    find "/proc/$pid/fd" -mindepth 1 -printf '%l\n' | grep '^/' | grep -v '^/memfd:'
}
# holds_nothing_of PATTERN ID
holds_nothing_of() {
    local all
    all=$(share_fds "$2") && [ -n "$all" ] && ! grep -qE "$1" <<<"$all"
}

# Processes whose command line or directory belongs to this file's root.
# A monitor shows the arguments of its container in place of its own, but not its environment.
leftover_processes() {
    local pid
    pgrep -fa -- "-root $R " || true
    for pid in $(pgrep -x stasis-monitor || true); do
        if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qxF "R=$R"; then
            echo "$pid stasis-monitor"
        fi
    done
}

assert_nothing_left() {
    local n
    if ! wait_until 20 no_processes_left; then
        echo "processes left:"
        leftover_processes
        return 1
    fi
    n=$(find "$R" -mindepth 1 | wc -l)
    if [ "$n" != 0 ]; then
        echo "files left:"
        find "$R" -mindepth 1
        return 1
    fi
    if grep -q " $T/" /proc/self/mounts; then
        echo "mounts left:"
        grep " $T/" /proc/self/mounts
        return 1
    fi
}

no_processes_left() {
    [ -z "$(leftover_processes)" ]
}

alive() {
    kill -0 "$1" 2>/dev/null && [ "$(ps -o state= -p "$1")" != Z ]
}
dead() {
    ! alive "$1"
}

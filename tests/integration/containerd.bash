# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after helpers.bash, by the files that drive the shim through containerd. Each has a containerd of its own with
# root, state, sockets and namespace that nobody else uses, and every test ends with a check that it left nothing.
#
# STASIS_TEST_RUNTIME: another runtime, io.containerd.runc.v2 say, to see what a test does with runc's shim.

RUNTIME=${STASIS_TEST_RUNTIME:-io.containerd.stasis.v2}
IMAGE=stasis.test/busybox:1

# From setup_file: T as file_setup makes it, NS the namespace, R where the sandboxes of that namespace are.
containerd_setup() {
    file_setup
    NS=st-${T##*.}
    R=$T/run/$NS
    CTR_ADDRESS=$T/containerd.sock
    export NS R CTR_ADDRESS
    mkdir -p "$R" "$T/fifo" "$T/tmp"
    write_config
    start_containerd
    ctr images import "$STASIS_OUT/test-image.tar" >/dev/null
}

# From teardown_file.
containerd_teardown() {
    remove_all
    nothing_left
    stop_containerd
    wait_until 10 state_is_empty
    not grep " $T/" /proc/self/mounts
    find /sys/fs/cgroup -depth -type d -path "*/$NS" -exec rmdir {} +
    rm -rf "$T"
}

# From setup of each test: it starts with a clean slate even when the one before failed.
containerd_test_setup() {
    export ID=c$BATS_TEST_NUMBER
    CLIENTS=()
}

# From teardown of each test. What a test leaves is its failure; what a failed one leaves must not be the next one's.
containerd_test_teardown() {
    local status=0
    stop_clients
    if [ -n "$BATS_TEST_COMPLETED" ]; then
        nothing_left || status=1
    else
        grep -vE 'msg="?(.*snapshot|content |garbage|removed? content|event published|event forwarded|diff applied)' \
            "$T/containerd.log" | tail -n 15 | cut -c 1-400
    fi
    if [ $status != 0 ] || [ -z "$BATS_TEST_COMPLETED" ]; then
        containerd_answers || start_containerd
        remove_all
    fi
    return $status
}

# Plugins that a private instance must not start: CRI has ports, opt a directory, the others kernel modules.
write_config() {
    cat >"$T/containerd.toml" <<CONFIG
version = 2
root = "$T/containerd/root"
state = "$T/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "$CTR_ADDRESS"
[debug]
level = "debug"
CONFIG
}

# Waits until it answers. The pid is in a file: the functions run in several shells.
start_containerd() {
    STASIS_ROOT=$T/run TMPDIR=$T/tmp PATH=$STASIS_OUT/bin:$PATH setsid containerd --config "$T/containerd.toml" \
        </dev/null >>"$T/containerd.log" 2>&1 3>&- &
    echo $! >"$T/containerd.pid"
    disown
    wait_until 30 containerd_answers || {
        tail -n 20 "$T/containerd.log"
        return 1
    }
}
containerd_pid() {
    cat "$T/containerd.pid"
}
containerd_answers() {
    alive "$(containerd_pid)" && ctr version >/dev/null 2>&1
}

# stop_containerd [SIGNAL]
stop_containerd() {
    kill -s "${1:-TERM}" "$(containerd_pid)"
    wait_until 20 dead "$(containerd_pid)"
}
kill_containerd() {
    stop_containerd KILL
}

ctr() {
    timeout --foreground --kill-after=5 "${CTR_SECONDS:-90}" \
        /usr/bin/ctr --address "$CTR_ADDRESS" --namespace "$NS" "$@"
}

# ctr_run OPTION… ID ARG… : `ctr run` of the image. The last option is followed by --.
ctr_run() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    ctr run --runtime "$RUNTIME" --fifo-dir "$T/fifo" "${options[@]}" "$IMAGE" "$@"
}

# start ID ARG… : a detached task.
start() {
    quiet ctr_run -d -- "$@"
}

# in_background FILE ARG… : ctr without a time limit, its output in the file. PID is its pid; the test's end kills it.
in_background() {
    local file=$1
    shift
    /usr/bin/ctr --address "$CTR_ADDRESS" --namespace "$NS" "$@" >"$file" 2>&1 </dev/null 3>&- &
    PID=$!
    CLIENTS+=("$PID")
}
stop_clients() {
    local p
    for p in "${CLIENTS[@]}"; do
        { kill -KILL "$p" && wait "$p"; } 2>/dev/null || true
    done
    CLIENTS=()
}
# ended_with CODE PID : the background process ends, soon, with that code.
ended_with() {
    local code=0
    wait_until 30 dead "$2" || return
    wait "$2" || code=$?
    [ "$code" = "$1" ] || {
        echo "exit code $code instead of $1"
        return 1
    }
}

# events : from now on those of the namespace go to the file EVENTS. Nothing says when the subscription stands, so it is
# tried with one of ours.
events() {
    EVENTS=$T/events.$BATS_TEST_NUMBER
    in_background "$EVENTS" events
    wait_until 20 probe_events
}
probe_events() {
    ctr namespaces label "$NS" "probe=$RANDOM"
    grep -q /namespaces/update "$EVENTS"
}
# topics ID : of the events about it, in order, on one line.
topics() {
    grep -F "\"$1\"" "$EVENTS" | grep -o ' /tasks/[a-z-]*' | cut -d / -f 3 | paste -sd ' '
}
has_topic() {
    [[ " $(topics "$1") " == *" $2 "* ]]
}

# ex ID ARG… : an exec'd process.
EXECS=0
ex() {
    local id=$1
    shift
    EXECS=$((EXECS + 1))
    ctr task exec --fifo-dir "$T/fifo" --exec-id "e$BASHPID-$EXECS" "$id" "$@" </dev/null
}

# task_field ID COLUMN : of `ctr task ls`, 2 is the pid, 3 the status.
task_field() {
    ctr task ls | awk -v id="$1" -v n="$2" '$1 == id {print $n}'
}
task_is() {
    [ "$(task_field "$1" 3)" = "$2" ]
}
task_pid() {
    task_field "$1" 2
}

no_task() {
    [ -z "$(task_field "$1" 3)" ]
}

# remove ID… : task, if there is one, container and snapshot. A client that waits for the task deletes it at its end, too.
remove() {
    local id
    for id in "$@"; do
        no_task "$id" || ctr task delete -f "$id" >/dev/null 2>&1 || wait_until 10 no_task "$id"
        ctr container delete "$id"
    done
}

# What a failed test left, by force: no call may take long here.
remove_all() {
    local id CTR_SECONDS=15
    for id in $(ctr task ls -q); do
        # A paused task takes no signal.
        ctr task resume "$id" >/dev/null 2>&1 || true
        ctr task delete -f "$id" >/dev/null 2>&1 || true
    done
    leftovers | awk '{print $1}' | xargs -r kill -KILL 2>/dev/null || true
    for id in $(ctr container ls -q); do ctr container delete "$id" || true; done
    sockets_left | xargs -r rm -f
    cgroups_left | sort -r | xargs -r rmdir 2>/dev/null || true
}

# Everything of ours whose command line names this file's directory or whose environment came through its containerd.
leftovers() {
    local p
    for p in $(pgrep -f -- "${T:?}/" || true) $(grep -lsaz "^STASIS_ROOT=$T/run$" /proc/[0-9]*/environ | cut -d / -f 3); do
        [ "$p" = "$(containerd_pid)" ] || ! alive "$p" || ps -o pid=,args= -p "$p"
    done
}
no_leftovers() {
    [ -z "$(leftovers)" ]
}
# Shims' sockets: the name of one is a hash of whose it is, so that those of other containerds are told apart.
sockets_left() {
    local id socket
    grep -ohE ' (id|key)=[A-Za-z0-9._-]+' "$T/containerd.log" | cut -d = -f 2 | sort -u | while read -r id; do
        socket=/run/containerd/s/$(printf %s "$CTR_ADDRESS/$NS/$id" | sha256sum | cut -d ' ' -f 1)
        [ ! -e "$socket" ] || echo "$socket"
    done
}
cgroups_left() {
    find /sys/fs/cgroup -mindepth 2 -type d -path "*/$NS/*" 2>/dev/null
}
mounts_left() {
    grep " $T/" /proc/self/mounts || true
}
state_is_empty() {
    [ -z "$(find "$T/containerd/state/io.containerd.runtime.v2.task" "$T/containerd/root/io.containerd.runtime.v2.task" \
        -mindepth 2 2>/dev/null)" ]
}
tidy() {
    [ -z "$(ctr task ls -q)$(ctr container ls -q)$(leftovers)$(find "$T/run" -mindepth 2)" ] && state_is_empty &&
        [ -z "$(sockets_left)$(cgroups_left)$(mounts_left)" ]
}

# nothing_left : waits a while, for what ends behind a call's back, then says what is there.
nothing_left() {
    wait_until 20 tidy 2>/dev/null && return
    echo "left behind:"
    ctr task ls
    ctr container ls
    leftovers
    find "$T/run" "$T/containerd/state/io.containerd.runtime.v2.task" -mindepth 2
    sockets_left
    cgroups_left
    mounts_left
    return 1
}

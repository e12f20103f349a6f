#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# containerd, its client, the daemon or the VM die at some stage of a task's life; many tasks at once and one after the other.
bats_require_minimum_version 1.5.0
load helpers
load containerd
setup_file() {
    containerd_setup
    mkdir "$T/flags"
}
teardown_file() { containerd_teardown; }
setup() { containerd_test_setup; }
teardown() { containerd_test_teardown; }

stasis_only() {
    [[ $RUNTIME == *stasis* ]] || skip "$RUNTIME has no VM"
}
# waiter ID CODE : a detached task that exits with the code once the file $T/flags/ID is there; it makes ID.over before.
waiter() {
    ctr_run -d --mount "type=bind,src=$T/flags,dst=/flags,options=rbind:rw" -- "$1" \
        sh -c "until [ -e /flags/$1 ]; do sleep 0.1; done; echo >/flags/$1.over; exit $2" </dev/null >/dev/null 2>&1
}
# created ID : a task that is created and not started, as a client leaves it that dies between the two; ctr does when it
# cannot write its pid file.
created() {
    ctr container create --runtime "$RUNTIME" "$IMAGE" "$1" sleep 1000
    not ctr task start -d --fifo-dir "$T/fifo" --pid-file "$T/nowhere/pid" "$1" </dev/null >/dev/null 2>&1
    task_is "$1" CREATED
}
# shim_pid ID : of the daemon that serves the task.
shim_pid() {
    if [ -e "$R/$1/state.json" ]; then
        jq -e .stasis.daemonPid "$R/$1/state.json"
    else
        pgrep -f -- "containerd-shim-.* -id $1 -address $CTR_ADDRESS"
    fi
}
# The list has no task of that id, or a stopped one, and can be asked.
not_live() {
    local status
    ctr task ls >/dev/null || return
    status=$(task_field "$1" 3)
    [ -z "$status" ] || [ "$status" = STOPPED ]
}
forwarded_exits() {
    grep -c 'msg="event forwarded".*topic=/tasks/exit ' "$T/containerd.log" || true
}
# gone_and_free ID : after a crash the task is not live any more, can be removed, and its id be used again.
gone_and_free() {
    wait_until 30 not_live "$1"
    remove "$1"
    stop_clients # they would count as left
    wait_until 20 no_leftovers
    [ "$(ctr_run --rm -- "$1" echo again </dev/null)" = again ]
}

@test "containerd killed: tasks run on and are all there afterwards, running, paused, created, or ended meanwhile" {
    waiter run 0
    waiter end 6
    waiter pause 0
    created new
    ctr task pause pause
    local run_pid exits
    run_pid=$(task_pid run)
    exits=$(forwarded_exits)

    kill_containerd
    touch "$T/flags/end"
    wait_until 20 test -e "$T/flags/end.over"
    alive "$run_pid"
    start_containerd
    ctr task ls
    [ "$(task_pid run)" = "$run_pid" ]
    task_is run RUNNING
    task_is pause PAUSED
    task_is new CREATED
    wait_until 20 task_is end STOPPED
    # The exit that nobody was there to hear of is told when somebody is.
    told() { [ "$(forwarded_exits)" = $((exits + 1)) ]; }
    wait_until 30 told
    run ctr task delete end
    echo "$output"
    [[ $output == *"non-zero exit code 6"* ]]

    [ "$(ex run echo still)" = still ]
    ctr task resume pause
    task_is pause RUNNING
    ctr shim --id new start new
    task_is new RUNNING
    [ "$(ex new echo started)" = started ]
    events
    ctr task kill -s KILL run
    wait_until 20 has_topic run exit
    wait_until 20 task_is run STOPPED
    remove run pause end new
    rm "$T"/flags/*
}

@test "containerd stopped and started: the same, and a client that waits is told of the end" {
    waiter "$ID" 5
    stop_containerd
    start_containerd
    task_is "$ID" RUNNING
    in_background "$T/attach" task attach "$ID"
    [ "$(ex "$ID" echo yes)" = yes ]
    touch "$T/flags/$ID"
    ended_with 5 "$PID"
    remove "$ID"
}

@test "a created task can be deleted without ever having run" {
    created "$ID"
    run ctr task delete "$ID"
    echo "$output"
    [ "$status" != 0 ]
    ctr task delete -f "$ID" >/dev/null 2>&1
    remove "$ID"
}

@test "the client killed in the middle of a create: nothing is left for good" {
    in_background "$T/run.log" run -d --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sleep 1000
    wait_until 20 shim_pid "$ID"
    kill -KILL "$PID"
    # What it was told of its end, containerd and the shim decide: a task that is there can be deleted.
    settled() { ctr task delete -f "$ID" >/dev/null 2>&1; [ -z "$(task_field "$ID" 3)" ] && no_leftovers; }
    wait_until 60 settled
    remove "$ID"
}

@test "containerd killed in the middle of a create: afterwards the list is right and nothing is left for good" {
    in_background "$T/run.log" run -d --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sleep 1000
    wait_until 20 shim_pid "$ID"
    kill_containerd
    wait_until 30 dead "$PID"
    start_containerd
    settled() { ctr task delete -f "$ID" >/dev/null 2>&1; [ -z "$(task_field "$ID" 3)" ] && no_leftovers; }
    wait_until 60 settled
    remove "$ID"
    [ "$(ctr_run --rm -- "$ID" echo again </dev/null)" = again ]
}

# The daemon is there, and the Create that was to follow never comes: containerd was killed between the two.
@test "containerd finds a daemon whose container was never created: it ends, and the id is free" {
    stasis_only
    start "$ID" sleep 1000
    local namespace=$T/containerd/state/io.containerd.runtime.v2.task/$NS
    local work=$T/containerd/root/io.containerd.runtime.v2.task/$NS/never
    ctr container create --runtime "$RUNTIME" "$IMAGE" never sleep 1000
    mkdir -p "$namespace/never/rootfs" "$work"
    cp "$namespace/$ID/config.json" "$namespace/never/"
    ln -s "$work" "$namespace/never/work"
    mkfifo "$namespace/never/log"
    stop_containerd
    (cd "$namespace/never" && STASIS_ROOT=$T/run TTRPC_ADDRESS=$CTR_ADDRESS.ttrpc "$STASIS_OUT/bin/containerd-shim-stasis-v2" \
        -namespace "$NS" -address "$CTR_ADDRESS" -publish-binary /usr/bin/containerd -id never start 3>&-)
    alive "$(shim_pid never)"
    start_containerd
    nobody_serves() { ! shim_pid never && [ ! -e "$namespace/never" ]; }
    wait_until 10 nobody_serves
    task_is "$ID" RUNNING
    remove "$ID" never
}

# A client that waits is not told: containerd 1.6 forgets the call, with runc's shim as well.
@test "the daemon killed while its task runs: the list is right, its exit is told, the id is free" {
    start "$ID" sleep 1000
    local pid
    pid=$(task_pid "$ID")
    events
    kill -KILL "$(shim_pid "$ID")"
    wait_until 30 not_live "$ID"
    wait_until 20 dead "$pid"
    wait_until 20 has_topic "$ID" exit
    gone_and_free "$ID"
}

@test "the daemon killed while its task is created, and while it is paused" {
    created "$ID"
    kill -KILL "$(shim_pid "$ID")"
    gone_and_free "$ID"
    start "$ID" sleep 1000
    ctr task pause "$ID"
    kill -KILL "$(shim_pid "$ID")"
    gone_and_free "$ID"
}

@test "the daemon killed in the middle of a create: the client is told, nothing is left" {
    in_background "$T/run.log" run --rm --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sleep 1000
    if [[ $RUNTIME == *stasis* ]]; then
        wait_until 20 bash -c "jq -e '.stasis.qemuPid > 0' '$R/$ID/state.json' >/dev/null 2>&1"
    else
        wait_until 20 shim_pid "$ID"
    fi
    kill -KILL "$(shim_pid "$ID")"
    wait_until 30 dead "$PID"
    cat "$T/run.log"
    ended_with 1 "$PID"
    [ -z "$(ctr container ls -q)" ] || gone_and_free "$ID"
}

@test "the daemon killed while containerd is away: seen when it is back" {
    start "$ID" sleep 1000
    local pid
    pid=$(task_pid "$ID")
    kill_containerd
    kill -KILL "$(shim_pid "$ID")"
    start_containerd
    wait_until 20 dead "$pid"
    gone_and_free "$ID"
}

@test "QEMU killed: the task counts as killed, its client is told, the id is free" {
    stasis_only
    in_background "$T/run.log" run --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sleep 1000
    wait_until 60 task_is "$ID" RUNNING
    local pids p
    pids=$(sandbox_pids "$ID")
    kill -KILL "$(jq .stasis.qemuPid "$R/$ID/state.json")"
    ended_with 137 "$PID"
    for p in $pids; do wait_until 20 dead "$p"; done
    gone_and_free "$ID"
}

@test "virtiofsd killed: the same, for a detached one, with its exit event" {
    stasis_only
    start "$ID" sleep 1000
    events
    local pids p
    pids=$(sandbox_pids "$ID")
    kill -KILL "$(jq .stasis.virtiofsdPid "$R/$ID/state.json")"
    wait_until 30 not_live "$ID"
    wait_until 20 has_topic "$ID" exit
    run ex "$ID" true
    echo "$output"
    [ "$status" != 0 ]
    gone_and_free "$ID"
    for p in $pids; do wait_until 20 dead "$p"; done
}

@test "QEMU killed while it boots: the error names it and nothing is left" {
    stasis_only
    in_background "$T/run.log" run --rm --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sleep 1000
    wait_until 20 bash -c "jq -e '.stasis.qemuPid > 0' '$R/$ID/state.json' >/dev/null 2>&1"
    kill -KILL "$(jq .stasis.qemuPid "$R/$ID/state.json")"
    wait_until 30 dead "$PID"
    cat "$T/run.log"
    ended_with 1 "$PID"
    grep -q QEMU "$T/run.log"
    [ -z "$(ctr container ls -q)" ]
}

@test "six at once: created, used and deleted in parallel, each with its own output" {
    local n pids=()
    for n in 1 2 3 4 5 6; do
        waiter "p$n" "$n" &
        pids+=($!)
    done
    for n in 1 2 3 4 5 6; do wait "${pids[n - 1]}"; done
    [ "$(ctr task ls | grep -c RUNNING)" = 6 ]
    for n in 1 2 3 4 5 6; do
        ctr task exec --exec-id e "p$n" sh -c "echo mine $n" </dev/null >"$T/p$n" 2>&1 &
        pids[n - 1]=$!
    done
    for n in 1 2 3 4 5 6; do
        wait "${pids[n - 1]}"
        [ "$(cat "$T/p$n")" = "mine $n" ]
        touch "$T/flags/p$n"
    done
    for n in 1 2 3 4 5 6; do wait_until 30 task_is "p$n" STOPPED; done
    ctr task delete p1 p2 p3 p4 p5 p6 2>&1 | grep -c 'non-zero exit code [1-6]$\|non-zero exit code [1-6]"' | grep -qx 6
    remove p1 p2 p3 p4 p5 p6
}

# counts : what could pile up, one a line. Of the mounts those of this containerd: other files run meanwhile. A mount that
# only containerd's or a daemon's namespace has would be in its fds and processes.
counts() {
    echo "processes $(leftovers | wc -l)"
    echo "mounts $(grep -c -e " $T/" -e ' /run/containerd/' "/proc/$(containerd_pid)/mountinfo")"
    echo "sockets $(sockets_left | wc -l)"
    echo "directories $(find "$T/run" "$T/fifo" "$T/containerd/state" | wc -l)"
    echo "cgroups $(cgroups_left | wc -l)"
    echo "temporary $(find "$T/tmp" | wc -l)"
}
fds() {
    find "/proc/$(containerd_pid)/fd" -mindepth 1 2>/dev/null | wc -l
}

@test "tasks one after the other: nothing piles up, in containerd neither" {
    local n before
    ctr_run --rm -- "$ID" true </dev/null
    wait_until 20 tidy
    counts >"$T/before"
    before=$(fds)
    for ((n = 0; n < ${STASIS_CHURN:-6}; n++)); do
        [ "$(ctr_run --rm -- "$ID" echo "$n" </dev/null)" = "$n" ]
    done
    wait_until 20 tidy
    counts >"$T/after"
    diff "$T/before" "$T/after"
    # A connection of a client may just be closing.
    few() { [ "$(fds)" -le $((before + 2)) ]; }
    wait_until 20 few
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a client of containerd does with a task, from create to delete.
bats_require_minimum_version 1.5.0
load helpers
load containerd
setup_file() { containerd_setup; }
teardown_file() { containerd_teardown; }
setup() { containerd_test_setup; }
teardown() { containerd_test_teardown; }

@test "ctr run in the foreground: output, exit code, and --rm leaves nothing" {
    local code=0
    ctr_run --rm -- "$ID" sh -c 'echo out; echo err >&2; exit 7' >"$T/out" 2>"$T/err" </dev/null || code=$?
    cat "$T/err"
    [ "$code" = 7 ]
    [ "$(cat "$T/out")" = out ]
    [ "$(cat "$T/err")" = err ]
    [ -z "$(ctr container ls -q)" ]
}

@test "detached: RUNNING with a pid until it ends, STOPPED until it is deleted, then the id is free" {
    ctr_run -d --pid-file "$T/pid.$ID" -- "$ID" sh -c 'trap "exit 5" TERM; while :; do sleep 1 & wait $!; done' \
        </dev/null >/dev/null 2>&1
    task_is "$ID" RUNNING
    local pid
    pid=$(task_pid "$ID")
    [ "$pid" = "$(cat "$T/pid.$ID")" ]
    alive "$pid"

    run ctr task delete "$ID"
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"must be stopped"* ]]
    run ctr container delete "$ID"
    [ "$status" != 0 ]
    # The trap may not be set yet: signals are sent until one ends it.
    ended() { ctr task kill -s TERM "$ID" >/dev/null 2>&1; task_is "$ID" STOPPED; }
    wait_until 20 ended
    run ex "$ID" true
    echo "$output"
    [ "$status" != 0 ]
    run ctr task delete "$ID"
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *"non-zero exit code 5"* ]]
    [ -z "$(task_field "$ID" 3)" ]
    wait_until 10 dead "$pid"

    # Task and container are apart: the same container once more, then the same id once more.
    [ "$(ctr task start --fifo-dir "$T/fifo" "$ID" >/dev/null 2>&1 </dev/null & wait_until 60 task_is "$ID" RUNNING && echo on)" = on ]
    remove "$ID"
    [ "$(ctr_run --rm -- "$ID" echo again </dev/null)" = again ]
}

@test "exec: output, exit code, environment, user, directory; several at once; refused without a task" {
    start "$ID" sleep 1000
    [ "$(ex "$ID" sh -c 'echo out; echo err >&2' 2>"$T/err")" = out ]
    [ "$(cat "$T/err")" = err ]
    run -9 ex "$ID" sh -c 'exit 9'
    [ "$(ctr task exec --exec-id w --cwd /tmp "$ID" pwd </dev/null)" = /tmp ]
    [[ $(ctr task exec --exec-id u --user 1000:2000 "$ID" id </dev/null) == "uid=1000(user) gid=2000(extra)"* ]]
    run ex "$ID" no-such-program
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *no-such-program* ]]

    local n pids=()
    for n in 1 2 3 4; do
        ctr task exec --exec-id "p$n" "$ID" sh -c "sleep 0.3; exit $n" </dev/null &
        pids+=($!)
    done
    for n in 1 2 3 4; do
        local code=0
        wait "${pids[n - 1]}" || code=$?
        [ "$code" = "$n" ]
    done

    # A detached one lives on by itself, is killed and deleted by its id, and that id is taken as long.
    ctr task exec -d --exec-id long "$ID" sleep 1000 </dev/null
    run ctr task exec --exec-id long "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *exist* ]]
    ctr task kill -s KILL --exec-id long "$ID"
    exec_gone() { ctr task delete --exec-id long "$ID" >"$T/long" 2>&1 || [ $? = 137 ]; }
    wait_until 20 exec_gone
    [ "$(ctr task exec --exec-id long "$ID" echo again </dev/null)" = again ]
    task_is "$ID" RUNNING
    run ex nobody true
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *nobody* ]]
    remove "$ID"
}

@test "kill: a signal by name to the init process, -a to all of them, and an exec'd one by its id" {
    start "$ID" sh -c 'trap "touch /got" USR1; touch /ready; while :; do sleep 1 & wait $!; done'
    wait_until 30 ex "$ID" test -e /ready
    ctr task kill -s USR1 "$ID"
    wait_until 20 ex "$ID" test -e /got
    task_is "$ID" RUNNING

    in_background "$T/exec" task exec --exec-id e "$ID" sleep 1000
    has_exec() { ctr task ps "$ID" | grep -qi 'exec_\?id:"\?e\b'; }
    wait_until 20 has_exec
    ctr task kill -a -s KILL "$ID"
    ended_with 137 "$PID"
    wait_until 20 task_is "$ID" STOPPED
    run ctr task kill "$ID"
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"not found"* ]] || [[ $output == *"already finished"* ]]
    run ctr task delete "$ID"
    [[ $output == *"non-zero exit code 137"* ]]
    remove "$ID"
}

@test "pause and resume: PAUSED, nothing runs meanwhile" {
    # The counter is moved into place: a pause must not show it truncated.
    start "$ID" sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/m; mv /tmp/m /tmp/n; sleep 0.1; done'
    wait_until 30 ex "$ID" test -s /tmp/n
    ctr task pause "$ID"
    task_is "$ID" PAUSED
    run ctr task pause "$ID"
    echo "$output"
    # Said at once: a client that could not start a process waits for the end of its output.
    run ex "$ID" true
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"cannot exec in container $ID: it is paused"* ]]
    # Its overlay is seen from here as well, so what a paused counter does can be read without an exec.
    local n root
    root=$(find "$T/containerd/root/io.containerd.snapshotter.v1.overlayfs" -path '*/fs/tmp/n')
    n=$(cat "$root")
    run ! wait_until 1 bash -c "[ \$(cat '$root') != $n ]"
    ctr task resume "$ID"
    task_is "$ID" RUNNING
    wait_until 20 bash -c "[ \"\$(cat '$root')\" -gt $n ]"
    remove "$ID"
}

@test "the VM of a task is a copy of the template, which the first one makes" {
    [[ $RUNTIME == *stasis* ]] || skip "$RUNTIME has no VM"
    start "$ID" sleep 1000
    start "$ID-2" sleep 1000
    grep -q 'timing: filled' "$R/$ID-2/log"
    remove "$ID" "$ID-2"
}

@test "ps: the init process and an exec'd one with its id" {
    start "$ID" sleep 1000
    [ "$(ctr task ps "$ID" | awk 'NR > 1 && $1 > 0' | wc -l)" = 1 ]
    ctr task exec -d --exec-id second "$ID" sleep 1000 </dev/null
    ctr task ps "$ID"
    [ "$(ctr task ps "$ID" | awk 'NR > 1 && $1 > 0' | wc -l)" = 2 ]
    ctr task ps "$ID" | grep -q 'second'
    remove "$ID"
}

@test "metrics: numbers of the container's own cgroup, among them its limits" {
    ctr_run -d --memory-limit 67108864 -- "$ID" sh -c 'head -c 8000000 /dev/zero >/dev/shm/f; sleep 1000' \
        </dev/null >/dev/null 2>&1
    wait_until 20 ex "$ID" sh -c '[ "$(wc -c </dev/shm/f)" = 8000000 ]'
    ctr task metrics "$ID" | tee "$T/metrics"
    # cgroup v1 and v2 have other names for the same.
    awk '$1 == "memory.usage" || $1 == "memory.usage_in_bytes" {u = $2} END {exit !(u >= 8000000 && u <= 67108864)}' "$T/metrics"
    awk '$1 == "memory.usage_limit" || $1 == "memory.limit_in_bytes" {l = $2} END {exit l != 67108864}' "$T/metrics"
    awk '$1 == "cpu.usage_usec" || $1 == "cpuacct.usage" {c = $2} END {exit !(c > 0)}' "$T/metrics"
    awk '$1 == "pids.current" {p = $2} END {exit !(p > 0 && p < 10)}' "$T/metrics"
    ctr task metrics --format json "$ID" | jq -e '.memory and .cpu and .pids'
    remove "$ID"
}

@test "resources: the limits of the spec are those of the container's cgroup" {
    ctr_run --rm --memory-limit 67108864 --cpu-quota 50000 --cpu-period 100000 \
        --mount type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro -- "$ID" sh -c 'cd /sys/fs/cgroup
            cat memory.max memory/memory.limit_in_bytes; cat cpu.max cpu/cpu.cfs_quota_us' \
        >"$T/limits" 2>/dev/null </dev/null || [ $? = 1 ]
    cat "$T/limits"
    [ "$(sed -n 1p "$T/limits")" = 67108864 ]
    [[ $(sed -n 2p "$T/limits") =~ ^50000( 100000)?$ ]]
}

@test "out of memory: the process dies, and an oom event says why" {
    events
    ctr_run -d --memory-limit 33554432 -- "$ID" sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000' \
        </dev/null >/dev/null 2>&1
    wait_until 30 has_topic "$ID" oom
    task_is "$ID" RUNNING
    remove "$ID"
}

@test "events: each once and in order" {
    events
    start "$ID" sleep 1000
    ctr task exec --exec-id e1 "$ID" true </dev/null
    ctr task pause "$ID"
    ctr task resume "$ID"
    ctr task kill -s KILL "$ID"
    wait_until 20 task_is "$ID" STOPPED
    ctr task delete "$ID"
    wait_until 20 has_topic "$ID" delete
    cat "$EVENTS"
    # The exec'd process's own exit has its exec id in `id`.
    [ "$(topics "$ID")" = "create start exec-added exec-started exit paused resumed exit delete" ]
    local pid
    pid=$(grep /tasks/start "$EVENTS" | grep -o '"pid":[0-9]*')
    grep /tasks/create "$EVENTS" | grep -q "$pid\\b"
    grep '/tasks/exit.*"id":"'"$ID"'"' "$EVENTS" | grep "$pid\\b" | grep -q '"exit_status":137'
    grep '/tasks/exit.*"id":"e1"' "$EVENTS" | grep -qv '"exit_status":[1-9]'
    grep /tasks/create "$EVENTS" | grep -q '"bundle":"'"$T/containerd/state"
    remove "$ID"
}

@test "a run in the foreground has its events, and the exit one carries the code" {
    events
    run -3 ctr_run --rm -- "$ID" sh -c 'exit 3' </dev/null
    wait_until 20 has_topic "$ID" delete
    [ "$(topics "$ID")" = "create start exit delete" ]
    grep /tasks/exit "$EVENTS" | grep -q '"exit_status":3,'
    grep /tasks/delete "$EVENTS" | grep -q '"exit_status":3,'
}

@test "the root: writable and kept between tasks of a container, or read-only" {
    run -0 ctr_run -- "$ID" sh -c 'echo kept >/file' </dev/null
    # The container is still there with its snapshot, without a task; one of other arguments needs another container.
    ctr snapshots mounts "$T/mnt" "$ID" | grep -q overlay
    [ "$(cat "$T/containerd/root/io.containerd.snapshotter.v1.overlayfs"/snapshots/*/fs/file)" = kept ]
    remove "$ID"
    run ctr_run --rm --read-only -- "$ID" sh -c 'echo x >/file' </dev/null
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"Read-only file system"* ]]
}

@test "the root of a directory, and of the native snapshotter" {
    cp -a "$STASIS_OUT/test-rootfs" "$T/dir"
    [ "$(ctr run --rm --runtime "$RUNTIME" --fifo-dir "$T/fifo" --rootfs "$T/dir" "$ID" /bin/sh -c 'echo >/mine; echo dir' </dev/null)" = dir ]
    [ -e "$T/dir/mine" ]
    rm -rf "$T/dir"
    [ "$(ctr_run --rm --snapshotter native -- "$ID" echo native </dev/null)" = native ]
}

@test "bind mounts: rw ones are written through, ro ones refuse, files as well as directories" {
    mkdir -p "$T/rw" "$T/ro"
    echo in >"$T/ro/f"
    echo single >"$T/single"
    ctr_run --rm --mount "type=bind,src=$T/rw,dst=/rw,options=rbind:rw" --mount "type=bind,src=$T/ro,dst=/ro,options=rbind:ro" \
        --mount "type=bind,src=$T/single,dst=/etc/single,options=bind:ro" -- "$ID" \
        sh -c 'cat /ro/f /etc/single; echo made >/rw/f; echo no >/ro/f; echo no >/etc/single' </dev/null >"$T/out" 2>"$T/err" || [ $? = 1 ]
    cat "$T/out" "$T/err"
    [ "$(paste -sd ' ' "$T/out")" = "in single" ]
    [ "$(grep -c 'Read-only file system' "$T/err")" = 2 ]
    [ "$(cat "$T/rw/f")" = made ]
    [ "$(cat "$T/ro/f" "$T/single" | paste -sd ' ')" = "in single" ]
    rm -rf "$T/rw" "$T/ro" "$T/single"
}

@test "environment, directory, host name and what the spec says of capabilities" {
    ctr_run --rm --env A=one --env 'B=two words' --cwd /var/log --cap-drop CAP_CHOWN -- "$ID" \
        sh -c 'echo "$A $B"; pwd; grep CapEff /proc/self/status' </dev/null >"$T/out"
    cat "$T/out"
    [ "$(sed -n 1p "$T/out")" = "one two words" ]
    [ "$(sed -n 2p "$T/out")" = /var/log ]
    [ $((0x$(sed -n 3p "$T/out" | tr -dc '[:xdigit:]' | tail -c 16) & 1)) = 0 ]
}

@test "an id with dots and dashes, as long as containerd allows" {
    local id
    id=$(printf 'a.b-c_%.0s' {1..12})0123
    [ ${#id} = 76 ]
    [ "$(ctr_run --rm -- "$id" echo long </dev/null)" = long ]
    start a.b sleep 1000
    [ "$(ex a.b echo yes)" = yes ]
    remove a.b
}

@test "an id that is taken is refused and what has it goes on" {
    start "$ID" sleep 1000
    run ctr_run -d -- "$ID" sleep 1000 </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"already exists"* ]]
    run ctr task start -d --fifo-dir "$T/fifo" "$ID" </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"already exists"* ]]
    task_is "$ID" RUNNING
    [ "$(ex "$ID" echo on)" = on ]
    remove "$ID"
}

@test "a program that is not there: the error names it, detached or not, and nothing is left" {
    run ctr_run --rm -- "$ID" no-such-program </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *no-such-program* ]]
    [ -z "$(ctr container ls -q)" ]
    run ctr_run -d -- "$ID" no-such-program </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *no-such-program* ]]
    no_task() { [ -z "$(task_field "$ID" 3)" ]; }
    wait_until 10 no_task
    wait_until 20 no_leftovers
    ctr container delete "$ID"
    run ctr_run --rm --cwd /dir -- "$ID" /bin/not-executable </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *not-executable* ]]
    [ "$(ctr_run --rm -- "$ID" echo again </dev/null)" = again ]
}

@test "a mount whose source is missing: the error names it and nothing is left" {
    run ctr_run --rm --mount "type=bind,src=$T/nowhere,dst=/mnt,options=rbind" -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *nowhere* ]]
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# create, start, state, kill, delete, pause, resume, list, ps, events, update, --pid-file, on few VMs.
load helpers
setup_file() { file_setup; }
teardown_file() { file_teardown; }

@test "create, start, kill, delete; state and list at each step" {
    bundle b '.annotations = {"org.example.key": "value"}'
    args b sh -c 'trap "exit 5" TERM; while :; do sleep 1 & wait $!; done'
    quiet stasis create --bundle "$T/b" --pid-file "$T/pid" c1
    status_is c1 created
    stasis state c1 | jq -e '.id == "c1" and .bundle == "'"$T/b"'" and .annotations["org.example.key"] == "value"
        and (.ociVersion | length > 0) and .pid > 0'
    [ "$(cat "$T/pid")" = "$(stasis state c1 | jq .pid)" ]
    alive "$(cat "$T/pid")"
    run stasis delete c1
    [ "$status" = 0 ] || [[ $output == *created* ]] || [[ $output == *"not stopped"* ]]
    if [ "$status" = 0 ]; then
        quiet stasis create --bundle "$T/b" --pid-file "$T/pid" c1
    fi

    stasis start c1
    status_is c1 running
    [ "$(stasis list -q)" = c1 ]
    stasis list | grep -q '^c1 .*running'
    stasis list -f json | jq -e '.[0].id == "c1" and .[0].status == "running"'
    run stasis start c1
    [ "$status" = 1 ]
    run stasis delete c1
    echo "$output"
    [ "$status" = 1 ]

    wait_until 20 bash -c "'$STASIS' --root '$R' ps c1 | grep -q sleep"
    stasis kill c1 TERM
    wait_until 20 status_is c1 stopped
    wait_until 10 dead "$(cat "$T/pid")"
    run stasis kill c1 TERM
    echo "$output"
    [ "$status" = 1 ]
    run stasis exec c1 true
    echo "$output"
    [ "$status" = 255 ]
    stasis delete c1
    [ -z "$(stasis list -q)" ]
}

@test "the pid file's process exits with the container's status, to a subreaper as conmon is one" {
    bundle b
    args b sh -c 'exit 42'
    cat >"$T/reaper.py" <<'P'
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
stasis, root, bundle, pidfile = sys.argv[1:]
subprocess.run([stasis, "--root", root, "create", "--bundle", bundle, "--pid-file", pidfile, "c1"],
               check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
pid = int(open(pidfile).read())
subprocess.run([stasis, "--root", root, "start", "c1"], check=True)
while True:
    got, status = os.wait()
    if got == pid:
        print(os.waitstatus_to_exitcode(status))
        break
P
    [ "$(timeout 100 python3 "$T/reaper.py" "$STASIS" "$R" "$T/b" "$T/pid")" = 42 ]
    stasis delete c1
}

@test "killing the pid file's process kills the container; signals to it are forwarded" {
    bundle b
    args b sh -c 'trap "echo usr1 >/tmp/got" USR1; touch /tmp/ready; while :; do sleep 1 & wait $!; done'
    edit "$T/b" '.mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs"}]'
    quiet stasis run -d --bundle "$T/b" --pid-file "$T/pid" c1
    wait_until 20 stasis exec c1 test -e /tmp/ready
    kill -USR1 "$(cat "$T/pid")"
    wait_until 20 bash -c "'$STASIS' --root '$R' exec c1 cat /tmp/got </dev/null 2>/dev/null | grep -q usr1"
    kill -KILL "$(cat "$T/pid")"
    wait_until 20 status_is c1 stopped
    stasis delete c1
}

@test "pause, resume, ps, events, update" {
    bundle b '.linux.resources = {memory: {limit: 67108864}, pids: {limit: 50}}'
    args b sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/m; mv /tmp/m /tmp/n; sleep 0.1; done'
    edit "$T/b" '.mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs"}]'
    quiet stasis run -d --bundle "$T/b" c1

    # It is moved into place: a pause must not show it truncated.
    wait_until 20 stasis exec c1 test -s /tmp/n
    stasis pause c1
    status_is c1 paused
    run stasis pause c1
    [ "$status" = 1 ]
    run stasis exec c1 true
    echo "$output"
    [ "$status" = 255 ]
    stasis resume c1
    status_is c1 running
    run stasis resume c1
    [ "$status" = 1 ]
    local n
    n=$(stasis exec c1 cat /tmp/n)
    wait_until 20 bash -c "[ \"\$('$STASIS' --root '$R' exec c1 cat /tmp/n)\" -gt $n ]"

    stasis ps c1 | grep -q 'while :'
    stasis ps -f json c1 | jq -e --argjson pid "$(stasis state c1 | jq .pid)" '. == [$pid]'

    stasis events --stats c1 | jq -e '.type == "stats" and .id == "c1" and .data.memory.usage.usage > 0
        and .data.memory.usage.limit == 67108864 and .data.pids.current > 0 and .data.cpu.usage.total > 0'
    [ "$(stasis exec c1 cat /sys/fs/cgroup/memory.max)" = 67108864 ]
    stasis update --memory 134217728 --pids-limit 60 c1
    [ "$(stasis exec c1 cat /sys/fs/cgroup/memory.max)" = 134217728 ]
    [ "$(stasis exec c1 cat /sys/fs/cgroup/pids.max)" = 60 ]
    echo '{"cpu": {"quota": 50000, "period": 100000}}' | stasis update -r - c1
    [ "$(stasis exec c1 cat /sys/fs/cgroup/cpu.max)" = "50000 100000" ]

    stasis kill --all c1 KILL
    wait_until 20 status_is c1 stopped
    stasis delete c1
}

@test "delete --force ends a running container; nothing of its VM is left" {
    bundle b
    args b sleep 1000
    quiet stasis run -d --bundle "$T/b" c1
    local pids
    pids=$(sandbox_pids c1)
    stasis delete --force c1
    local p
    for p in $pids; do wait_until 10 dead "$p"; done
    [ ! -e "$R/c1" ]
}

@test "what was written through a mapping is on the host when run is over, also by who outlives the init" {
    bundle b '.mounts += [{destination: "/data", type: "bind", source: "'"$T/data"'", options: ["rbind", "rw"]},
        {destination: "/workloads", type: "bind", source: "'"$STASIS_OUT"'/workloads", options: ["rbind", "ro"]}]'
    mkdir "$T/data"
    head -c 3145728 /dev/zero | tr '\0' m >"$T/want"
    args b /workloads/mapped /data/one
    stasis run --bundle "$T/b" c1 </dev/null
    cmp "$T/want" "$T/data/one"
    [ ! -e "$R/c1" ]

    # Without a pid namespace nothing ends with the init, so it is ended by delete.
    edit "$T/b" 'del(.linux.namespaces[] | select(.type == "pid"))'
    args b /workloads/mapped /data/two stay
    stasis run --bundle "$T/b" c1 </dev/null
    cmp "$T/want" "$T/data/two"
    [ ! -e "$R/c1" ]
}

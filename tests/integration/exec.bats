#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# `stasis exec` with all its options, and the streams, in one container.
bats_require_minimum_version 1.5.0
load helpers
setup_file() {
    file_setup
    bundle b '.process.env += ["FROM_SPEC=1"] | .process.cwd = "/home"' \
        '.mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs"}]'
    args b sleep 10000
    quiet stasis run -d --bundle "$T/b" c1
}
teardown_file() { file_teardown; }

@test "exec: output, exit code, environment and directory of the container" {
    run stasis exec c1 sh -c 'echo "$FROM_SPEC $(pwd)"; exit 9'
    echo "$output"
    [ "$status" = 9 ]
    [ "$output" = "1 /home" ]
}

@test "exec: --env, --cwd, --user, --additional-gids" {
    [ "$(stasis exec --env A=b --env C="d e" --cwd /tmp c1 sh -c 'echo "$A $C $(pwd)"')" = "b d e /tmp" ]
    [ "$(stasis exec --user 1000:1000 c1 id -u)" = 1000 ]
    [ "$(stasis exec --user 1000:1000 --additional-gids 2000 c1 id -G)" = "1000 2000" ]
}

@test "exec: --process FILE" {
    jq -n '{terminal: false, user: {uid: 1000, gid: 1000}, args: ["sh", "-c", "echo $X; id -u; pwd"],
        env: ["PATH=/bin", "X=y"], cwd: "/tmp"}' >"$T/process.json"
    [ "$(stasis exec --process "$T/process.json" c1)" = $'y\n1000\n/tmp' ]
}

@test "exec: stdin, stdout and stderr" {
    [ "$(echo hello | stasis exec c1 cat)" = hello ]
    stasis exec c1 sh -c 'echo o; echo e >&2' >"$T/o" 2>"$T/e" </dev/null
    [ "$(cat "$T/o")" = o ]
    [ "$(cat "$T/e")" = e ]
}

@test "exec: command not found is 127, not executable 126" {
    run -127 stasis exec c1 no-such-program
    echo "$output"
    run stasis exec c1 /bin/not-executable
    echo "$output"
    [ "$status" = 126 ]
}

@test "exec: detached, with a pid file that lives and dies with the process" {
    quiet stasis exec -d --pid-file "$T/epid" c1 sleep 1000
    alive "$(cat "$T/epid")"
    stasis ps c1 | grep -q 'sleep 1000'
    kill -KILL "$(cat "$T/epid")"
    wait_until 20 bash -c "! '$STASIS' --root '$R' ps c1 | grep -q 'sleep 1000\$'"
}

@test "exec: a background child does not keep the command from ending" {
    run timeout 30 "$STASIS" --root "$R" exec c1 sh -c 'sleep 300 & echo done'
    echo "$output"
    [ "$status" = 0 ]
    [ "$output" = done ]
}

@test "exec: eight at once" {
    local i pids=()
    for i in 1 2 3 4 5 6 7 8; do
        stasis exec c1 sh -c "echo $i; exit $i" >"$T/p$i" </dev/null &
        pids+=($!)
    done
    for i in 1 2 3 4 5 6 7 8; do
        local code=0
        wait "${pids[i - 1]}" || code=$?
        [ "$code" = "$i" ]
        [ "$(cat "$T/p$i")" = "$i" ]
    done
}

@test "stdio: 256 MiB through stdout arrive whole, the daemon stays small" {
    local pid before after want
    pid=$(jq .stasis.daemonPid "$R/c1/state.json")
    before=$(awk '/VmHWM/ {print $2}' "/proc/$pid/status")
    want=$(head -c 268435456 /dev/zero | tr '\0' 'x' | sha256sum)
    [ "$(stasis exec c1 sh -c "head -c 268435456 /dev/zero | tr '\\0' x" | sha256sum)" = "$want" ]
    after=$(awk '/VmHWM/ {print $2}' "/proc/$pid/status")
    echo "daemon peak RSS: $before -> $after KiB"
    [ $((after - before)) -lt 8192 ]
}

@test "stdio: 64 MiB through stdin arrive whole" {
    head -c 67108864 /dev/urandom >"$T/in"
    [ "$(stasis exec c1 sha256sum <"$T/in" | cut -d' ' -f1)" = "$(sha256sum <"$T/in" | cut -d' ' -f1)" ]
}

@test "stdio: a slow reader gets everything, and slows the writer down" {
    # 8 MiB read in small sips; the writer notes how far it is: it must not have run ahead of the pipes and buffers.
    mkfifo "$T/fifo"
    stasis exec c1 sh -c 'rm -f /tmp/n; i=0; while [ $i -lt 128 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >/tmp/m; mv /tmp/m /tmp/n; done' \
        >"$T/fifo" </dev/null &
    exec 7<"$T/fifo"
    head -c 65536 <&7 >/dev/null
    wait_until 20 bash -c "
        a=\$('$STASIS' --root '$R' exec c1 cat /tmp/n); b=\$('$STASIS' --root '$R' exec c1 cat /tmp/n)
        [ \"\$a\" = \"\$b\" ]"
    [ "$(stasis exec c1 cat /tmp/n)" -lt 64 ]
    [ "$(cat <&7 | wc -c)" = $((128 * 65536 - 65536)) ]
    exec 7<&-
    wait
}

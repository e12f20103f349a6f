#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# `stasis run` in the foreground, and everything that goes wrong before a program runs.
bats_require_minimum_version 1.5.0
load helpers
setup_file() { file_setup; }
teardown_file() { file_teardown; }

@test "run: stdout and stderr stay apart, the exit code comes back" {
    bundle b
    args b sh -c 'echo out; echo err >&2; exit 7'
    local code=0
    stasis run --bundle "$T/b" c1 >"$T/out" 2>"$T/err" </dev/null || code=$?
    [ "$code" = 7 ]
    [ "$(cat "$T/out")" = out ]
    [ "$(cat "$T/err")" = err ]
    [ -z "$(stasis list -q)" ]
}

@test "run: stdin is read to its end" {
    bundle b
    args b wc -c
    [ "$(printf 'hello\n' | stasis run --bundle "$T/b" c1 | tr -d ' ')" = 6 ]
}

@test "run: killed by a signal gives 128+signal" {
    bundle b
    args b sh -c 'kill -KILL $$'
    # PID 1 of a pid namespace is immune to its own signals, so a child of it is killed.
    args b sh -c 'sh -c "kill -TERM \$\$"; exit $?'
    run stasis run --bundle "$T/b" c1
    [ "$status" = 143 ]
}

@test "run: a reader that goes away ends the writer" {
    bundle b
    args b yes
    [ "$(timeout 60 "$STASIS" --root "$R" run --bundle "$T/b" c1 </dev/null | head -n 1)" = y ]
    wait_until 20 no_processes_left
}

@test "run: signals are forwarded" {
    bundle b
    args b sh -c 'trap "echo got; exit 3" TERM; echo ready; while :; do sleep 1; done'
    stasis run --bundle "$T/b" c1 >"$T/out" 2>&1 </dev/null &
    local pid=$!
    wait_until 60 grep -q ready "$T/out"
    kill -TERM "$(pgrep -P $pid -f 'run --bundle' || echo $pid)"
    local code=0
    wait $pid || code=$?
    [ "$code" = 3 ]
    grep -q got "$T/out"
}

@test "run: command not found is 127, not executable 126" {
    bundle b
    args b no-such-program
    run -127 stasis run --bundle "$T/b" c1
    echo "$output"
    [[ $output == *no-such-program*"not found"* ]]
    args b /bin/not-executable
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 126 ]
    [[ $output == *not-executable*"ermission denied"* ]]
    [ -z "$(stasis list -q)" ]
}

@test "run: a missing or bad config.json is named, with the place in it" {
    mkdir -p "$T/empty"
    run stasis run --bundle "$T/empty" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *config.json* ]]

    bundle b
    echo '{' >"$T/b/config.json"
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *config.json*line* ]]

    bundle b '.process.args = "sh"'
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *process.args* ]]

    bundle b '.mounts[1].destination = 5'
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *'mounts[1].destination'* ]]

    bundle b '.root.path = "nowhere"'
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *nowhere* ]]
}

@test "run: what a VM cannot honour is refused with its place" {
    bundle b '.linux.namespaces |= map(select(.type != "network"))'
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *network* ]]
    bundle b '.linux.devices = [{path: "/dev/sda", type: "b", major: 8, minor: 0}]'
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *'linux.devices[0]'* ]]
}

@test "run: ids that are no ids are refused, a taken one too" {
    bundle b
    local id
    for id in '' ../x a/b 'a b' . .. "$(printf 'x%.0s' {1..200})" 'ä' 'a,b=c'; do
        run stasis run --bundle "$T/b" "$id"
        echo "$id: $output"
        [ "$status" = 1 ]
    done
    args b sleep 100
    quiet stasis run -d --bundle "$T/b" taken
    run stasis run --bundle "$T/b" taken
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *taken*exist* ]] || [[ $output == *exist* ]]
    stasis delete --force taken
}

@test "run: --preserve-fds is refused clearly" {
    bundle b
    run stasis run --preserve-fds 2 --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *preserve-fds* ]]
}

@test "unknown id, unknown command, unknown option" {
    local sub
    for sub in state start pause resume kill ps 'exec nope true' events; do
        # shellcheck disable=SC2086
        set -- $sub
        if [ "$1" = exec ]; then run stasis exec nope true; else run stasis "$1" nope; fi
        echo "$sub: $output"
        [ "$status" = 1 ] || [ "$1:$status" = exec:255 ]
        [[ $output == *"does not exist"* ]]
    done
    run stasis frobnicate
    [ "$status" != 0 ]
    [[ $output == *frobnicate* ]]
    run stasis run --no-such-option x
    [ "$status" != 0 ]
    [[ $output == *no-such-option* ]]
    stasis delete --force nope
}

@test "a missing VMM root or guest says what to do" {
    bundle b
    printf '[vm]\nvmm_root = %s/none\n' "$T" >"$T/conf"
    run stasis --config "$T/conf" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"make setup"* ]]
    printf '[vm]\nguest = %s/none\n' "$T" >"$T/conf"
    run stasis --config "$T/conf" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"make setup"* ]]
    printf '[vm]\nmemroy = 1G\n' >"$T/conf"
    run stasis --config "$T/conf" run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *memroy* ]]
}

@test "--log and --log-format: errors reach the log as runc's do" {
    bundle b
    rm -f "$T/log"
    run stasis --log "$T/log" --log-format json run --bundle "$T/nowhere" c1
    [ "$status" = 1 ]
    tail -n 1 "$T/log" | jq -e '.level == "error" and (.msg | length > 0) and (.time | length > 0)'
}

@test "spec, features, --version and help need no VM" {
    rm -rf "$T/s" && mkdir "$T/s"
    stasis spec --bundle "$T/s"
    jq -e '.process.args == ["sh"] and .root.path == "rootfs" and .process.terminal' "$T/s/config.json"
    run stasis spec --bundle "$T/s"
    [ "$status" = 1 ]
    stasis features | jq -e '.ociVersionMax and (.hooks | index("prestart")) and .linux.seccomp.enabled'
    [[ $(stasis --version | head -n 1) == stasis* ]]
    stasis --help | grep -q checkpoint || stasis --help | grep -q run
    stasis run --help | grep -q -- --bundle
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a task writes and reads: FIFOs with readers that come and go, terminals, file:// and binary:// logs.
bats_require_minimum_version 1.5.0
load helpers
load containerd
setup_file() {
    containerd_setup
    # Stores what it is given below the directory of its argument. It is ready when the file `go` is there, and says so
    # by closing fd 5; SIGTERM must not keep it from writing what it still holds.
    cat >"$T/logger" <<'LOGGER'
#!/bin/sh
trap '' TERM
dir=$2
cat <&3 >"$dir/out" 5>&- &
cat <&4 >"$dir/err" 5>&- &
echo "$CONTAINER_NAMESPACE $CONTAINER_ID $#" >"$dir/env.new"
mv "$dir/env.new" "$dir/env"
until [ -e "$dir/go" ]; do sleep 0.05; done
exec 3<&- 4<&- 5>&-
wait
touch "$dir/done"
LOGGER
    printf '#!/bin/sh\nexit 1\n' >"$T/failing-logger"
    printf '#!/bin/sh\nexec 5>&-\nhead -c 10 <&3 >/dev/null\n' >"$T/short-logger"
    chmod 755 "$T"/*logger
}
teardown_file() { containerd_teardown; }
setup() { containerd_test_setup; }
teardown() { containerd_test_teardown; }

# pty SCRIPT ARG… : ctr on a terminal of its own; see pty_driver.py for what the script can say.
pty() {
    local script=$1
    shift
    timeout 120 python3 "$BATS_TEST_DIRNAME/pty_driver.py" "$script" \
        /usr/bin/ctr --address "$CTR_ADDRESS" --namespace "$NS" "$@"
}
# With it the script can wait for a program of the task: until(ps("c1"), b"sleep 100").
pty_ps() {
    printf 'ps = lambda id: ["/usr/bin/ctr", "-a", "%s", "-n", "%s", "task", "exec", "--exec-id", "ps", id, "ps"]\n' \
        "$CTR_ADDRESS" "$NS"
}

@test "8 MiB come whole, on stdout and stderr at once" {
    ctr_run --rm -- "$ID" sh -c 'yes stasis | head -c 8388608 & yes error | head -c 1000000 >&2; wait' \
        </dev/null >"$T/out" 2>"$T/err"
    [ "$(sha256sum <"$T/out")" = "$(yes stasis | head -c 8388608 | sha256sum)" ]
    [ "$(sha256sum <"$T/err")" = "$(yes error | head -c 1000000 | sha256sum)" ]
    rm "$T/out" "$T/err"
}

@test "nothing is lost at a quick exit" {
    start "$ID" sleep 1000
    local n
    for n in 1 2 3 4 5 6 7 8; do
        [ "$(ex "$ID" sh -c 'yes 1234567 | head -c 65528; echo; echo end' | wc -c)" = 65533 ]
    done
    remove "$ID"
}

# ctr 1.6 forgets to close stdin when that ended before the task was created: short input waits for it.
@test "stdin: what comes through a pipe goes both ways whole, its end ends cat" {
    yes both-ways | head -c 4000000 >"$T/in"
    ctr_run --rm -- "$ID" cat <"$T/in" >"$T/out"
    cmp "$T/in" "$T/out"
    rm "$T/in" "$T/out"
    [ "$({ printf 'one\ntwo\n'; wait_until 60 task_is "$ID" RUNNING; } | ctr_run --rm -- "$ID" wc -l | tr -d ' ')" = 2 ]
    start "$ID" sleep 1000
    [ "$(yes both-ways | head -c 1000000 | ctr task exec --exec-id in "$ID" sha256sum)" = \
        "$(yes both-ways | head -c 1000000 | sha256sum)" ]
    remove "$ID"
}

@test "--null-io: nothing is printed and nothing waits" {
    [ -z "$(ctr_run --rm --null-io -- "$ID" sh -c 'yes | head -c 1000000; cat; exit 0' </dev/null 2>&1)" ]
}

@test "a client that is killed: the task goes on, and who attaches gets what comes then" {
    in_background "$T/first" run --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" \
        sh -c 'i=0; until [ -e /stop ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done; exit 4'
    wait_until 60 grep -q '^line 5$' "$T/first"
    kill -KILL "$PID"
    task_is "$ID" RUNNING

    local round last=5
    for round in 1 2; do
        in_background "$T/attach$round" task attach "$ID"
        more() { [ "$(grep -c '^line [0-9]*$' "$T/attach$round")" -gt 5 ]; }
        wait_until 30 more
        # They come in order and after those that were seen.
        awk -v last="$last" '/^line [0-9]+$/ {if ($2 <= last) exit 1; last = $2} END {if (NR < 5) exit 1}' "$T/attach$round"
        last=$(grep '^line [0-9]*$' "$T/attach$round" | tail -n 2 | head -n 1 | cut -d ' ' -f 2)
        [ "$round" = 2 ] || kill -KILL "$PID"
    done
    or_killed ex "$ID" touch /stop
    # The last one sees the end, with the code.
    ended_with 4 "$PID"
    remove "$ID"
}

@test "nobody reads: the task waits, calls are answered, and a reader then gets all of it" {
    start "$ID" sh -c 'until [ -e /go ]; do sleep 0.1; done; yes unread | head -c 1000000; echo; echo end; touch /written; sleep 1000'
    ex "$ID" touch /go
    full() { ex "$ID" true && task_is "$ID" RUNNING; }
    full
    full
    in_background "$T/attach" task attach "$ID"
    wait_until 60 grep -q '^end$' "$T/attach"
    wait_until 30 ex "$ID" test -e /written
    [ "$(head -c 1000000 "$T/attach" | sha256sum)" = "$(yes unread | head -c 1000000 | sha256sum)" ]
    ctr task kill -s KILL "$ID"
    ended_with 137 "$PID"
    remove "$ID"
}

@test "a terminal: size, resize, Ctrl-C, and the exit code" {
    pty "$(pty_ps)"'
expect(b"# "); send(b"stty size\n"); expect(b"30 100"); resize(40, 120)
send(b"until [ \"$(stty size)\" = \"40 120\" ]; do sleep 0.1; done; echo re\"\"sized\n"); expect(b"resized"); send(b"tty\n"); expect(b"/dev/")
send(b"sleep 100\n"); until(ps("'"$ID"'"), b"sleep 100"); send(b"\x03"); expect(b"# ")
send(b"exit 6\n")' run --rm -t --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sh | tee "$T/log"
    tail -n 1 "$T/log" | grep -q '^exit 6$'
}

@test "a terminal for exec, beside a task without one; attach to a detached one with it" {
    start "$ID" sleep 1000
    pty 'expect(b"# "); send(b"stty size; exit 4\n"); expect(b"30 100")' \
        task exec -t --exec-id tty "$ID" sh | tee "$T/log"
    tail -n 1 "$T/log" | grep -q '^exit 4$'
    [ "$(ex "$ID" sh -c 'test -t 1 || echo none')" = none ]
    remove "$ID"

    pty '' run -d -t --runtime "$RUNTIME" --fifo-dir "$T/fifo" "$IMAGE" "$ID" sh
    task_is "$ID" RUNNING
    pty 'send(b"echo $((40+2))\n"); expect(b"42"); send(b"stty size\n"); expect(b"30 100"); send(b"exit 5\n")' \
        task attach "$ID" | tee "$T/log"
    tail -n 1 "$T/log" | grep -q '^exit 5$'
    remove "$ID"
}

@test "--log-uri file://: both streams, whole, in a file that is made with its directory" {
    ctr_run -d --log-uri "file://$T/logs/$ID.log" -- "$ID" sh -c 'yes logged | head -c 999999; echo err >&2; exit 3' </dev/null
    wait_until 60 task_is "$ID" STOPPED
    # Each stream comes in pieces of any size, so the one may be in the middle of the other's line.
    [ "$(perl -0777 -pe 's/err\n//' "$T/logs/$ID.log" | sha256sum)" = "$(yes logged | head -c 999999 | sha256sum)" ]
    [ "$(stat -c %s "$T/logs/$ID.log")" = 1000003 ]
    remove "$ID"
    # A log in a place that cannot be written is an error that names it, not a task without a log.
    run ctr_run --rm --log-uri "file:///proc/no/such.log" -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"/proc/no"* ]]
}

@test "--log-uri binary://: streams apart, its environment, nothing before it is ready, all of it at the end" {
    mkdir "$T/logged"
    in_background "$T/run.log" run -d --runtime "$RUNTIME" --log-uri "binary://$T/logger?dir=$T/logged" "$IMAGE" "$ID" \
        sh -c 'yes out | head -c 500000; echo err >&2; exit 3'
    wait_until 60 test -e "$T/logged/env"
    [ "$(cat "$T/logged/env")" = "$NS $ID 2" ]
    alive "$PID"
    not task_is "$ID" RUNNING
    [ ! -s "$T/logged/out" ]
    touch "$T/logged/go"
    ended_with 0 "$PID"
    wait_until 60 task_is "$ID" STOPPED
    remove "$ID"
    wait_until 20 test -e "$T/logged/done"
    [ "$(sha256sum <"$T/logged/out")" = "$(yes out | head -c 500000 | sha256sum)" ]
    [ "$(cat "$T/logged/err")" = err ]
}

@test "binary://: an exec'd process has a logger of its own" {
    mkdir "$T/logged2"
    touch "$T/logged2/go"
    start "$ID" sleep 1000
    ctr task exec --exec-id log --log-uri "binary://$T/logger?dir=$T/logged2" "$ID" sh -c 'echo out; echo err >&2' </dev/null
    wait_until 20 test -e "$T/logged2/done"
    [ "$(cat "$T/logged2/out" "$T/logged2/err" | paste -sd ' ')" = "out err" ]
    remove "$ID"
}

@test "a logger that is not there: the error names it and nothing is left" {
    run ctr_run --rm --log-uri "binary://$T/no-logger" -- "$ID" true </dev/null
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *no-logger* ]]
}

@test "a logger that ends early takes no task with it for good" {
    # Before it is ready: refused by its name, or run without a log; nothing hangs.
    run ctr_run -d --log-uri "binary://$T/failing-logger" -- "$ID" sh -c 'exit 0' </dev/null
    echo "$output"
    if [ "$status" = 0 ]; then
        wait_until 60 task_is "$ID" STOPPED
    else
        [[ $output == *failing-logger* ]]
    fi
    remove "$ID"
    # And in the middle: what it does not read must not block.
    ctr_run -d --log-uri "binary://$T/short-logger" -- "$ID" sh -c 'yes | head -c 1000000' </dev/null
    wait_until 60 task_is "$ID" STOPPED
    remove "$ID"
}

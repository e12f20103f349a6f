#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Terminals: raw mode, resize, exit, --console-socket, the debug console.
load helpers
setup_file() {
    file_setup
    printf '[agent]\ndebug_console = true\n' >"$T/conf"
    bundle b
    args b sleep 10000
    quiet "$STASIS" --root "$R" --config "$T/conf" run -d --bundle "$T/b" c1
}
teardown_file() { file_teardown; }

# pty SCRIPT COMMAND… : runs the command on a terminal of its own; SCRIPT is Python with `expect(b"…")`, `send(b"…")`,
# `resize(rows, cols)`; the command's exit code is printed at the end.
pty() {
    local script=$1
    shift
    timeout 120 python3 "$BATS_TEST_DIRNAME/pty_driver.py" "$script" "$@"
}

@test "run: a terminal, with size, resize, signals by key, and the exit code" {
    bundle t '.process.terminal = true'
    args t sh
    pty 'expect(b"# "); send(b"stty size\n"); expect(b"30 100"); resize(40, 120)
send(b"stty size\n"); expect(b"40 120"); send(b"tty\n"); expect(b"/dev/pts/")
send(b"sleep 100\n"); until(["'"$STASIS"'", "--root", "'"$R"'", "ps", "tty1"], b"sleep 100"); send(b"\x03"); expect(b"# ")
send(b"exit 6\n")' "$STASIS" --root "$R" run --bundle "$T/t" tty1 | tee "$T/log"
    tail -n 1 "$T/log" | grep -q '^exit 6$'
}

@test "run: a terminal is put back as it was" {
    bundle t '.process.terminal = true'
    args t true
    pty 'before = modes(); wait(); assert modes() == before, "terminal modes changed"' \
        "$STASIS" --root "$R" run --bundle "$T/t" tty2 | tail -n 1 | grep -q '^exit 0$'
}

@test "exec -t: a terminal in a running container" {
    pty 'expect(b"# "); send(b"stty size; exit 4\n"); expect(b"30 100")' \
        "$STASIS" --root "$R" exec -t c1 sh | tail -n 1 | grep -q '^exit 4$'
}

# newlines COMMAND… : on a terminal, with stdout a file; what it wrote there is one line without CR.
newlines() {
    local status=0
    pty 'wait()' sh -c 'exec "$@" >"$0"' "$T/raw" "$@" >"$T/log" || status=$?
    cat "$T/log"
    od -c "$T/raw"
    printf 'hi\n' | cmp - "$T/raw" && [ "$status" = 0 ]
}

@test "a terminal whose output is not shown on one: newlines stay newlines" {
    bundle t '.process.terminal = true'
    args t echo hi
    newlines "$STASIS" --root "$R" run --bundle "$T/t" tty6
    newlines "$STASIS" --root "$R" exec -t c1 echo hi
}

@test "exec -t: the program finds the size at once" {
    pty 'expect(b"30 100"); wait()' "$STASIS" --root "$R" exec -t c1 stty size | tail -n 1 | grep -q '^exit 0$'
}

@test "consoleSize: the size of a terminal that goes to --console-socket, of run and of exec" {
    bundle t '.process.terminal = true | .process.consoleSize = {width: 91, height: 17}'
    args t sh -c 'stty size; sleep 10000'
    timeout 120 python3 "$BATS_TEST_DIRNAME/console_size.py" "$T/size.sock" '17 91' \
        "$STASIS" --root "$R" run -d --bundle "$T/t" --console-socket "$T/size.sock" tty7
    timeout 120 python3 "$BATS_TEST_DIRNAME/console_size.py" "$T/size.sock" '17 91' \
        "$STASIS" --root "$R" exec -t -d --console-socket "$T/size.sock" tty7 stty size
    echo '{"terminal":true,"user":{"uid":0,"gid":0},"args":["stty","size"],"cwd":"/","env":["PATH=/bin"],
        "consoleSize":{"width":50,"height":9}}' >"$T/process.json"
    timeout 120 python3 "$BATS_TEST_DIRNAME/console_size.py" "$T/size.sock" '9 50' \
        "$STASIS" --root "$R" exec -d --console-socket "$T/size.sock" -p "$T/process.json" tty7
    stasis delete --force tty7
}

@test "create with a terminal needs --console-socket" {
    bundle t '.process.terminal = true'
    run stasis create --bundle "$T/t" tty3
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"console socket"* ]]
    bundle n
    run stasis create --bundle "$T/n" --console-socket "$T/nosock" tty3
    echo "$output"
    [ "$status" = 1 ]
    [ ! -e "$R/tty3" ]
}

@test "--console-socket: the caller gets the terminal, and its size is followed" {
    bundle t '.process.terminal = true'
    args t sh
    timeout 120 python3 "$BATS_TEST_DIRNAME/console_socket.py" "$STASIS" "$R" "$T/t" "$T/console.sock" tty4
    stasis delete --force tty4
}

@test "console: a shell in the guest with job control and a clean way out" {
    pty 'expect(b"# "); send(b"stty size; cat /proc/1/comm\n"); expect(b"30 100"); expect(b"agent")
send(b"sleep 100 &\n"); send(b"jobs\n"); expect(b"sleep 100"); send(b"kill %1; exit\n")' \
        "$STASIS" --root "$R" console c1 | tail -n 1 | grep -q '^exit 0$'
}

@test "console: refused when it is not enabled, with the setting's name" {
    bundle n
    args n sleep 100
    quiet stasis run -d --bundle "$T/n" plain
    pty '' "$STASIS" --root "$R" console plain >"$T/log"
    cat "$T/log"
    grep -q debug_console "$T/log"
    tail -n 1 "$T/log" | grep -q '^exit 1$'
    stasis delete --force plain
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Snapshots of whole sandboxes: what was there is there again, copies are strangers to each other, nothing is lost and
# nothing comes twice. tests/checkpoint/snapshot.bats has what takes longer.
bats_require_minimum_version 1.5.0
load helpers
load checkpoint
load snapshot
setup_file() {
    file_setup
    snapshot_setup
}
teardown_file() {
    stasis snapshot rm --all >/dev/null
    file_teardown
}
# What a test that failed left is not the next one's.
teardown() {
    [ -n "$BATS_TEST_COMPLETED" ] || {
        delete_all
        stasis snapshot rm --all >/dev/null
    }
}
gone() {
    local id
    for id; do
        stasis delete --force "$id"
        [ ! -e "$R/$id" ]
        no_layers "$id"
    done
}

@test "left running, restored beside it and rewound: processes, memory, an io_uring, timers, connections go on" {
    pack a io_uring inotify timers signals memory shared sockets tcp tree
    run_detached a
    pack_set_up a
    # What CRIU would refuse besides: an exec'd shell.
    quiet stasis exec --detach a sh -c "$COUNTER"
    counts a
    quiet stasis exec --detach a sh -c 'exec sleep 1000'
    stasis snapshot create --json a one >"$T/created"
    jq -e '.name == "one" and .sandbox == "a" and .stopped_time > 0 and .memory_bytes > 1000000 and
        .device_bytes > 10000 and .root_bytes > 1000 and .warnings == []' "$T/created"
    store_holds one
    # The source noticed nothing.
    status_is a running
    pack_passes a
    local n
    n=$(in_root a n)
    counts a

    restore --id b one
    status_is b running
    pack_passes b
    counts b
    stasis exec b touch /new
    [ -e "$(root_of b)/new" ]
    [ ! -e "$T/a/rootfs/new" ]
    [ "$(guest_pids b | wc -l)" -ge 15 ]
    stasis exec b pidof sleep
    stasis kill b KILL
    wait_until 60 status_is b stopped
    status_is a running
    gone b

    # In its own place.
    # The short ones of the loop may end by themselves before they are killed, which killall minds.
    stasis exec a sh -c 'echo later >/later; killall sleep || :'
    fails "container a exists" --replace -- snapshot restore one
    restore --replace one
    status_is a running
    [ ! -e "$(root_of a)/later" ]
    stasis exec a pidof sleep
    pack_passes a
    counts a
    gone a
    stasis snapshot rm one
}

@test "copies side by side: random numbers, ids and names differ; files, memory and exits are each one's own" {
    bundle_own_rootfs c '.hostname = "source"'
    echo 0123456789abcdef0123456789abcdef >"$T/c/rootfs/etc/machine-id"
    # Draws all the time, so also in the first moment of each copy. The boot id has been read by then.
    # shellcheck disable=SC2016 # for the container's shell
    args c sh -c 'cat /proc/sys/kernel/random/boot_id >/boot; i=0
        while [ ! -e /end ]; do
            i=$((i + 1)); read -r u </proc/sys/kernel/random/uuid; echo "$i $u" >>/drawn; echo $i >/n.new; mv /n.new /n
            sleep 0.05
        done; exit 7'
    run_detached c
    counts c 5
    create c two
    clones two -n 3 --prefix c
    store_holds two
    local id common n
    for id in c c-1 c-2 c-3; do
        counts "$id" 30
        stasis exec "$id" sh -c 'cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname
            od -An -N 32 -tx1 /dev/urandom | tr -d " \n"; echo; cat /proc/self/mountinfo | wc -l' >"$T/ids.$id"
    done
    cat "$T"/ids.*
    # boot id, machine id, host name, random bytes
    for n in 1 2 3 4; do
        [ "$(for id in c c-1 c-2 c-3; do sed -n ${n}p "$T/ids.$id"; done | sort -u | wc -l)" = 4 ]
    done
    [ "$(sed -n 1p "$T/ids.c")" = "$(in_root c boot)" ]
    [ "$(sed -n 3p "$T/ids.c")" = source ]
    [ "$(sed -n 3p "$T/ids.c-2")" = c-2 ]
    [ "$(sed -n 2p "$T/ids.c")" = 0123456789abcdef0123456789abcdef ]
    # What all have in common is what was drawn before; the next one may have been drawn by then, and not written.
    common=$(wc -l <"$S/two/roots/0/drawn")
    for id in c c-1 c-2 c-3; do
        head -n "$common" "$(root_of "$id")/drawn" | cmp - "$S/two/roots/0/drawn"
        tail -n "+$((common + 2))" "$(root_of "$id")/drawn"
    done | awk '{print $2}' | sort | uniq -d >"$T/twice"
    [ ! -s "$T/twice" ] || {
        cat "$T/twice"
        false
    }
    # Each its own.
    or_killed stasis exec c-1 sh -c 'echo mine >/own; touch /end'
    wait_until 60 status_is c-1 stopped
    for id in c c-2 c-3; do
        status_is "$id" running
        [ ! -e "$(root_of "$id")/own" ]
        counts "$id"
    done
    fails "in use" -- snapshot rm two
    gone c-1 c-3 c
}

@test "generations: a snapshot of a copy, and so on; what is in between may go" {
    local n g id=c-2
    [ -e "$R/c-2" ] || skip "no copy"
    for g in 3 4 5; do
        n=$(in_root "$id" n)
        quiet stasis exec "$id" sh -c "echo $g >/generation-$g"
        create --stop "$id" "gen$g"
        wait_until 60 status_is "$id" stopped
        gone "$id"
        [ "$g" = 3 ] || stasis snapshot rm "gen$((g - 1))" >/dev/null
        id=g$g
        restore --id "$id" "gen$g"
        counts "$id" "$n"
    done
    [ "$(in_root g5 generation-3)$(in_root g5 generation-4)$(in_root g5 generation-5)" = 345 ]
    # A copy is a container as any other: CRIU takes it, too.
    quiet stasis checkpoint --image-path "$T/images" --work-path "$T/work" --leave-running g5
    [ -s "$T/images/inventory.img" ]
    quiet stasis pause g5
    create g5 paused
    quiet stasis resume g5
    counts g5
    gone g5
    # Paused when it was taken: it stays so.
    restore --id p paused
    status_is p paused
    n=$(in_root p n)
    quiet stasis resume p
    counts p "$n"
    or_killed quiet stasis exec p touch /end
    wait_until 60 status_is p stopped
    gone p
    stasis snapshot rm two gen5 paused >/dev/null
    store_holds
}

# ended PID CODE : it ends, with that exit code.
ended() {
    local code=0
    wait_until 120 dead "$1"
    wait "$1" || code=$?
    [ "$code" = "$2" ] || {
        echo "exit code $code instead of $2"
        return 1
    }
}

@test "output and exit status: once, on either side, also with a slow reader" {
    local pid n line
    bundle_own_rootfs o
    # More than all buffers on the way take.
    # shellcheck disable=SC2016 # for the container's shell
    args o sh -c 'seq 1 200000; until [ -e /go ]; do sleep 0.1; done; echo 200001; echo problem >&2; exit 7'
    mkfifo "$T/slow"
    stasis run --bundle "$T/o" o >"$T/slow" 2>"$T/o.err" </dev/null 3>&- &
    pid=$!
    exec 7<"$T/slow"
    # Byte by byte: what is not taken stays in the FIFO.
    for ((n = 0; n < 100; n++)); do
        read -r line <&7
        echo "$line"
    done >"$T/o.first"
    create --stop o out
    cat <&7 >>"$T/o.first"
    exec 7<&-
    ended "$pid" 137
    [ ! -e "$R/o" ]
    not grep problem "$T/o.err"

    restore --id o2 out
    stasis snapshot restore --attach out >"$T/o.second" 2>"$T/o.err" </dev/null 3>&- &
    pid=$!
    wait_until 120 grep -qx 200000 "$T/o.second"
    or_killed stasis exec o touch /go
    ended "$pid" 7
    cat "$T/o.first" "$T/o.second" | cmp - <(seq 1 200001)
    [ "$(wc -l <"$T/o.first")" -lt 190000 ] # else this tried nothing
    grep -qx problem "$T/o.err"
    [ ! -e "$R/o" ]
    # Nobody asked the other copy until now.
    stasis attach o2 >"$T/o2.second" 2>"$T/o2.err" </dev/null 3>&- &
    pid=$!
    or_killed stasis exec o2 touch /go
    ended "$pid" 7
    cmp "$T/o.second" "$T/o2.second"
    grep -qx problem "$T/o2.err"
    gone o2
    stasis snapshot rm out >/dev/null
}

@test "a container that is created is started in the copy; a terminal goes on" {
    bundle_own_rootfs k
    args k sh -c "$COUNTER"
    quiet stasis create --bundle "$T/k" k
    create --stop k created
    gone k
    restore created
    status_is k created
    quiet stasis start k
    counts k
    gone k

    bundle t '.process.terminal = true'
    args t sh
    cli=$(python3 -c 'import sys; print(sys.argv[1:])' "$STASIS" --root "$R" --config "$CONF")
    timeout 300 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        'expect(b"# "); send(b"x=41\n"); expect(b"# "); until('"$cli"' + ["snapshot", "create", "-q", "t", "term"], b"term")
send(b"exit 3\n")' "$STASIS" --root "$R" --config "$CONF" run --bundle "$T/t" t | tail -n 1 | grep -q '^exit 3$'
    timeout 300 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        'send(b"echo $((x + 1)) $(stty size)\n"); expect(b"42 30 100"); send(b"exit 4\n")' \
        "$STASIS" --root "$R" --config "$CONF" snapshot restore --attach term | tail -n 1 | grep -q '^exit 4$'
    stasis snapshot rm created term >/dev/null
    store_holds
}

@test "attach: an exec'd process by its pid, its terminal, which may be left and taken again; nothing is typed into it" {
    local exec
    bundle x '.mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["mode=1777"]}]'
    args x sleep 100000
    run_detached x
    mkfifo "$T/x.in"
    stasis exec x sh -c 'echo first; read word; echo "second $word"; exit 6' <"$T/x.in" >"$T/x.out" 2>&1 3>&- &
    exec 7>"$T/x.in"
    wait_until 60 grep -qx first "$T/x.out"
    cli=$(python3 -c 'import sys; print(sys.argv[1:])' "$STASIS" --root "$R" --config "$CONF")
    timeout 300 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        'resize(24, 80); expect(b"# "); send(b"y=6\n"); expect(b"# "); until('"$cli"' + ["snapshot", "create", "-q", "--stop", "x", "execs"], b"execs")' \
        "$STASIS" --root "$R" --config "$CONF" exec --tty x sh | tail -n 1 | grep -q '^exit 137$'
    exec 7>&-
    gone x
    restore execs
    exec=$(guest_pids x | sed -n 2p)
    fails "exec nope of container x does not exist; there is " "(PID $exec)" -- attach --exec nope x
    fails "exec 1 of container x does not exist" -- attach --exec 1 x
    run stasis attach --exec "$exec" x <<<word
    echo "$output"
    [ "$status" = 6 ]
    [ "$output" = "second word" ]
    exec=$(guest_pids x | sed -n 2p)
    timeout 300 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        'send(b"echo $((y + 1)) $(stty size)\n"); expect(b"7 30 100"); send(b"z=8; until [ -e /tmp/go ]; do sleep 0.1; done; echo f$((z))\n"); expect(b"f$((z))"); send(b"\x10\x11")' \
        "$STASIS" --root "$R" --config "$CONF" attach --exec "$exec" x | tail -n 1 | grep -q '^exit 0$'
    stasis exec x touch /tmp/go
    # Without stdin what is typed stays where it is.
    timeout 300 python3 "$BATS_TEST_DIRNAME/pty_driver.py" 'expect(b"f8"); send(b"exit 9\n\x03")' \
        "$STASIS" --root "$R" --config "$CONF" attach --no-stdin --sig-proxy=false --exec "$exec" x | tail -n 1 | grep -q '^exit 130$'
    timeout 300 python3 "$BATS_TEST_DIRNAME/pty_driver.py" 'send(b"exit $((z - 3))\n")' \
        "$STASIS" --root "$R" --config "$CONF" attach --detach-keys "" --exec "$exec" x | tail -n 1 | grep -q '^exit 5$'
    gone x
    stasis snapshot rm execs >/dev/null
}

@test "a deleted file that is open: refused with its path; with --force it alone gives errors in the copy" {
    bundle_own_rootfs d
    # shellcheck disable=SC2016 # for the container's shell
    args d sh -c 'exec 5>/deleted 6>/kept; rm /deleted; echo $$ >/pid
        until [ -e /try ]; do sleep 0.1; done
        echo x >&5 && echo written >/result || echo failed >/result; echo y >&6
        while :; do sleep 1000; done'
    run_detached d
    wait_until 120 test -s "$T/d/rootfs/pid"
    # The agent knows it by its pid in the guest, the shell by its own.
    fails deleted /deleted "in d" pid -- snapshot create d del
    store_holds
    status_is d running
    stasis snapshot create --force d del >"$T/d.out" 2>&1
    grep -q "/deleted is deleted and gives errors" "$T/d.out"
    restore --id d2 del
    quiet stasis exec d touch /try
    quiet stasis exec d2 touch /try
    wait_until 120 test -s "$T/d/rootfs/result"
    [ "$(in_root d result)" = written ]
    wait_until 120 test -s "$(root_of d2)/result"
    [ "$(in_root d2 result)" = failed ]
    [ "$(in_root d2 kept)" = y ]
    stasis exec d2 ls /bin/sh
    gone d d2
    stasis snapshot rm del >/dev/null
}

@test "in the middle of heavy writes to root and volume: what is written is right, before and after" {
    bundle_own_rootfs h
    mkdir "$T/h/volume" # relative to the bundle, which the copy has another one of
    edit "$T/h" '.mounts += [{destination: "/volume", type: "bind", source: "volume", options: ["rbind", "rw"]}]'
    # shellcheck disable=SC2016 # for the container's shell
    args h sh -c 'cd /; i=0; while [ ! -e /end ]; do
            i=$((i + 1))
            head -c 300000 /dev/urandom >f$((i % 20)); sha256sum f$((i % 20)) >sum$((i % 20))
            cp f$((i % 20)) volume/f; cmp f$((i % 20)) volume/f || echo differs >>/bad
            echo $i >n.new; mv n.new n
        done; for f in sum*; do sha256sum -c $f || echo $f >>/bad; done >/dev/null; echo over >/over'
    run_detached h
    counts h 2
    create --stop h heavy
    gone h
    restore heavy
    counts h "$(cat "$S/heavy/roots/0/n")"
    or_killed quiet stasis exec h touch /end
    wait_until 120 status_is h stopped
    [ ! -e "$(root_of h)/bad" ] || {
        in_root h bad
        ls -l "$(root_of h)"
        false
    }
    [ "$(in_root h over)" = over ] || {
        ls -l "$(root_of h)"
        false
    }
    gone h
    stasis snapshot rm heavy >/dev/null
}

@test "a copy of a volume that fits its snapshot: paused, copied, resumed" {
    bundle_own_rootfs v '.mounts += [{destination: "/volume", type: "bind", source: "'"$T"'/v/volume", options: ["rbind", "rw"]}]'
    mkdir "$T/v/volume"
    # What is in memory and what is in the file must be of one moment, or a number is missing or there twice.
    args v sh -c 'exec 5>>/volume/log; i=0; while :; do i=$((i + 1)); echo $i >&5; sleep 0.02; done'
    run_detached v
    wait_until 60 has_lines volume 20
    stasis pause v
    create v ready
    cp -a "$T/v/volume" "$T/v/copy"
    stasis resume v
    local n
    n=$(wc -l <"$T/v/copy/log")
    wait_until 60 has_lines volume $((n + 20))
    clones --allow-mount "$T/v/volume=$T/v/copy" ready
    [ "$(stasis state ready-1 | jq -r .status)" = paused ]
    stasis resume ready-1
    wait_until 60 has_lines copy $((n + 20))
    delete_all
    seq "$(wc -l <"$T/v/volume/log")" | cmp - "$T/v/volume/log"
    seq "$(wc -l <"$T/v/copy/log")" | cmp - "$T/v/copy/log"
    stasis snapshot rm ready
}
has_lines() {
    [ "$(wc -l 2>/dev/null <"$T/v/$1/log" || echo 0)" -ge "$2" ]
}

@test "wrong inputs: names, damage, another version; each item is named, and nothing is left" {
    bundle_own_rootfs w
    args w sh -c "$COUNTER"
    run_detached w
    create w wrong
    fails "there is a snapshot wrong" -- snapshot create w wrong
    fails "invalid snapshot name" -- snapshot create w ../wrong
    fails "nobody" -- snapshot create nobody x
    fails "there is no snapshot nothing" -- snapshot restore nothing
    fails "container w exists" -- snapshot restore wrong
    fails "container w exists" -- snapshot restore --id w wrong
    status_is w running
    stasis snapshot verify wrong
    local item at
    for item in memory device manifest.json roots/0/bin/busybox; do
        at=1000
        [ $item != memory ] || at=$(python3 -c 'import os, sys; print(os.lseek(os.open(sys.argv[1], 0), 1 << 24, os.SEEK_DATA))' "$S/wrong/memory")
        cp -a "$S/wrong" "$S/damaged"
        flip "$S/damaged/$item" "$at"
        fails "$([ $item = roots/0/bin/busybox ] && echo roots/0 || echo ${item%.json})" -- snapshot restore --id x damaged
        [ ! -e "$R/x" ]
        fails "$([ $item = roots/0/bin/busybox ] && echo roots/0 || echo ${item%.json})" -- snapshot restore --replace damaged
        status_is w running
        fails "$([ $item = roots/0/bin/busybox ] && echo roots/0 || echo ${item%.json})" -- snapshot verify damaged
        rm -r "$S/damaged"
    done
    # Made by other packages; the manifest's digest is right.
    cp -a "$S/wrong" "$S/other"
    python3 - "$S/other/manifest.json" <<'PROGRAM'
import hashlib, json, sys
m = json.load(open(sys.argv[1]))
del m["sha256"]
m["machine"]["guest"] = "0123456789abcdef"
text = json.dumps(m, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
m["sha256"] = hashlib.sha256(text.encode()).hexdigest()
json.dump(m, open(sys.argv[1], "w"))
PROGRAM
    fails 0123456789abcdef guest -- snapshot restore --id x other
    [ ! -e "$R/x" ]
    fails 0123456789abcdef guest -- snapshot restore --replace other
    status_is w running
    gone w
    wait_until 20 no_layers
    rm -r "$S/other"
    stasis snapshot rm wrong >/dev/null
    store_holds
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Checkpoint and restore, tried with the programs of tests/workloads: each says itself whether all is as it was. These are
# the tests for every change; tests/checkpoint has the others.
bats_require_minimum_version 1.5.0
load helpers
load checkpoint
setup_file() { file_setup; }
teardown_file() { file_teardown; }

@test "everything: goes on when left running, and twice in a fresh VM under a new id" {
    local flags=(--file-locks --tcp-established)
    pack all "${WORKLOADS[@]}" locks tcp
    start_pack all first
    checkpoint first "${flags[@]}" --leave-running
    status_is first running
    all_pass all

    checkpoint first "${flags[@]}" --image-path "$T/images/second"
    gone first
    restore all second second "${flags[@]}"
    all_pass all
    status_is second running

    checkpoint second "${flags[@]}" --image-path "$T/images/third"
    gone second
    restore all third third "${flags[@]}"
    all_pass all
    stasis delete --force third
}

# says_more_instructions FILE : CRIU's account of a CPU (magic, magic, length, message) says of all that it had them.
says_more_instructions() {
    python3 - "$1" <<'END'
import struct, sys
data = open(sys.argv[1], "rb").read()

def varint(b, i):
    n = shift = 0
    while True:
        n |= (b[i] & 127) << shift
        shift += 7
        i += 1
        if b[i - 1] < 128:
            return n, i

def fields(b):
    i = 0
    while i < len(b):
        start = i
        key, i = varint(b, i)
        if key & 7 == 2:
            n, i = varint(b, i)
            yield key >> 3, b[start:i], b[i:i + n]
            i += n
        else:
            _, j = varint(b, i)
            yield key >> 3, b[start:i], b[i:j]
            i = j

[(_, _, cpu)] = fields(data[12:])
new = b"".join(key + (b"\xff\xff\xff\xff\x0f" if n == 6 else value) for n, key, value in fields(cpu))
length, n = b"", len(new)
while n > 127:
    length, n = length + bytes([n & 127 | 128]), n >> 7
new = b"\x0a" + length + bytes([n]) + new
open(sys.argv[1], "wb").write(data[:8] + struct.pack("<I", len(new)) + new)
END
}

@test "made on a CPU with more instructions: refused, and with what this one has it goes on" {
    pack cpu compute
    start_pack cpu cpu
    checkpoint cpu
    gone cpu
    cp -r "$T/images/cpu" "$T/images/other"
    says_more_instructions "$T/images/other/cpuinfo.img"
    run stasis restore --detach --bundle "$T/cpu" --image-path "$T/images/other" --work-path "$T/work" cpu </dev/null
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"criu/arch/x86/cpu.c"* ]]
    [ ! -e "$R/cpu" ]
    restore cpu cpu cpu
    all_pass cpu
    stasis delete --force cpu
}

@test "pre-dumps: each dump has only what changed since" {
    MEMORY_MIB=64 pack memory memory
    start_pack memory m1
    checkpoint m1 --image-path "$T/images/1" --pre-dump --print-stats >"$T/stats1"
    all_pass memory
    checkpoint m1 --image-path "$T/images/2" --parent-path ../1 --pre-dump --print-stats >"$T/stats2"
    all_pass memory
    checkpoint m1 --image-path "$T/images/3" --parent-path ../2 --print-stats >"$T/stats3"
    gone m1
    local pages1 pages3
    cat "$T"/stats?
    pages1=$(stat_of "$T/stats1" pages_written)
    pages3=$(stat_of "$T/stats3" pages_written)
    # 64 MiB, of which a check changes one part in twenty.
    [ "$pages1" -gt 16384 ]
    [ "$(stat_of "$T/stats2" pages_written)" -lt $((pages1 / 5)) ]
    [ "$pages3" -lt $((pages1 / 5)) ]
    [ "$(stat_of "$T/stats3" pages_skipped_parent)" -gt $((pages1 / 2)) ]
    restore memory m2 3
    all_pass memory
    stasis delete --force m2
}

# A generator that keeps its state in the process draws on from it; the kernel wipes that state where it must not be shared.
@test "random numbers: a restored process and its child draw others, and so do two restores of one checkpoint" {
    pack random random
    start_pack random random
    checkpoint random
    gone random
    local round
    for round in 1 2; do
        # So that both are in the same round.
        echo 0 >"$T/random/rootfs/w/request"
        rm "$T/random/rootfs/w/results"
        restore random "random$round" random
        all_pass random
        mv "$T/random/rootfs/w/random/drawn" "$T/drawn$round"
        stasis delete --force "random$round"
    done
    [ -s "$T/drawn1" ]
    not cmp "$T/drawn1" "$T/drawn2"
}

@test "what cannot be dumped is named, and goes on undisturbed" {
    pack odd io_uring device
    edit "$T/odd" '.linux.devices += [{path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 438, uid: 0, gid: 0}]' \
        '.linux.resources.devices += [{allow: true, type: "c", major: 10, minor: 229, access: "rwm"}]'
    start_pack odd odd
    run checkpoint odd
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"io_uring is in use"*UV_USE_IO_URING=0* ]]
    [[ $output == *"/dev/fuse"* ]]
    [ ! -e "$T/images/odd" ]
    status_is odd running
    all_pass odd
    stasis delete --force odd
}

@test "a process of exec: refused with its id, or waited for" {
    pack busy signals shell
    start_pack busy busy
    stasis exec --detach busy sh -c 'until [ -e /w/go ]; do sleep 0.1; done' \
        </dev/null >/dev/null 2>&1
    run checkpoint busy
    echo "$output"
    [ "$status" != 0 ]
    [[ $output =~ "processes of exec are in it".*"(pid "[0-9]+")" ]]
    [ ! -e "$T/images/busy" ]
    all_pass busy

    checkpoint busy --wait-exec >"$T/waited.out" 2>&1 &
    local pid=$!
    all_pass busy
    alive $pid
    touch "$T/busy/rootfs/w/go"
    wait $pid || {
        cat "$T/waited.out"
        return 1
    }
    gone busy
    restore busy busy busy
    all_pass busy
    stasis delete --force busy
}

# in_network ID : what the container sees of it.
in_network() {
    stasis exec "$1" sh -c 'ip -o addr show lo; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -o link show lo' \
        </dev/null
}

@test "the network: made anew where the container cannot change it, else as it was" {
    pack closed shell
    edit "$T/closed" '.linux.sysctl["net.ipv4.ip_unprivileged_port_start"] = "99"'
    start_pack closed closed
    checkpoint closed
    [ "$(find "$T/images/closed" -name 'ifaddr-*' -o -name 'route-*' -o -name 'iptables-*')" = "" ]
    gone closed
    # What can be done in it afterwards is for the request to say.
    edit "$T/closed" '.process.capabilities[] += ["CAP_NET_ADMIN"]'
    restore closed closed closed
    run in_network closed
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *127.0.0.1/8*$'\n'99$'\n'*LOOPBACK,UP* ]]
    all_pass closed
    stasis delete --force closed

    pack open shell
    edit "$T/open" '.process.capabilities[] += ["CAP_NET_ADMIN"]'
    start_pack open open
    stasis exec open ip addr add 10.9.8.7/32 dev lo </dev/null
    checkpoint open
    gone open
    restore open open open
    run in_network open
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *10.9.8.7/32* ]]
    # And once more, from a container that CRIU has made.
    checkpoint open --image-path "$T/images/again"
    gone open
    restore open open again
    run in_network open
    [[ $output == *10.9.8.7/32* ]]
    all_pass open
    stasis delete --force open
}

@test "a mount on a path that goes through a symbolic link, in the root and on a tmpfs" {
    local where dir
    for where in root tmpfs; do
        dir=$T/link-$where
        pack "link-$where" shell
        mkdir -p "$dir/rootfs/run" "$dir/rootfs/var" "$dir/secret"
        ln -s /run "$dir/rootfs/var/run"
        echo kept >"$dir/secret/file"
        [ $where = root ] ||
            edit "$dir" '.mounts += [{destination: "/run", type: "tmpfs", source: "tmpfs", options: ["mode=755"]}]'
        edit "$dir" '.mounts += [{destination: "/var/run/secrets/a/b", type: "bind", source: "'"$dir"'/secret",
            options: ["rbind", "ro"]}]'
        start_pack "link-$where" "link-$where"
        checkpoint "link-$where"
        gone "link-$where"
        restore "link-$where" "link-$where" "link-$where"
        [ "$(stasis exec "link-$where" cat /run/secrets/a/b/file </dev/null)" = kept ]
        all_pass "link-$where"
        stasis delete --force "link-$where"
    done
}

@test "without a pid namespace of its own: refused, and goes on" {
    pack guests shell
    edit "$T/guests" 'del(.linux.namespaces[] | select(.type == "pid"))'
    start_pack guests guests
    run checkpoint guests --leave-running
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"no pid namespace of its own"* ]]
    [ ! -e "$T/images/guests" ]
    status_is guests running
    all_pass guests
    stasis delete --force guests
}

# other_guest NAME COMMAND… : the guest with its root image changed by debugfs, and a configuration that names it.
other_guest() {
    local name=$1 dir=$T/guest-$1 command
    shift
    cp -rL "$STASIS_OUT/lib/stasis/guest/current" "$dir"
    for command; do
        debugfs -w -R "$command" "$dir/root.img" 2>&1
    done
    printf '[vm]\nguest = %s\ntemplate = false\n' "$dir" >"$T/$name.conf"
}

@test "a guest without CRIU, or with one that is too old: refused by name, and the container goes on" {
    local name
    printf '#!/bin/sh\n[ "$1" != --version ] || echo "Version: 3.17.1"\necho "Looks good."\n' >"$T/old-criu"
    other_guest none "rm /usr/sbin/criu"
    other_guest old "rm /usr/sbin/criu" "write $T/old-criu /usr/sbin/criu" "sif /usr/sbin/criu mode 0100755"
    declare -A why=([none]="cannot run /usr/sbin/criu"
        [old]="CRIU does not work in this guest; criu: version 3.17.1 is too old, at least 4.2 is needed")
    for name in none old; do
        pack "guest-$name" shell
        quiet stasis --config "$T/$name.conf" run --detach --bundle "$T/guest-$name" "guest-$name"
        answered "guest-$name" 0 ready
        run checkpoint "guest-$name"
        echo "$output"
        [ "$status" = 1 ]
        [[ $output == *"${why[$name]}"* ]]
        [ ! -e "$T/images/guest-$name" ]
        status_is "guest-$name" running
        all_pass "guest-$name"
        stasis delete --force "guest-$name"
    done
}

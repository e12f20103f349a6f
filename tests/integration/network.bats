#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A network that an engine made for a container, which does not get it.
load helpers
setup_file() {
    file_setup
    bundle b
    args b true
}
teardown_file() {
    [ ! -e "$T/pid" ] || kill "$(cat "$T/pid")"
    file_teardown
}

# with_path PATH : the bundle n, whose network namespace is at PATH.
with_path() {
    bundle n '.linux.namespaces |= map(if .type == "network" then .path = "'"$1"'" else . end)'
    args n true
}

# A process in a network namespace of its own with one more interface; its path in $netns.
make_network() {
    unshare --net sleep 10000 3>&- &
    echo $! >"$T/pid"
    netns=/proc/$!/ns/net
    for _ in $(seq 1000); do
        [ "$(readlink "$netns")" = "$(readlink /proc/self/ns/net)" ] || break
        sleep 0.01
    done
    nsenter --net="$netns" ip link add lost0 type bridge
}

@test "a network namespace with interfaces: a warning that names both, at create and at start" {
    make_network
    with_path "$netns"
    run stasis run --bundle "$T/n" n1
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == *"$netns has lost0"* ]]
    "$STASIS" --root "$R" create --bundle "$T/n" n2 >"$T/out" 2>&1
    grep "$netns has lost0" "$T/out"
    "$STASIS" --root "$R" start n2 >"$T/out" 2>&1
    grep "$netns has lost0" "$T/out"
    stasis delete --force n2
}

@test "missing = refuse: before anything is made, and at start if the network came later" {
    printf '[network]\nmissing = refuse\n' >"$T/conf"
    with_path "/proc/$(cat "$T/pid")/ns/net"
    run "$STASIS" --root "$R" --config "$T/conf" run --bundle "$T/n" n3
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"has lost0"*"[network] missing"* ]]
    [ ! -e "$R/n3" ]
    nsenter --net="/proc/$(cat "$T/pid")/ns/net" ip link delete lost0
    "$STASIS" --root "$R" --config "$T/conf" create --bundle "$T/n" n3 >"$T/out" 2>&1
    [ ! -s "$T/out" ]
    nsenter --net="/proc/$(cat "$T/pid")/ns/net" ip link add late0 type bridge
    run "$STASIS" --root "$R" --config "$T/conf" start n3
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"has late0"* ]]
    stasis delete --force n3
}

@test "what is no network namespace is refused; one without interfaces and none at all say nothing" {
    for path in /etc/passwd /proc/self/ns/uts /nowhere; do
        with_path "$path"
        run stasis run --bundle "$T/n" n4
        echo "$output"
        [ "$status" = 1 ]
        [[ $output == *"linux.namespaces["*"].path"*"$path"* ]]
    done
    "$STASIS" --root "$R" run --bundle "$T/b" n5 >"$T/out" 2>&1
    [ ! -s "$T/out" ]
}

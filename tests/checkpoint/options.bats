#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# CRIU's options as the CLI takes them, each given to a real CRIU; and what each does, where it can be seen from outside.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
setup_file() {
    file_setup
    mkdir "$T/images"
}
teardown_file() { file_teardown; }
setup() { N=o$BATS_TEST_NUMBER; }

# container NAME SCRIPT : runs it, and then the counter.
container() {
    bundle_own_rootfs "$1"
    args "$1" sh -c "$2 $COUNTER"
    quietly run --detach --bundle "$T/$1" "$1"
    counts "$1"
}
quietly() {
    stasis "$@" >"$T/out" 2>&1 </dev/null 3>&- || {
        cat "$T/out"
        return 1
    }
}
counts() {
    local n
    n=$(cat "$T/$1/rootfs/n" 2>/dev/null || echo 0)
    beyond() { [ "$(cat "$T/$1/rootfs/n" 2>/dev/null || echo 0)" -gt "$2" ]; }
    wait_until 60 beyond "$1" "$n"
}
# ncs ID : how many nc run in it.
ncs() {
    stasis exec "$1" pidof nc | wc -w
}
CONNECTION='mkfifo /a /b; nc -l -p 7000 </a >/dev/null & exec 8>/a; until nc 127.0.0.1 7000 </b >/dev/null; do sleep 0.2; done &
    exec 9>/b;'

@test "each option is taken, and the container goes on" {
    container "$N" ''
    local options
    for options in --tcp-established --tcp-close --tcp-skip-in-flight --ext-unix-sk --shell-job --file-locks \
        "--manage-cgroups-mode soft" "--manage-cgroups-mode full" "--manage-cgroups-mode strict" \
        "--manage-cgroups-mode ignore" "--empty-ns network" "--network-lock iptables" "--network-lock nftables" \
        "--network-lock skip" \
        "--tcp-established --tcp-skip-in-flight --ext-unix-sk --shell-job --file-locks --network-lock nftables"; do
        echo "-- $options"
        # shellcheck disable=SC2086
        checkpoint "$N" --leave-running $options
        [ -s "$T/images/$N/inventory.img" ]
        counts "$N"
        rm -r "$T/images/$N"
    done
    rm -rf "$T/work"
    checkpoint "$N" --manage-cgroups-mode ignore
    [ -s "$T/work/dump.log" ]
    [ -s "$T/work/criu-diagnostic.log" ]
    [ ! -e "$R/$N" ]
    rm -rf "$T/work"
    quietly restore --detach --bundle "$T/$N" --image-path "$T/images/$N" --work-path "$T/work" "$N"
    counts "$N"
    [ -s "$T/work/restore.log" ]
    [ -s "$T/work/criu-diagnostic.log" ]
    rm -r "$T/images/$N"
    checkpoint "$N" --empty-ns network --file-locks
    [ ! -e "$R/$N" ]
    quietly restore --detach --bundle "$T/$N" --image-path "$T/images/$N" --empty-ns network --file-locks --ext-unix-sk \
        --manage-cgroups-mode ignore "$N-b"
    counts "$N"
    stasis delete --force "$N-b"
}

@test "--tcp-close: connections are closed in what is restored; --tcp-established: they are kept" {
    container "$N" "$CONNECTION"
    connected() { [ "$(ncs "$N")" = 2 ]; }
    wait_until 60 connected
    run checkpoint "$N" --leave-running
    echo "$output"
    [ "$status" = 1 ]
    connected
    local option
    for option in --tcp-close --tcp-established; do
        rm -rf "$T/images/$N"
        checkpoint "$N" --leave-running "$option"
        connected
        stasis pause "$N"
        cp -a "$T/$N" "$T/$N$option"
        quietly restore --detach --bundle "$T/$N$option" --image-path "$T/images/$N" "$option" "$N$option"
        stasis resume "$N"
        counts "$N$option"
        if [ $option = --tcp-close ]; then
            none() { [ "$(ncs "$N$option")" = 0 ]; }
            wait_until 60 none
        else
            [ "$(ncs "$N$option")" = 2 ]
        fi
        stasis delete --force "$N$option"
    done
    stasis delete --force "$N"
}

@test "what is not possible is refused by name, and the container goes on: --link-remap, --auto-dedup, --lazy-pages" {
    container "$N" 'echo inside >/one; ln /one /two; exec 5</one; rm /one;'
    local option
    for option in link-remap auto-dedup lazy-pages; do
        run checkpoint "$N" --leave-running "--$option"
        echo "$output"
        [ "$status" = 1 ]
        [[ $output == *"$option is not possible"* ]]
        counts "$N"
    done
    run checkpoint "$N"
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"whose name was deleted while it has others"*/one* ]]
    counts "$N"
    stasis delete --force "$N"
}

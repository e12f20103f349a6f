#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# How many processes a container may have; and a fork bomb, which leaves the guest able to answer.
bats_require_minimum_version 1.5.0
load helpers
setup_file() {
    file_setup
    # The kernel's own limit, of what is by its memory thousands: a bomb takes minutes for them.
    printf '%s\n' '[vm]' 'memory = 512M' 'kernel_params = sysctl.kernel.threads-max=800' '[container]' 'pids_limit = 500' \
        >"$T/conf"
    : >"$T/defaults.conf"
}
teardown_file() { file_teardown; }
teardown() {
    local id
    for id in $(stasis list -q); do
        stasis delete --force "$id"
    done
}

# limit NAME [JQ-FILTER] : what pids.max says in a container of the configuration CONF.
limit() {
    bundle "$1" "${2:-.}"
    args "$1" cat /sys/fs/cgroup/pids.max
    stasis --config "$CONF" run --bundle "$T/$1" "$1" </dev/null
}

# bomb NAME [JQ-FILTER] : runs a fork bomb in the background.
bomb() {
    bundle "$1" '.mounts += [{destination: "/workloads", type: "bind", source: "'"$STASIS_OUT"'/workloads", options: ["rbind", "ro"]}]' \
        "${2:-.}"
    args "$1" /workloads/bomb
    quiet stasis --config "$T/conf" run --detach --bundle "$T/$1" "$1"
}

has_processes() {
    local n
    n=$(guest_pids "$1" | wc -l)
    [ "${n:-0}" -ge "$2" ]
}

# answers NAME : exec, ps and kill do, while the bomb goes on.
answers() {
    [ "$(stasis exec "$1" echo here </dev/null)" = here ]
    stasis ps "$1" | grep -q bomb
    stasis kill "$1" KILL
    wait_until 120 status_is "$1" stopped
}

@test "a limit of the specification counts as it is, and the default where there is none" {
    CONF=$T/defaults.conf
    [ "$(limit none)" = 2048 ]
    [ "$(limit own '.linux.resources.pids.limit = 77')" = 77 ]
    [ "$(limit minus '.linux.resources.pids.limit = -1')" = max ]
    [ "$(limit zero '.linux.resources.pids.limit = 0')" = max ]
    CONF=$T/conf
    [ "$(limit configured)" = 500 ]
    printf '%s\n' '[container]' 'pids_limit = 0' >"$T/unlimited.conf"
    CONF=$T/unlimited.conf
    [ "$(limit unlimited)" = max ]
}

@test "a fork bomb in a container: exec, ps and kill answer" {
    bomb limited
    wait_until 120 has_processes limited 500
    not has_processes limited 501
    answers limited
}

@test "a fork bomb in a container without a limit: exec, ps and kill answer" {
    bomb endless '.linux.resources.pids.limit = -1'
    wait_until 120 has_processes endless 520
    answers endless
}

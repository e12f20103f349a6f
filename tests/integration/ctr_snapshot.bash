# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after containerd.bash, by the files that save containerd's sandboxes and restore them as the CLI's.

# From setup_file and teardown_file, beside containerd's.
copies_setup() {
    printf '%s\n' '[snapshot]' "dir = $T/snapshots" >"$T/conf"
    mkdir "$T/cli"
}
copies_teardown() {
    rm -rf "$T/snapshots"
}
# From teardown, before containerd's.
copies_deleted() {
    local id
    for id in $(ours list -q); do ours delete --force "$id"; done
}

# ours ARG… , theirs ARG… : stasis with a root of its own, and with that of containerd's sandboxes.
ours() {
    timeout --foreground 200 "$STASIS" --root "$T/cli" --config "$T/conf" "$@"
}
theirs() {
    timeout --foreground 200 "$STASIS" --root "$R" --config "$T/conf" "$@" </dev/null
}
# Counts in its memory, and writes down how far it is.
# shellcheck disable=SC2016,SC2034 # for the container's shell; for the files that load this
COUNTER='i=0; while :; do i=$((i + 1)); echo $i >/count.new; mv /count.new /count; sleep 0.2; done'
# reached N COMMAND… : the counter that the command reads is beyond N.
reached() {
    [ "$("${@:2}" cat /count 2>/dev/null || echo 0)" -gt "$1" ]
}

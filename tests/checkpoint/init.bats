#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# systemd as a container's first process, in what `podman run --systemd=always` gives it.
bats_require_minimum_version 1.5.0
load ../integration/helpers
load ../integration/checkpoint
load programs
setup_file() { file_setup; }
teardown_file() { file_teardown; }
teardown() {
    local id
    for id in $(stasis list -q); do
        stasis delete --force "$id"
    done
}

# system NAME JQ-FILTER : the bundle NAME.
system() {
    [ -e "$STASIS_OUT/rootfs/systemd/.done" ] || skip "tests/checkpoint/roots.sh has made no root for systemd"
    bundle "$1" '.process.env += ["container=oci"] | .root = {path: "rootfs", readonly: false}
        | .process.capabilities[] = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
            "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"]
        | .linux.namespaces += [{type: "cgroup"}]
        | (.mounts[] | select(.type == "cgroup") | .options) = ["rw", "nosuid", "noexec", "nodev", "relatime"]
        | .mounts += [
        {destination: "/run", type: "tmpfs", source: "tmpfs", options: ["mode=755"]},
        {destination: "/run/lock", type: "tmpfs", source: "tmpfs", options: ["mode=1777"]},
        {destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["mode=1777"]}]' "$2"
    cp -a "$STASIS_OUT/rootfs/systemd" "$T/$1/rootfs"
    # Else it asks who it is.
    echo 0123456789abcdef0123456789abcdef >"$T/$1/rootfs/etc/machine-id"
    : >"$T/$1/rootfs/etc/fstab"
    args "$1" /lib/systemd/systemd
}
is_up() {
    [ "$(stasis exec "$1" systemctl is-system-running 2>/dev/null </dev/null)" = running ]
}

@test "systemd boots to its end, runs a unit, and ends by its signal" {
    system plain '.process.terminal = false'
    quiet stasis run --detach --bundle "$T/plain" plain
    wait_until 120 is_up plain || {
        stasis exec plain systemctl list-jobs </dev/null
        false
    }
    stasis exec plain systemctl start systemd-tmpfiles-clean.service </dev/null
    stasis exec plain systemctl show -P Result systemd-tmpfiles-clean.service </dev/null | grep -qx success
    stasis kill plain 37 # SIGRTMIN+3
    wait_until 60 status_is plain stopped
}

@test "systemd boots with a terminal, which it closes and opens again" {
    system terminal '.process.terminal = true'
    timeout 240 python3 "$STASIS_SRC/tests/integration/pty_driver.py" \
        'expect(b"Multi-User System", 120)
until(["'"$STASIS"'", "--root", "'"$R"'", "exec", "terminal", "systemctl", "is-system-running"], b"running", 120)
subprocess.run(["'"$STASIS"'", "--root", "'"$R"'", "kill", "terminal", "37"], check=True)' \
        "$STASIS" --root "$R" run --bundle "$T/terminal" terminal
}

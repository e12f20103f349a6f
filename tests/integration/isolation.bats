#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the guest and the processes that serve it can see and do. The console gives us root in the guest.
load helpers
setup_file() {
    file_setup
    printf '[agent]\ndebug_console = true\n' >"$T/conf"
    mkdir -p "$T/ro"
    echo x >"$T/ro/a"
    bundle_own_rootfs b '.mounts += [{destination: "/ro", type: "bind", source: "'"$T/ro"'", options: ["bind", "ro"]}]'
    args b sleep 10000
    "$STASIS" --root "$R" --config "$T/conf" run -d --bundle "$T/b" c1 </dev/null >/dev/null 2>&1
    # shellcheck disable=SC2046
    set -- $(sandbox_pids c1)
    export DAEMON=$1 QEMU=$2 VIRTIOFSD=$3
}
teardown_file() { file_teardown; }

guest() {
    timeout 120 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        "expect(b'# '); send(b'''$1; echo en''d\n'''); expect(b'end\r\n', 60); send(b'exit\n')" \
        "$STASIS" --root "$R" console c1
}

@test "guest root cannot write to the top of the share, nor beside a container's own mounts" {
    guest 'touch /share/x; mkdir /share/y; touch /share/c1/z; mv /share/c1 /share/c2; ln -sfn / /share/c1/rootfs' >"$T/log"
    grep -c 'Read-only file system\|busy' "$T/log"
    [ "$(grep -c 'Read-only file system' "$T/log")" -ge 3 ]
}

@test "guest root cannot write through a read-only volume" {
    guest 'mount -o remount,rw /share; for m in /share/c1/mounts/*; do touch $m/new; done' >"$T/log"
    [ ! -e "$T/ro/new" ]
    grep -q 'Read-only file system' "$T/log"
}

@test "guest root cannot make device nodes on the host" {
    guest 'mknod /share/c1/rootfs/node b 8 0; ls -l /share/c1/rootfs/node' >"$T/log"
    [ ! -e "$T/b/rootfs/node" ]
    grep -q 'mknod: .*Operation not permitted' "$T/log"
}

@test "a link in the container's root does not lead the host astray" {
    stasis exec c1 sh -c 'rm -rf /tmp; ln -s / /tmp; ln -s /etc/shadow /shadow; cat /shadow' >"$T/log" 2>&1 || true
    ! grep -q root: "$T/log"
}

@test "QEMU: unprivileged uid, no capabilities, no_new_privs, seccomp, own namespaces, jailed root" {
    awk '/^Uid:/ {exit !($2 > 1000 && $2 == $3 && $3 == $4)}' "/proc/$QEMU/status"
    awk '/^Cap(Prm|Eff|Bnd|Inh|Amb):/ {if ($2 !~ /^0+$/) exit 1}' "/proc/$QEMU/status"
    grep -q '^NoNewPrivs:.*1' "/proc/$QEMU/status"
    grep -q '^Seccomp:.*2' "/proc/$QEMU/status"
    local ns
    for ns in mnt pid ipc uts net; do
        [ "$(readlink "/proc/$QEMU/ns/$ns")" != "$(readlink "/proc/$$/ns/$ns")" ]
    done
    [ ! -e "/proc/$QEMU/root/etc/shadow" ]
    [ ! -e "/proc/$QEMU/root/root" ] || [ -z "$(ls -A "/proc/$QEMU/root/root")" ]
    awk '$5 == "/" {exit !($6 ~ /^ro/)}' "/proc/$QEMU/mountinfo"
    ! grep -q "$T" "/proc/$QEMU/mountinfo" || ! grep "$T" "/proc/$QEMU/mountinfo" | grep -q ' /share'
}

@test "virtiofsd: few capabilities, no mknod, seccomp, own namespaces, sees only the share" {
    local cap p=$VIRTIOFSD
    # The process that serves may be a child of the one the daemon started.
    p=$(pgrep -P "$VIRTIOFSD" | head -n 1)
    [ -n "$p" ] || p=$VIRTIOFSD
    cap=$(awk '/^CapEff:/ {print $2}' "/proc/$p/status")
    [ $((16#$cap & (1 << 27))) = 0 ] # mknod
    [ $((16#$cap & (1 << 21))) = 0 ] # sys_admin
    [ $((16#$cap & (1 << 12))) = 0 ] # net_admin
    grep -q '^Seccomp:.*2' "/proc/$p/status"
    local ns
    for ns in mnt pid; do [ "$(readlink "/proc/$p/ns/$ns")" != "$(readlink "/proc/$$/ns/$ns")" ]; done
    [ ! -e "/proc/$p/root/etc/shadow" ]
}

@test "the host sees no mount of the sandbox, and its socket and directory are root's alone" {
    ! grep -q "$R/c1" /proc/self/mounts
    [ "$(stat -c %a "$R/c1")" = 700 ]
    [ "$(stat -c %a "$R/c1/api.sock")" = 600 ]
}

@test "the agent's port cannot be opened by others in the guest" {
    guest 'cat /dev/vport0p1 /dev/vport1p1 /dev/vport2p1' >"$T/log"
    ! grep -q 'STP1' "$T/log"
    stasis exec c1 true
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The OCI spec inside the guest. One VM per test, several fields in each.
load helpers
setup_file() { file_setup; }
teardown_file() { file_teardown; }

# in_container NAME SCRIPT : runs the bundle with the script and keeps its output in $T/out.
in_container() {
    args "$1" sh -c "$2"
    stasis run --bundle "$T/$1" c1 >"$T/out" 2>"$T/err" </dev/null || {
        echo "exit $?"
        cat "$T/out" "$T/err"
        return 1
    }
    cat "$T/out" "$T/err"
}
said() { grep -qxF -- "$1" "$T/out"; }

@test "process: user, groups, capabilities, rlimits, no_new_privs, environment, directory" {
    bundle b '.process.user = {uid: 1000, gid: 1000, additionalGids: [2000], umask: 63}' \
        '.process.env = ["PATH=/bin", "A=b c"] | .process.cwd = "/home"' \
        '.process.capabilities = {bounding: ["CAP_KILL"], effective: [], permitted: [], inheritable: [], ambient: []}' \
        '.process.rlimits = [{type: "RLIMIT_NOFILE", soft: 123, hard: 456}] | .process.noNewPrivileges = true'
    in_container b 'echo "id $(id -u) $(id -g) $(id -G)"; umask; echo "[$A] $PWD"; grep -E "^(CapBnd|CapEff|NoNewPrivs)" /proc/self/status
        echo "nofile $(ulimit -n) $(ulimit -Hn)"'
    said 'id 1000 1000 1000 2000'
    said 0077
    said '[b c] /home'
    said $'CapBnd:\t0000000000000020'
    said $'CapEff:\t0000000000000000'
    said $'NoNewPrivs:\t1'
    said 'nofile 123 456'
}

@test "hostname, sysctl, namespaces of its own, loopback only, masked and read-only paths, devices" {
    bundle b '.hostname = "in-a-vm" | .linux.sysctl = {"net.ipv4.ip_forward": "1"}' \
        '.linux.maskedPaths = ["/proc/kcore", "/proc/timer_list"] | .linux.readonlyPaths = ["/proc/sys"]' \
        '.linux.devices = [{path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 438}]'
    in_container b 'hostname; cat /proc/sys/net/ipv4/ip_forward; echo "pid $$"; ls /sys/class/net
        echo "kcore $(head -c 1 /proc/kcore | wc -c)"; echo 0 2>/dev/null >/proc/sys/net/ipv4/ip_forward && echo written
        [ -c /dev/fuse ] && echo fuse; for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo "no $d"; done
        ls /dev/vport* 2>/dev/null && echo port; ip addr show lo | grep -c "inet 127.0.0.1"; cat /proc/1/comm'
    said in-a-vm
    said 1
    said 'pid 1'
    said lo
    said 'kcore 0'
    not said written
    said fuse
    not grep -q '^no ' "$T/out"
    not said port
}

@test "a container without a host name shows the host's, with a uts namespace of its own and without" {
    bundle b 'del(.hostname)'
    in_container b 'hostname; uname -n'
    [ "$(grep -cx "$(uname -n)" "$T/out")" = 2 ]
    bundle b 'del(.hostname) | .linux.namespaces |= map(select(.type != "uts"))'
    in_container b 'hostname; uname -n'
    [ "$(grep -cx "$(uname -n)" "$T/out")" = 2 ]
}

@test "a read-only root, tmpfs, /dev/shm, mqueue, cgroup, proc and sysfs" {
    bundle b '.root.readonly = true' \
        '.mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid", "size=1m", "mode=1777"]}]'
    in_container b 'touch /x 2>/dev/null && echo "root is writable"; touch /tmp/x && echo "tmp is writable"
        df -k /tmp | tail -n 1 | grep -o " 1024 " | head -n 1; for m in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue /sys/fs/cgroup; do
        grep -q " $m " /proc/mounts || echo "no $m"; done; head -c 2000000 /dev/zero >/tmp/big 2>/dev/null || echo full'
    not said 'root is writable'
    said 'tmp is writable'
    said full
    not grep -q '^no ' "$T/out"
}

@test "volumes: directories and files, read-write and read-only, live both ways" {
    mkdir -p "$T/vol/sub" "$T/ro"
    echo from-host >"$T/vol/sub/a"
    echo file >"$T/file"
    echo ro >"$T/ro/a"
    bundle_own_rootfs b '.mounts += [
        {destination: "/vol", type: "bind", source: "'"$T/vol"'", options: ["rbind", "rw"]},
        {destination: "/ro", type: "bind", source: "'"$T/ro"'", options: ["rbind", "ro"]},
        {destination: "/etc/one", source: "'"$T/file"'", options: ["bind"]},
        {destination: "/etc/two", type: "bind", source: "'"$T/file"'", options: ["bind", "ro"]}]'
    in_container b 'cat /vol/sub/a /ro/a /etc/one; echo from-guest >/vol/b; echo more >>/etc/one; echo x >/root-file
        touch /ro/b 2>/dev/null && echo "ro written"; echo x 2>/dev/null >/etc/two && echo "two written"; true'
    said from-host
    said ro
    said file
    not said 'ro written'
    not said 'two written'
    [ "$(cat "$T/vol/b")" = from-guest ]
    [ "$(tail -n 1 "$T/file")" = more ]
    [ "$(cat "$T/b/rootfs/root-file")" = x ]
    [ ! -e "$T/ro/b" ]
}

@test "a read-only bind: what is mounted below stays writable, unless rro is asked for" {
    mkdir -p "$T/tree/sub/in" "$T/tree/dir"
    mount -t tmpfs -o size=1m below "$T/tree/sub"
    mkdir "$T/tree/sub/in"
    bundle_own_rootfs b '.mounts += [
        {destination: "/one", type: "bind", source: "'"$T/tree"'", options: ["rbind", "ro"]},
        {destination: "/all", type: "bind", source: "'"$T/tree"'", options: ["rbind", "rro"]},
        {destination: "/top", type: "bind", source: "'"$T/tree"'", options: ["bind", "ro"]}]'
    in_container b 'for d in one all top; do for f in x dir/x sub/x sub/in/x; do touch /$d/$f 2>/dev/null && echo "$d/$f written"; done; done; true'
    local found
    found=$(find "$T/tree/sub" -type f | sort)
    umount "$T/tree/sub"
    [ "$(grep -c written "$T/out")" = 2 ]
    said 'one/sub/x written'
    said 'one/sub/in/x written'
    [ "$found" = "$T/tree/sub/in/x"$'\n'"$T/tree/sub/x" ]
}

@test "what files on the share do not have, and those of a tmpfs do; no Landlock" {
    mkdir -p "$T/volume"
    bundle_own_rootfs b '.mounts += [
        {destination: "/workloads", type: "bind", source: "'"$STASIS_OUT"'/workloads", options: ["rbind", "ro"]},
        {destination: "/volume", type: "bind", source: "'"$T"'/volume", options: ["rbind", "rw"]},
        {destination: "/tmpfs", type: "tmpfs", source: "tmpfs"}]' '.process.capabilities[] += ["CAP_SYS_ADMIN"]'
    in_container b 'for d in /root /volume /tmpfs; do echo $d $(/workloads/file_features $d); done'
    said '/root nameless: EOPNOTSUPP trusted: EPERM flags: ENOTTY landlock: EOPNOTSUPP'
    said '/volume nameless: EOPNOTSUPP trusted: EPERM flags: ENOTTY landlock: EOPNOTSUPP'
    said '/tmpfs nameless: there trusted: there flags: there landlock: EOPNOTSUPP'
}

@test "memory, cpu and pids limits hold in the guest" {
    bundle b '.linux.resources = {memory: {limit: 33554432}, cpu: {shares: 512, quota: 20000, period: 100000}, pids: {limit: 20}}'
    in_container b 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max; cat /sys/fs/cgroup/cpu.weight
        sh -c "tail -c 100000000 /dev/zero" 2>/dev/null | wc -c; echo survived'
    said 33554432
    said '20000 100000'
    said 20
    said survived
    grep -q '^ *0$' "$T/out" || ! grep -q 100000000 "$T/out"
}

@test "seccomp: a call the profile forbids fails with the errno it names" {
    bundle b '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86_64"],
        syscalls: [{names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 95}]}' \
        '.mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs"}]'
    in_container b 'mkdir /tmp/x 2>&1; true'
    grep -qi 'not supported' "$T/out"
}

@test "hooks: prestart, createRuntime, poststart, poststop on the host, startContainer in the guest" {
    cat >"$T/hook" <<H
#!/bin/sh
cat >"$T/hook.\$1.json"
echo "\$1" >>"$T/hooks"
H
    chmod +x "$T/hook"
    rm -f "$T/hooks"
    bundle_own_rootfs b
    local h='{path: "'"$T/hook"'", args: ["hook", "KIND"]}'
    edit "$T/b" ".hooks = {prestart: [${h/KIND/prestart}], createRuntime: [${h/KIND/createRuntime}],
        poststart: [${h/KIND/poststart}], poststop: [${h/KIND/poststop}],
        startContainer: [{path: \"/bin/touch\", args: [\"touch\", \"/started\"]}]}"
    in_container b 'ls /started; sleep 1'
    said /started
    [ "$(tr '\n' ' ' <"$T/hooks")" = "prestart createRuntime poststart poststop " ]
    jq -e '.id == "c1" and .bundle == "'"$T/b"'"' "$T/hook.prestart.json"

    printf '#!/bin/sh\necho no luck >&2\nexit 3\n' >"$T/hook"
    run stasis run --bundle "$T/b" c1
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *hook* ]]
    [ -z "$(stasis list -q)" ]
}

@test "what is dropped is logged with its place" {
    bundle b '.process.apparmorProfile = "docker-default" | .linux.namespaces |= map(if .type == "network" then .path = "/proc/1/ns/net" else . end)'
    args b true
    stasis create --bundle "$T/b" c1 </dev/null
    grep 'level=warning.*process.apparmorProfile' "$R/c1/log"
    grep 'level=warning.*linux.namespaces.*loopback only' "$R/c1/log"
    stasis delete --force c1
    stasis --debug run --bundle "$T/b" c1 2>&1 </dev/null | grep 'process.apparmorProfile'
}

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
    quiet "$STASIS" --root "$R" --config "$T/conf" run -d --bundle "$T/b" c1
    # shellcheck disable=SC2046
    set -- $(sandbox_pids c1)
    export DAEMON=$1 QEMU=$2 VIRTIOFSD=$3
}
teardown_file() { file_teardown; }
teardown() {
    # What a test that failed left.
    ! mountpoint -q "$T/links/rootfs" || {
        stasis delete --force links
        umount "$T/links/rootfs"
    }
}

guest() {
    timeout 120 python3 "$BATS_TEST_DIRNAME/pty_driver.py" \
        "expect(b'# '); send(b'''$1; echo en''d\n'''); expect(b'end\r\n', 60); send(b'exit\n')" \
        "$STASIS" --root "$R" console c1
}

@test "guest root cannot write to the top of the share, nor beside a container's own mounts" {
    local i all='' left=0 ways=('touch /share/x' 'mkdir /share/x' 'mv /share/c1 /share/x' 'ln -s / /share/x'
        'touch /share/c1/x' 'ln -s / /share/c1/x'
        # What is a mount in the guest is busy before it is read-only.
        'umount -l /share/c1/rootfs 2>/dev/null; mv /share/c1/rootfs /share/c1/x'
        'umount -l /share/c1/rootfs 2>/dev/null; rmdir /share/c1/rootfs')
    for i in "${!ways[@]}"; do
        all+="echo way''$i \$(${ways[i]} 2>&1); "
    done
    # What is the container's can be written: it is not that nothing can.
    guest "$all touch /share/c1/rootfs/by-guest-root" >"$T/log"
    for i in "${!ways[@]}"; do
        grep -q "^way$i .*: Read-only file system" "$T/log" || {
            echo "not refused as of a read-only file system: ${ways[i]}"
            left=1
        }
    done
    [ $left = 0 ]
    [ -e "$T/b/rootfs/by-guest-root" ]
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

@test "a link in the container's root leads to the container's own" {
    stasis exec c1 sh -c 'rm -rf /tmp; ln -s / /tmp; ln -s /etc/shadow /shadow; ls /tmp/bin/busybox; cat /shadow' \
        >"$T/log" 2>&1 || true
    grep -q busybox "$T/log"
    grep -q "can't open '/shadow': No such file" "$T/log"
}

# victim : all that can be seen of the host's files that the links name, but for when they were read.
victim() {
    find "$T/victim" -printf '%p %i %M %U:%G %n %s %T@ %C@\n' | sort
    find "$T/victim" -type f -exec sha256sum {} +
}
untouched() {
    victim | diff "$T/victim.before" -
}

@test "links in a container's root do not lead the host astray: snapshot, checkpoint --export, delete" {
    local dir=$T/links secret
    secret=secret-$RANDOM$RANDOM$RANDOM
    mkdir -p "$T/victim/dir" "$dir"/{upper,work}
    echo $secret | tee "$T/victim/file" "$T/victim/dir/file" >"$T/victim/passwd"
    echo 0123456789abcdef0123456789abcdef >"$T/victim/machine-id"
    victim >"$T/victim.before"
    bundle links '.root.path = "rootfs"'
    mkdir "$dir/rootfs"
    mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$dir/upper,workdir=$dir/work" "$dir/rootfs"
    args links sleep 10000
    printf '[snapshot]\ndir = %s\n' "$T/store" >"$T/links.conf"
    host() {
        stasis --config "$T/links.conf" "$@" >"$T/links.log" 2>&1 </dev/null 3>&- || {
            cat "$T/links.log"
            return 1
        }
    }
    host run -d --bundle "$dir" links
    # A directory of the image's, new ones, a file; the last two are moved over what was there.
    host exec links sh -c "rm -rf /etc && ln -s '$T/victim' /etc && ln -s '$T/victim/dir' /dir && ln -s '$T/victim/file' /file &&
        ln -s ../../../../../../../..$T/victim /up && mkdir /was && touch /was/file && mv /was /var/was &&
        ln -s '$T/victim' /was && ln -s '$T/victim/file' /home/new && mv /home/new /bin/bad-interpreter"

    host snapshot create links one
    untouched
    [ "$(readlink "$T/store/one/roots/0/etc")" = "$T/victim" ]
    [ "$(readlink "$T/store/one/roots/0/bin/bad-interpreter")" = "$T/victim/file" ]
    not grep -rqaF $secret "$T/store/one/roots"

    # The copy gets another machine id. Its root is the host's to remove.
    host snapshot restore --id copy one
    untouched
    host delete --force copy
    untouched
    host snapshot rm one
    untouched

    host checkpoint --leave-running --export "$T/links.tar" --work-path "$T/links-work" links
    untouched
    mkdir "$T/exported"
    tar -C "$T/exported" -xf "$T/links.tar"
    tar -tvf "$T/exported/rootfs-diff.tar" >"$T/list"
    grep -q " etc -> $T/victim\$" "$T/list"
    grep -q " dir -> $T/victim/dir\$" "$T/list"
    not grep -rqaF $secret "$T/exported"

    host delete --force links
    umount "$dir/rootfs"
    untouched
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

# anonymous PID : bytes of memory that are the process's own.
anonymous() {
    awk '/^RssAnon:/ { print $2 * 1024 }' "/proc/$1/status"
}
@test "a container that takes all memory it can: of the host that is the VM's and no more, and the VM goes on" {
    local conf=$T/eater.conf daemon qemu virtiofsd size=$((256 << 20)) memory taken way i
    printf '[vm]\nmemory = 256M\n' >"$conf"
    bundle eater
    args eater sleep 10000
    quiet "$STASIS" --root "$R" --config "$conf" run -d --bundle "$T/eater" eater
    # shellcheck disable=SC2046
    set -- $(sandbox_pids eater)
    daemon=$1 qemu=$2 virtiofsd=$3
    for i in "/proc/$daemon/fd"/*; do
        [[ $(readlink "$i") != /memfd:stasis-eater* ]] || memory=$i
    done
    # A process, and files in memory.
    for way in 'tail /dev/zero' 'mkdir -p /tmp/m && mount -t tmpfs -o size=40% m /tmp/m && cat /dev/zero >/tmp/m/f; rm -f /tmp/m/f'; do
        for i in 1 2 3; do
            timeout 120 "$STASIS" --root "$R" exec --cap CAP_SYS_ADMIN eater sh -c "$way" >/dev/null 2>&1 || true
        done
        stasis exec eater true
    done
    taken=$(($(stat -L -c '%b * %B' "$memory")))
    echo "memory $taken, QEMU $(anonymous "$qemu"), virtiofsd $(anonymous "$virtiofsd"), daemon $(anonymous "$daemon")"
    [ "$taken" -gt $((size / 2)) ]
    [ "$taken" -le "$size" ]
    # QEMU's translated code, and what the others keep.
    [ "$(anonymous "$qemu")" -lt $((1536 << 20)) ]
    [ "$(anonymous "$virtiofsd")" -lt $((64 << 20)) ]
    [ "$(anonymous "$daemon")" -lt $((64 << 20)) ]
    # Nobody who has it can make it larger.
    not truncate -s $((size * 2)) "$memory"
    [ "$(stat -L -c %s "$memory")" = "$size" ]
    stasis delete --force eater
}

@test "the host sees no mount of the sandbox, and its socket and directory are root's alone" {
    not grep -q "$R/c1" /proc/self/mounts
    [ "$(stat -c %a "$R/c1")" = 700 ]
    [ "$(stat -c %a "$R/c1/api.sock")" = 600 ]
}

@test "the agent's port cannot be opened a second time by guest root, nor by a container that can make its device" {
    guest 'cd /sys/class/virtio-ports; for p in *; do echo po""rt $p $(cat $p/name $p/dev); cat /dev/$p; echo >/dev/$p; done' \
        >"$T/log"
    tr -d '\r' <"$T/log" | grep '^port ' >"$T/ports"
    local _ port name device
    read -r _ port name device <"$T/ports"
    # It is the only one.
    [ "$(wc -l <"$T/ports")" = 1 ]
    [ "$name" = agent ]
    grep -q "^cat: can't open '/dev/$port': Device or resource busy" "$T/log"
    grep -q "can't create /dev/$port: Device or resource busy" "$T/log"

    # /dev/null shows that a device that is made there could be opened.
    stasis exec --cap CAP_MKNOD c1 sh -c "mknod /port c ${device/:/ }; mknod /dev/other-null c 1 3 && echo >/dev/other-null &&
        mknod /dev/port c ${device/:/ } && echo made; cat /dev/port; echo >/dev/port" >"$T/log" 2>&1 </dev/null || true
    cat "$T/log"
    grep -q '^mknod: /port: Operation not permitted' "$T/log"
    grep -q '^made' "$T/log"
    grep -q "^cat: can't open '/dev/port': Operation not permitted" "$T/log"
    grep -q "can't create /dev/port: Operation not permitted" "$T/log"
    stasis exec c1 rm /dev/port /dev/other-null
}

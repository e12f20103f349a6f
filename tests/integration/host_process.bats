#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The pid of a container on the host: what engines do with it reaches the container's files and nothing of the host.
bats_require_minimum_version 1.5.0
load helpers
load podman

setup_file() {
    file_setup
    podman_setup
    echo host >"$T/secret"
    mkdir "$T/vol"
    echo volume >"$T/vol/file"
    ln -s "$T/secret" "$T/vol/link"
}
teardown_file() {
    podman_teardown
    file_teardown
}

# launch ID ARG… : in a bundle of that name, detached; its pid is in PID.
launch() {
    local id=$1
    shift
    bundle_own_rootfs "$id" '.mounts += [{destination: "/vol", type: "bind", source: "'"$T"'/vol", options: ["rbind", "rw"]},
        {destination: "/ro", type: "bind", source: "'"$T"'/vol", options: ["rbind", "ro"]},
        {destination: "/run", type: "tmpfs", source: "tmpfs"}]' '.hostname = "inside"'
    args "$id" "$@"
    # The host's /etc must not be where this leads.
    mkdir "$T/$id/rootfs/var/lib"
    ln -s ../../../../../../../etc "$T/$id/rootfs/var/lib/out"
    stasis run --detach --bundle "$T/$id" --pid-file "$T/$id.pid" "$id" </dev/null >"$T/$id.out" 2>&1
    PID=$(cat "$T/$id.pid")
}

# in_mounts COMMAND… : with the container's shell, as `nsenter -m` or Podman go there.
in_mounts() {
    nsenter -t "$PID" -m -- /bin/sh -c "$*"
}

@test "the pid has the container's files, as the container has them, and no others" {
    launch c1 sleep 1000
    [ "$(stasis state c1 | jq .pid)" = "$PID" ]
    [ "$(in_mounts 'cat /vol/file /ro/file')" = volume$'\n'volume ]
    in_mounts 'echo from-host >/new; echo from-host >/vol/new'
    [ "$(stasis exec c1 cat /new /vol/new)" = from-host$'\n'from-host ]
    stasis exec c1 sh -c 'echo from-guest >/guest; echo x >/run/hidden'
    [ "$(cat "/proc/$PID/root/guest")" = from-guest ]
    # Read-only is read-only, and what only the guest has is not there to be written to.
    run ! in_mounts 'echo x >/ro/file'
    run ! in_mounts 'echo x >/run/file'
    run ! in_mounts 'echo x >/dev/file'
    run ! in_mounts 'cat /run/hidden'
    [ "$(cat "$T/vol/file")" = volume ]
}

@test "no path leads to the host" {
    launch c2 sleep 1000
    # Links go inside the root; so does ..
    [ "$(in_mounts 'cat /var/lib/out/passwd')" = "$(cat "$T/c2/rootfs/etc/passwd")" ]
    run ! in_mounts "cat /vol/link"
    run ! in_mounts "cat $T/secret"
    run ! in_mounts "cat /../../..$T/secret"
    # Its working directory and open files neither.
    [ "$(readlink "/proc/$PID/cwd")" = / ]
    [ "$(stat -Lc %d:%i "/proc/$PID/cwd")" = "$(stat -Lc %d:%i "/proc/$PID/root")" ]
    local fd
    for fd in "/proc/$PID/fd"/*; do
        [[ $(readlink "$fd") =~ ^(/null|socket:.*|anon_inode:.*)$ ]]
    done
    # Namespaces: all its own but the user's and the clock's.
    for ns in mnt pid ipc uts cgroup net; do
        [ "$(readlink "/proc/$PID/ns/$ns")" != "$(readlink "/proc/self/ns/$ns")" ]
    done
    # Every mount that is there is the container's.
    run -0 cat "/proc/$PID/mountinfo"
    run ! grep -vE ' (/|/vol|/ro|/run|/proc|/proc/.*|/dev|/dev/.*|/sys|/sys/.*) (ro|rw),' <<<"$output"
    # In its pid namespace there is no other process, and it is in the sandbox's network: loopback alone.
    [ "$(nsenter -t "$PID" -m -p -- /bin/sh -c 'ls /proc' | grep -c '^[0-9]')" -le 3 ]
    [ "$(nsenter -t "$PID" -n -- ls /sys/class/net 2>/dev/null | sort -u | head -1)" ]
    [ "$(nsenter -t "$PID" -n -- cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ')" = lo ]
    [ "$(nsenter -t "$PID" -u -- hostname)" = inside ]
    grep -q 'CapEff:.0000000000000000' "/proc/$PID/status"
}

@test "the pid shows the container's arguments, ends with its status, and its end is the container's" {
    launch c3 sleep 1000
    [ "$(tr '\0' ' ' <"/proc/$PID/cmdline")" = "sleep 1000 " ]
    kill -KILL "$PID"
    wait_until 20 status_is c3 stopped
    stasis delete c3
    launch c4 sh -c 'trap "exit 7" TERM; : >/ready; while :; do sleep 0.1; done'
    wait_until 20 test -e "$T/c4/rootfs/ready"
    kill -TERM "$PID"
    wait_until 20 status_is c4 stopped
    [ "$(stasis state c4 | jq .pid)" = 0 ]
    wait_until 10 dead "$PID"
    stasis delete c4
}

@test "run in the foreground: a pid as good, which goes with the command" {
    bundle fg
    args fg sleep 1000
    "$STASIS" --root "$R" run --bundle "$T/fg" --pid-file "$T/fg.pid" fg </dev/null >"$T/fg.out" 2>&1 3>&- &
    local cli=$!
    wait_until 60 status_is fg running 2>/dev/null
    PID=$(cat "$T/fg.pid")
    [ "$PID" != "$cli" ]
    [ "$(stasis state fg | jq .pid)" = "$PID" ]
    run ! in_mounts "cat $T/secret"
    kill -KILL "$cli"
    wait_until 20 dead "$PID"
    wait_until 20 status_is fg stopped
    stasis delete fg
}

@test "exec: its pid shows nothing of the host either" {
    launch c5 sleep 1000
    stasis exec --detach --pid-file "$T/exec.pid" c5 sleep 999
    PID=$(cat "$T/exec.pid")
    [ -z "$(ls "/proc/$PID/root")" ]
    [ "$(readlink "/proc/$PID/ns/net")" = "$(readlink "/proc/$(cat "$T/c5.pid")/ns/net")" ]
    [ "$(tr '\0' ' ' <"/proc/$PID/cmdline")" = "sleep 999 " ]
    kill -TERM "$PID"
    wait_until 20 dead "$PID"
    stasis ps -f json c5 | jq -e --argjson pid "$(cat "$T/c5.pid")" '. == [$pid]'
    stasis delete --force c5
}

@test "restored from a checkpoint and from a snapshot: its files are in the new pid" {
    launch c6 sleep 1000
    stasis checkpoint --image-path "$T/images" c6
    wait_until 10 dead "$PID"
    stasis restore --detach --image-path "$T/images" --bundle "$T/c6" --pid-file "$T/c6.pid" c6 </dev/null >"$T/c6.out" 2>&1
    PID=$(cat "$T/c6.pid")
    [ "$(in_mounts 'cat /vol/file')" = volume ]
    run ! in_mounts "cat $T/secret"
    printf '[snapshot]\ndir = %s\n' "$T/snapshots" >"$T/conf"
    stasis --config "$T/conf" snapshot create --stop c6 copy
    stasis delete --force c6
    stasis --config "$T/conf" snapshot restore --pid-file "$T/c6.pid" copy
    PID=$(cat "$T/c6.pid")
    [ "$(in_mounts 'cat /vol/file')" = volume ]
    run ! in_mounts "cat $T/secret"
    stasis delete --force c6
}

# copies NAME : both ways, and what the container does not have.
copies() {
    local name=$1
    echo "in $name" >"$T/copied"
    podman vm cp "$T/copied" "$name:/tmp/copied"
    podman vm cp "$T/copied" "$name:/data/copied"
    rm -f "$T/back" "$T/passwd"
    podman vm cp "$name:/data/copied" "$T/back"
    [ "$(cat "$T/back")" = "in $name" ]
    podman vm cp "$name:/etc/passwd" "$T/passwd"
    cmp "$T/passwd" "$ROOTFS/etc/passwd"
    [ ! -e /tmp/copied ]
    [ ! -e /data/copied ]
    run ! podman vm cp "$name:$T/secret" "$T/back"
}

@test "podman cp in both directions: running, paused, stopped; podman top lists what is the container's" {
    podman vm run --detach --name cp --volume cpdata:/data "$IMAGE" sleep 1000 >/dev/null
    copies cp
    [ "$(podman vm exec cp cat /tmp/copied /data/copied)" = "in cp"$'\n'"in cp" ]
    run -0 podman vm top cp args
    echo "$output"
    [[ $output =~ ^COMMAND\ *$'\n'"sleep 1000 "*$ ]]
    run -0 podman vm top cp
    [ "${#lines[@]}" = 2 ]
    podman vm pause cp
    copies cp
    podman vm unpause cp
    podman vm stop --time 1 cp >/dev/null
    copies cp
    podman vm rm cp >/dev/null
    podman vm volume rm cpdata >/dev/null
}

@test "a pod of Podman: top lists its containers' processes" {
    podman vm pod create --name pod --infra=false >/dev/null
    podman vm run --detach --pod pod --name one "$IMAGE" sleep 1001 >/dev/null
    podman vm run --detach --pod pod --name two "$IMAGE" sleep 1002 >/dev/null
    run -0 podman vm pod top pod
    echo "$output"
    [ "${#lines[@]}" = 3 ]
    [[ $output == *"sleep 1001"* && $output == *"sleep 1002"* ]]
    podman vm pod rm --force --time 0 pod >/dev/null
}

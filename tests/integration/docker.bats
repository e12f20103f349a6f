#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Docker with stasis as a runtime: what it does by a container's pid and by its files reaches the container and nothing of
# the host. The daemon is one of this file's own.
bats_require_minimum_version 1.5.0
load helpers

IMAGE=docker-test:1

setup_file() {
    file_setup
    mkdir -p "$T/docker/tmp"
    jq -n --arg path "$STASIS" '{runtimes: {stasis: {path: $path}}}' >"$T/docker/daemon.json"
    DOCKER_TMPDIR=$T/docker/tmp dockerd --config-file "$T/docker/daemon.json" --data-root "$T/docker/data" \
        --exec-root "$T/docker/exec" --pidfile "$T/docker/pid" --host "unix://$T/docker/sock" --iptables=false \
        --ip6tables=false --bridge=none --storage-driver overlay2 >"$T/docker.log" 2>&1 3>&- &
    export DOCKERD=$!
    wait_until 60 docker version >/dev/null 2>&1
    tar -C "$ROOTFS" --exclude=./.done -cf - . | docker import - "$IMAGE" >/dev/null
    echo host >"$T/secret"
}
teardown_file() {
    docker ps --all --quiet | while read -r id; do docker rm --force "$id" >/dev/null; done
    docker volume prune --force >/dev/null
    kill "$DOCKERD"
    wait_until 60 dead "$DOCKERD"
    umount "$T"/docker/exec/netns/* 2>/dev/null || true
    file_teardown
}
teardown() {
    [ -n "$BATS_TEST_COMPLETED" ] || tail -n 30 "$T/docker.log"
}

docker() {
    command docker --host "unix://$T/docker/sock" "$@"
}

# started NAME ARG… : a container that sleeps.
started() {
    local name=$1
    shift
    docker run --detach --runtime stasis --network none --name "$name" "$@" "$IMAGE" sleep 1000 >/dev/null
}

pid_of() {
    docker inspect --format '{{.State.Pid}}' "$1"
}

# copies NAME : both ways, to and from root and volume; what the container does not have is not found.
copies() {
    local name=$1
    echo "in $name" >"$T/copied"
    docker cp "$T/copied" "$name:/tmp/copied"
    docker cp "$T/copied" "$name:/data/copied"
    rm -f "$T/back" "$T/passwd"
    docker cp "$name:/data/copied" "$T/back"
    [ "$(cat "$T/back")" = "in $name" ]
    docker cp "$name:/etc/passwd" "$T/passwd"
    cmp "$T/passwd" "$ROOTFS/etc/passwd"
    [ ! -e /tmp/copied ]
    [ ! -e /data/copied ]
    run ! docker cp "$name:$T/secret" "$T/back"
}

@test "docker cp in both directions: running, paused, stopped" {
    started cp --volume cpdata:/data
    copies cp
    [ "$(docker exec cp cat /tmp/copied /data/copied)" = "in cp"$'\n'"in cp" ]
    docker pause cp
    copies cp
    docker unpause cp
    docker stop --time 1 cp
    copies cp
    docker rm --volumes cp
}

@test "docker top lists what is the container's, and its pid shows nothing of the host" {
    started top
    run -0 docker top top -o pid,args
    echo "$output"
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[1]} =~ ^\ *"$(pid_of top)"\ +"sleep 1000"\ *$ ]]
    local pid
    pid=$(pid_of top)
    [ "$(cat "/proc/$pid/root/etc/passwd")" = "$(cat "$ROOTFS/etc/passwd")" ]
    run ! nsenter -t "$pid" -m -- /bin/sh -c "cat $T/secret"
    for ns in mnt pid ipc uts cgroup net; do
        [ "$(readlink "/proc/$pid/ns/$ns")" != "$(readlink "/proc/self/ns/$ns")" ]
    done
    docker kill top
    wait_until 10 dead "$pid"
    [ "$(docker inspect --format '{{.State.ExitCode}}' top)" = 137 ]
    docker rm top
}

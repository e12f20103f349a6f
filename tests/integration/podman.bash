# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after helpers.bash, by the file that tests archives with other engines: Podman with a storage of its own, whose
# OCI runtime is stasis, or runc with a CRIU that knows this kernel.

PEERS=$STASIS_OUT/peers/bin
IMAGE=localhost/interop:1

# Podman refuses an archive of a runtime of another name. So both have one, in a configuration file each.
podman_setup() {
    local kind
    declare -A runtime=([vm]=$STASIS_OUT/bin/stasis [host]=$(command -v runc))
    mkdir "$T/podman"
    for kind in vm host; do
        printf '%s\n' '[containers]' 'netns = "none"' 'log_driver = "k8s-file"' \
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]' \
            '[engine]' 'cgroup_manager = "cgroupfs"' 'events_logger = "none"' 'runtime = "stasis"' \
            '[engine.runtimes]' "stasis = [\"${runtime[$kind]}\"]" >"$T/podman/$kind.conf"
    done
    tar -C "$ROOTFS" --exclude=./.done -cf - . | podman vm import --change CMD=/bin/sh - "$IMAGE" >/dev/null
}

# Whatever a failed test has left.
podman_teardown() {
    podman vm rm --all --force --time 0
    podman host rm --all --force --time 0
    podman vm volume rm --all --force
    # The storage's own mount, and roots.
    umount "$T/podman/storage/overlay" "$T"/*/rootfs 2>/dev/null || true
}

# podman vm|host ARG… : with stasis, or with runc and the newer CRIU.
podman() {
    local kind=$1
    shift
    CONTAINERS_CONF=$T/podman/$kind.conf PATH=$PEERS:$PATH command podman --root "$T/podman/storage" \
        --runroot "$T/podman/run" --tmpdir "$T/podman/tmp" --storage-driver overlay "$@" 3>&-
}

# What the containers of these tests do: change their root in every way, and count, in a file and in memory; while there is
# a file /hold they have no children, as checkpointctl does not know a zombie.
# shellcheck disable=SC2016,SC2034 # for a shell in the container; for the file that loads this
PROGRAM='echo added >/added; echo more:x:9:9::/:/bin/sh >>/etc/passwd; rm /gone/file; rm -r /replace; mkdir -p /replace/sub
    echo new >/replace/sub/new; rm -r /dir-to-file; echo file >/dir-to-file; mkdir -m 700 /new; mkdir /new/dir; echo x >/new/dir/f
    i=0; while :; do i=$((i + 1)); echo $i >/count.new; mv /count.new /count; sleep 0.1
    while [ -e /hold ]; do :; done; done'

# The files that the program changes. Apart from the image, so that there are two layers.
make_layer() {
    mkdir -p "$1"/{gone,replace/sub,dir-to-file}
    echo old >"$1/gone/file"
    echo old >"$1/gone/stays"
    echo old >"$1/replace/old"
    echo old >"$1/replace/sub/old"
    echo old >"$1/dir-to-file/f"
}

# changed ROOT : it is as the program leaves it, but for the directories that were replaced. (A file that was changed, or
# has taken the place of a directory, Podman 4.3 takes along only if the host has one of its path.)
changed() {
    [ "$(cat "$1/added")" = added ]
    [[ $(cat "$1/etc/passwd") == root:*more:* ]]
    [ "$(ls "$1/gone")" = stays ]
    [ "$(stat -c %a "$1/new")" = 700 ]
    [ "$(cat "$1/new/dir/f")" = x ]
}

# replaced ROOT : the replaced directory is as the program leaves it. Podman 4.3 lists it as deleted, and when it
# restores such an archive, it is.
replaced() {
    [ "$(find "$1/replace" -printf '%P ')" = " sub sub/new " ]
    [ -z "$(find "$1" -xdev -name '.wh*' -print -quit)" ]
}

count_of() {
    cat "$1/count" 2>/dev/null || echo 0
}

# counts ROOT FROM : the program goes on, from where it was: it neither began again nor stands still.
counts() {
    count_above "$1" "$2" && [ "$(count_of "$1")" -lt $(($2 + 10000)) ]
}

# held COMMAND… : by the command, which runs another in the container, it comes to hold; ROOT is where its count is.
held() {
    local before=none now
    "$@" touch /hold
    now=$(count_of "$ROOT")
    while [ "$before" != "$now" ]; do
        before=$now
        sleep 0.5
        now=$(count_of "$ROOT")
    done
}

count_above() {
    [ "$(count_of "$1")" -gt "$2" ]
}

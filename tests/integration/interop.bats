#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Archives and other engines: Podman with stasis as its runtime, Podman with runc and CRIU on the host, checkpointctl.
bats_require_minimum_version 1.5.0
load helpers
load podman
setup_file() {
    file_setup
    "$STASIS_SRC/tests/integration/peers.sh" "$STASIS_OUT" >"$T/peers.out"
    make_layer "$T/layer"
    podman_setup
    # A second layer, as a base image has.
    local c m
    c=$(podman vm create "$IMAGE")
    m=$(podman vm mount "$c")
    cp -a "$T/layer/." "$m/"
    podman vm umount "$c" >/dev/null
    podman vm commit --quiet "$c" "$IMAGE" >/dev/null
    podman vm rm "$c" >/dev/null
}
teardown_file() {
    podman_teardown
    file_teardown
}

# started KIND NAME OPTION… : a container of Podman that runs the program, on its way.
started() {
    local kind=$1 name=$2
    shift 2
    podman "$kind" run --detach --name "$name" "$@" "$IMAGE" sh -c "$PROGRAM" >/dev/null
    wait_until 60 count_above "$(podman "$kind" mount "$name")" 2
}

# exported KIND NAME FILE : checkpointed into the archive, and gone. Leaves the count in $at.
exported() {
    ROOT=$(podman "$1" mount "$2") held podman "$1" exec "$2"
    podman "$1" container checkpoint --compress zstd --export "$3" "$2" >/dev/null
    at=$(count_of "$(podman "$1" mount "$2")")
    [ "$at" -ge 2 ]
    podman "$1" rm "$2" >/dev/null
}

# imported KIND NAME FILE OPTION… : goes on from $at.
imported() {
    local kind=$1 name=$2 file=$3 m
    shift 3
    podman "$kind" container restore --import "$file" "$@" >/dev/null
    podman "$kind" exec "$name" rm /hold
    m=$(podman "$kind" mount "$name")
    wait_until 60 counts "$m" "$at"
    changed "$m"
}

# bundle_of ARCHIVE NAME : a bundle for restoring it, made of its specification: on a fresh overlay, with files for what
# Podman has in its own directories.
bundle_of() {
    local dir=$T/$2
    mkdir -p "$dir"/{dump,upper,work,rootfs,shm,data}
    chmod 555 "$dir/upper" # as Podman's roots
    tar -C "$dir/dump" -xf "$1" spec.dump
    echo "from stasis" >"$dir/file"
    mount -t overlay overlay -o "lowerdir=$T/layer:$ROOTFS,upperdir=$dir/upper,workdir=$dir/work" "$dir/rootfs"
    jq --arg dir "$dir" '.root.path = "rootfs" | (.mounts[] | select(.type == "bind") | .source) |= $dir + "/file" |
        (.mounts[] | select(.destination == "/dev/shm") | .source) |= $dir + "/shm" |
        (.mounts[] | select(.destination == "/data") | .source) |= $dir + "/data"' "$dir/dump/spec.dump" \
        >"$dir/config.json"
}

# refused ARCHIVE MESSAGE : by inspect and by restore, which leave nothing behind.
refused() {
    local command
    mkdir -p "$T/tmp"
    for command in "checkpoint inspect $1" "restore --detach --import $1 --bundle $T/bundle hostile"; do
        # shellcheck disable=SC2086 # words
        TMPDIR=$T/tmp run stasis $command
        [ "$status" != 0 ]
        [[ $output == *"$2"* ]]
    done
    [ ! -e "$R/hostile" ]
    [ -z "$(ls -A "$T/tmp")" ]
}

# shown ARCHIVE : what checkpointctl prints of it, in both ways; it must not complain.
shown() {
    "$PEERS/checkpointctl" show "$1" 2>"$T/complaints"
    "$PEERS/checkpointctl" inspect --all --ps-tree --files --sockets --mounts --metadata "$1" 2>>"$T/complaints"
    cat "$T/complaints"
    [ ! -s "$T/complaints" ]
}

@test "Podman runs a container in a VM, checkpoints and restores it; its archive restores with stasis as well" {
    local archive=$T/podman.tar.zst
    started vm one --volume data:/data
    podman vm exec one sh -c 'echo kept >/data/file; echo kept >/dev/shm/file'
    exported vm one "$archive"
    podman vm volume rm data
    imported vm one "$archive"
    [ "$(podman vm exec one cat /data/file /dev/shm/file)" = kept$'\n'kept ]
    podman vm rm --force --time 0 one
    podman vm volume rm data

    run -0 stasis checkpoint inspect --json "$archive"
    [ "$(jq -r '[.engine, .name, .image, .runtime, .restorable] | map(tostring) | join(" ")' <<<"$output")" = \
        "podman one $IMAGE stasis true" ]
    run shown "$archive"
    echo "$output"
    [ "$status" = 0 ]
    [[ $output =~ $'\n'"one "[^$'\n']*" Podman " ]]

    bundle_of "$archive" bundle
    stasis restore --detach --import "$archive" --bundle "$T/bundle" plain </dev/null >"$T/plain.out" 2>&1 || {
        cat "$T/plain.out"
        return 1
    }
    stasis exec plain rm /hold
    wait_until 60 counts "$T/bundle/rootfs" "$at"
    changed "$T/bundle/rootfs"
    replaced "$T/bundle/rootfs"
    [ "$(stasis exec plain cat /etc/hosts)" = "from stasis" ]
    stasis delete --force plain

    zstd -qd "$archive" -o "$T/links.tar"
    cp "$T/links.tar" "$T/outside.tar"
    ln -s /etc "$T/link"
    tar -rPf "$T/links.tar" --transform 's|.*|checkpoint/link.img|' "$T/link"
    tar -rPf "$T/outside.tar" --transform 's|.*|checkpoint/../../outside|' "$T/bundle/file"
    refused "$T/links.tar" "a symbolic link is not allowed"
    refused "$T/outside.tar" "its name leads out of the archive"
    umount "$T/bundle/rootfs"
}

@test "an archive of stasis: checkpointctl shows it, Podman restores it, what CRI-O reads is in it" {
    local archive=$T/stasis.tar.zst m
    bundle own '.root.path = "rootfs"' '.process.capabilities[] += ["CAP_DAC_OVERRIDE"]'
    mkdir -p "$T/own"/{rootfs,upper,work}
    chmod 555 "$T/own/upper" # CRIU compares the modes, of the root as well
    mount -t overlay overlay -o "lowerdir=$T/layer:$ROOTFS,upperdir=$T/own/upper,workdir=$T/own/work" "$T/own/rootfs"
    args own sh -c "$PROGRAM"
    stasis run --detach --bundle "$T/own" web </dev/null >"$T/own.out" 2>&1
    wait_until 60 count_above "$T/own/rootfs" 2
    ROOT=$T/own/rootfs held stasis exec web
    stasis checkpoint --export "$archive" --rootfs-image "$IMAGE" web
    at=$(count_of "$T/own/rootfs")
    changed "$T/own/rootfs"
    replaced "$T/own/rootfs"
    [ "$(cat "$T/own/rootfs/dir-to-file")" = file ]
    [ ! -e "$R/web" ]
    umount "$T/own/rootfs"

    run shown "$archive"
    echo "$output"
    [ "$status" = 0 ]
    [[ $output =~ $'\n'"web "[^$'\n']*"$IMAGE"[^$'\n']*" stasis " ]]
    [[ $output =~ "Checkpoint size: "[1-9] && $output =~ "Root FS diff size: "[1-9] && $output =~ "Frozen time: "[1-9] ]]
    # It does not find the command line, as it does not know how CRIU 4.2 counts pages.
    [[ $output == *"[1] "* && $output == *"[cwd]  /"* && $output == *"Destination: /proc"* ]]
    [ "$(stasis checkpoint inspect --json "$archive" | jq -r '[.engine, .name, .image] | join(" ")')" = "stasis web $IMAGE" ]

    mkdir "$T/x"
    tar -C "$T/x" -xf "$archive"
    [ "$(jq -c sort "$T/x/deleted.files")" = '["/gone/file","/replace/old","/replace/sub/old"]' ]
    jq -e --arg image "$IMAGE" '.rootfsImageName == $image and .id == "web" and .name == "web" and .runtime == "stasis" and
        (.createdTime | startswith("2")) and (.checkpointedTime | startswith("2"))' "$T/x/config.dump"
    jq -e '.annotations["io.kubernetes.cri-o.Annotations"] | fromjson == {}' "$T/x/spec.dump"

    imported vm again "$archive" --name again
    m=$(podman vm mount again)
    replaced "$m"
    [ "$(cat "$m/dir-to-file")" = file ]
    podman vm rm --force --time 0 again
}

@test "a process moves from Podman with runc on the host into a VM, and another one out of it" {
    "$PEERS/criu" check >"$T/criu-check" 2>&1 || skip "CRIU does not work on this kernel: $(tail -n 1 "$T/criu-check")"
    # A program of the host must not have chosen instructions that the guest's CPU, emulated or not, may lack.
    started host inwards --env GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD
    exported host inwards "$T/inwards.tar.zst"
    imported vm inwards "$T/inwards.tar.zst"
    [ "$(podman vm exec inwards uname -r)" != "$(uname -r)" ]
    podman vm rm --force --time 0 inwards

    # crun, in the VM, and runc have other names for masks in CRIU's images.
    started vm outwards --security-opt unmask=ALL
    exported vm outwards "$T/outwards.tar.zst"
    imported host outwards "$T/outwards.tar.zst"
    [ "$(podman host exec outwards uname -r)" = "$(uname -r)" ]
    podman host rm --force --time 0 outwards
}

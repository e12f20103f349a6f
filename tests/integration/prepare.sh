#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the integration tests need beside the programs: a busybox root file system, the same as an OCI image that
# `ctr images import` takes, and the programs of tests/workloads. Made from what is installed, without a network.
# Usage: prepare.sh OUT
set -euo pipefail
root=$1/test-rootfs
image=$1/test-image.tar
workloads=$1/workloads

make_root() {
    local a
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,var/log,run,mnt,home}
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    for a in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$a" ] || ln -s busybox "$root/bin/$a"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:\n' >"$root/etc/group"
    printf '#!/bin/nonexistent\n' >"$root/bin/bad-interpreter"
    chmod 755 "$root/bin/bad-interpreter"
    echo data >"$root/bin/not-executable"
    chmod 644 "$root/bin/not-executable"
    touch "$root/.done"
}

# blob MEDIA-TYPE FILE : moves the file into the layout and prints its descriptor.
blob() {
    local digest size
    digest=$(sha256sum <"$2" | cut -d ' ' -f 1)
    size=$(stat -c %s "$2")
    mv "$2" "$layout/blobs/sha256/$digest"
    jq -cn --arg type "$1" --arg digest "sha256:$digest" --argjson size "$size" \
        '{mediaType: $type, digest: $digest, size: $size}'
}

# An OCI image layout: one uncompressed layer, so that its digest is the diff id as well.
make_image() {
    local new layer config manifest
    local oci=application/vnd.oci.image
    new=$(mktemp -d "$1/image.XXXXXX")
    layout=$new/layout
    mkdir -p "$layout/blobs/sha256"
    tar -C "$root" --exclude=./.done --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$new/layer" .
    layer=$(blob $oci.layer.v1.tar "$new/layer")
    jq -cn --argjson layer "$layer" --arg arch "$(dpkg --print-architecture)" '{architecture: $arch, os: "linux",
        config: {Env: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], Cmd: ["/bin/sh"]},
        rootfs: {type: "layers", diff_ids: [$layer.digest]}}' >"$new/config"
    config=$(blob $oci.config.v1+json "$new/config")
    jq -cn --arg type $oci.manifest.v1+json --argjson config "$config" --argjson layer "$layer" \
        '{schemaVersion: 2, mediaType: $type, config: $config, layers: [$layer]}' >"$new/manifest"
    manifest=$(blob $oci.manifest.v1+json "$new/manifest")
    jq -cn --argjson manifest "$manifest" '{schemaVersion: 2,
        manifests: [$manifest + {annotations: {"io.containerd.image.name": "stasis.test/busybox:1"}}]}' \
        >"$layout/index.json"
    echo '{"imageLayoutVersion": "1.0.0"}' >"$layout/oci-layout"
    tar -C "$layout" -cf "$new/tar" oci-layout index.json blobs
    mv "$new/tar" "$image"
    rm -rf "$new"
}

# Replaced only when they are others: containers that run have them open.
make_workloads() {
    local f source=tests/workloads
    ninja -C "$1" --quiet workloads
    mkdir -p "$workloads"
    for f in "$source"/*.c; do
        f=$(basename "$f" .c)
        [ "$f" = workload ] || cmp -s "$1/$source/$f" "$workloads/$f" || install -m 0755 "$1/$source/$f" "$workloads/"
    done
    cmp -s $source/shell.sh "$workloads/shell" || install -m 0755 $source/shell.sh "$workloads/shell"
}

[ -e "$root/.done" ] || make_root
[ "$image" -nt "$root/.done" ] || make_image "$1"
make_workloads "$1/build"

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Checkpoint and restore through containerd, with Debian's ctr. Its options for a checkpoint go out only when the runtime
# is called io.containerd.runc.v2, so there is a directory with our shim by that name.
bats_require_minimum_version 1.5.0
load helpers
load containerd
setup_file() {
    SHIMS=$(mktemp -d /tmp/stasis-shims.XXXXXX)
    export SHIMS
    ln -s "$STASIS_OUT/bin/containerd-shim-stasis-v2" "$SHIMS/containerd-shim-runc-v2"
    PATH=$SHIMS:$PATH containerd_setup
}
teardown_file() {
    containerd_teardown
    rm -rf "$SHIMS"
}
setup() { containerd_test_setup; }
teardown() { containerd_test_teardown; }

# Counts in its memory, and writes down how far it is.
COUNTER='i=0; while :; do i=$((i + 1)); echo $i >/count.new; mv /count.new /count; sleep 0.2; done'
count() {
    ex "$1" cat /count
}
counts() {
    [ "$(count "$1")" -gt "$2" ]
}

# drop_images NAME… : the content that only they refer to goes as well. This ctr cannot write the same configuration
# into one content store twice.
drop_images() {
    ctr images rm --sync "$@" >/dev/null
}

# in_second COMMAND… : with another containerd, its own root, content and snapshots, in place of the first.
in_second() {
    local two=$T/two
    T=$two R=$two/run/$NS CTR_ADDRESS=$two/containerd.sock "$@"
}
start_second() {
    mkdir -p "$T/run/$NS" "$T/fifo" "$T/tmp"
    write_config
    start_containerd
    ctr images import "$STASIS_OUT/test-image.tar" >/dev/null
}
stop_second() {
    remove_all
    nothing_left
    stop_containerd
    rm -rf "$T"
}

# damage FROM TO : a copy of an exported checkpoint with other contents in CRIU's memory map, and all digests right.
damage() {
    local dir=$T/damaged top index layer
    mkdir -p "$dir/images"
    tar -C "$dir" -xf "$1"
    top=$(jq -r '.manifests[0].digest' "$dir/index.json")
    index=$(jq -r '.manifests[] | select(.mediaType | endswith("checkpoint.criu.tar")) | .digest' "$(blob "$top")")
    tar -C "$dir/images" -xf "$(blob "$index")"
    head -c 4096 /dev/urandom | tee "$dir"/images/core-*.img >/dev/null
    tar -C "$dir/images" -cf "$dir/layer" .
    layer=$(put_blob "$dir/layer")
    jq -c --arg was "$index" --arg is "$layer" --argjson size "$(stat -c %s "$(blob "$layer")")" \
        '(.manifests[] | select(.digest == $was)) += {digest: $is, size: $size}' "$(blob "$top")" >"$dir/top"
    layer=$(put_blob "$dir/top")
    jq -c --arg is "$layer" --argjson size "$(stat -c %s "$(blob "$layer")")" \
        '.manifests[0] += {digest: $is, size: $size}' "$dir/index.json" >"$dir/index.new"
    mv "$dir/index.new" "$dir/index.json"
    tar -C "$dir" -cf "$2" oci-layout index.json blobs
    rm -rf "$dir"
}
blob() {
    echo "$T/damaged/blobs/sha256/${1#sha256:}"
}
put_blob() {
    local sum
    sum=$(sha256sum <"$1" | cut -d ' ' -f 1)
    mv "$1" "$T/damaged/blobs/sha256/$sum"
    echo "sha256:$sum"
}

@test "sleep 3600: checkpointed while it runs on, and started from that under a new id" {
    local name
    events
    start "$ID" sleep 3600
    name=$(ctr task checkpoint "$ID")
    echo "$name"
    task_is "$ID" RUNNING
    ctr images ls -q | grep -qxF "$name"
    wait_until 10 has_topic "$ID" checkpointed
    [ "$(topics "$ID")" = "create start paused checkpointed resumed" ]
    drop_images "$name"

    ctr container checkpoint --rw --image --task "$ID" stasis.test/checkpoint:1
    task_is "$ID" RUNNING
    ex "$ID" true
    remove "$ID"
    ctr container restore --rw --live "$ID-new" stasis.test/checkpoint:1 </dev/null >"$T/out.$ID" 2>&1 || {
        cat "$T/out.$ID"
        false
    }
    task_is "$ID-new" RUNNING
    [ "$(ex "$ID-new" cat /proc/1/cmdline | tr '\0' ' ')" = "sleep 3600 " ]
    remove "$ID-new"
    drop_images stasis.test/checkpoint:1
}

@test "export, import into another containerd, restore there; a damaged one leaves a task that can be deleted" {
    local before
    start "$ID" sh -c "$COUNTER"
    wait_until 20 counts "$ID" 3
    ex "$ID" sh -c 'echo written >/data'
    ctr container checkpoint --rw --image --task "$ID" stasis.test/checkpoint:2
    before=$(count "$ID")
    # Docker's manifest this ctr cannot make of it: it takes the layer with the container's files for one of an image.
    ctr images export --skip-manifest-json "$T/checkpoint.tar" stasis.test/checkpoint:2
    remove "$ID"
    drop_images stasis.test/checkpoint:2

    in_second start_second
    in_second ctr images import --no-unpack "$T/checkpoint.tar" >/dev/null
    in_second ctr container restore --rw --live there stasis.test/checkpoint:2 </dev/null >"$T/out.$ID" 2>&1 || {
        cat "$T/out.$ID"
        false
    }
    in_second task_is there RUNNING
    # It goes on where it was: from nothing it would not be as far as that for a while.
    in_second counts there $((before - 5))
    in_second wait_until 20 counts there "$before"
    [ "$(in_second ex there cat /data)" = written ]
    in_second remove there
    in_second drop_images stasis.test/checkpoint:2

    damage "$T/checkpoint.tar" "$T/damaged.tar"
    in_second ctr images import --no-unpack "$T/damaged.tar" >/dev/null
    run in_second ctr container restore --rw --live bad stasis.test/checkpoint:2
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *"cannot restore"* ]]
    [ "$(in_second task_field bad 3)" != RUNNING ]
    in_second remove bad
    in_second stop_second
}

@test "--exit, --image-path, --work-path; an exec'd shell is named, and nothing is disturbed" {
    local bundle=$T/containerd/state/io.containerd.runtime.v2.task/$NS/$ID images=$T/images.$ID work=$T/work.$ID before
    RUNTIME=io.containerd.runc.v2 start "$ID" sh -c "$COUNTER"
    # What --rw would keep, and the configuration, for another engine.
    ctr task exec -d --exec-id a-shell "$ID" sh -c 'sleep 1000' </dev/null
    run ctr task checkpoint --exit --image-path "$images" --work-path "$work" "$ID"
    echo "$output"
    [ "$status" != 0 ]
    [[ $output == *a-shell* ]]
    task_is "$ID" RUNNING
    [ ! -e "$images/inventory.img" ]
    before=$(count "$ID")
    wait_until 20 counts "$ID" "$before"
    ctr task kill --exec-id a-shell -s KILL "$ID"
    wait_until 20 no_execs
    ctr task delete --exec-id a-shell "$ID" >/dev/null 2>&1 || true

    mkdir -p "$T/bundle.$ID"
    jq --arg root "$T/bundle.$ID/rootfs" '.root.path = $root' "$bundle/config.json" >"$T/bundle.$ID/config.json"
    before=$(count "$ID")
    ctr task checkpoint --exit --image-path "$images" --work-path "$work" "$ID"
    wait_until 20 task_is "$ID" STOPPED
    [ -s "$images/inventory.img" ]
    [ -s "$work/dump.log" ]
    remove "$ID"

    # By another engine, the CLI, whose root file system is the same but for what the container wrote.
    cp -a "$ROOTFS" "$T/bundle.$ID/rootfs"
    "$STASIS" --root "$T/run/$NS" restore --detach --bundle "$T/bundle.$ID" --image-path "$images" \
        --work-path "$work" cli </dev/null >"$T/out.$ID" 2>&1 || {
        cat "$T/out.$ID"
        false
    }
    cli_counts() { [ "$(cat "$T/bundle.$ID/rootfs/count" 2>/dev/null || echo 0)" -gt "$before" ]; }
    wait_until 20 cli_counts
    "$STASIS" --root "$T/run/$NS" delete --force cli
    rm -rf "$T/bundle.$ID" "$images" "$work"
}

@test "--image-path, --work-path and --exit, each by itself" {
    local images=$T/images.$ID work=$T/work.$ID name before
    RUNTIME=io.containerd.runc.v2 start "$ID" sh -c "$COUNTER"
    ctr task checkpoint --image-path "$images" "$ID"
    task_is "$ID" RUNNING
    [ -s "$images/inventory.img" ]
    name=$(ctr task checkpoint --work-path "$work" "$ID")
    task_is "$ID" RUNNING
    [ -s "$work/dump.log" ]
    ctr images ls -q | grep -qxF "$name"
    before=$(count "$ID")
    wait_until 20 counts "$ID" "$before"
    # One of a specification at a time: docs/checkpoint.md.
    drop_images "$name"
    name=$(ctr task checkpoint --exit "$ID")
    wait_until 20 task_is "$ID" STOPPED
    ctr images ls -q | grep -qxF "$name"
    remove "$ID"
    drop_images "$name"
    rm -rf "$images" "$work"
}
no_execs() {
    [ "$(ctr task ps "$ID" | grep -c a-shell)" = 0 ]
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A snapshot that goes to another host: exported, removed, imported into another store, restored there.
bats_require_minimum_version 1.5.0
load helpers
load checkpoint
load snapshot
setup_file() {
    file_setup
    snapshot_setup
}
teardown_file() {
    file_teardown
}
teardown() {
    delete_all
    ! mountpoint -q "$T/m/rootfs" || umount "$T/m/rootfs"
}

# A root that is an overlay, and a volume.
bundle_on_overlay() {
    mkdir "$T/m"
    bundle m '.mounts += [{destination: "/volume", type: "bind", source: "'"$T/m/volume"'", options: ["rbind", "rw"]}]'
    mkdir "$T/m/upper" "$T/m/work" "$T/m/rootfs" "$T/m/volume" "$T/other"
    mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$T/m/upper,workdir=$T/m/work" "$T/m/rootfs"
    edit "$T/m" '.root.path = "rootfs"'
}

elsewhere() {
    CONF=$T/elsewhere.conf "$@"
}

@test "exported, removed, imported into another store: its mount must be allowed, then it goes on as a copy" {
    local n saved before clock after
    bundle_on_overlay
    args m sh -c "echo of-the-first >/own; echo kept >/volume/kept; $COUNTER"
    run_detached m
    counts m
    create --stop m moved
    saved=$(date +%s)
    n=$(in_root m n)
    # What the container has written, and no more: the rest is below the overlay.
    [ "$(cat "$S/moved/roots/0/own")" = of-the-first ]
    [ ! -e "$S/moved/roots/0/bin" ]
    restore --id beside moved
    [ "$(stasis exec beside cat /own)" = of-the-first ]
    counts beside "$n"
    stasis delete --force beside
    stasis delete --force m
    stasis snapshot export --quiet moved "$T/moved.tar.zst"
    [ "$(stat -c %a "$T/moved.tar.zst")" = 600 ]
    stasis snapshot rm moved
    # What the root stood on is not there any more either.
    umount "$T/m/rootfs"
    rm -rf "$T/m/upper" "$T/m/volume"

    sed "s#^dir = .*#dir = $T/elsewhere#" "$CONF" >"$T/elsewhere.conf"
    elsewhere stasis snapshot import "$T/moved.tar.zst"
    elsewhere stasis snapshot verify moved
    elsewhere fails "$T/m/volume" -- snapshot restore moved
    later() { [ "$(date +%s)" -ge $((saved + 6)) ]; }
    wait_until 20 later
    elsewhere restore --allow-mount "$T/m/volume=$T/other" --id copy moved
    # The guest did not see these seconds pass.
    before=$(date +%s)
    clock=$(stasis exec copy date +%s)
    after=$(date +%s)
    echo "between $before and $after the clock of the copy said $clock"
    [ "$clock" -ge $((before - 2)) ]
    [ "$clock" -le $((after + 2)) ]
    counts copy "$n"
    [ "$(stasis exec copy cat /own)" = of-the-first ]
    [ "$(stasis exec copy hostname)" = copy ]
    stasis exec copy sh -c 'test ! -e /volume/kept && echo here >/volume/new'
    [ "$(cat "$T/other/new")" = here ]
    stasis delete --force copy
    elsewhere stasis snapshot rm moved
    [ -z "$(ls -A "$T/elsewhere")" ]
}

@test "unix sockets: who connects by name reaches the listener, in the tenth copy and in one that was moved" {
    local i
    pack s sockets
    run_detached s
    pack_set_up s
    # Each copy of the root takes the inode number that the next one needs.
    for i in 0 1 2 3 4 5 6 7 8; do
        create s "s$i"
    done
    stasis snapshot create --json s s9 >"$T/created"
    jq -e '.warnings == []' "$T/created"
    restore --id copy s9
    pack_passes copy
    stasis delete --force copy

    stasis snapshot export --quiet s9 "$T/s9.tar.zst"
    sed "s#^dir = .*#dir = $T/elsewhere#" "$CONF" >"$T/elsewhere.conf"
    elsewhere stasis snapshot import "$T/s9.tar.zst"
    elsewhere restore --allow-mount "$STASIS_OUT/workloads" --allow-mount "$T/s/volume" --id moved s9
    pack_passes moved
    pack_passes s
    stasis snapshot rm --all >/dev/null
}

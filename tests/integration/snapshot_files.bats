#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What happens to the files of a volume between a snapshot and its restore: the copy finds those that are open by their
# names.
bats_require_minimum_version 1.5.0
load helpers
load snapshot
setup_file() {
    file_setup
    snapshot_setup
    mkdir "$T/volume" "$T/other"
    bundle c '.mounts += [{destination: "/volume", type: "bind", source: "'"$T/volume"'", options: ["rbind", "rw"]}]'
    args c sh -c 'cd /volume/dir; exec 5</volume/gone 6</volume/replaced 7</volume/kept 8>/volume/forced; echo ready >/volume/ready
        exec sleep 100000'
    make_files "$T/volume"
    run_detached c
    wait_until 60 test -e "$T/volume/ready"
    wait_until 60 stasis exec c pidof sleep
    create c saved
}
teardown_file() {
    delete_all
    stasis snapshot rm --all >/dev/null
    file_teardown
}
# With the numbers of inodes that they had.
setup() {
    [ ! -e "$T/aside" ] || mv -f "$T/aside" "$T/volume/$(cat "$T/aside.name")"
}
teardown() {
    local id
    for id in $(stasis list -q | grep -v '^c$'); do
        stasis delete --force "$id"
    done
}

make_files() {
    local n
    for n in gone replaced kept forced; do
        echo "$n of ${1##*/}" >"$1/$n"
    done
    mkdir "$1/dir"
}
put_aside() {
    mv "$T/volume/$1" "$T/aside"
    echo "$1" >"$T/aside.name"
}
# read_fd ID FD : the first line of a file that the container's process has open.
read_fd() {
    stasis exec "$1" sh -c "head -n 1 /proc/\$(pidof sleep)/fd/$2"
}
nothing_but_c() {
    [ "$(stasis list -q)" = c ]
    no_layers copy
    no_layers copy-1
}

@test "files that were only written to are what they were" {
    echo more >>"$T/volume/kept"
    truncate -s 0 "$T/volume/forced"
    restore --id copy saved
    [ "$(read_fd copy 7)" = "kept of volume" ]
    clones -n 2 --prefix copy saved
    [ "$(read_fd copy-2 5)" = "gone of volume" ]
}

@test "a file that is gone, or a directory that a process is in: restore and clone are refused with its name and process" {
    put_aside gone
    fails "/volume/gone (sleep in c, pid " ") is gone" -- snapshot restore --id copy saved
    nothing_but_c
    fails "/volume/gone (sleep in c, pid " ") is gone" -- snapshot clone --prefix copy saved
    nothing_but_c
    setup
    put_aside dir
    fails "/volume/dir (sleep in c, pid " ") is gone" -- snapshot restore --id copy saved
    nothing_but_c
}

@test "a file that was replaced by a rename is another one" {
    put_aside replaced
    echo new >"$T/volume/new"
    mv "$T/volume/new" "$T/volume/replaced"
    fails "/volume/replaced (sleep in c, pid " ") is another file" -- snapshot restore --id copy saved
    nothing_but_c
    fails "is another file" -- snapshot clone --prefix copy saved
    nothing_but_c
    restore --force --id copy saved
    [ "$(read_fd copy 6)" = new ]
}

@test "--force: only that file gives errors, the rest goes on" {
    put_aside gone
    restore --force --id copy saved
    fails -- exec copy cat /volume/gone
    [ "$(read_fd copy 7)" = "kept of volume" ]
    clones --force --prefix copy saved
    [ "$(read_fd copy-1 7)" = "kept of volume" ]
}

@test "another volume in its place has other files: it need only have them" {
    make_files "$T/other"
    restore --allow-mount "$T/volume=$T/other" --id copy saved
    [ "$(read_fd copy 6)" = "replaced of other" ]
    stasis delete --force copy
    rm "$T/other/replaced"
    fails "/volume/replaced" "is gone" -- snapshot restore --allow-mount "$T/volume=$T/other" --id copy saved
}

@test "what a snapshot was forced to take without, its copies are made without" {
    put_aside forced
    rm "$T/aside"
    fails /volume/forced -- snapshot create c nope
    create --force c forced
    restore --id copy forced
    put_aside gone
    fails "/volume/gone" -- snapshot restore --id copy-2 forced
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a restore changes on the host, and when: the root of an archive's changes, mount points, the id.
bats_require_minimum_version 1.5.0
load helpers
setup_file() {
    file_setup
    mkdir -p "$T/tmp"
    export TMPDIR=$T/tmp
    # A container on an overlay, which changes its root; its archive is $T/web.tar.
    layers web
    edit "$T/web" '.process.capabilities[] += ["CAP_DAC_OVERRIDE", "CAP_FSETID"]'
    # shellcheck disable=SC2016 # for the shell in the container
    args web sh -c 'echo changed >/etc/passwd; rm -r /usr/share; mkdir /new; echo x >/new/x; busybox dd if=/dev/null of=/sparse bs=1M seek=4194304; '"$COUNTER"
    stasis run --detach --bundle "$T/web" web >"$T/web.out" 2>&1 </dev/null
    wait_until 60 counted web 3
    stasis checkpoint --export "$T/web.tar" web 3>&-
    [ ! -e "$R/web" ]
}
teardown_file() {
    local m
    for m in "$T"/*/rootfs; do
        ! mountpoint -q "$m" || umount "$m"
    done
    file_teardown
}
teardown() {
    local id
    for id in $(stasis list -q); do
        stasis delete --force "$id"
    done
}

# layers NAME : a bundle on a fresh overlay.
layers() {
    local dir=$T/$1
    bundle "$1" '.root.path = "rootfs"'
    [ -e "$T/low" ] || {
        cp -a "$ROOTFS" "$T/low"
        mkdir -p "$T/low/usr/share/doc" "$T/low/etc"
        echo root >"$T/low/etc/passwd"
        echo doc >"$T/low/usr/share/doc/x"
    }
    mkdir -p "$dir/rootfs" "$dir/upper" "$dir/work"
    mount -t overlay overlay -o "lowerdir=$T/low,upperdir=$dir/upper,workdir=$dir/work" "$dir/rootfs"
}
counted() {
    [ "$(cat "$T/$1/rootfs/n" 2>/dev/null || echo 0)" -gt "$2" ]
}
# looks NAME : all that can be seen of its root. (What is read of a sparse file is not its content.)
looks() {
    (cd "$T/$1/rootfs" && find . ! -type d -printf '%p %y %m %U %G %s %T@ %l\n' -o -printf '%p %y %m %U %G %T@\n' | LC_ALL=C sort &&
        find . -type f -size -1M | LC_ALL=C sort | xargs sha256sum)
}
# untouched NAME : it looks as in $T/before, and nothing of an import is left but CRIU's logs.
untouched() {
    rm -rf "$T"/tmp/stasis-restore.*
    looks "$1" | diff "$T/before" - &&
        [ ! -e "$T/$1/.stasis-restore" ] && [ -z "$(ls -A "$T/tmp")" ]
}

@test "an archive's changes are applied to a fresh overlay, files with terabytes of holes too" {
    layers one
    stasis restore --detach --import "$T/web.tar" --bundle "$T/one" one >"$T/one.out" 2>&1 </dev/null || {
        cat "$T/one.out"
        return 1
    }
    wait_until 60 counted one "$(cat "$T/web/rootfs/n")"
    [ "$(cat "$T/one/rootfs/etc/passwd" "$T/one/rootfs/new/x")" = changed$'\n'x ]
    [ ! -e "$T/one/rootfs/usr/share" ]
    [ "$(stat -c %s "$T/one/rootfs/sparse")" = $((4 << 40)) ]
    [ "$(stat -c %s "$T/web.tar")" -lt $((100 << 20)) ]
    [ ! -e "$T/one/.stasis-restore" ]
    [ -z "$(ls -A "$T/tmp")" ]
    [ -z "$(find "$T/one/rootfs" -maxdepth 1 -name '.stasis*')" ]

    # Its root is in use, whatever the id.
    local at n
    at=$(stat -c %i "$T/one/rootfs/etc/passwd")
    for n in one two; do
        run stasis restore --detach --import "$T/web.tar" --bundle "$T/one" $n </dev/null
        echo "$output"
        [ "$status" = 1 ]
        [[ $output == *"already exists"* || $output == *"container one has"* ]]
    done
    [ "$at" = "$(stat -c %i "$T/one/rootfs/etc/passwd")" ]
    status_is one running
}

@test "a restore that fails leaves the root as it was: the id, the VM, the archive, CRIU" {
    layers two
    looks two >"$T/before"
    # refused WORDS CONF ARCHIVE ID
    refused() {
        run "$STASIS" --root "$R" ${2:+--config "$2"} restore --detach --import "$3" --bundle "$T/two" "$4" </dev/null
        echo "$output"
        # shellcheck disable=SC2154 # run sets it
        [ "$status" = 1 ] && [[ $output == *$1* ]] && untouched two && [ ! -e "$R/$4" ]
    }
    refused "invalid" "" "$T/web.tar" "a/b"
    printf '[vm]\nvmm_root = /nowhere\n' >"$T/no-vmm.conf"
    refused "no VMM root at /nowhere" "$T/no-vmm.conf" "$T/web.tar" two

    # The difference is wrong at its end.
    mkdir "$T/parts" "$T/fifty"
    tar -C "$T/parts" -xf "$T/web.tar"
    for n in $(seq 50); do echo "$n" >"$T/fifty/$n"; done
    touch "$T/fifty/last"
    tar -C "$T/fifty" -cf "$T/parts/rootfs-diff.tar" --transform 's,^last$,../x,' $(seq 50) last
    tar -C "$T/parts" -cf "$T/bad.tar" .
    refused "its name leads out of the archive" "" "$T/bad.tar" two

    # CRIU refuses the images when the root has been changed.
    tar -C "$T/parts" -xf "$T/web.tar"
    rm "$T"/parts/checkpoint/core-*.img
    tar -C "$T/parts" -cf "$T/bad.tar" .
    refused "cannot restore container two" "" "$T/bad.tar" two
    stasis restore --detach --import "$T/web.tar" --bundle "$T/two" two >"$T/two.out" 2>&1 </dev/null
    status_is two running
}

@test "a setuid file for a root that other users reach: refused" {
    layers four
    mkdir -p "$T/suid"
    tar -C "$T/suid" -xf "$T/web.tar"
    mkdir "$T/s"
    echo x >"$T/s/tool"
    chmod 4755 "$T/s/tool"
    tar -C "$T/s" -cf "$T/suid/rootfs-diff.tar" tool
    tar -C "$T/suid" -cf "$T/suid.tar" .
    looks four >"$T/before"
    chmod 755 "$T"
    run stasis restore --detach --import "$T/suid.tar" --bundle "$T/four" four </dev/null
    chmod 700 "$T"
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"/tool"*"chmod 700"* ]]
    untouched four
}

@test "checkpoint, then restore under the same id; run and its monitor end with 137" {
    bundle_own_rootfs five
    args five sh -c "$COUNTER"
    stasis run --bundle "$T/five" five >"$T/five.out" 2>&1 </dev/null 3>&- &
    local pid=$! code=0 at
    wait_until 60 counted five 3
    stasis checkpoint --image-path "$T/images" five 3>&- && at=$(cat "$T/five/rootfs/n") &&
        stasis restore --detach --image-path "$T/images" --bundle "$T/five" five >"$T/five2.out" 2>&1 </dev/null
    wait $pid || code=$?
    [ $code = 137 ]
    cat "$T/five.out"
    [ ! -s "$T/five.out" ]
    wait_until 60 counted five "$at"
    local monitor
    monitor=$(jq .pid "$R/five/state.json")
    stasis checkpoint --image-path "$T/images" five 3>&-
    wait_until 10 dead "$monitor"
    [ ! -e "$R/five" ]
}

@test "mount points in an empty volume are made, by run and by restore" {
    bundle_own_rootfs six '.mounts += [
        {destination: "/data", type: "bind", source: "'"$T"'/six/volume", options: ["rbind", "rw"]},
        {destination: "/data/deep/tmp", type: "tmpfs", source: "tmpfs"},
        {destination: "/data/inner", type: "bind", source: "'"$T"'/six/other", options: ["rbind", "rw"]},
        {destination: "/data/inner/file", type: "bind", source: "'"$T"'/six/text", options: ["bind"]}]'
    mkdir "$T/six/volume" "$T/six/other"
    echo text >"$T/six/text"
    # shellcheck disable=SC2016
    args six sh -c 'echo 1 >/data/deep/tmp/t; '"$COUNTER"
    stasis run --detach --bundle "$T/six" six >"$T/six.out" 2>&1 </dev/null
    wait_until 60 counted six 3
    # What they look like by run.
    (cd "$T/six" && find volume other -printf '%p %y %m %U %s\n' | sort) >"$T/by-run"
    stasis checkpoint --image-path "$T/images6" six 3>&-
    rm -r "$T/six/volume" "$T/six/other"
    mkdir "$T/six/volume" "$T/six/other"
    stasis restore --detach --image-path "$T/images6" --bundle "$T/six" six >"$T/six.out" 2>&1 </dev/null || {
        cat "$T/six.out"
        return 1
    }
    [ "$(stasis exec six cat /data/inner/file /data/deep/tmp/t)" = text$'\n'1 ]
    (cd "$T/six" && find volume other -printf '%p %y %m %U %s\n' | sort) | diff "$T/by-run" -
}

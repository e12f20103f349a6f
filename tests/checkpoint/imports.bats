#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# restore --import when the disk fails while the root is changed; see tests/integration/import.bats for what runs with every
# change.
bats_require_minimum_version 1.5.0
load ../integration/helpers
setup_file() {
    file_setup
    mkdir -p "$T/tmp" "$T/low"
    cp -a "$ROOTFS/." "$T/low"
    mkdir -p "$T/low/usr/share/doc" "$T/low/etc" "$T/low/dir/sub"
    touch "$T/low/etc/one" "$T/low/usr/share/doc/x" "$T/low/dir/sub/file"
}
teardown_file() {
    local m
    for m in "$T"/*/rootfs; do
        ! mountpoint -q "$m" || umount "$m"
    done
    file_teardown
}

# layers NAME : a bundle on a fresh overlay.
layers() {
    local dir=$T/$1
    bundle "$1" '.root.path = "rootfs"'
    mkdir -p "$dir/rootfs" "$dir/upper" "$dir/work"
    mount -t overlay overlay -o "lowerdir=$T/low,upperdir=$dir/upper,workdir=$dir/work" "$dir/rootfs"
}
counted() {
    [ "$(cat "$T/$1/rootfs/n" 2>/dev/null || echo 0)" -gt "$2" ]
}
# looks NAME : all that can be seen of its root.
looks() {
    (cd "$T/$1/rootfs" && find . ! -type d -printf '%p %y %m %U %G %s %T@ %l\n' -o -printf '%p %y %m %U %G %T@\n' | LC_ALL=C sort &&
        find . -type f | LC_ALL=C sort | xargs sha256sum)
}

# fails_at CALL N : a restore whose N-th such call fails leaves the root as it was, and nothing else.
fails_at() {
    echo "-- $1 $2"
    TMPDIR=$T/tmp run strace -o "$T/calls" -e "trace=$1" -e "inject=$1:error=ENOSPC:when=$2" \
        "$STASIS" --root "$R" restore --detach --import "$T/src.tar" --bundle "$T/new" new </dev/null 3>&-
    # shellcheck disable=SC2154 # run sets them
    echo "$output"
    grep -q INJECTED "$T/calls"
    [ "$status" = 1 ]
    [[ $output == *"No space left on device"* ]]
    [ ! -e "$R/new" ]
    [ ! -e "$T/new/.stasis-restore" ]
    looks new | diff "$T/before" -
    rm -rf "$T"/tmp/stasis-restore.*
    [ -z "$(ls -A "$T/tmp")" ]
}

@test "no room at each write to the root: it is what it was, and then it is restored" {
    local step n numbers at
    layers src
    # shellcheck disable=SC2016 # for the shell in the container
    args src sh -c 'echo two >/etc/one; ln /etc/one /etc/two; ln -s x /link; mkfifo /pipe; rm -r /usr/share; rm -r /dir
        mkdir -p /new/er /dir/other; chmod 700 /etc; echo x >/new/er/x; '"$COUNTER"
    stasis run --detach --bundle "$T/src" src >"$T/src.out" 2>&1 </dev/null 3>&-
    wait_until 60 counted src 3
    stasis checkpoint --export "$T/src.tar" src 3>&-
    at=$(cat "$T/src/rootfs/n")
    layers new
    looks new >"$T/before"
    # There are more calls of each kind than the last number says. (The unpacking calls ftruncate, too.)
    for step in "renameat 1 2 3" "mkdirat 2 3 5" "fchown 1 4" "fchmod 1 4" "pwritev 1 2 8 20" "symlinkat 1" "linkat 1" \
        "mknodat 1" "ftruncate 20" "utimensat 1 2"; do
        read -ra numbers <<<"$step"
        for n in "${numbers[@]:1}"; do
            fails_at "${numbers[0]}" "$n"
        done
    done
    stasis restore --detach --import "$T/src.tar" --bundle "$T/new" new >"$T/new.out" 2>&1 </dev/null 3>&-
    wait_until 60 counted new "$at"
    [ "$(stat -c %a "$T/new/rootfs/etc")" = 700 ]
    stasis delete --force new
}

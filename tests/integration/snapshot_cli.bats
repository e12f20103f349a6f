#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The command line of snapshots, as far as it needs no VM: help, names, what is not there, archives that are none.
bats_require_minimum_version 1.5.0
load helpers
setup_file() {
    file_setup
    printf '[snapshot]\ndir = %s\ntemplates = %s\n' "$T/snapshots" "$T/templates" >"$T/stasis.conf"
}
teardown_file() { file_teardown; }

snapshot() {
    stasis --config "$T/stasis.conf" snapshot "$@"
}

# refused STATUS TEXT COMMAND… : fails with that exit code and says TEXT.
refused() {
    local status_wanted=$1 text=$2
    shift 2
    run "$@"
    echo "$output"
    [ "$status" = "$status_wanted" ]
    [[ $output == *"$text"* ]]
}

@test "help: of the groups, of each command, by help and by --help" {
    local c
    run -0 stasis snapshot
    for c in clone create export import inspect ls restore rm verify; do
        [[ $output == *"   $c "* ]]
        run -0 stasis snapshot "$c" --help
        [[ $output == *"stasis snapshot $c - "* ]]
        run -0 stasis help snapshot "$c"
        [[ $output == *"stasis snapshot $c - "* ]]
        run -0 stasis snapshot
    done
    run -0 stasis template --help
    for c in build inspect ls rm; do
        [[ $output == *"   $c "* ]]
    done
    run -0 stasis --help
    [[ $output == *"attach "* && $output == *"snapshot "* && $output == *"template "* ]]
    refused 3 "No help topic for 'nope'" stasis snapshot nope
    refused 1 "flag provided but not defined: -nope" stasis snapshot ls --nope
    refused 1 "requires exactly 2 argument(s)" stasis snapshot create x
}

@test "no store: nothing to list, and every name is unknown" {
    [ "$(snapshot ls -q)" = "" ]
    [ "$(snapshot ls --json)" = "[]" ]
    [ ! -e "$T/snapshots" ]
    local c
    for c in restore clone inspect verify rm; do
        refused 1 "there is no snapshot nope" snapshot "$c" nope
    done
    refused 1 "there is no snapshot nope" snapshot export nope "$T/nope.tar"
    [ ! -e "$T/nope.tar" ]
    snapshot rm --force nope
    refused 1 "there is no template nope" stasis --config "$T/stasis.conf" template inspect nope
}

@test "names that are none, sandboxes that are none" {
    local n
    for n in ../x /etc . .. "a b" -x; do
        refused 1 "" snapshot inspect -- "$n"
        refused 1 "" snapshot import --name "$n" "$T/stasis.conf"
    done
    refused 1 "there is no sandbox and no container nope" snapshot create nope s
    refused 1 "container does not exist" stasis attach nope
}

@test "archives that are none leave nothing" {
    printf 'hello' >"$T/text.tar"
    mkdir -p "$T/dir"
    echo '{}' >"$T/dir/manifest.json"
    tar -C "$T/dir" -cf "$T/empty-manifest.tar" manifest.json
    tar -C "$T" -cf "$T/other.tar" stasis.conf
    zstd -q -c "$T/other.tar" >"$T/other.tar.zst"
    head -c 100 "$T/other.tar" >"$T/cut.tar"
    mkfifo "$T/fifo.tar"
    refused 1 "cannot import" snapshot import "$T/text.tar"
    refused 1 "manifest" snapshot import "$T/empty-manifest.tar"
    refused 1 "no snapshot begins like this" snapshot import "$T/other.tar"
    refused 1 "no snapshot begins like this" snapshot import "$T/other.tar.zst"
    refused 1 "cannot import" snapshot import "$T/cut.tar"
    refused 1 "not a regular file" snapshot import "$T/fifo.tar"
    refused 1 "cannot import" snapshot import "$T/dir"
    refused 1 "No such file" snapshot import "$T/nope.tar"
    snapshot import - </dev/null 2>"$T/err" && false
    grep "cannot import -" "$T/err"
    [ "$(snapshot ls -q)" = "" ]
    [ "$(find "$T/snapshots" -mindepth 1 | wc -l)" = 0 ]
}

@test "a store that others may write to is not used" {
    mkdir -p "$T/open"
    chmod 0777 "$T/open"
    printf '[snapshot]\ndir = %s\n' "$T/open" >"$T/open.conf"
    refused 1 "$T/open" stasis --config "$T/open.conf" snapshot ls
    refused 1 "$T/open" stasis --config "$T/open.conf" snapshot import "$T/stasis.conf"
}

# SPDX-License-Identifier: Apache-2.0
# make install and uninstall, with and without the alias for Kata's runtime name, and a container through the alias.

load helpers
load containerd

export RUNTIME=io.containerd.kata.v2

setup_file() {
    # Made before containerd starts, whose PATH has it; with it everything a shim needs, at an installed prefix.
    D=$(mktemp -d /tmp/stasis-install.XXXXXX)
    export D PREFIX=/usr/local BIN=$D/usr/local/bin
    export PATH=$PATH:$BIN
    containerd_setup
}

teardown_file() {
    containerd_teardown
    rm -rf "$D"
}

setup() {
    containerd_test_setup
}

teardown() {
    containerd_test_teardown
}

# What is installed is what the tests run with: nothing is built.
make_() {
    MAKEFLAGS='' make -C "$STASIS_SRC" --old-file=setup DESTDIR="$D" PREFIX="$PREFIX" "$@"
}

@test "install makes the programs and what a sandbox needs, and no alias" {
    make_ install
    "$BIN/stasis" --version
    "$BIN/containerd-shim-stasis-v2" -v | grep -x '  Runtime: io.containerd.stasis.v2'
    [ -e "$D$PREFIX/lib/stasis/guest/current/vmlinux" ]
    [ -d "$D$PREFIX/lib/stasis/vmm/current/root" ]
    [ ! -e "$BIN/containerd-shim-kata-v2" ]
}

@test "install KATA_ALIAS=1 makes a link that answers by Kata's name" {
    make_ install KATA_ALIAS=1
    [ "$(readlink "$BIN/containerd-shim-kata-v2")" = containerd-shim-stasis-v2 ]
    "$BIN/containerd-shim-kata-v2" -v | grep -x '  Runtime: io.containerd.kata.v2'
    make_ install KATA_ALIAS=1
}

@test "a container runs as io.containerd.kata.v2" {
    run ctr_run --rm -- "$ID" uname -r </dev/null
    [ "$status" = 0 ]
    [ "$output" != "$(uname -r)" ]
    [[ $output == 6.* ]]
}

@test "a task of the alias is listed, and State and delete work" {
    start "$ID" sleep 1000
    task_is "$ID" RUNNING
    ctr container info "$ID" | jq -e '.Runtime.Name == "io.containerd.kata.v2"'
    remove "$ID"
}

@test "install does not replace another's shim of that name, and uninstall leaves it" {
    rm "$BIN/containerd-shim-kata-v2"
    echo kata >"$BIN/containerd-shim-kata-v2"
    run make_ install KATA_ALIAS=1
    [ "$status" != 0 ]
    [[ $output == *"containerd-shim-kata-v2 is somebody else's"* ]]
    make_ uninstall
    [ "$(cat "$BIN/containerd-shim-kata-v2")" = kata ]
    rm "$BIN/containerd-shim-kata-v2"
}

@test "uninstall removes what install made" {
    make_ install KATA_ALIAS=1
    make_ uninstall
    [ -z "$(find "$D" -not -type d)" ]
}

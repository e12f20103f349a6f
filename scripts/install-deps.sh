#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that a set of tasks needs; does nothing, in milliseconds, when all are there.
# Usage: install-deps.sh build|run|test|bench|demo …
set -euo pipefail

build=(gcc make pkg-config meson ninja-build libsystemd-dev libjansson-dev libprotobuf-c-dev protobuf-c-compiler
    protobuf-compiler libinih-dev nettle-dev libxxhash-dev libarchive-dev mmdebstrap debian-archive-keyring e2fsprogs zstd
    xz-utils kmod cpio jq)
test=(busybox-static libcmocka-dev bats clang clang-tidy clang-format cppcheck shellcheck libclang-rt-14-dev runc containerd
    socat procps util-linux python3-minimal podman docker.io strace btrfs-progs openssl)
bench=(runsc)
demo=(mmdebstrap)

packages=()
for set in "$@"; do
    case $set in
    build) packages+=("${build[@]}") ;;
    test) packages+=("${build[@]}" "${test[@]}") ;;
    bench) packages+=("${build[@]}" "${test[@]}" "${bench[@]}") ;;
    demo) packages+=("${build[@]}" "${demo[@]}") ;;
    *)
        echo "install-deps.sh: unknown set $set" >&2
        exit 2
        ;;
    esac
done

missing=()
for p in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "install-deps.sh: these Debian packages are missing: ${missing[*]}; run as root to install them" >&2
    exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get install -y -q --no-install-recommends "${missing[@]}" ||
    { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; }; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "install-deps.sh: apt-get install failed (whole output: $log)" >&2
    exit 1
fi
rm -f "$log"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The other programs that the tests of archives need, from the Debian suite that the guest's CRIU is of: checkpointctl,
# and a CRIU for the host that knows its kernel and the guest's images. Unpacked into OUT/.cache, once; OUT/peers/bin has a command for each.
# Usage: peers.sh OUT
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../../guest/common.sh
. "$here/../../guest/common.sh"

need mmdebstrap:mmdebstrap dpkg-deb:dpkg flock:util-linux
out=$(realpath "$1")
cache=$out/.cache
# shellcheck disable=SC2034 # read by fetch_packages
refresh=0
mkdir -p "$cache" "$out/peers/bin"
exec {lock}>"$cache/peers.lock"
flock "$lock"
rm -rf "$cache"/.tmp-peers-*
fetch_packages peers peers "$newer_suite" checkpointctl criu libc6

# Debian 12's loader and libraries are older than what these were linked with.
for program in usr/bin/checkpointctl usr/sbin/criu; do
    [ -x "$tree/$program" ] || die "$tree/$program is missing"
    command=$out/peers/bin/${program##*/}
    printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$tree/lib64/ld-linux-x86-64.so.2" \
        "$tree/usr/lib/x86_64-linux-gnu" "$tree/$program" >"$command.new"
    chmod 755 "$command.new"
    mv "$command.new" "$command"
done

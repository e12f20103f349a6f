#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The programs and the guest with fault points (src/base/fault.h) in OUT/faults, which is laid out as OUT is; for
# faults.bats, never installed. Usage: prepare_faults.sh OUT
set -euo pipefail
build=$1/build-faults
to=$1/faults
# Several files of tests may begin at the same time.
mkdir -p "$1"
exec 9>"$1/.faults.lock"
flock 9
programs=(src/cli/stasis src/shim/containerd-shim-stasis-v2)
guest=(src/agent/stasis-agent src/agent/stasis-stage1 src/agent/criu-direct.so)
[ -f "$build/build.ninja" ] ||
    meson setup --buildtype=debugoptimized -Dtests=false -Dfaults=true "$build" >"$1/meson-faults.log"
ninja -C "$build" --quiet "${programs[@]}" "${guest[@]}" >/dev/null
mkdir -p "$to/bin" "$to/lib/stasis"
for f in "${programs[@]}"; do
    cmp -s "$build/$f" "$to/bin/${f##*/}" || install -m 0755 "$build/$f" "$to/bin/"
done
# Only the agent is another one: the VMM root is the product's, and so is what the guest is made of.
ln -sfn "$1/lib/stasis/vmm" "$to/lib/stasis/vmm"
ln -sfn "$1/lib/stasis/.cache" "$to/lib/stasis/.cache"
guest/build-guest.sh "$to/lib/stasis" "${guest[@]/#/$build/}"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target for a few seconds (STASIS_FUZZ_SECONDS, default 4) from its seeds. Usage: fuzz.sh OUT
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh
out=$1
build=$out/build-fuzz
mkdir -p "$out"
[ -f "$build/build.ninja" ] ||
    CC=clang meson setup --buildtype=debug -Db_sanitize=address,undefined -Db_lundef=false -Dtests=false -Dfuzz=true \
        "$build" >"$out/meson-fuzz.log"
ninja -C "$build" --quiet >"$build/ninja.log" 2>&1 || {
    cat "$build/ninja.log"
    exit 1
}
results=$out/fuzz.d
rm -rf "$results"
mkdir "$results"
# fuzz TARGET : its output and its exit code, in files.
fuzz() {
    local name=${1##*/} status=0
    local corpus=$out/corpus/$name seeds=(tests/fuzz/seeds/"${name#fuzz_}")
    mkdir -p "$corpus"
    [ -d "${seeds[0]}" ] || seeds=()
    local words=tests/fuzz/dictionaries/${name#fuzz_}.dict options=()
    [ ! -f "$words" ] || options=(-dict="$words")
    "$1" -max_total_time="${STASIS_FUZZ_SECONDS:-4}" -timeout=10 -rss_limit_mb=1024 -artifact_prefix="$out/$name-" \
        -verbosity=0 -print_final_stats=1 "${options[@]}" "$corpus" "${seeds[@]}" >"$results/$name" 2>&1 || status=$?
    echo $status >"$results/$name.status"
}
result() {
    cat "$1"
    return "$(cat "$1.status")"
}
targets=()
for target in "$build"/tests/fuzz/fuzz_*; do
    if [ ! -f "$target" ] || [ ! -x "$target" ]; then continue; fi
    targets+=("$target")
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    fuzz "$target" &
done
wait
for target in "${targets[@]}"; do
    check "fuzz ${target##*/}" result "$results/${target##*/}"
done
summary fuzz

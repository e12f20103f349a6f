#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The gates: formatting, warnings of gcc and clang, clang-tidy, cppcheck, shellcheck, includes. Usage: lint.sh OUT
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh
out=$1
mkdir -p "$out"
mapfile -t sources < <(git ls-files -co --exclude-standard 'src/*.c' 'src/*.h' 'tests/*.c' 'tests/*.h' 'bench/*.c')
mapfile -t scripts < <(git ls-files -co --exclude-standard '*.sh' '.ci/run' 'tests/integration/*.bash')
mapfile -t tests < <(git ls-files -co --exclude-standard 'tests/*.bats' 'tests/*.bash')
mapfile -t product < <(git ls-files -co --exclude-standard 'src/*.c')

clang_build() {
    [ -f "$out/build-clang/build.ninja" ] ||
        CC=clang meson setup --buildtype=debugoptimized -Dtests=true -Dfaults=true "$out/build-clang" || return
    ninja -C "$out/build-clang" --quiet
}
# The programs as they are used, and everything with the sanitizers: neither is built with a warning.
gcc_build() {
    [ -f "$out/build/build.ninja" ] ||
        CC=gcc meson setup --buildtype=debugoptimized -Dtests=false "$out/build" || return
    ninja -C "$out/build" --quiet && sanitizer_build "$out"
}
# Only what changed since the last clean run is analysed again: clang-tidy takes seconds per file.
tidy() {
    local stamp=$out/tidy changed=() f sum
    mkdir -p "$stamp"
    local headers
    headers=$(cat .clang-tidy meson.build src/*/*.h src/proto/*.proto | sha256sum)
    for f in "${product[@]}"; do
        sum=$(printf '%s' "$headers" | cat - "$f" | sha256sum | cut -c1-32)
        [ "$(cat "$stamp/${f//\//_}" 2>/dev/null)" = "$sum" ] || changed+=("$f")
    done
    [ ${#changed[@]} = 0 ] && return 0
    printf '%s\n' "${changed[@]}" |
        xargs -P 2 -n 4 clang-tidy --quiet -p "$out/build-clang" --warnings-as-errors='*' || return
    for f in "${changed[@]}"; do
        printf '%s' "$headers" | cat - "$f" | sha256sum | cut -c1-32 >"$stamp/${f//\//_}"
    done
}
# Every fault point is in the sources, and nothing of them in what is built without -Dfaults=true.
faults() {
    local bad=0 id name f
    local programs=("$out"/build/src/{cli/stasis,shim/containerd-shim-stasis-v2,agent/stasis-agent})
    while read -r id name; do
        grep -qF "FAULT($id)" "${product[@]}" || {
            echo "src/base/fault.h: $id is nowhere"
            bad=1
        }
        for f in "${programs[@]}"; do
            ! grep -qaF "$name" "$f" || {
                echo "$f has \"$name\""
                bad=1
            }
        done
    done < <(
        echo "COMMIT_SYNC agent.fault="
        echo "COMMIT_SYNC STASIS_FAULT"
        sed -nE 's/^ *POINT\(([A-Z_]+), "([a-z.-]+)"\).*/\1 \2/p' src/base/fault.h
    )
    return $bad
}
# Arrows of docs/architecture.md: what each folder may include.
arrows() {
    local bad=0 folder allowed f inc
    while read -r folder allowed; do
        while IFS=: read -r f inc; do
            case " $folder $allowed " in
            *" $inc "*) ;;
            *)
                echo "$f includes $inc/, which $folder may not"
                bad=1
                ;;
            esac
        done < <(grep -Ho '^#include "[a-z]*/' src/"$folder"/*.[ch] | sed 's/#include "//; s,/$,,')
    done <<'ARROWS'
base
snapshot base
ttrpc base proto
oci proto base
vm base
sandbox snapshot vm oci ttrpc proto base
shim sandbox vm oci ttrpc proto base
cli snapshot ttrpc oci proto base
agent ttrpc proto base
ARROWS
    return $bad
}
# Under set -e the status of `! command`, and that of all but the last of `a && b`, ends nothing: a line like that in a test
# asserts nothing. Lines that hold `||`, or end a function (its status is theirs), are meant.
assertions() {
    local found
    found=$(awk '
        function judge() {
            if ($0 !~ /^[ \t]*[})]/ && text != "")
                print place ": cannot fail a test: " text
            text = ""
        }
        FNR == 1 { whole = text = "" }
        whole == "" && text != "" { judge() }
        {
            if (whole == "")
                start = FILENAME ":" FNR
            whole = whole $0
            if (sub(/\\$/, " ", whole) || whole ~ /(&&|\||\|\|)[ \t]*$/)
                next
            bare = whole
            gsub(/\\./, "", bare)
            gsub(/\047[^\047]*\047/, "", bare)
            gsub(/"[^"]*"/, "", bare)
            if (bare !~ /\|\|/ && (bare ~ /^[ \t]*! / || bare ~ /^[ \t]*\[\[? .* \]\]? && / &&
                bare !~ /&& (return|continue|break|skip)/)) {
                text = whole
                place = start
            }
            whole = ""
        }' "$@")
    [ -z "$found" ] || {
        echo "$found"
        return 1
    }
}
check "clang-format" clang-format --dry-run --Werror "${sources[@]}"
check "gcc -Wall -Wextra -Werror" gcc_build
check "clang -Wall -Wextra -Werror" clang_build
check "clang-tidy" tidy
check "cppcheck" cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --std=c11 \
    --suppress=missingIncludeSystem --suppress=memleak --suppress=resourceLeak -j 2 \
    --cppcheck-build-dir="$(mkdir -p "$out/cppcheck" && echo "$out/cppcheck")" -Isrc -D_GNU_SOURCE "${product[@]}"
check "shellcheck" shellcheck -x "${scripts[@]}"
check "fault points are used, and not in the product" faults
check "includes follow the arrows" arrows
check "assertions can fail" assertions "${tests[@]}"
summary lint

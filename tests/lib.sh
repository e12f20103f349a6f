# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Counting for the test scripts: each prints one line per check and closes with a line that run.sh adds up.
passed=0
failed=0

# check NAME COMMAND… : runs it, shows its output only when it fails.
check() {
    local name=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        sed 's/^/     /' "$log" | tail -n 60
    fi
    rm -f "$log"
}

# summary NAME : the closing line; fails when something failed.
summary() {
    echo "$1: $passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

# sanitizer_build OUT : programs and unit tests with AddressSanitizer and UndefinedBehaviorSanitizer, in OUT/build-asan.
sanitizer_build() {
    local build=$1/build-asan
    [ -f "$build/build.ninja" ] ||
        CC=gcc meson setup --buildtype=debug -Db_sanitize=address,undefined -Db_lundef=false -Dtests=true "$build" \
            >"$1/meson-asan.log" || return
    ninja -C "$build" --quiet >"$build/ninja.log" 2>&1 || {
        cat "$build/ninja.log"
        return 1
    }
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# `stasis check`, installation.
load helpers
setup_file() { file_setup; }
teardown_file() { file_teardown; }

@test "check: every item on a line, exit 0, CRIU works in the guest" {
    stasis check >"$T/out"
    cat "$T/out"
    not grep -q '^fail' "$T/out"
    local item
    for item in accelerator virtiofsd 'VMM root' guest vsock tun cgroup CONFIG_CHECKPOINT_RESTORE CRIU; do
        grep -qiE "^(ok|warn) .*$item" "$T/out"
    done
}

@test "check --json" {
    stasis check --json | jq -e '(.items | length > 10) and (.items | all(.status == "ok" or .status == "warn"))'
}

@test "check: a broken installation fails and says what to do" {
    printf '[vm]\nguest = %s/none\n' "$T" >"$T/conf"
    run stasis --config "$T/conf" check
    echo "$output"
    [ "$status" = 1 ]
    [[ $output == *"make setup"* ]]
}

@test "make install and uninstall with DESTDIR and PREFIX; the installed programs run" {
    make -s -C "$STASIS_SRC" install DESTDIR="$T/dest" PREFIX=/opt/stasis OUT="$STASIS_OUT"
    bundle b
    args b echo installed
    [ "$("$T/dest/opt/stasis/bin/stasis" --root "$R" run --bundle "$T/b" c1 </dev/null)" = installed ]
    make -s -C "$STASIS_SRC" uninstall DESTDIR="$T/dest" PREFIX=/opt/stasis OUT="$STASIS_OUT"
    [ -z "$(find "$T/dest" -type f)" ]
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after helpers.bash, by the files that snapshot whole sandboxes. Each has a store of its own, $S.

# From setup_file, after file_setup: CONF is the file's configuration, with what LINE… add to [vm].
snapshot_setup() {
    export S=$T/snapshots CONF=$T/stasis.conf
    configuration "$@" >"$CONF"
}
configuration() {
    printf '%s\n' '[vm]' 'memory = 256M' 'boot_timeout = 240' "$@" '[agent]' 'timeout = 240' '[snapshot]' "dir = $S"
}

stasis() {
    timeout --foreground 300 "$STASIS" --root "$R" --config "$CONF" "$@"
}

# run_detached ID [OPTION…] : of the bundle $T/ID.
run_detached() {
    local id=$1
    shift
    quiet stasis run --detach --bundle "$T/$id" "$@" "$id"
}
create() { quiet stasis snapshot create "$@"; }
restore() { quiet stasis snapshot restore "$@"; }
clones() { quiet stasis snapshot clone "$@"; }

delete_all() {
    local id
    for id in $("$STASIS" --root "$R" list -q); do
        "$STASIS" --root "$R" delete --force "$id"
    done
}

daemon_of() {
    jq -r .stasis.daemonPid "$R/$1/state.json"
}
# root_of ID : where the host sees the container's root: of a restored one its daemon's mount, else the bundle's.
root_of() {
    local dir
    dir=/proc/$(daemon_of "$1")/root$R/$1/roots/0
    [ -d "$dir" ] || dir=$T/$1/rootfs
    echo "$dir"
}
# in_root ID FILE : what it says there; nothing when it is not there.
in_root() {
    cat "$(root_of "$1")/$2" 2>/dev/null
}

# counts ID [FROM] : and it is beyond FROM.
counts() {
    local n
    n=$(in_root "$1" n || true)
    n=${n:-0}
    wait_until 120 beyond "$1" "$(((${2:-0} > n) ? ${2:-0} : n))"
}
beyond() {
    local n
    n=$(in_root "$1" n || true)
    [ "${n:-0}" -gt "$2" ]
}

# pack_set_up ID, pack_passes ID : what the workloads (checkpoint.bash) of its container say, wherever its root is.
pack_says() {
    local results
    results=$(root_of "$1")/w/results
    wait_until 240 grep -qs "^done $2\$" "$results" || {
        cat "$results"
        return 1
    }
    if grep "^$2 " "$results" | grep -v ": $3\$"; then
        return 1
    fi
}
pack_set_up() {
    pack_says "$1" 0 ready
}
# The guest polls: a file that is renamed over the old one is seen.
pack_passes() {
    local dir round
    dir=$(root_of "$1")/w
    round=$(($(cat "$dir/request" 2>/dev/null || echo 0) + 1))
    echo "$round" >"$dir/request.new"
    mv "$dir/request.new" "$dir/request"
    pack_says "$1" "$round" pass
}

# store_holds NAME… : these snapshots and nothing else, unless a sandbox that runs has its layers there.
store_holds() {
    [ "$(find "$S" -mindepth 1 -maxdepth 1 ! -name '.new-layers-*' -printf '%f\n' | sort | paste -sd ' ')" = "$*" ] || {
        echo "the store holds other than $*:"
        ls -A "$S"
        return 1
    }
}
# no_layers [ID] : they go with their sandbox; without an id, nothing hidden is there.
no_layers() {
    local name='.*'
    [ $# = 0 ] || name=".new-layers-$1-??????"
    [ -z "$(find "$S" -mindepth 1 -maxdepth 1 -name "$name")" ]
}

# fails WORD… -- ARG… : stasis does, with exit code 1 and a message that has them all.
# shellcheck disable=SC2154 # run sets them
fails() {
    local words=() word
    while [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift
    run stasis "$@"
    echo "$output"
    [ "$status" = 1 ] || {
        echo "exit code $status"
        return 1
    }
    for word in "${words[@]}"; do
        [[ $output == *"$word"* ]] || {
            echo "that does not say: $word"
            return 1
        }
    done
}

# flip FILE OFFSET : another byte there.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf '%b' "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after helpers.bash, by the files that checkpoint the programs of tests/workloads. A container runs many of them
# (see runner.c there), so that one dump and one restore, each of them seconds, try many things.

# What `stasis checkpoint` takes by itself; locks need --file-locks, tcp --tcp-established.
# shellcheck disable=SC2034 # for the files that load this
WORKLOADS=(shell attributes compute events files futex identity inotify memory pty random removed_cwd shared signals sockets sysv timers
    tmpfs tree)

# pack NAME WORKLOAD… : the bundle $T/NAME whose container runs these workloads.
pack() {
    local name=$1 dir=$T/$1
    shift
    bundle_own_rootfs "$name" '.mounts += [
        {destination: "/workloads", type: "bind", source: "'"$STASIS_OUT"'/workloads", options: ["rbind", "ro"]},
        {destination: "/volume", type: "bind", source: "'"$dir"'/volume", options: ["rbind", "rw"]},
        {destination: "/tmpfs", type: "tmpfs", source: "tmpfs", options: ["mode=1777"]}]' \
        '.process.cwd = "/w"' '.process.env += ["MEMORY_MIB='"${MEMORY_MIB:-16}"'", "FILES_DELETED='"${FILES_DELETED:-yes}"'",
            "INOTIFY_AT='"${INOTIFY_AT:-/tmpfs}"'"]' \
        '.process.capabilities[] += ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_IPC_LOCK", "CAP_FSETID", "CAP_SYS_NICE"]'
    mkdir "$dir/volume" "$dir/rootfs/w"
    args "$name" /workloads/runner "$@"
}

# start_pack NAME ID : runs it and waits until all are set up.
start_pack() {
    stasis run --detach --bundle "$T/$1" "$2" >"$T/$2.out" 2>&1 </dev/null || {
        cat "$T/$2.out"
        return 1
    }
    answered "$1" 0 ready
}

# all_pass NAME : every workload of the bundle's container, whatever its id, says that all is as it was.
all_pass() {
    local w=$T/$1/rootfs/w round
    round=$(($(cat "$w/request" 2>/dev/null || echo 0) + 1))
    echo "$round" >"$w/request.new"
    mv "$w/request.new" "$w/request"
    answered "$1" "$round" pass
}

# answered NAME ROUND WORD : all that the workloads said in that round is the word.
answered() {
    local results=$T/$1/rootfs/w/results
    wait_until 120 grep -qs "^done $2\$" "$results" || {
        cat "$results"
        return 1
    }
    if grep "^$2 " "$results" | grep -v ": $3\$"; then
        return 1
    fi
}

# checkpoint ID OPTION… : into $T/images/ID and $T/work, unless the options name others; prints what stasis prints.
checkpoint() {
    local id=$1
    shift
    stasis checkpoint --image-path "$T/images/$id" --work-path "$T/work" "$@" "$id"
}

# restore NAME ID FROM OPTION… : of the bundle NAME, from the images $T/images/FROM.
restore() {
    local name=$1 id=$2 from=$3
    shift 3
    stasis restore --detach --bundle "$T/$name" --image-path "$T/images/$from" --work-path "$T/work" "$@" "$id" \
        >"$T/$id.out" 2>&1 </dev/null || {
        cat "$T/$id.out"
        return 1
    }
}

# The container has ended with its checkpoint, and is deleted with its VM.
gone() {
    [ ! -e "$R/$1" ]
}

# stat_of FILE NAME : of what --print-stats printed.
stat_of() {
    jq -e ".$2" "$1"
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after checkpoint.bash, by the files that checkpoint programs from Debian's packages.

# program NAME SCRIPT : starts the container NAME, of the root of that name, which runs the script with /data as
# its own directory, $T/NAME.data here. OPTIONS are for stasis itself.
program() {
    local name=$1 script=$2
    [ -e "$STASIS_OUT/rootfs/$name/.done" ] || skip "tests/checkpoint/roots.sh has made no root for $name"
    D=$T/$name.data
    mkdir -p "$D"
    chown 1000:1000 "$D"
    bundle "$name" '.root = {path: "'"$STASIS_OUT/rootfs/$name"'", readonly: true} | .process.cwd = "/data"
        | .process.user = {uid: 1000, gid: 1000}
        | .process.env += ["HOME=/data", "LC_ALL=C"] | .mounts += [
        {destination: "/data", type: "bind", source: "'"$D"'", options: ["rbind", "rw"]},
        {destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["mode=1777"]},
        {destination: "/run", type: "tmpfs", source: "tmpfs", options: ["mode=1777"]}]'
    args "$name" sh -c "$script"
    stasis "${OPTIONS[@]}" run --detach --bundle "$T/$name" "$name" >"$T/$name.out" 2>&1 </dev/null || {
        cat "$T/$name.out"
        return 1
    }
}
# move NAME FLAG… : dumped, its VM gone, restored as NAME-new.
move() {
    local name=$1
    shift
    checkpoint "$name" "$@" || {
        tail -n 30 "$T/work/dump.log"
        return 1
    }
    gone "$name"
    restore "$name" "$name-new" "$name" "$@" || {
        tail -n 30 "$T/work/restore.log"
        return 1
    }
}
in_file() {
    grep -qs -- "$2" "$1"
}
lines() {
    [ "$(wc -l 2>/dev/null <"$1" || echo 0)" -ge "$2" ]
}

# numbers COUNT ROUNDS : the lines that a test's program writes to /data/progress: a generator's numbers, of which it draws
# ROUNDS for each.
numbers() {
    python3 -c 'import sys
x = 1
for i in range(int(sys.argv[1])):
    for k in range(int(sys.argv[2])):
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
    print(i, x)
print("over")' "$@"
}
# goes_on NAME COUNT ROUNDS : the program NAME, once it has begun, comes to the same numbers by way of a checkpoint.
goes_on() {
    wait_until 300 lines "$D/progress" 5 || {
        cat "$D/log"
        false
    }
    move "$1"
    wait_until 300 in_file "$D/progress" over || {
        cat "$D/log"
        false
    }
    numbers "$2" "$3" | cmp - "$D/progress"
}

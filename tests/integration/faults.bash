# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after helpers.bash, by the files that inject faults (src/base/fault.h): programs and guest are those of
# prepare_faults.sh. A container's faults are in a file of its root, so that its guest sees them as well.

STASIS=$STASIS_OUT/faults/bin/stasis

faults_setup() {
    file_setup
    (cd "$STASIS_SRC" && tests/integration/prepare_faults.sh "$STASIS_OUT")
    mkdir "$T/images"
}

# All points, from the table that is compiled into the programs.
points() {
    sed -nE 's/^ *POINT\([A-Z_]+, "([a-z.-]+)"\).*/\1/p' "$STASIS_SRC/src/base/fault.h"
}

# configure ID : FAULT is the file for its faults, which its daemon gets by STASIS_FAULT, its agent as agent.fault.
configure() {
    FAULT=$T/$1/rootfs/fault
    export STASIS_FAULT=$FAULT
}

# prepare ID LINE… : the bundle $T/ID of a container that counts in /n, and its configuration $T/ID.conf, with the lines.
prepare() {
    local id=$1
    shift
    bundle_own_rootfs "$id"
    # shellcheck disable=SC2016 # for the container's shell
    args "$id" sh -c 'i=0; while :; do i=$((i + 1)); echo $i >/n.new; mv /n.new /n; sleep 0.1; done'
    # Each has a command line of its own, so a template would be of use to nobody else.
    printf '%s\n' '[vm]' 'memory = 256M' 'template = false' "kernel_params = agent.fault=/share/$id/rootfs/fault" "$@" \
        >"$T/$id.conf"
    configure "$id"
    no_fault
}

# launch ID : runs it. DAEMON, QEMU, VIRTIOFSD: pids; CHILDREN, FDS: of the daemon, when nothing is under way.
launch() {
    stasis --config "$T/$1.conf" run --detach --bundle "$T/$1" "$1" >"$T/$1.out" 2>&1 </dev/null || {
        cat "$T/$1.out"
        return 1
    }
    wait_until 20 test -e "$T/$1/rootfs/n"
    counts "$1"
    know "$1"
}
# know ID : the same for one that runs already.
know() {
    configure "$1"
    no_fault
    # shellcheck disable=SC2046
    set -- "$1" $(sandbox_pids "$1")
    DAEMON=$2 QEMU=$3 VIRTIOFSD=$4
    wait_until 20 settled
    CHILDREN=$(pgrep -P "$DAEMON" | paste -sd ' ')
    FDS=$(daemon_fds)
}
# Without the connections of clients.
daemon_fds() {
    find "/proc/$DAEMON/fd" -mindepth 1 | wc -l
}
settled() {
    [ "$(pgrep -cP "$DAEMON")" = 2 ]
}

# fault POINT ACTION… : from now on. The files are rewritten in place, since the guest remembers names.
fault() {
    : >"$FAULT.hit"
    printf '%s %s\n' "$@" >"$FAULT"
}
no_fault() {
    : >"$FAULT.hit"
    echo none >"$FAULT"
}
hit() {
    [[ $(<"$FAULT.hit") == "$1 "* ]]
}

counts() {
    local n
    n=$(cat "$T/$1/rootfs/n" 2>/dev/null)
    wait_until 20 counted "$1" "$n"
}
counted() {
    [ "$(cat "$T/$1/rootfs/n")" != "$2" ]
}

# dump ID OPTION… : to $T/images/ID, bounded from outside as well.
dump() {
    local id=$1
    shift
    timeout --foreground 200 "$STASIS" --root "$R" --config "$T/$id.conf" checkpoint --image-path "$T/images/$id" \
        --work-path "$T/work" "$@" "$id" 3>&-
}

# dump_fails ID WORDS… : it does, and says them all.
dump_fails() {
    local id=$1 word
    shift
    run dump "$id"
    # shellcheck disable=SC2154 # run sets them
    echo "$output" && [ "$status" = 1 ] || return 1
    for word in "cannot checkpoint container $id" "$@"; do
        [[ $output == *"$word"* ]] || {
            echo "that does not say: $word"
            return 1
        }
    done
}

# No checkpoint, and nothing that a checkpoint leaves, on the host's disk.
no_images() {
    [ -z "$(ls -A "$T/images")" ] || {
        ls -lA "$T/images"
        return 1
    }
}

# background ID OPTION… : a dump that goes on while the test does; PID. its_error WORDS… : it fails, and says them.
background() {
    dump "$@" >"$T/background" 2>&1 3>&- &
    PID=$!
}
its_error() {
    local code=0 word
    wait_until 120 dead "$PID"
    wait "$PID" || code=$?
    cat "$T/background"
    [ "$code" = 1 ] || return 1
    for word; do
        grep -qF -- "$word" "$T/background" || return 1
    done
}

# undisturbed ID : the container runs and nothing of a checkpoint is left: mounts in the share, processes, files.
undisturbed() {
    wait_until 20 no_remains "$1" || {
        echo "left by the checkpoint:"
        grep /checkpoint/ "/proc/$DAEMON/mountinfo" || true
        ls -A "/proc/$DAEMON/root$R/$1/share/$1/checkpoint" "$T/images" || true
        pgrep -P "$DAEMON" -a || tail -n 10 "$R/$1/log"
        echo "it had children $CHILDREN and $FDS descriptors"
        ls -l "/proc/$DAEMON/fd"
        return 1
    }
    status_is "$1" running
    counts "$1"
}
no_remains() {
    local dir=/proc/$DAEMON/root$R/$1/share/$1/checkpoint
    [ -z "$(ls -A "$T/images")" ] && ! grep -q /checkpoint/ "/proc/$DAEMON/mountinfo" &&
        { [ ! -e "$dir" ] || [ -z "$(ls -A "$dir")" ]; } &&
        [ "$(pgrep -P "$DAEMON" | paste -sd ' ')" = "$CHILDREN" ] && [ "$(daemon_fds)" -le "$FDS" ]
}

# dump_works ID : and it goes on; the images go.
dump_works() {
    no_fault
    dump "$1" --leave-running
    [ -s "$T/images/$1/inventory.img" ]
    rm -r "$T/images/$1"
    undisturbed "$1"
}

# ended ID : the VM is gone with all its processes; what it left `delete` removes.
ended() {
    wait_until 20 status_is "$1" stopped
    wait_until 10 dead "$QEMU"
    wait_until 10 dead "$VIRTIOFSD"
    stasis delete "$1"
    [ ! -e "$R/$1" ]
    no_images
}

#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Who may do what in the share: the same in a VM that booted, in a copy of the template, and after a snapshot was restored,
# on roots and on volumes. virtiofsd acts for the guest's users, and what it negotiated with the guest is not all in
# what it saves.
bats_require_minimum_version 1.5.0
load helpers
load snapshot
setup_file() {
    file_setup
    snapshot_setup
    sed 's/^\[vm\]/[vm]\ntemplate = false/' "$CONF" >"$T/cold.conf"
    # Starts that make the template, where there is none yet.
    bundle first
    args first true
    quiet stasis run --bundle "$T/first" first
    make_bundle c
    make_bundle cold
    run_detached c
    CONF=$T/cold.conf run_detached cold
    create c before
    restore --id restored before
}
teardown_file() {
    delete_all
    stasis snapshot rm --all >/dev/null
    file_teardown
}

# shellcheck disable=SC2016 # for python
make_tree() {
    mkdir -p "$1"/{group,setgid,others,sticky,bits,owned}
    chown 0:2000 "$1/group" "$1/setgid"
    chown 0:3000 "$1/others"
    chmod 770 "$1/group" "$1/others"
    chmod 2770 "$1/setgid"
    chmod 1777 "$1/sticky"
    chmod 777 "$1/bits"
    chown 1033:1033 "$1/owned"
    chmod 700 "$1/owned"
    touch "$1"/{others,sticky}/old
    python3 -c 'import os, sys
os.chdir(sys.argv[1])
for name in "written", "truncated", "chowned", "group-written":
    open(name, "w").write("x")
    os.chown(name, 0, 0)
    os.setxattr(name, "security.capability", bytes([1, 0, 0, 2, 32] + [0] * 15))
    os.chmod(name, 0o6777)
open("foreign-group", "w").close()
os.chown("foreign-group", 1000, 3000)' "$1/bits"
}

make_bundle() {
    bundle_own_rootfs "$1" '.mounts += [{destination: "/volume", type: "bind", source: "'"$T/$1"'/volume", options: ["rbind", "rw"]}]' \
        '.process.capabilities[] += ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETUID", "CAP_SETGID"]'
    args "$1" sleep 100000
    make_tree "$T/$1/rootfs/tree"
    make_tree "$T/$1/volume/tree"
}

TREES='/tree /volume/tree'
# as_member CONTAINER COMMANDS : by a user with a supplementary group and no capability, in each tree, as far as the first
# that fails.
as_member() {
    stasis exec --user 1000:1000 --additional-gids 2000 "$1" sh -ec "for d in $TREES; do cd \$d; $2
    done"
}
as_root() {
    stasis exec "$1" sh -ec "for d in $TREES; do cd \$d; $2
    done"
}
# each FUNCTION : with every kind of VM.
each() {
    local c
    for c in cold c restored; do
        "$1" "$c" || {
            echo "in container $c"
            return 1
        }
    done
}

# shellcheck disable=SC2016 # for the container's shell
makes_what_its_group_may() {
    as_member "$1" 'for n in group setgid; do
            echo x >$n/file; mkdir $n/dir; ln -s x $n/link; mkfifo $n/fifo; ln $n/file $n/hard; mv $n/hard $n/moved
        done
        umask 027; touch group/masked; umask 022
        [ "$(stat -c %u:%g:%a group/masked)" = 1000:1000:640 ]
        for n in file dir link fifo; do
            [ "$(stat -c %u:%g group/$n)" = 1000:1000 ]
            [ "$(stat -c %u:%g setgid/$n)" = 1000:2000 ]
        done
        [ "$(stat -c %a setgid/dir)" = 2755 ]
        [ "$(stat -c %a setgid/file)" = 644 ]
        rm -r group/* setgid/*'
}
@test "a member of the directory's group makes files, directories, links and FIFOs; owner, group and mode are right" {
    each makes_what_its_group_may
}

# shellcheck disable=SC2016 # for the container's shell
refused_what_it_may_not() {
    as_member "$1" 'touch group/mine; n=0
        may() { if "$@" 2>/dev/null; then echo "it may: $*"; n=1; fi; }
        may sh -c "echo x >others/file"; may mkdir others/dir; may ln -s x others/link; may mkfifo others/fifo
        may rm -f others/old; may mv others/old bits/stolen; may ls others; may cat others/old; may sh -c "echo x >>others/old"
        may ln group/mine others/hard; may rm -f sticky/old; may mv sticky/old sticky/other
        may chmod 777 bits/written; may chown 1000 bits/written; may touch -d 2020-01-01 sticky/old; may touch owned/file
        rm group/mine; [ $n = 0 ]'
    stasis exec --user 1001:1001 "$1" sh -c "for d in $TREES; do ! touch \$d/setgid/x 2>/dev/null && ! mkdir \$d/group/x 2>/dev/null || exit 1; done"
}
@test "refused, as ever: whom no group lets in; others' files in a sticky directory; others' modes and owners" {
    each refused_what_it_may_not
}

# shellcheck disable=SC2016 # for the container's shell
loses_bits() {
    local name dir
    as_member "$1" 'echo y >>bits/written; : >bits/truncated
        for n in written truncated; do [ "$(stat -c %a bits/$n)" = 777 ]; done
        chmod 2755 bits/foreign-group
        [ "$(stat -c %a bits/foreign-group)" = 755 ]'
    as_root "$1" 'chown 1000:1000 bits/chowned; [ "$(stat -c %a bits/chowned)" = 777 ]'
    for dir in "$(root_of "$1")/tree" "$T/${1/restored/c}/volume/tree"; do
        for name in written truncated chowned; do
            python3 -c 'import os, sys
sys.exit("security.capability" in os.listxattr(sys.argv[1]))' "$dir/bits/$name" || {
                echo "$dir/bits/$name has its capabilities still"
                return 1
            }
        done
    done
}
@test "setuid and setgid bits and file capabilities go when a file is written to, truncated or given away" {
    loses_bits cold
    loses_bits c
    # The volume is one for both.
    rm -rf "$T/c/volume/tree"
    make_tree "$T/c/volume/tree"
    loses_bits restored
}

# shellcheck disable=SC2016 # for the container's shell
root_may() {
    as_root "$1" 'touch owned/by-root; mkdir -p owned/dir; [ "$(stat -c %u owned/by-root)" = 0 ]'
    jq --arg trees "$TREES" '.process | .user = {uid: 1000, gid: 1000} |
        .capabilities = (["bounding", "effective", "permitted", "inheritable", "ambient"] | map({(.): ["CAP_DAC_OVERRIDE"]}) | add) |
        .args = ["sh", "-c", "for d in \($trees); do cd $d/owned && mkdir other && mkfifo other/p && touch other/f && rm -r other || exit; done"]' \
        "$T/c/config.json" >"$T/process.json"
    stasis exec --process "$T/process.json" "$1"
}
@test "root may, and so may another user with CAP_DAC_OVERRIDE" {
    each root_may
}

@test "a POSIX ACL on a volume does not count in the guest: a warning that names it, or refused" {
    local id=acl
    mkdir -p "$T/acl-volume/dir"
    echo secret >"$T/acl-volume/dir/file"
    python3 -c 'import os, struct, sys
os.setxattr(sys.argv[1], "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [
    (1, 6, 2**32 - 1), (2, 6, 4242), (4, 0, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1)]))' "$T/acl-volume/dir/file"
    bundle $id '.mounts += [{destination: "/volume", type: "bind", source: "'"$T/acl-volume"'", options: ["rbind", "rw"]}]'
    args $id sleep 100000
    run_detached $id
    grep -qF "mounts[$(jq '.mounts | length - 1' "$T/$id/config.json")]: $T/acl-volume/dir/file has a POSIX ACL" "$R/$id/log"
    not grep -q 'has a POSIX ACL' "$R/c/log"
    stasis delete --force $id
    local at
    at="mounts[$(jq '.mounts | length - 1' "$T/$id/config.json")]: $T/acl-volume/dir/file has a POSIX ACL"
    args $id true
    run -0 stasis run --bundle "$T/$id" $id
    [[ $output == *warning*"$at"* ]]
    cp "$CONF" "$T/acl.conf"
    printf '[container]\nacl = refuse\n' >>"$T/acl.conf"
    CONF=$T/acl.conf run ! stasis run --bundle "$T/$id" $id
    [[ $output == *"$at"*"[container] acl"* ]]
}

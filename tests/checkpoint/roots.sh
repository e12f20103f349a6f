#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Root file systems with real programs, from Debian's packages, in OUT/rootfs/NAME; made once. Usage: roots.sh OUT
# Needs a mirror of Debian's packages.
set -euo pipefail
out=$1/rootfs

# root NAME SUITE PACKAGE… : unpacked, not configured.
root() {
    local suite=$2 dir=$out/$1 packages top
    shift 2
    [ ! -e "$dir/.done" ] || return 0
    echo "making $dir"
    rm -rf "$dir"
    packages=$(IFS=,; echo "$*")
    mmdebstrap --quiet --variant=extract --include="$packages" "$suite" "$dir"
    # From trixie on packages have nothing outside of /usr; the links are of a package script.
    for top in bin sbin lib lib64; do
        [ -e "$dir/$top" ] || ln -s "usr/$top" "$dir/$top"
    done
    [ -e "$dir/bin/sh" ] || ln -s dash "$dir/bin/sh"
    mkdir -p "$dir"/{proc,sys,dev,tmp,run,data}
    chmod 1777 "$dir/tmp"
    printf 'root:x:0:0:root:/root:/bin/sh\nserver:x:1000:1000::/data:/bin/sh\n' >"$dir/etc/passwd"
    printf 'root:x:0:\nserver:x:1000:\n' >"$dir/etc/group"
    chown 1000:1000 "$dir/data"
    [ ! -e "$dir/usr/lib/postgresql" ] || make_database "$dir"
    touch "$dir/.done"
}

# Made here: in an emulated guest it takes minutes, of reading all time zones above all.
make_database() {
    TZ=UTC chroot --userspec=1000:1000 "$1" /usr/lib/postgresql/15/bin/initdb -D /data/db -A trust --no-sync \
        --locale=C >/dev/null
}

mkdir -p "$out"
root redis bookworm redis-server redis-tools dash coreutils
root postgresql bookworm postgresql-15 postgresql-client-15 dash coreutils
root nginx bookworm nginx-light curl dash coreutils
root stack bookworm postgresql-15 postgresql-client-15 nginx-light memcached bash dash coreutils
root python bookworm python3-minimal dash coreutils
root node bookworm nodejs dash coreutils
root node20 trixie nodejs dash coreutils
root java bookworm openjdk-17-jdk-headless dash coreutils
root erlang bookworm erlang-base dash coreutils
root ruby bookworm ruby dash coreutils
root php bookworm php-cli dash coreutils
root systemd bookworm systemd systemd-sysv dash coreutils util-linux

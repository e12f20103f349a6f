#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the integration tests need beside the programs: a busybox root file system. Usage: prepare.sh OUT
set -euo pipefail
root=$1/test-rootfs
[ -e "$root/.done" ] && exit 0
rm -rf "$root"
mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,var/log,run,mnt,home}
chmod 1777 "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
for a in $("$root/bin/busybox" --list); do
    [ -e "$root/bin/$a" ] || ln -s busybox "$root/bin/$a"
done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:\n' >"$root/etc/group"
printf '#!/bin/nonexistent\n' >"$root/bin/bad-interpreter"
chmod 755 "$root/bin/bad-interpreter"
echo data >"$root/bin/not-executable"
chmod 644 "$root/bin/not-executable"
touch "$root/.done"

#!/bin/bash
# Makes what runs inside the virtual machine: kernel, initramfs and root image. See README.md.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

packages=(tar gzip nftables iptables iproute2 busybox-static
    libsystemd0 libjansson4 libprotobuf-c1 libseccomp2 libcap2 libc6
    libbsd0 libgnutls30t64 libjson-c5 libnftables1 libuuid1)
# These are of $newer_suite and run on the libraries above. The older ones lose, in a restore, what keeps the random
# numbers of a process and its child apart (VM_WIPEONFORK, VM_DROPPABLE), and refuse mounts on paths with links in them.
newer_packages=(crun criu libcriu2 libnet9 libnl-3-200 libblake3-0)
least_versions=(criu:4.2 crun:1.28)
kernel_packages=(linux-image-cloud-amd64)

# criu runs tar and gzip (for tmpfs mounts), ip and the iptables programs (for network namespaces); crun opens
# libcriu.so.2 at run time. The others are the agent's libraries, listed so that an agent built against them runs.
libdir=/usr/lib/x86_64-linux-gnu
programs=(/usr/bin/{crun,tar,gzip} /usr/sbin/{criu,nft,xtables-nft-multi,xtables-legacy-multi} /usr/bin/ip
    "$libdir"/lib{criu.so.2,systemd.so.0,jansson.so.4,protobuf-c.so.1,seccomp.so.2,cap.so.2})
# Extensions of iptables rules that CRIU's network lock and its dump of a legacy table use.
xtables=("$libdir"/xtables/lib{xt_{mark,standard,conntrack,tcp,udp},ipt_REJECT,ip6t_REJECT}.so)

# In the initramfs, in the order of loading: what it takes to see the root image.
early_modules=(virtio_blk)
# In the root image: names, or patterns of paths below the kernel's module directory.
modules=(
    virtio_net virtio_balloon virtio_mem virtio-rng
    # criu check --all asks for autofs.
    overlay erofs squashfs autofs4
    vsock vmw_vsock_virtio_transport
    veth tun bridge dummy
    unix_diag inet_diag tcp_diag udp_diag raw_diag netlink_diag af_packet_diag
    # What the network lock of CRIU loads, and what rules that a workload makes for itself load.
    'kernel/net/netfilter/*.ko' 'kernel/net/ipv4/netfilter/*.ko' 'kernel/net/ipv6/netfilter/*.ko'
)
mount_points=(proc sys dev run tmp share var/lib mnt root)

# Fixed, so that the same content is the same image.
image_uuid=5f1c9a4e-7d0b-4c8e-9a35-0d6b7e2f4a11

# extract_kernel VMLINUZ VMLINUX  The ELF image out of a bzImage, located by the header that
# Documentation/arch/x86/boot.rst describes.
extract_kernel() {
    local setup offset length
    setup=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
    read -r offset length < <(od -An -tu4 -j $((0x248)) -N8 "$1")
    offset=$(((setup + 1) * 512 + offset))
    # The last four bytes are the length of the content, put there by the kernel's build.
    head -c $((offset + length - 4)) "$1" | tail -c +$((offset + 1)) | zstd -dqc >"$2" ||
        die "${1##*/}: the kernel inside is not compressed with zstd"
    [ "$(head -c4 "$2")" = $'\x7fELF' ] || die "${1##*/}: no ELF image inside"
}

# module_paths DIR NAME...  Paths below DIR of the modules and of all they need, each after what it needs.
module_paths() {
    local dir=$1
    shift
    awk -v wanted="$*" '
        function name(path) { sub(/.*\//, "", path); sub(/\.ko$/, "", path); gsub(/-/, "_", path); return path }
        function regex(glob) { gsub(/\./, "\\.", glob); gsub(/\*/, "[^/]*", glob); return "^" glob "$" }
        FILENAME ~ /builtin$/ { builtin[name($0)]; next }
        { path = substr($1, 1, length($1) - 1); $1 = ""; needs[path] = $0; of[name(path)] = path }
        function emit(path,   i, n, list) {
            # depmod lists all that a module needs, direct or not, the last one first.
            n = split(needs[path], list, " ")
            for (i = n; i > 0; i--) if (!(list[i] in done)) { done[list[i]]; print list[i] }
            if (!(path in done)) { done[path]; print path }
        }
        END {
            n = split(wanted, list, " ")
            for (i = 1; i <= n; i++) {
                found = 0
                if (list[i] ~ /\//) {
                    for (path in needs) if (path ~ regex(list[i])) { emit(path); found = 1 }
                } else if (name(list[i]) in of) { emit(of[name(list[i])]); found = 1 }
                else if (name(list[i]) in builtin) found = 1
                if (!found) { print "the kernel has no module " list[i] > "/dev/stderr"; exit 1 }
            }
        }' "$dir/modules.builtin" "$dir/modules.dep"
}

# make_kernel DIR  Fills DIR with vmlinux, config, release and modules/, all of them decompressed.
make_kernel() {
    local dir=$1 boot=$tree/boot release
    local images=("$boot"/vmlinuz-*)
    [ ${#images[@]} -eq 1 ] || die "expected one kernel in the packages, got: ${images[*]}"
    release=${images[0]##*/vmlinuz-}
    mkdir -p "$dir"
    printf '%s\n' "$release" >"$dir/release"
    extract_kernel "$boot/vmlinuz-$release" "$dir/vmlinux"
    cp "$boot/config-$release" "$dir/config"
    mkdir -p "$dir/lib/modules"
    cp -r "$tree/usr/lib/modules/$release" "$dir/lib/modules/"
    find "$dir/lib/modules" -name '*.ko.xz' -exec xz -d -T0 {} +
    depmod -b "$dir" "$release"
    mv "$dir/lib/modules/$release" "$dir/modules"
    rm -r "${dir:?}/lib"
}

# make_userland ROOT  Everything in the root image that is not the agent.
make_userland() {
    local root=$1 release path name applet list
    new_root "$root" "${mount_points[@]}" etc var usr/lib/stasis
    chmod 1777 "$root/tmp"
    chmod 700 "$root/root"
    copy_program "$tree" "$root" "${programs[@]}"
    copy_program "$tree" "$root" "${xtables[@]}"
    for name in iptables ip6tables; do
        for path in '' -save -restore; do
            ln -s xtables-nft-multi "$root/usr/sbin/$name$path"
            ln -s xtables-nft-multi "$root/usr/sbin/$name-nft$path"
            ln -s xtables-legacy-multi "$root/usr/sbin/$name-legacy$path"
        done
    done
    # Last, so that an applet never hides a program.
    copy_file "$tree" "$root" /usr/bin/busybox
    list=$(chroot "$root" /usr/bin/busybox --list-full | grep /)
    for path in $list; do
        path=/usr/${path#usr/} applet=${path##*/}
        [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] ||
            ln -s /usr/bin/busybox "$root$path"
    done

    release=$(<"$kernel/release")
    list=$(module_paths "$kernel/modules" "${modules[@]}")
    for path in $list; do
        install -D -m 644 "$kernel/modules/$path" "$root/usr/lib/modules/$release/$path"
    done
    cp "$kernel/modules/modules."{builtin,builtin.modinfo,order} "$root/usr/lib/modules/$release/"
    depmod -b "$root" "$release"
    # The binary indices are for kmod, which is not here; busybox and the agent read the text.
    rm -f "$root/usr/lib/modules/$release"/*.bin
    cp "$kernel/config" "$root/usr/lib/stasis/kernel-config"
    make_etc "$root/etc"
}

make_etc() {
    local etc=$1
    cat >"$etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
END
    cat >"$etc/group" <<'END'
root:x:0:
tty:x:5:
nogroup:x:65534:
END
    cat >"$etc/hosts" <<'END'
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
END
    cat >"$etc/nsswitch.conf" <<'END'
passwd: files
group: files
hosts: files dns
protocols: files
END
    # iptables translates the names in rules by this file.
    cat >"$etc/protocols" <<'END'
ip 0 IP
icmp 1 ICMP
tcp 6 TCP
udp 17 UDP
gre 47 GRE
esp 50 IPSEC-ESP
ah 51 IPSEC-AH
ipv6-icmp 58 IPv6-ICMP
sctp 132 SCTP
udplite 136 UDPLite
END
    # The root is read-only; what the agent decides at run time lives in /run.
    ln -s /run/criu "$etc/criu"
    ln -s /run/resolv.conf "$etc/resolv.conf"
    ln -s /proc/self/mounts "$etc/mtab"
}

# check_versions FILE NAME:VERSION...  Ends the script if a package in FILE, as packages_json writes it, is older.
check_versions() {
    local file=$1 pair have
    shift
    for pair; do
        have=$(jq -r --arg name "${pair%%:*}" '.[$name] // ""' "$file")
        dpkg --compare-versions "$have" ge "${pair#*:}" || die "${pair%%:*} is ${have:-missing}, older than ${pair#*:}"
    done
}

# make_base  Sets base to the directory with all that does not depend on the agent, from the cache if it can.
make_base() {
    local key tmp kernel kernel_tree kernel_list user newer
    fetch_packages guest-kernel guest "$suite" "${kernel_packages[@]}"
    kernel_tree=$tree kernel_list=${tree%/tree}/contents
    fetch_packages guest-newer guest "$newer_suite" "${newer_packages[@]}"
    newer=${tree%/tree}
    fetch_packages guest-user guest "$suite" "${packages[@]}"
    user=${tree%/tree}
    key=$(digest_of "$here/common.sh" "$here/build-guest.sh" "$kernel_list" "$user/contents" "$newer/contents" |
        cut -c1-16)
    base=$cache/guest-base-$key
    [ -d "$base" ] && return

    tmp=$cache/.tmp-guest-base
    kernel=$tmp/kernel
    mkdir -p "$tmp"
    tree=$kernel_tree make_kernel "$kernel"
    cp -a "$user" "$tmp/user"
    merge_packages "$newer" "$tmp/user" "${newer_packages[@]}"
    tree=$tmp/user/tree make_userland "$tmp/root"
    packages_json "$tmp/root" "$tmp/user/contents" "$kernel_list" >"$tmp/packages.json"
    check_versions "$tmp/packages.json" "${least_versions[@]}"
    rm -r "$tmp/user"
    rm -rf "$cache"/guest-base-*
    mv "$tmp" "$base"
}

# make_initramfs FILE  /init and the early modules, numbered in the order of loading.
make_initramfs() {
    local dir=$work/initramfs path list number=0
    mkdir -p "$dir/modules"
    install -m 755 "$stage1" "$dir/init"
    list=$(module_paths "$base/kernel/modules" "${early_modules[@]}")
    for path in $list; do
        install -m 644 "$base/kernel/modules/$path" "$(printf '%s/modules/%02d-%s' "$dir" $number "${path##*/}")"
        number=$((number + 1))
    done
    find "$dir" -exec touch -d "@$build_date" {} +
    (
        cd "$dir"
        find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0
    ) >"$1"
    rm -r "$dir"
}

# make_image ROOT FILE  A read-only ext4, thus without journal and almost without free space.
make_image() {
    local blocks inodes inode
    inodes=$(($(find "$1" | wc -l) + 32))
    # The room on top is for the tables of the file system: 256 bytes an inode, bitmaps, group descriptors.
    blocks=$(($(du -s --block-size=4K "$1" | cut -f1) * 102 / 100 + inodes / 16 + 256))
    truncate -s "$((blocks * 4))K" "$2"
    E2FSPROGS_FAKE_TIME=$build_date mke2fs -q -t ext4 -b 4096 -m 0 -N "$inodes" -U "$image_uuid" \
        -O ^has_journal,^resize_inode,^metadata_csum -d "$1" \
        -E "hash_seed=$image_uuid,root_owner=0:0,lazy_itable_init=0" "$2" ||
        die "mke2fs could not make the root image"
    # mke2fs copies the time of the last inode change, which cannot be set on the files it reads.
    {
        printf 'set_current_time @%s\n' "$build_date"
        for ((inode = 2; inode <= inodes; inode++)); do
            printf "sif <$inode> %s\n" "atime @$build_date" "ctime @$build_date" "crtime @$build_date" \
                "atime_extra 0" "ctime_extra 0" "mtime_extra 0" "crtime_extra 0"
        done
    } | debugfs -w -f - "$2" >/dev/null 2>&1 || die "debugfs could not set the times in the root image"
}

parse_refresh "$@"
[ ${#args[@]} -eq 4 ] || die "usage: ${0##*/} [--refresh] OUT AGENT STAGE1 CRIU-DIRECT"
mkdir -p "${args[0]}"
out=$(realpath "${args[0]}") agent=${args[1]} stage1=${args[2]} criu_direct=${args[3]}
[ -x "$agent" ] || die "no program at $agent (the agent)"
[ -x "$stage1" ] || die "no program at $stage1 (stage1)"
[ -f "$criu_direct" ] || die "no library at $criu_direct (criu-direct)"
input=$(digest_of "$here/common.sh" "$here/build-guest.sh" "$agent" "$stage1" "$criu_direct")

if up_to_date "$out" guest "$input"; then
    say "$out/guest/$(readlink "$out/guest/current") is up to date"
    exit
fi
need mmdebstrap:mmdebstrap dpkg-deb:dpkg jq:jq flock:util-linux ldconfig:libc-bin awk:mawk \
    zstd:zstd xz:xz-utils depmod:kmod cpio:cpio mke2fs:e2fsprogs debugfs:e2fsprogs
open_store "$out" guest
make_base

root=$work/root
cp -a "$base/root" "$root"
install -m 755 "$agent" "$root/usr/lib/stasis/agent"
install -m 644 "$criu_direct" "$root/usr/lib/stasis/criu-direct.so"
# A static agent is no concern of the loader.
if chroot "$root" /lib64/ld-linux-x86-64.so.2 --verify /usr/lib/stasis/agent; then
    libraries_of "$root" /usr/lib/stasis/agent >/dev/null
fi
seal "$root"
make_initramfs "$work/initramfs.cpio"
mv "$work/initramfs.cpio" "$work/initramfs"
make_image "$root" "$work/root.img"
rm -r "$root"
cp "$base/kernel/"{vmlinux,config} "$work/"

jq -n --slurpfile packages "$base/packages.json" --arg suite "$suite" --arg newer "$newer_suite" --arg kernel "$(<"$base/kernel/release")" \
    --arg vmlinux "$(sha_of "$work/vmlinux")" --arg initramfs "$(sha_of "$work/initramfs")" \
    --arg image "$(sha_of "$work/root.img")" --arg agent "$(sha_of "$agent")" \
    '{suite: $suite, newer_suite: $newer, kernel: $kernel,
      sha256: {vmlinux: $vmlinux, initramfs: $initramfs, "root.img": $image, agent: $agent},
      packages: $packages[0]}' >"$work/manifest.json"

size=$(du -sm "$work" | cut -f1)
publish "$input"
say "$outcome $store/$result ($size MB)"

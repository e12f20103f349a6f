#!/bin/bash
# Makes the VMM root: QEMU and virtiofsd from Debian with all they need to run, and nothing else. See README.md.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

packages=(qemu-system-x86 virtiofsd libc6)
programs=(/usr/bin/qemu-system-x86_64 /usr/libexec/virtiofsd)
# q35 starts with SeaBIOS, which loads the kernel through the PVH option ROM; kvmvapic is loaded for every x86 APIC,
# efi-virtio for a virtio-net device without romfile=. linuxboot is for a bzImage.
firmware=(/usr/share/seabios/bios-256k.bin /usr/share/qemu/{pvh,linuxboot_dma,kvmvapic}.bin
    /usr/share/qemu/efi-virtio.rom)
# Where the jail mounts things. old takes the host's root for the moment of pivot_root.
mount_points=(proc dev tmp share guest old run)

parse_refresh "$@"
[ ${#args[@]} -eq 1 ] || die "usage: ${0##*/} [--refresh] OUT"
mkdir -p "${args[0]}"
out=$(realpath "${args[0]}")
input=$(digest_of "$here/common.sh" "$here/build-vmm.sh")

if up_to_date "$out" vmm "$input"; then
    say "$out/vmm/$(readlink "$out/vmm/current") is up to date"
    exit
fi
need mmdebstrap:mmdebstrap dpkg-deb:dpkg jq:jq flock:util-linux ldconfig:libc-bin
open_store "$out" vmm
fetch_packages vmm vmm "$suite" "${packages[@]}"

root=$work/root
new_root "$root" "${mount_points[@]}" etc
copy_program "$tree" "$root" "${programs[@]}"
copy_file "$tree" "$root" "${firmware[@]}"
seal "$root"

qemu_version=$(chroot "$root" /usr/bin/qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version //p')
virtiofsd_version=$(chroot "$root" /usr/libexec/virtiofsd --version | sed -n 's/^virtiofsd //p')
[ -n "$qemu_version" ] || die "QEMU does not run in the root that was made"
[ -n "$virtiofsd_version" ] || die "virtiofsd does not run in the root that was made"

packages_json "$root" "$tree/../contents" >"$work/packages.json"
jq -n --slurpfile packages "$work/packages.json" \
    --arg suite "$suite" --arg tree "$(tree_digest "$root")" \
    --arg qemu_version "$qemu_version" --arg qemu "$(sha_of "$root/usr/bin/qemu-system-x86_64")" \
    --arg virtiofsd_version "$virtiofsd_version" --arg virtiofsd "$(sha_of "$root/usr/libexec/virtiofsd")" \
    '{suite: $suite, tree_sha256: $tree,
      qemu: {version: $qemu_version, sha256: $qemu},
      virtiofsd: {version: $virtiofsd_version, sha256: $virtiofsd},
      packages: $packages[0]}' >"$work/manifest.json"
rm "$work/packages.json"

size=$(du -sm "$root" | cut -f1)
publish "$input"
say "$outcome $store/$result ($size MB)"

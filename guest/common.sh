# shellcheck shell=bash
# What build-vmm.sh and build-guest.sh share. Sourced, never run.
#
# Theory of operation. A build has an input hash over everything that decides its result. If the tree that `current`
# points to was made from the same input, the script is done. Otherwise it works in a temporary directory next to the
# results, names the result after the hash of its manifest, renames it into place and switches `current`, so a reader
# sees a whole tree or none. The trees of unpacked packages are the slow part; they are kept in OUT/.cache.

shopt -s inherit_errexit

readonly suite=trixie
# What has to be younger than the suite: the guest's crun and CRIU.
# shellcheck disable=SC2034 # for the scripts that source this
readonly newer_suite=forky
# One date for every file, so that the same input gives the same images.
readonly build_date=1735689600

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need PROGRAM:PACKAGE ...  Ends the script if a program is missing, naming the Debian packages that have them.
need() {
    local pair missing=()
    for pair; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} -eq 0 ] || die "missing on this host, install with apt: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || die "must run as root (it unpacks packages and runs programs in a chroot)"
}

# parse_refresh ARG...  Sets refresh to 1 if the first argument is --refresh, and args to the others.
parse_refresh() {
    refresh=0
    if [ "${1-}" = --refresh ]; then
        refresh=1
        shift
    fi
    # shellcheck disable=SC2034 # for the script that sources this
    args=("$@")
}

# digest_of FILE...  One hash over the contents, independent of where the files are.
digest_of() { sha256sum -- "$@" | cut -d' ' -f1 | sha256sum | cut -d' ' -f1; }

# open_store OUT NAME  Sets store (where results of this kind go) and cache, takes the lock, clears what an interrupted
# build left, and makes work, the temporary directory that becomes the result.
open_store() {
    store=$1/$2 cache=$1/.cache
    mkdir -p "$store" "$cache"
    exec {lock}>"$cache/$2.lock"
    flock "$lock"
    rm -rf "$store"/.tmp-* "$cache"/.tmp-"$2"-*
    work=$(mktemp -d "$store/.tmp-XXXXXXXX")
    chmod 755 "$work"
    trap 'rm -rf "$work" "$cache"/.tmp-'"$2"'-*' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# up_to_date OUT NAME INPUT  True if the current result was made from this input.
up_to_date() {
    local made=
    [ "$refresh" -eq 0 ] && [ -f "$1/$2/current/input" ] && made=$(<"$1/$2/current/input") && [ "$made" = "$3" ]
}

# fetch_packages NAME STORE_NAME SUITE PACKAGE...  Sets tree to the directory with the unpacked packages and their
# dependencies. tree/../contents has a line "path<TAB>package<TAB>version" for each file. Fetched once, then taken from
# the cache.
fetch_packages() {
    local name=$1 owner=$2 from=$3 key tmp
    local -a options=()
    shift 3
    key=$({ printf '%s\n' "$from" "$@" && declare -f fetch_packages; } | sha256sum | cut -c1-16)
    tree=$cache/$name-$key/tree
    if [ -d "$tree" ] && [ "$refresh" -eq 0 ]; then
        return
    fi
    tmp=$cache/.tmp-$owner-$name
    mkdir -p "$tmp"
    # The index of a suite that is not released is signed for a week only, and a mirror may be behind. The signature counts.
    [ "$from" = "$suite" ] || options=(--aptopt='Acquire::Check-Valid-Until "false"')
    # The extract variant runs no maintainer script and has no package database, so the versions are read from the
    # packages themselves. The check skipped asks whether package scripts can run in the target.
    # shellcheck disable=SC2016 # the hook's $1 is for the shell mmdebstrap starts
    CONTENTS=$tmp/contents mmdebstrap --quiet --variant=extract --include="$(
        IFS=,
        echo "$*"
    )" --skip=check/chrooting "${options[@]}" \
        --extract-hook='for deb in "$1"/var/cache/apt/archives/*.deb; do
            package=$(dpkg-deb -W "$deb")
            dpkg-deb --fsys-tarfile "$deb" | tar -t | sed -n "s|^\.\(/.*[^/]\)$|\1\t$package|p"
        done >"$CONTENTS"' \
        "$from" "$tmp/tree" >"$tmp/log" 2>&1 || {
        cat "$tmp/log" >&2
        die "mmdebstrap could not unpack, from $from: $*"
    }
    [ -s "$tmp/contents" ] || die "mmdebstrap left no list of contents for: $*"
    # Debian's programs expect the merged /usr, which is made by a package script and thus is not there.
    local dir
    for dir in bin sbin lib lib64; do
        [ -e "$tmp/tree/$dir" ] || ln -s "usr/$dir" "$tmp/tree/$dir"
    done
    rm -rf "$cache/$name"-*
    mv "$tmp" "$cache/$name-$key"
}

# merge_packages FROM TO PACKAGE...  Puts the files of these packages, and their lines in the list of contents, out of
# FROM into TO. Both have tree/ and contents, as fetch_packages makes them. TO must not have the package.
merge_packages() {
    local from=$1 to=$2 package paths
    shift 2
    for package; do
        paths=$(awk -F'\t' -v package="$package" '$2 == package { print substr($1, 2) }' "$from/contents")
        [ -n "$paths" ] || die "package $package was not fetched into $from"
        if cut -f2 "$to/contents" | grep -qxF "$package"; then
            die "package $package is in $to already"
        fi
        awk -F'\t' -v package="$package" '$2 == package' "$from/contents" >>"$to/contents"
        tar -C "$from/tree" -c --no-recursion -T - <<<"$paths" | tar -C "$to/tree" -x --keep-directory-symlink
    done
}

# new_root ROOT DIR...  An empty root with the merged /usr and the given directories.
new_root() {
    local root=$1 dir
    shift
    mkdir -p "$root/usr/"{bin,sbin,lib,lib64}
    for dir in bin sbin lib lib64; do
        ln -s "usr/$dir" "$root/$dir"
    done
    for dir; do
        mkdir -p "$root/$dir"
    done
}

# libraries_of ROOT FILE  Absolute paths of the loader and all libraries FILE needs, as found inside ROOT.
libraries_of() {
    local list
    # The loader names a library that is missing on stdout, and one that is too old on stderr.
    list=$(chroot "$1" /lib64/ld-linux-x86-64.so.2 --list "$2" 2>&1) || die "$2: the loader in $1 refuses it: $list"
    if grep -F 'not found' <<<"$list" >&2; then
        die "$2 needs the libraries above, no package of the list has them"
    fi
    sed -nE 's/^.* => (\/[^ ]+) \(0x[0-9a-f]+\)$/\1/p; s/^\t(\/[^ ]+) \(0x[0-9a-f]+\)$/\1/p' <<<"$list"
}

# copy_file TREE ROOT PATH...  Copies files to the same place, symbolic links as the file they mean.
copy_file() {
    local tree=$1 root=$2 path source
    shift 2
    for path; do
        case $path in
        /lib/* | /lib64/* | /bin/* | /sbin/*) path=/usr$path ;;
        esac
        [ -e "$root$path" ] && continue
        source=$(resolve_in "$tree" "$path")
        mkdir -p "$root${path%/*}"
        cp --preserve=mode "$source" "$root$path"
    done
}

# resolve_in TREE PATH  The file PATH means inside TREE; absolute links are meant relative to the tree.
resolve_in() {
    local target=$1$2
    while [ -L "$target" ]; do
        case $(readlink "$target") in
        /*) target=$1$(readlink "$target") ;;
        *) target=${target%/*}/$(readlink "$target") ;;
        esac
    done
    [ -f "$target" ] || die "$2 is in none of the packages ($1)"
    echo "$target"
}

# copy_program TREE ROOT PATH...  Copies programs or libraries with all libraries they are linked to.
copy_program() {
    local tree=$1 root=$2 path libraries
    shift 2
    for path; do
        copy_file "$tree" "$root" "$path"
        libraries=$(libraries_of "$tree" "$path")
        # shellcheck disable=SC2086 # one word per library, Debian's library paths have no blanks
        copy_file "$tree" "$root" $libraries
    done
}

# seal ROOT  Gives all of it one date and writes the loader's cache, which spares the programs a search.
seal() {
    ldconfig -X -r "$1"
    rm -rf "$1/var/cache/ldconfig"
    find "$1" -exec touch -h -d "@$build_date" {} +
}

# tree_digest ROOT  One hash over names, modes, link targets and contents.
tree_digest() {
    (
        cd "$1" || exit
        find . -printf '%y %m %p %l\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d' ' -f1
}

sha_of() { sha256sum -- "$1" | cut -d' ' -f1; }

# packages_json ROOT CONTENTS...  The packages that have a file in ROOT, as a JSON object of name to version. Links
# (the applets of busybox) and /etc are of our own making.
packages_json() {
    local root=$1
    shift
    awk -F'\t' 'NR == FNR { have[$0]; next } $1 in have { print $2 "\t" $3 }' \
        <(cd "$root" && find usr -type f -printf '/usr/%P\n') "$@" | sort -u |
        jq -Rn '[inputs | split("\t") | {(.[0]): .[1]}] | add'
}

# publish INPUT  Names work after its manifest, moves it into the store, switches current. Sets result.
# shellcheck disable=SC2034 # both are read by the script that sources this
publish() {
    local old
    result=$(sha256sum <"$work/manifest.json" | cut -c1-16)
    printf '%s\n' "$1" >"$work/input"
    if [ -d "$store/$result" ]; then
        # Same content from another input: only the note what it was made from changes.
        mv "$work/input" "$store/$result/input"
        rm -rf "$work"
        outcome="made again, without a change,"
    else
        sync -f "$work"
        mv "$work" "$store/$result"
        outcome=made
    fi
    old=$(readlink "$store/current" || true)
    if [ "$old" != "$result" ]; then
        # The day of grace below counts from now, not from when it was built.
        [ -z "$old" ] || [ ! -d "$store/$old" ] || touch "$store/$old"
        ln -s "$result" "$store/.current.$$"
        mv -T "$store/.current.$$" "$store/current"
    fi
    remove_old
}

# remove_old  Trees that were replaced, but those that may still be used: for a day by machines started from them, and as
# long as they are there by snapshots, whose manifests name them.
remove_old() {
    local snapshots tree
    snapshots=$(sed -nE '/^\[snapshot\]/,/^\[/s/^ *dir *= *//p' /etc/stasis/stasis.conf 2>/dev/null || true)
    while IFS= read -r tree; do
        grep -qsF "\"${tree##*/}\"" "${snapshots:-/var/lib/stasis/snapshots}"/*/manifest.json || rm -rf "$tree"
    done < <(find "$store" -mindepth 1 -maxdepth 1 -type d -regextype posix-extended -regex '.*/[0-9a-f]{16}' \
        ! -name "$result" -mmin +1440)
}

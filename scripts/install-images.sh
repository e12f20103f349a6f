#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copies the current VMM root and guest. Usage: install-images.sh FROM TO (both …/lib/stasis)
# A sandbox that runs stands on the directory it started from: each hash has its own, and the link is switched last.
set -euo pipefail
from=$1 to=$2
for kind in vmm guest; do
    hash=$(readlink "$from/$kind/current")
    mkdir -p "$to/$kind"
    if [ ! -d "$to/$kind/$hash" ]; then
        rm -rf "$to/$kind/.$hash.tmp"
        cp -a --reflink=auto "$from/$kind/$hash" "$to/$kind/.$hash.tmp"
        mv "$to/$kind/.$hash.tmp" "$to/$kind/$hash"
    fi
    ln -sfn "$hash" "$to/$kind/current.tmp"
    mv -T "$to/$kind/current.tmp" "$to/$kind/current"
done

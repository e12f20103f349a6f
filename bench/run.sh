#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh OUT [boot|exec|rpc|memory|stdio]…
set -euo pipefail
cd "$(dirname "$0")/.."
tests/integration/prepare.sh "$1"
exec python3 bench/bench.py "$@"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: run.sh OUT [boot|start|exec|rpc|memory|stdio|shim|checkpoint|snapshot]…
set -euo pipefail
cd "$(dirname "$0")/.."
tests/integration/prepare.sh "$1"
tests/integration/peers.sh "$1"
ninja -C "$1/build" --quiet bench/task_rtt
exec python3 bench/bench.py "$@"

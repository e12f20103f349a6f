# SPDX-License-Identifier: Apache-2.0
"""What every benchmark needs: a place to work in, the stasis command, the guest's own shell, and a way to print figures."""
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

OUT = os.path.abspath(sys.argv[1])
STASIS = f"{OUT}/bin/stasis"
ROOTFS = f"{OUT}/test-rootfs"
ROUNDS = int(os.environ.get("STASIS_BENCH_ROUNDS", "7"))
work = tempfile.mkdtemp(prefix="stasis-bench.")
root = f"{work}/root"
os.mkdir(root)
conf = f"{work}/conf"
with open(conf, "w") as f:
    f.write("[agent]\ndebug_console = true\n")


def bundle(name, args, rootfs=ROOTFS):
    path = f"{work}/{name}"
    os.makedirs(path, exist_ok=True)
    if not os.path.exists(f"{path}/config.json"):
        subprocess.run([STASIS, "spec", "--bundle", path], check=True)
    with open(f"{path}/config.json") as f:
        spec = json.load(f)
    spec["process"]["terminal"] = False
    spec["process"]["args"] = args
    spec["root"] = {"path": rootfs, "readonly": False}
    with open(f"{path}/config.json", "w") as f:
        json.dump(spec, f)
    return path


def stasis(*args, **kw):
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([STASIS, "--root", root, "--config", conf, *args], check=True, **kw)


def show(label, values, unit="ms"):
    print(f"  {label:<44} {statistics.median(values):9.1f} {unit}   (min {min(values):.1f}, max {max(values):.1f}, n {len(values)})")
    return statistics.median(values)


def console(container, script, end=b"benchmark-over"):
    """Runs a script in the guest itself, over the debug console; returns what it printed."""
    master, slave = os.openpty()
    p = subprocess.Popen([STASIS, "--root", root, "--config", conf, "console", container],
                         stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""
    sent = False
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and seen.count(end) < 1:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        if not sent and b"# " in seen:
            # The end mark is split, so that its echo is not taken for it.
            os.write(master, script.encode() + b"\necho benchmark-''over\n")
            sent = True
    os.write(master, b"exit\n")
    try:
        p.wait(20)
    except subprocess.TimeoutExpired:
        p.kill()
    os.close(master)
    return seen.decode(errors="replace")


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1]) / 1024

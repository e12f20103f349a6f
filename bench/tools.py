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
# One boots each VM, the other starts from a template; neither touches what the host has of either kind.
conf, warm = f"{work}/conf", f"{work}/warm"
for path, template in ((conf, "false"), (warm, "true")):
    with open(path, "w") as f:
        f.write(f"[vm]\ntemplate = {template}\n[agent]\ndebug_console = true\n"
                f"[snapshot]\ndir = {work}/snapshots\ntemplates = {work}/templates\n")


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


def stasis(*args, config=conf, **kw):
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([STASIS, "--root", root, "--config", config, *args], check=True, **kw)


def show(label, values, unit="ms"):
    print(f"  {label:<44} {statistics.median(values):9.1f} {unit}   (min {min(values):.1f}, max {max(values):.1f}, n {len(values)})")
    return statistics.median(values)


def ratio(label, ours, theirs, aim):
    print(f"  {label:<44} {ours / theirs:9.2f}   aim ≤ {aim}")


def timed(function, *args, **kw):
    """Milliseconds that it takes."""
    start = time.monotonic()
    function(*args, **kw)
    return (time.monotonic() - start) * 1000


def marks(container):
    """What a daemon that runs with --debug has said of its steps: name to milliseconds of CLOCK_MONOTONIC."""
    with open(f"{root}/{container}/log") as f:
        return {m[0]: int(m[1]) / 1e3 for m in re.findall(r"timing: (\w+) at (\d+) us", f.read())}


def show_steps(steps, names):
    for step, values in steps.items():
        show("  " + names.get(step, step), values)


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


def peer_bundle(name, args, rootfs=ROOTFS):
    """The same for other runtimes, from runc's own template."""
    path = f"{work}/{name}"
    os.makedirs(path)
    subprocess.run(["runc", "spec", "--bundle", path], check=True)
    return bundle(name, args, rootfs)


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1]) / 1024

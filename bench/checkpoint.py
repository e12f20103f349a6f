# SPDX-License-Identifier: Apache-2.0
"""Checkpoint and restore: ours beside crun's within the same guest, the time frozen, the disk and memory they take."""
import contextlib
import json
import os
import re
import shutil
import stat
import statistics
import subprocess
import threading
import time

from tools import ROUNDS, STASIS, bundle, conf, console, ratio, root, show, stasis, warm, work

MIB, LARGE_MIB = 256, 1024
DIRTY_PERCENT = 5
CONTAINER = "cp"
BUNDLE, IMAGES, LOGS = f"{work}/cp", f"{work}/images", f"{work}/logs"

# In the guest, all on its tmpfs. Another container of the same configuration but for the cgroup is restored there, from
# the images of the first, with pipes as its stdio, as the first has.
GUEST_DUMP = """
rm -rf /run/bench; mkdir -p /run/bench/images /run/bench/logs /run/bench/bundle
s=$(cut -d' ' -f1 /proc/uptime)
crun checkpoint --leave-running --image-path=/run/bench/images --work-path=/run/bench/logs {id} || echo fail''ed
e=$(cut -d' ' -f1 /proc/uptime); echo took-$s-$e-
"""
GUEST_RESTORE = """
sed 's|/stasis/{id}|/stasis/bench|' /run/crun/{id}/config.json >/run/bench/bundle/config.json
s=$(cut -d' ' -f1 /proc/uptime)
: | crun restore --detach --bundle=/run/bench/bundle --image-path=/run/bench/images --work-path=/run/bench/logs bench 2>&1 |
    head -n 1 | grep -q running || echo fail''ed
e=$(cut -d' ' -f1 /proc/uptime); echo took-$s-$e-
crun delete -f bench; rm -rf /run/bench
"""

# The same in a guest that has just started and never restored anything, as that of our own restore; the images are a
# volume there.
GUEST_FIRST = """
rm -rf /run/bench; mkdir -p /run/bench/logs /run/bench/bundle
cp -r $(grep -o '"destination":"/images"[^}]*' /run/crun/{id}/config.json | grep -o '/share/[^"]*') /run/bench/images
""" + GUEST_RESTORE


def in_guest(script, container=CONTAINER):
    """Milliseconds that the guest's own clock says."""
    text = console(container, script.replace("{id}", container))
    m = re.search(r"took-([\d.]+)-([\d.]+)-", text)
    if not m or "failed" in text:
        raise RuntimeError(f"crun in the guest failed:\n{text}")
    return (float(m[2]) - float(m[1])) * 1000


def written():
    """Bytes that the sandbox has had written to a disk: by daemon, QEMU, virtiofsd, and what has ended of them."""
    with open(f"{root}/{CONTAINER}/state.json") as f:
        st = json.load(f)["stasis"]
    pids = [st["daemonPid"], st["qemuPid"], st["virtiofsdPid"]]
    forked = subprocess.run(["pgrep", "-P", str(st["virtiofsdPid"])], capture_output=True, text=True, check=False)
    pids += map(int, forked.stdout.split())
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/io") as f:
            total += int(re.search(r"^write_bytes: (\d+)", f.read(), re.M)[1])
    return total


def size_of(directory):
    return sum(e.stat(follow_symlinks=False).st_size for e in os.scandir(directory))


def dump(name, *more):
    """Milliseconds of the whole command, and CRIU's statistics."""
    start = time.monotonic()
    got = stasis("checkpoint", "--print-stats", "--image-path", f"{IMAGES}/{name}", "--work-path", LOGS, *more,
                 CONTAINER, capture_output=True, text=True)
    return (time.monotonic() - start) * 1000, json.loads(got.stdout)


def restore(name, container):
    """Milliseconds to the first output: of the whole command, and from the moment its VM was ready."""
    start = time.monotonic()
    p = subprocess.Popen([STASIS, "--debug", "--root", root, "--config", warm, "restore", "--bundle", BUNDLE,
                          "--image-path", f"{IMAGES}/{name}", container], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    line = p.stdout.readline()
    end = time.monotonic()
    if line != b"running\n":
        raise RuntimeError(f"the restored container said {line}")
    with open(f"{root}/{container}/log") as f:
        ready = int(re.search(r"timing: agent at (\d+) us", f.read())[1]) / 1e6
    stasis("delete", "--force", container, stderr=subprocess.DEVNULL)  # it says that the restore is not quite over
    p.stdout.close()
    p.wait()
    return (end - start) * 1000, (end - ready) * 1000


def first_in_guest(name):
    """Milliseconds of crun's restore, the first of a new guest."""
    with open(f"{BUNDLE}/config.json") as f:
        spec = json.load(f)
    spec["process"]["args"] = ["/work", "1", "0"]
    spec["mounts"].append({"destination": "/images", "type": "bind", "source": f"{IMAGES}/{name}", "options": ["rbind", "ro"]})
    os.makedirs(f"{work}/first-restore", exist_ok=True)
    with open(f"{work}/first-restore/config.json", "w") as f:
        json.dump(spec, f)
    stasis("run", "--detach", "--bundle", f"{work}/first-restore", "guest", config=warm, stdout=subprocess.DEVNULL,
           stderr=subprocess.DEVNULL)
    stasis("pause", "guest")
    took = in_guest(GUEST_FIRST, "guest")
    stasis("delete", "--force", "guest")
    return took


def bench_calls():
    """(a) Our calls beside crun's in the guest; bytes on the disk. VMs for restores start from a template."""
    stasis("run", "--bundle", bundle("first", ["/bin/true"]), "warm", config=warm)
    theirs, ours, frozen, disk = [], [], [], []
    again_theirs, again_first, again_ours, again_whole = [], [], [], []
    for i in range(ROUNDS):
        theirs.append(in_guest(GUEST_DUMP))
        before = written()
        took, stats = dump("full", "--leave-running")
        ours.append(took)
        frozen.append(stats["frozen_time"] / 1000)
        disk.append((written() - before) / size_of(f"{IMAGES}/full"))
        stasis("pause", CONTAINER)  # it shall not take CPU time from what is restored
        again_theirs.append(in_guest(GUEST_RESTORE))
        again_first.append(first_in_guest("full"))
        whole, from_ready = restore("full", f"again{i}")
        again_whole.append(whole)
        again_ours.append(from_ready)
        stasis("resume", CONTAINER)
        shutil.rmtree(f"{IMAGES}/full")
    c = show("crun checkpoint to the guest's tmpfs", theirs)
    o = show("stasis checkpoint, the whole call", ours)
    ratio("ratio", o, c, 1.25)
    c = show("crun restore in the guest, to first output", again_theirs)
    f = show("... the first in a new guest, as ours is", again_first)
    o = show("stasis restore, VM ready to first output", again_ours)
    ratio("ratio", o, c, 1.25)
    ratio("ratio to the first in a new guest", o, f, 1.25)
    show("stasis restore, the whole command", again_whole)
    print(f"  {'bytes to the disk / size of the images':<44} {statistics.median(disk):9.3f}   aim ≤ 1.02")
    return frozen


def full_dump():
    """Milliseconds frozen."""
    _, stats = dump("full", "--leave-running")
    shutil.rmtree(f"{IMAGES}/full")
    return stats["frozen_time"] / 1000


def bench_frozen(full):
    """(b) Two rounds of --pre-dump, then the rest."""
    frozen = []
    for _ in range(ROUNDS):
        dump("pre1", "--pre-dump")
        dump("pre2", "--pre-dump", "--parent-path", "../pre1")
        frozen.append(dump("last", "--leave-running", "--parent-path", "../pre2")[1]["frozen_time"] / 1000)
        for name in ("last", "pre2", "pre1"):
            shutil.rmtree(f"{IMAGES}/{name}")
    f = show("frozen, full dump", full)
    i = show(f"frozen, after two pre-dumps, {DIRTY_PERCENT} % dirty", frozen)
    ratio("ratio", i, f, 0.25)


def blocks(path, follow=False):
    try:
        st = os.stat(path, follow_symlinks=follow)
    except OSError:
        return 0
    return st.st_blocks * 512 if stat.S_ISREG(st.st_mode) else 0


def watch_export(p, archive, peak):
    """The most that is on the disk: images, and beside them the archive, which has no name until it is whole."""
    directory = os.path.dirname(archive)
    while p.poll() is None:
        beside, images = blocks(archive), 0
        for path, _, files in os.walk(directory):
            images += sum(blocks(f"{path}/{f}") for f in files if path != directory)
        try:
            for fd in os.listdir(f"/proc/{p.pid}/fd"):
                path = f"/proc/{p.pid}/fd/{fd}"
                if os.readlink(path).startswith(directory) and os.stat(path).st_nlink == 0:
                    beside += blocks(path, follow=True)
            with open(f"/proc/{p.pid}/status") as f:
                peak["rss"] = max(peak["rss"], int(re.search(r"VmHWM:\s+(\d+)", f.read())[1]) / 1024)
        except (OSError, TypeError):
            pass  # it is about to end
        peak["images"] = max(peak["images"], images)
        peak["beside"] = max(peak["beside"], beside)
        time.sleep(0.02)


def bench_export():
    """(c) An archive, compressed while it is written."""
    took, beside, images, rss, sizes = [], [], [], [], []
    directory = f"{work}/export"
    os.mkdir(directory)
    for _ in range(ROUNDS):
        archive = f"{directory}/cp.tar.zst"
        peak = {"rss": 0, "images": 0, "beside": 0}
        start = time.monotonic()
        p = subprocess.Popen([STASIS, "--root", root, "--config", conf, "checkpoint", "--leave-running", "--export",
                              archive, CONTAINER], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        t = threading.Thread(target=watch_export, args=(p, archive, peak))
        t.start()
        t.join()
        took.append((time.monotonic() - start) * 1000)
        if p.returncode:
            raise RuntimeError("the export failed")
        size = blocks(archive)
        sizes.append(size / 2**20)
        beside.append(peak["beside"] / size)
        images.append(peak["images"] / 2**20)
        rss.append(peak["rss"])
        os.unlink(archive)
    show("export, the whole call", took)
    show("the archive", sizes, "MiB")
    show("the images, until it is whole", images, "MiB")
    print(f"  {'peak disk beside the images / archive':<44} {max(beside):9.2f}   aim ≤ 1")
    print(f"  {'peak RSS of the command':<44} {max(rss):9.1f} MiB   aim ≤ 32")


@contextlib.contextmanager
def running(mib, rootfs):
    """The container, from when its memory is full."""
    bundle("cp", ["/work", str(mib), str(DIRTY_PERCENT)], rootfs)
    reader, writer = os.pipe()
    stasis("run", "-d", "--bundle", BUNDLE, CONTAINER, stdout=writer)
    os.close(writer)
    os.read(reader, 1)
    drain = threading.Thread(target=lambda: all(iter(lambda: os.read(reader, 65536), b"")), daemon=True)
    drain.start()
    try:
        yield
    finally:
        stasis("delete", "--force", CONTAINER)
        drain.join(10)
        os.close(reader)


def bench():
    print(f"checkpoint: a process with {MIB} MiB of random memory, of which it writes to {DIRTY_PERCENT} %")
    rootfs = f"{work}/cp-rootfs"
    for d in ("proc", "dev", "sys", "tmp"):
        os.makedirs(f"{rootfs}/{d}")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "memory_work.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", f"{rootfs}/work", source], check=True)
    with running(MIB, rootfs):
        bench_frozen(bench_calls())
        bench_export()
    print(f"the same with {LARGE_MIB} MiB")
    with running(LARGE_MIB, rootfs):
        bench_frozen([full_dump() for _ in range(ROUNDS)])

# SPDX-License-Identifier: Apache-2.0
"""Snapshots of whole sandboxes beside runc with CRIU on the host, and clones: how long, how much memory."""
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import threading
import time

from tools import OUT, ROUNDS, STASIS, bundle, peer_bundle, pss, ratio, root, show, stasis, timed, warm, work

MIB = 256
DIRTY_PERCENT = 5
CLONES = 8
MEMORY = "sn"  # the container that holds memory
IDLE = "idle"
CRIU = f"{OUT}/peers/bin"


class Drain:
    """The reading end of a container's output. Its first word says that it runs; the rest is thrown away."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def first(self):
        os.close(self.writer)
        word = os.read(self.reader, 8)
        if word != b"running\n":
            raise RuntimeError(f"the container said {word}")

    def rest(self):
        threading.Thread(target=lambda: all(iter(lambda: os.read(self.reader, 65536), b"")), daemon=True).start()


def runc(*args, stdout=None):
    env = dict(os.environ, PATH=f"{CRIU}:{os.environ['PATH']}")
    subprocess.run(["runc", "--root", f"{work}/runc", *args], env=env, stdin=subprocess.DEVNULL,
                   stdout=stdout or subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


class Peer:
    """The same process on the host."""

    def __init__(self, rootfs):
        self.path = peer_bundle("peer", ["/work", str(MIB), str(DIRTY_PERCENT)], rootfs)
        self.images = ["--image-path", f"{work}/peer-images", "--work-path", f"{work}/peer-logs"]
        self.drain = Drain()
        runc("run", "--detach", "--bundle", self.path, "peer", stdout=self.drain.writer)
        self.drain.first()
        self.drain.rest()
        runc("pause", "peer")

    def checkpoint(self):
        """Milliseconds: of the command, and until what it wrote is on the disk, as a snapshot is when it returns."""
        shutil.rmtree(f"{work}/peer-images", ignore_errors=True)
        runc("resume", "peer")
        begin = time.monotonic()
        runc("checkpoint", "--leave-running", *self.images, "peer")
        took = time.monotonic() - begin
        for e in os.scandir(f"{work}/peer-images"):
            fd = os.open(e.path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        synced = time.monotonic() - begin
        runc("pause", "peer")
        return took * 1000, synced * 1000

    def restore(self, name):
        drain = Drain()
        begin = time.monotonic()
        runc("restore", "--detach", "--bundle", self.path, *self.images, name, stdout=drain.writer)
        drain.first()
        took = time.monotonic() - begin
        drain.rest()
        runc("delete", "--force", name)
        return took * 1000

    def end(self):
        runc("delete", "--force", "peer")


def create(container, name, *more):
    """Milliseconds of the whole command, and what it says."""
    begin = time.monotonic()
    got = stasis("snapshot", "create", "--json", *more, container, name, config=warm, capture_output=True, text=True)
    return (time.monotonic() - begin) * 1000, json.loads(got.stdout)


def restore(name, container, copy=True):
    """Milliseconds to the first output. A copy has an identity of its own, and the id; else that is the one it had."""
    drain = Drain()
    more = ["--id", container] if copy else []
    begin = time.monotonic()
    p = subprocess.Popen([STASIS, "--root", root, "--config", warm, "snapshot", "restore", "--attach", *more, name],
                         stdin=subprocess.DEVNULL, stdout=drain.writer)
    drain.first()
    took = time.monotonic() - begin
    drain.rest()
    stasis("kill", container, "KILL")  # the command that is attached deletes it
    p.wait()
    return took * 1000


def bench_calls(peer):
    """What does not take part is paused meanwhile: it shall not take CPU time from what is measured."""
    ours, unsynced, stopped, memory, stored, ended, back = [], [], [], [], [], [], []
    theirs, synced, again, again_theirs = [], [], [], []
    for i in range(ROUNDS):
        if peer:
            stasis("pause", MEMORY)
            for got, to in zip(peer.checkpoint(), (theirs, synced)):
                to.append(got)
            again_theirs.append(peer.restore(f"peer{i}"))
            stasis("resume", MEMORY)
        took, said = create(MEMORY, "full")
        ours.append(took)
        stopped.append(said["stopped_time"] / 1000)
        memory.append(said["memory_bytes"] / 2**20)
        stored.append((said["memory_bytes"] - said["shared_bytes"]) / 2**20)
        os.sync()
        unsynced.append(create(MEMORY, "unsynced", "--no-sync")[0])
        stasis("snapshot", "rm", "unsynced", config=warm, stdout=subprocess.DEVNULL)
        stasis("pause", MEMORY)
        again.append(restore("full", f"again{i}"))
        stasis("resume", MEMORY)
        # A copy of it, for the source has to stay.
        stasis("snapshot", "clone", "--id", "toend", "full", config=warm, stdout=subprocess.DEVNULL)
        ended.append(create("toend", "end", "--stop")[0])
        stasis("delete", "--force", "toend", stderr=subprocess.DEVNULL)
        stasis("pause", MEMORY)
        back.append(restore("end", "toend", copy=False))
        stasis("resume", MEMORY)
        stasis("snapshot", "rm", "end", "full", config=warm, stdout=subprocess.DEVNULL)
    o = show("stasis snapshot create, the whole call", ours)
    u = show("stasis snapshot create --no-sync", unsynced)
    show("stasis snapshot create --stop", ended)
    show("  the sandbox stood still, leave running", stopped)
    show("  memory that it holds", memory, "MiB")
    show("    not its template's, and so stored", stored, "MiB")
    r = show("stasis snapshot restore, to first output", back)
    show("  as a copy beside the source", again)
    if not peer:
        return
    t = show("runc checkpoint on the host", theirs)
    show("runc checkpoint and fsync of its images", synced)
    a = show("runc restore on the host, to first output", again_theirs)
    ratio("snapshot --no-sync / runc checkpoint, neither on the disk", u, t, 1.0)
    ratio("snapshot / runc checkpoint and fsync, both on the disk", o, statistics.median(synced), 1.0)
    ratio("snapshot, on the disk / runc checkpoint, not", o, t, 1.0)
    ratio("restore / runc restore", r, a, 1.0)


def guest_memory(daemon):
    """Of a memfd: what has pages, mapped by somebody or not."""
    total = 0
    for fd in os.listdir(f"/proc/{daemon}/fd"):
        path = f"/proc/{daemon}/fd/{fd}"
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/memfd:"):
                total += os.stat(path).st_blocks * 512 / 2**20
    return total


def footprint(container):
    """MiB of a sandbox: its processes' proportional sets without the guest's memory, and that, wholly its own."""
    with open(f"{root}/{container}/state.json") as f:
        st = json.load(f)["stasis"]
    pids = [st["daemonPid"], st["qemuPid"], st["virtiofsdPid"]]
    forked = subprocess.run(["pgrep", "-P", str(st["virtiofsdPid"])], capture_output=True, text=True, check=False)
    pids += map(int, forked.stdout.split())
    own = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            own += pss(pid) - int(re.search(r"^Pss_Shmem:\s+(\d+)", f.read(), re.M)[1]) / 1024
    return own + guest_memory(st["daemonPid"])


def clone(snapshot, prefix, n):
    return timed(stasis, "snapshot", "clone", "-n", str(n), "--prefix", prefix, snapshot, config=warm,
                 stdout=subprocess.DEVNULL)


def bench_clones(container, label):
    """The time until all are ready, and what one more takes while others are there."""
    one, all_of_them, alone, further = [], [], [], []
    stopped = create(container, "many")[1]["stopped_time"] / 1000
    stasis("pause", container)
    for i in range(min(ROUNDS, 3)):
        one.append(clone("many", f"one{i}", 1))
        alone.append(footprint(f"one{i}-1"))
        all_of_them.append(clone("many", f"all{i}", CLONES))
        ids = [f"all{i}-{k}" for k in range(1, CLONES + 1)]
        further.append((sum(map(footprint, [f"one{i}-1", *ids])) - alone[-1]) / CLONES)
        for c in (f"one{i}-1", *ids):
            stasis("delete", "--force", c, stderr=subprocess.DEVNULL)
    stasis("resume", container)
    stasis("snapshot", "rm", "many", config=warm, stdout=subprocess.DEVNULL)
    print(f"  clones of {label}")
    print(f"  {'  the source stood still':<44} {stopped:9.1f} ms")
    o = show("  one, ready", one)
    a = show(f"  {CLONES} at once, all ready", all_of_them)
    ratio(f"  {CLONES} / one", a, o, 4)
    show("  memory of the first", alone, "MiB")
    show("  memory per further clone", further, "MiB")


def host_criu():
    """The one from the guest's Debian release, if it can do it on this kernel."""
    try:
        got = subprocess.run([f"{CRIU}/criu", "check"], capture_output=True, text=True, check=False)
    except OSError as e:
        print(f"  runc is not compared: {e}")
        return False
    if got.returncode:
        print(f"  runc is not compared: criu check says {(got.stdout + got.stderr).strip()}")
    return got.returncode == 0


def bench():
    print(f"snapshot: a sandbox with a process that holds {MIB} MiB of random memory, {DIRTY_PERCENT} % of it written to all the time")
    rootfs = f"{work}/sn-rootfs"
    for d in ("proc", "dev", "sys", "tmp"):
        os.makedirs(f"{rootfs}/{d}")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "memory_work.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", f"{rootfs}/work", source], check=True)
    peer = Peer(rootfs) if host_criu() else None
    try:
        drain = Drain()
        path = bundle("sn", ["/work", str(MIB), str(DIRTY_PERCENT)], rootfs)
        stasis("run", "-d", "--bundle", path, MEMORY, config=warm, stdout=drain.writer)
        drain.first()
        drain.rest()
        bench_calls(peer)
    finally:
        if peer:
            peer.end()
    bench_clones(MEMORY, f"the sandbox with {MIB} MiB")
    stasis("delete", "--force", MEMORY)
    path = bundle("sleep", ["/bin/sleep", "100000"])
    stasis("run", "-d", "--bundle", path, IDLE, config=warm, stdout=subprocess.DEVNULL)
    bench_clones(IDLE, "an idle sandbox")
    stasis("delete", "--force", IDLE)

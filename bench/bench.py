#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of bench/README.md. Usage: bench.py OUT [boot|start|exec|rpc|memory|stdio|shim|checkpoint|snapshot]…

Everything that is compared is measured alternately in one run: this prints medians and their ratio, never a verdict.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import checkpoint
import snapshot
import start
from containerd import NAMESPACE, Containerd, Grpc, field
from tools import OUT, ROUNDS, STASIS, bundle, console, pss, root, show, stasis, work


def bare_boot():
    """The same QEMU and kernel, the same machine, a trivial init: time from start to its first word."""
    vmm = os.path.realpath(f"{OUT}/lib/stasis/vmm/current/root")
    guest = os.path.realpath(f"{OUT}/lib/stasis/guest/current")
    init = f"{work}/bare"
    if not os.path.exists(f"{init}.cpio"):
        os.makedirs(f"{init}/dev", exist_ok=True)
        subprocess.run(["gcc", "-O2", "-static", "-o", f"{init}/init",
                        os.path.join(os.path.dirname(os.path.abspath(__file__)), "bare_init.c")], check=True)
        subprocess.run(["mknod", f"{init}/dev/console", "c", "5", "1"], check=True)
        with open(f"{init}.cpio", "wb") as out:
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b".\ninit\ndev\ndev/console\n", cwd=init,
                           stdout=out, check=True)
    memory = os.memfd_create("bare")
    os.ftruncate(memory, 2 << 30)
    argv = ["qemu-system-x86_64",
             "-M", "q35,accel=tcg,memory-backend=mem,smbus=off,sata=off,usb=off,vmport=off",
             "-object", f"memory-backend-file,id=mem,size=2G,mem-path=/proc/self/fd/{memory},share=on",
             "-cpu", "max,-erms,-fsrm", "-smp", "2", "-m", "2G", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-serial", "stdio", "-kernel", "/kernel/vmlinux", "-initrd", "/kernel/initramfs",
             "-append", "console=ttyS0 panic=-1 reboot=t quiet cryptomgr.notests mitigations=off init_on_alloc=1"]
    jail = f"{work}/jail"
    if not os.path.exists(jail):
        os.makedirs(f"{jail}")
        subprocess.run(["mount", "--bind", vmm, jail], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", f"{jail}/proc"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{jail}/tmp"], check=True)
        os.makedirs(f"{jail}/tmp/kernel", exist_ok=True)
        shutil.copy(f"{guest}/vmlinux", f"{jail}/tmp/kernel/vmlinux")
        shutil.copy(f"{init}.cpio", f"{jail}/tmp/kernel/initramfs")
    argv = [a.replace("/kernel/", "/tmp/kernel/") for a in argv]
    start = time.monotonic()
    p = subprocess.Popen(["chroot", jail] + argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         pass_fds=[memory])
    took = None
    for line in p.stdout:
        if b"bare-init-ready" in line:
            took = time.monotonic() - start
            break
    p.kill()
    p.wait()
    os.close(memory)
    if took is None:
        sys.exit("the bare boot did not come up")
    return took * 1000


STEPS = ["daemon", "spawned", "channel", "agent", "created", "started", "exited"]


def bench_boot():
    print("boot: cold start of `stasis run … /bin/true`, beside a bare QEMU with the same kernel and a trivial init")
    path = bundle("true", ["/bin/true"])
    bare, ready, total = [], [], []
    steps = {s: [] for s in STEPS}
    for i in range(ROUNDS):
        bare.append(bare_boot())
        start = time.monotonic()
        stasis("--debug", "run", "--keep", "--bundle", path, f"boot{i}", stderr=subprocess.DEVNULL)
        total.append((time.monotonic() - start) * 1000)
        with open(f"{root}/boot{i}/log") as f:
            at = {m[0]: int(m[1]) / 1e6 for m in re.findall(r"timing: (\w+) at (\d+) us", f.read())}
        stasis("delete", f"boot{i}")
        before = start
        for s in STEPS:
            steps[s].append((at[s] - before) * 1000)
            before = at[s]
        ready.append((at["agent"] - start) * 1000)
    names = {"daemon": "CLI and daemon, until the VM is started", "spawned": "virtiofsd and QEMU spawned",
             "channel": "QEMU, kernel, stage1, agent in step", "agent": "Hello", "created": "crun create",
             "started": "crun start", "exited": "exit and output delivered"}
    b = show("bare QEMU to init", bare)
    r = show("stasis run to agent ready", ready)
    print(f"  ratio agent ready / bare boot                {r / b:9.2f}")
    for s in STEPS:
        show("  " + names[s], steps[s])
    show("stasis run /bin/true, whole", total)


def bench_exec():
    print("exec: `stasis exec /bin/true` beside `crun exec` timed in the same guest")
    path = bundle("sleep", ["/bin/sleep", "100000"])
    stasis("run", "-d", "--bundle", path, "e1", stdout=subprocess.DEVNULL)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = time.monotonic()
        for _ in range(5):
            stasis("exec", "e1", "/bin/true")
        ours.append((time.monotonic() - start) * 1000 / 5)
        text = console("e1", "s=$(cut -d' ' -f1 /proc/uptime); for i in 1 2 3 4 5; do crun exec e1 /bin/true; done; "
                             "e=$(cut -d' ' -f1 /proc/uptime); echo took-$s-$e-")
        m = re.search(r"took-([\d.]+)-([\d.]+)-", text)
        theirs.append((float(m[2]) - float(m[1])) * 1000 / 5)
    c = show("crun exec in the guest", theirs)
    o = show("stasis exec", ours)
    print(f"  ratio                                        {o / c:9.2f}")
    stasis("delete", "--force", "e1")


class Client:
    """As little ttrpc as a round trip needs."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.stream = 1

    def send(self, method, payload):
        body = field(1, b"containerd.task.v2.Task") + field(2, method) + field(3, payload)
        self.sock.sendall(struct.pack(">IIBB", len(body), self.stream, 1, 0) + body)
        self.stream += 2

    def call(self, method, payload):
        self.send(method, payload)
        head = self.sock.recv(10, socket.MSG_WAITALL)
        return self.sock.recv(struct.unpack(">I", head[:4])[0], socket.MSG_WAITALL)


def bench_rpc():
    print("rpc: round trips on one connection")
    path = bundle("sleep", ["/bin/sleep", "100000"])
    stasis("run", "-d", "--bundle", path, "r1", stdout=subprocess.DEVNULL)
    c = Client(f"{root}/r1/api.sock")
    for label, method, payload in (("to the daemon (Connect)", b"Connect", field(1, b"r1")),
                                   ("to the agent (Kill, SIGCONT)", b"Kill", field(1, b"r1") + field(3, 18))):
        values = []
        for _ in range(300):
            start = time.monotonic()
            c.call(method, payload)
            values.append((time.monotonic() - start) * 1e6)
        show(label, values, "us")
    stasis("delete", "--force", "r1")


def bench_memory():
    print("memory: PSS of an idle sandbox with one container")
    path = bundle("sleep", ["/bin/sleep", "100000"])
    stasis("run", "-d", "--bundle", path, "m1", stdout=subprocess.DEVNULL)
    time.sleep(7)  # idle: what the start needed is given back
    with open(f"{root}/m1/state.json") as f:
        st = json.load(f)["stasis"]
    parts = {"daemon": pss(st["daemonPid"]), "QEMU, with the guest's memory": pss(st["qemuPid"])}
    vfs = [st["virtiofsdPid"]] + [int(p) for p in subprocess.run(
        ["pgrep", "-P", str(st["virtiofsdPid"])], capture_output=True, text=True).stdout.split()]
    parts["virtiofsd"] = sum(pss(p) for p in vfs)
    monitor = json.loads(stasis("state", "m1", capture_output=True).stdout)["pid"]
    parts["monitor"] = pss(monitor)
    for name, value in parts.items():
        print(f"  {name:<44} {value:9.1f} MiB")
    print(f"  {'sum':<44} {sum(parts.values()):9.1f} MiB")
    text = console("m1", "grep ^Pss: /proc/1/smaps_rollup")
    print(f"  {'agent, in the guest':<44} {int(re.search(r'Pss: *([0-9]+)', text)[1]) / 1024:9.1f} MiB")
    stasis("delete", "--force", "m1")


def rss_watch(pid, stop, out):
    while not stop.is_set():
        with open(f"/proc/{pid}/status") as f:
            out.append(int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) / 1024)
        stop.wait(0.1)


def bench_stdio():
    print("stdio: whole streams, checked by digest")
    path = bundle("sleep", ["/bin/sleep", "100000"])
    stasis("run", "-d", "--bundle", path, "s1", stdout=subprocess.DEVNULL)
    with open(f"{root}/s1/state.json") as f:
        daemon = json.load(f)["stasis"]["daemonPid"]
    size = 256 << 20
    want = hashlib.sha256(b"\0" * size).hexdigest()
    for label, pause in (("256 MiB through stdout", 0), ("256 MiB through stdout, a slow reader", 0.0005)):
        stop, rss = threading.Event(), []
        t = threading.Thread(target=rss_watch, args=(daemon, stop, rss))
        t.start()
        start = time.monotonic()
        p = subprocess.Popen([STASIS, "--root", root, "exec", "s1", "head", "-c", str(size), "/dev/zero"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        digest = hashlib.sha256()
        while True:
            data = p.stdout.read1(65536)
            if not data:
                break
            digest.update(data)
            if pause:
                time.sleep(pause)
        took = time.monotonic() - start
        stop.set()
        t.join()
        ok = "whole" if p.wait() == 0 and digest.hexdigest() == want else "DAMAGED"
        print(f"  {label:<44} {size / took / 2**20:9.1f} MiB/s {ok}, daemon at most {max(rss):.1f} MiB RSS")
    data = os.urandom(64 << 20)
    start = time.monotonic()
    got = stasis("exec", "s1", "sha256sum", stdin=None, input=data, capture_output=True).stdout.split()[0].decode()
    took = time.monotonic() - start
    ok = "whole" if got == hashlib.sha256(data).hexdigest() else "DAMAGED"
    print(f"  {'64 MiB through stdin (with sha256sum)':<44} {64 / took:9.1f} MiB/s {ok}")
    stasis("delete", "--force", "s1")


SHIMS = {"stasis": "io.containerd.stasis.v2", "runc": "io.containerd.runc.v2"}
SIGCONT, SIGKILL = 18, 9


def compare(label, values, unit):
    """A line for each shim, and what ours takes of runc's."""
    ours, theirs = (show(f"{label}, {name}", values[name], unit) for name in SHIMS)
    print(f"  {'ratio':<44} {ours / theirs:9.2f}")


def start_cpu(cd, shim, container):
    """CPU time of the command alone: not of the daemon it leaves behind, which is ended."""
    path = bundle(container, ["/bin/true"])
    os.mkfifo(f"{path}/log")
    log = os.open(f"{path}/log", os.O_RDWR)
    binary = shutil.which(f"containerd-shim-{shim}-v2", path=f"{OUT}/bin:{os.environ['PATH']}")
    env = dict(os.environ, TTRPC_ADDRESS=f"{cd.address}.ttrpc", STASIS_ROOT=f"{cd.dir}/run")
    p = subprocess.Popen([binary, "-namespace", NAMESPACE, "-address", cd.address, "-publish-binary",
                          shutil.which("containerd"), "-id", container, "start"], cwd=path, env=env,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    address = p.stdout.read().decode().removeprefix("unix://")
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"{binary} start failed")
    client = Client(address)
    client.send(b"Shutdown", field(1, container.encode()))
    while client.sock.recv(4096):
        pass
    if os.path.exists(address):
        os.unlink(address)
    os.close(log)
    return (usage.ru_utime + usage.ru_stime) * 1000


def shim_pid(cd, container):
    pattern = f"^[^ ]*containerd-shim-{container}-v2 -namespace {NAMESPACE} -id {container} -address {cd.address}"
    return int(subprocess.run(["pgrep", "-f", pattern], check=True, capture_output=True, text=True).stdout)


def exec_wait(cd, grpc, container, number):
    """From Kill of an exec'd process to the answer of a Wait for it."""
    name = f"e{number}"
    cd.ctr("tasks", "exec", "--detach", "--exec-id", name, container, "sleep", "100000")
    process = field(1, container.encode()) + field(2, name.encode())
    wait = grpc.start("Wait", process)
    grpc.call("Get", process)
    start = time.monotonic()
    kill = grpc.start("Kill", process + field(3, SIGKILL))
    grpc.finish(wait)
    took = time.monotonic() - start
    grpc.finish(kill)
    grpc.call("DeleteProcess", process)
    return took * 1000


def bench_shim():
    print("shim: ours beside containerd-shim-runc-v2, under one containerd")
    cd = Containerd(OUT, work)
    try:
        cpu = {name: [] for name in SHIMS}
        for i in range(3 * ROUNDS):
            for name in SHIMS:
                cpu[name].append(start_cpu(cd, name, f"{name}{i}"))
        compare("CPU time of start", cpu, "ms")

        for name, runtime in SHIMS.items():
            cd.run(runtime, name, "sleep", "100000")
        address = {name: cd.socket_of(name) for name in SHIMS}
        time.sleep(7)  # idle: what the start needed is given back
        compare("PSS of the daemon, one container", {n: [pss(shim_pid(cd, n))] for n in SHIMS}, "MiB")

        for method, calls in (("State", 2000), ("Connect", 2000), ("Kill", 20)):
            took = {name: [] for name in SHIMS}
            for _ in range(ROUNDS):
                for name in SHIMS:
                    got = subprocess.run([f"{OUT}/build/bench/task_rtt", address[name], name, method, str(calls)],
                                         check=True, capture_output=True, text=True)
                    took[name].append(float(got.stdout))
            compare(f"{method} at the socket", took, "us")

        grpc = Grpc(cd.address)
        for method, more, calls in (("Get", b"", 500), ("Kill", field(3, SIGCONT), 20)):
            took = {name: [] for name in SHIMS}
            for _ in range(calls):
                for name in SHIMS:
                    start = time.monotonic()
                    grpc.call(method, field(1, name.encode()) + more)
                    took[name].append((time.monotonic() - start) * 1e6)
            compare({"Get": "State through containerd"}.get(method, f"{method} through containerd"), took, "us")
        took = {name: [exec_wait(cd, grpc, name, i) for i in range(ROUNDS)] for name in SHIMS}
        compare("Kill to Wait's answer, through containerd", took, "ms")
    finally:
        cd.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that nothing is left then, too
    benches = {"boot": bench_boot, "start": start.bench, "exec": bench_exec, "rpc": bench_rpc, "memory": bench_memory,
               "stdio": bench_stdio, "shim": bench_shim, "checkpoint": checkpoint.bench, "snapshot": snapshot.bench}
    try:
        for name in sys.argv[2:] or benches:
            benches[name]()
    finally:
        for mount in ("jail/tmp", "jail/proc", "jail"):
            subprocess.run(["umount", f"{work}/{mount}"], stderr=subprocess.DEVNULL, check=False)
        left = subprocess.run([STASIS, "--root", root, "list", "-q"], capture_output=True, text=True, check=False)
        for container in left.stdout.split():
            subprocess.run([STASIS, "--root", root, "delete", "--force", container], check=False)
        shutil.rmtree(work, ignore_errors=True)


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of bench/README.md. Usage: bench.py OUT [boot|exec|rpc|memory|stdio]…

Everything that is compared is measured alternately in one run: this prints medians and their ratio, never a verdict.
"""
import hashlib
import json
import os
import re
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
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


def bundle(name, args):
    path = f"{work}/{name}"
    os.makedirs(path, exist_ok=True)
    if not os.path.exists(f"{path}/config.json"):
        subprocess.run([STASIS, "spec", "--bundle", path], check=True)
    with open(f"{path}/config.json") as f:
        spec = json.load(f)
    spec["process"]["terminal"] = False
    spec["process"]["args"] = args
    spec["root"] = {"path": ROOTFS, "readonly": False}
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
             "-cpu", "max", "-smp", "2", "-m", "2G", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
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


def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


class Client:
    """As little ttrpc as a round trip needs."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.stream = 1

    def call(self, method, payload):
        body = field(1, b"containerd.task.v2.Task") + field(2, method) + field(3, payload)
        self.sock.sendall(struct.pack(">IIBB", len(body), self.stream, 1, 0) + body)
        self.stream += 2
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


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1]) / 1024


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


def main():
    benches = {"boot": bench_boot, "exec": bench_exec, "rpc": bench_rpc, "memory": bench_memory, "stdio": bench_stdio}
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

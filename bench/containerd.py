# SPDX-License-Identifier: Apache-2.0
"""A private containerd, as bench.py needs it: its own root, state and socket, and as little gRPC as a round trip needs."""
import glob
import os
import socket
import struct
import subprocess
import time

NAMESPACE = "stasis-bench"
IMAGE = "stasis.test/busybox:1"

# Plugins that a private instance must not start: CRI has ports, opt a directory, the others kernel modules.
CONFIG = """version = 2
root = "{dir}/root"
state = "{dir}/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{dir}/sock"
"""


def field(number, value):
    """A protobuf field: an int below 128, or bytes below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


class Containerd:
    def __init__(self, out, work):
        self.dir = f"{work}/containerd"
        self.address = f"{self.dir}/sock"
        os.makedirs(f"{self.dir}/run")
        with open(f"{self.dir}/toml", "w") as f:
            f.write(CONFIG.format(dir=self.dir))
        env = dict(os.environ, STASIS_ROOT=f"{self.dir}/run", PATH=f"{out}/bin:{os.environ['PATH']}")
        with open(f"{self.dir}/log", "w") as log:
            self.process = subprocess.Popen(["containerd", "--config", f"{self.dir}/toml"], env=env, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 30
        while subprocess.run(self.argv("version"), capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(f"containerd does not answer, see {self.dir}/log")
            time.sleep(0.1)
        self.ctr("images", "import", f"{out}/test-image.tar")

    def argv(self, *args):
        return ["ctr", "--address", self.address, "--namespace", NAMESPACE, *args]

    def ctr(self, *args):
        subprocess.run(self.argv(*args), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def run(self, runtime, container, *args):
        self.ctr("run", "-d", "--runtime", runtime, IMAGE, container, *args)

    def socket_of(self, container):
        """Where the shim of a container listens."""
        with open(f"{self.dir}/state/io.containerd.runtime.v2.task/{NAMESPACE}/{container}/address") as f:
            return f.read().removeprefix("unix://")

    def close(self):
        for what in ("tasks", "containers"):
            listed = subprocess.run(self.argv(what, "ls", "-q"), capture_output=True, text=True, check=False)
            for container in listed.stdout.split():
                force = ["-f"] if what == "tasks" else []
                subprocess.run(self.argv(what, "delete", *force, container), capture_output=True, check=False)
        self.process.terminate()
        self.process.wait(20)
        for cgroup in glob.glob(f"/sys/fs/cgroup/{NAMESPACE}") + glob.glob(f"/sys/fs/cgroup/*/{NAMESPACE}"):
            os.rmdir(cgroup)


class Grpc:
    """HTTP/2 with headers that nobody compresses: calls on one connection, answered in any order."""

    SETTINGS, PING, GOAWAY, HEADERS, DATA, RESET = 4, 6, 7, 1, 0, 3
    ACK, END_STREAM, END_HEADERS = 1, 1, 4

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(path)
        self.stream = -1
        self.data, self.ended = {}, set()
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
                          self.frame(self.SETTINGS, 0, 0, struct.pack(">HI", 4, (1 << 31) - 1)) +
                          self.frame(8, 0, 0, struct.pack(">I", 1 << 30)))  # windows that never fill up here

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def start(self, method, message):
        headers = b""
        for name, value in ((":method", "POST"), (":scheme", "http"), (":authority", "localhost"),
                            (":path", f"/containerd.services.tasks.v1.Tasks/{method}"),
                            ("content-type", "application/grpc"), ("te", "trailers"),
                            ("containerd-namespace", NAMESPACE)):
            headers += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        self.stream += 2
        self.data[self.stream] = b""
        self.sock.sendall(self.frame(self.HEADERS, self.END_HEADERS, self.stream, headers) +
                          self.frame(self.DATA, self.END_STREAM, self.stream,
                                     struct.pack(">BI", 0, len(message)) + message))
        return self.stream

    def finish(self, stream):
        while stream not in self.ended:
            head = self.sock.recv(9, socket.MSG_WAITALL)
            if len(head) < 9:
                raise ConnectionError("containerd closed the connection")
            kind, flags, of = struct.unpack(">BBI", head[3:])
            payload = self.sock.recv(int.from_bytes(head[:3], "big"), socket.MSG_WAITALL)
            if kind in (self.SETTINGS, self.PING) and not flags & self.ACK:
                self.sock.sendall(self.frame(kind, self.ACK, 0, payload if kind == self.PING else b""))
            elif kind == self.DATA:
                self.data[of] += payload
            elif kind in (self.GOAWAY, self.RESET):
                raise ConnectionError("containerd gave up on a call")
            if kind in (self.HEADERS, self.DATA) and flags & self.END_STREAM:
                self.ended.add(of)
        self.ended.remove(stream)
        answer = self.data.pop(stream)
        if not answer:  # an error is in the trailers, compressed
            raise RuntimeError("containerd answered with an error")
        return answer[5:]

    def call(self, method, message):
        return self.finish(self.start(method, message))

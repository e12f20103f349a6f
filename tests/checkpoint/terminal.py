# SPDX-License-Identifier: Apache-2.0
"""A shell on a terminal, as a manager with --console-socket has it: checkpointed, and restored on another terminal."""
import array
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

stasis, root, bundle, images = sys.argv[1:]


class Console:
    """The socket that a terminal arrives by, and the terminal."""

    def __init__(self, *args):
        self.seen = b""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen(1)
            listener.settimeout(120)
            command = subprocess.Popen([stasis, "--root", root, args[0], "--bundle", bundle, "--console-socket",
                                        f"{folder}/socket", *args[1:]], stdin=subprocess.DEVNULL)
            peer, _ = listener.accept()
            _, control, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
            fds = array.array("i")
            for _, _, payload in control:
                fds.frombytes(payload[:4])
            self.master = fds[0]
            assert command.wait(120) == 0, f"{args[0]} failed"

    def expect(self, text):
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, f"not seen: {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def send(self, text):
        os.write(self.master, text)


first = Console("create", "terminal")
fcntl.ioctl(first.master, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 101, 0, 0))
subprocess.run([stasis, "--root", root, "start", "terminal"], check=True)
first.expect(b"# ")
first.send(b"value=kept; stty -echo; stty size\n")
first.expect(b"31 101")
subprocess.run([stasis, "--root", root, "checkpoint", "--shell-job", "--image-path", images, "terminal"], check=True)
second = Console("restore", "--detach", "--shell-job", "--image-path", images, "again")
second.send(b"echo it is $value; stty -a | grep -o -- -echo; exit 7\n")
second.expect(b"it is kept")
second.expect(b"-echo")
subprocess.run([stasis, "--root", root, "delete", "--force", "again"], check=True)

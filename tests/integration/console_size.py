# SPDX-License-Identifier: Apache-2.0
"""Runs a command that sends a terminal to a console socket, and waits until the terminal has shown a text."""
import array
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import termios
import time

path, text, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(1)
listener.settimeout(60)
process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
peer, _ = listener.accept()
_, control, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
fds = array.array("i")
for _, _, payload in control:
    fds.frombytes(payload[:4])
master = fds[0]
rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, b"\0" * 8))
assert f"{rows} {columns}" == text, f"our end has {rows} {columns}"
seen = b""
end = time.monotonic() + 60
while text.encode() not in seen:
    assert time.monotonic() < end, f"not seen: {text!r} in {seen!r}"
    if select.select([master], [], [], 0.2)[0]:
        try:
            seen += os.read(master, 65536)
        except OSError:
            sys.exit(f"closed; seen: {seen!r}")
assert process.wait(60) == 0
os.unlink(path)

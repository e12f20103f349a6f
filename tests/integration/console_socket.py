# SPDX-License-Identifier: Apache-2.0
"""What conmon does: create with --console-socket, receive the terminal, talk over it, resize it."""
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

stasis, root, bundle, path, name = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(1)
create = subprocess.Popen([stasis, "--root", root, "create", "--bundle", bundle, "--console-socket", path, name],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
listener.settimeout(60)
peer, _ = listener.accept()
data, control, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
fds = array.array("i")
for level, kind, payload in control:
    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
        fds.frombytes(payload[:4])
assert len(fds) == 1, "no terminal came"
master = fds[0]
assert create.wait(60) == 0
subprocess.run([stasis, "--root", root, "start", name], check=True)
seen = b""


def expect(text, timeout=60):
    global seen
    end = time.monotonic() + timeout
    while text not in seen:
        assert time.monotonic() < end, f"not seen: {text!r} in {seen!r}"
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    seen = seen[seen.index(text) + len(text):]


expect(b"# ")
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
end = time.monotonic() + 30
while True:
    os.write(master, b"stty size; echo en''d\n")
    before = seen
    expect(b"end\r\n")
    os.write(master, b"stty size | grep -c '33 77'; echo en''d\n")
    text = b""
    mark = time.monotonic() + 30
    while b"end\r\n" not in text and time.monotonic() < mark:
        if select.select([master], [], [], 0.2)[0]:
            text += os.read(master, 65536)
    if b"\n1\r\n" in text:
        break
    assert time.monotonic() < end, "the new size did not arrive"
os.write(master, b"exit\n")
# End of the terminal: EIO, as from a local one.
end = time.monotonic() + 30
while time.monotonic() < end:
    try:
        if select.select([master], [], [], 0.2)[0] and not os.read(master, 65536):
            break
    except OSError:
        break
else:
    sys.exit("the terminal was not closed")

# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a pseudo-terminal and talks to it as the given script says."""
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time

script, argv = sys.argv[1], sys.argv[2:]
master, slave = os.openpty()
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 100)
    os.execvp(argv[0], argv)

seen = b""
position = 0
status = None


def pump(timeout):
    global seen
    readable, _, _ = select.select([master], [], [], timeout)
    if readable:
        data = os.read(master, 65536)
        seen += data
        sys.stdout.write(data.decode(errors="replace"))
        sys.stdout.flush()


def expect(text, timeout=60):
    """Waits for text after what was matched before."""
    global position
    end = time.monotonic() + timeout
    while True:
        at = seen.find(text, position)
        if at >= 0:
            position = at + len(text)
            return
        if time.monotonic() > end:
            sys.exit(f"\nnot seen: {text!r}")
        pump(0.2)


def send(data):
    os.write(master, data)


def until(argv, text, timeout=60):
    """Runs a command until its output holds text."""
    end = time.monotonic() + timeout
    while text not in subprocess.run(argv, capture_output=True, check=False).stdout:
        if time.monotonic() > end:
            sys.exit(f"\n{argv} never printed {text!r}")
        pump(0.1)


def resize(rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def modes():
    return termios.tcgetattr(slave)[:4]


def wait(timeout=90):
    global status
    end = time.monotonic() + timeout
    while status is None:
        got, st = os.waitpid(pid, os.WNOHANG)
        if got:
            status = os.waitstatus_to_exitcode(st)
        elif time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            sys.exit("\nthe program did not end")
        else:
            pump(0.05)


exec(script)
wait()
print(f"\nexit {status}")

# SPDX-License-Identifier: Apache-2.0
"""Starting: from a template beside a cold boot, and beside runtimes that need no virtual machine."""
import subprocess
import time

from tools import ROUNDS, bundle, marks, peer_bundle, ratio, show, show_steps, stasis, timed, warm, work

STEPS = ["daemon", "spawned", "filled", "loaded", "resumed", "channel", "agent", "thawed", "created", "started", "exited"]
NAMES = {"daemon": "CLI and daemon, until the VM is started", "spawned": "virtiofsd and QEMU spawned",
         "filled": "memory filled and checked", "loaded": "QEMU ready, device state loaded", "resumed": "CPUs run",
         "channel": "agent in step", "agent": "Hello", "thawed": "made a machine of its own", "created": "crun create",
         "started": "crun start", "exited": "exit and output delivered"}


def peer(program, path, container):
    more = ["--network=none"] if program == "runsc" else []
    return timed(subprocess.run, [program, "--root", f"{work}/{program}", *more, "run", "--bundle", path, container],
                 stdin=subprocess.DEVNULL, check=True)


def steps_of(path):
    """Where the time of a start from a template goes. A guest whose agent talks more has a template of its own."""
    steps = {s: [] for s in STEPS}
    stasis("--debug", "template", "build", config=warm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for i in range(ROUNDS):
        begin = time.monotonic() * 1000
        stasis("--debug", "run", "--keep", "--bundle", path, f"step{i}", config=warm, stderr=subprocess.DEVNULL)
        at = marks(f"step{i}")
        stasis("delete", f"step{i}")
        for s in STEPS:
            steps[s].append(at[s] - begin)
            begin = at[s]
    show_steps(steps, NAMES)


def bench():
    print("start: `stasis run … /bin/true` from a template, beside a cold boot, runsc (ptrace, its platform without KVM) and runc")
    path, other = bundle("true", ["/bin/true"]), peer_bundle("peer-true", ["/bin/true"])
    built = timed(stasis, "template", "build", config=warm, stdout=subprocess.DEVNULL)
    cold, template, runsc, runc = [], [], [], []
    for i in range(ROUNDS):
        cold.append(timed(stasis, "run", "--bundle", path, f"cold{i}"))
        template.append(timed(stasis, "run", "--bundle", path, f"warm{i}", config=warm))
        runsc.append(peer("runsc", other, f"gv{i}"))
        runc.append(peer("runc", other, f"rc{i}"))
    c = show("stasis run, cold boot", cold)
    t = show("stasis run, from a template", template)
    g = show("runsc run", runsc)
    show("runc run", runc)
    ratio("from a template / cold boot", t, c, 0.20)
    ratio("from a template / runsc run", t, g, 4)
    print(f"  {'making the template, once':<44} {built:9.1f} ms")
    steps_of(path)

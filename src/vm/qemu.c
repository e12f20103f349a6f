/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/qemu.h"

#include <string.h>

#define GUEST_TICKS_PER_SEC 250 /* CONFIG_HZ of Debian's kernels */

char *qemu_escape(const char *value) {
    char *out = malloc(2 * strlen(value) + 1), *p = out;
    if (!out)
        return NULL;
    for (const char *v = value; *v; v++) {
        if (*v == ',')
            *p++ = ',';
        *p++ = *v;
    }
    *p = '\0';
    return out;
}

/* While a CPU sets up PCI devices, QEMU (10.0, TCG) remakes the map of the machine's memory, and another CPU that
 * reaches for a device meanwhile, if only for its timer, may end QEMU ("iotlb_to_section: Assertion") or get the wrong
 * device. So the kernel starts with one, and the agent has the others join when all drivers are there. That would take
 * a second if they measured how many rounds of a loop a tick has (lpj), and 0.2 s more if the code was made fit for one
 * CPU before. */
static void join_later(const struct qemu_spec *s, char *ret, size_t size) {
    char lpj[32] = "";
    *ret = '\0';
    if (s->accel != ACCEL_TCG || s->cpus == 1)
        return;
    if (s->tsc_khz)
        snprintf(lpj, sizeof(lpj), " lpj=%llu", (unsigned long long)s->tsc_khz * 1000 / GUEST_TICKS_PER_SEC);
    snprintf(ret, size, " maxcpus=1 noreplace-smp%s", lpj);
}

/* All of the kernel's own list but Landlock: CRIU cannot see what a process has confined itself to, and would restore
 * it free of that. Without it programs find a kernel that does not have it. */
#define SECURITY_MODULES "lockdown,yama,loadpin,safesetid,integrity,apparmor,selinux,smack,tomoyo,bpf,ipe"

/* The guest's command line. The self-tests of the kernel's ciphers take a fifth of a boot under TCG, and it is the same
 * kernel each time. TCG translates each of the work-arounds for CPU bugs, and is no boundary anyway. A fresh page must
 * be zeroed by the guest under TCG: QEMU does not see what virtiofsd writes to memory, and would go on running what it
 * translated from the page before (programs on the share crash). The kernel's test of its timer, a loop in which ticks
 * must come, panics when the host is busy and QEMU's timer thread late. Its measurement of the TSC against the emulated
 * timers is off by factors then, and with it all its clocks: the guest crawls. */
static int kernel_cmdline(const struct qemu_spec *s, char **ret, struct err *err) {
    char tsc[32] = "", cpus[80];
    if (s->accel == ACCEL_TCG && s->tsc_khz)
        snprintf(tsc, sizeof(tsc), " tsc_early_khz=%u", s->tsc_khz);
    join_later(s, cpus, sizeof(cpus));
    cleanup_free char *line =
        str_printf("console=ttyS0 panic=-1 reboot=t quiet cryptomgr.notests lsm=" SECURITY_MODULES "%s%s%s%s%s%s",
                   s->accel == ACCEL_TCG ? " mitigations=off init_on_alloc=1 no_timer_check" : "", tsc, cpus,
                   s->agent_debug ? " agent.log=debug" : "", s->kernel_params[0] ? " " : "", s->kernel_params);
    if (!line)
        return err_set(err, ENOMEM, "sandbox %s: out of memory", s->id);
    if (strlen(line) > KERNEL_CMDLINE_MAX)
        return err_set(err, EINVAL, "sandbox %s: the kernel command line has %zu bytes, %d are allowed", s->id,
                       strlen(line), KERNEL_CMDLINE_MAX);
    for (const char *p = line; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return err_set(err, EINVAL, "sandbox %s: a control character in the kernel command line", s->id);
    *ret = TAKE_PTR(line);
    return 0;
}

/* An option with a value of the caller's in the middle. */
static int add_escaped(struct strv *a, const char *before, const char *value, const char *after) {
    char *escaped = qemu_escape(value);
    int r = escaped ? strv_addf(a, "%s%s%s", before, escaped, after) : -ENOMEM;
    free(escaped);
    return r;
}

static int add_machine(const struct qemu_spec *s, const char *cmdline, struct strv *a) {
    unsigned long long mib = s->memory >> 20;
    bool kvm = s->accel == ACCEL_KVM;
    int r = 0;
    r |= strv_add(a, QEMU_PATH);
    r |= strv_add(a, "-name");
    r |= add_escaped(a, "guest=", s->id, ",debug-threads=on");
    r |= strv_add(a, "-nodefaults");
    r |= strv_add(a, "-no-user-config");
    r |= strv_add(a, "-display");
    r |= strv_add(a, "none");
    r |= strv_add(a, "-no-reboot");
    r |= strv_add(a, "-sandbox");
    r |= strv_add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    r |= strv_add(a, "-machine");
    r |= strv_addf(a, "q35,accel=%s,memory-backend=mem,smbus=off,sata=off,usb=off,vmport=off,dump-guest-core=off",
                   kvm ? "kvm" : "tcg");
    r |= strv_add(a, "-cpu");
    /* With "fast" string instructions the guest copies and clears byte by byte, and TCG runs each byte as an
     * instruction; without, it takes loops of 64 bits. */
    r |= strv_add(a, kvm ? "host" : "max,-erms,-fsrm");
    r |= strv_add(a, "-smp");
    r |= strv_addf(a, "%u", s->cpus);
    r |= strv_add(a, "-m");
    r |= strv_addf(a, "%lluM", mib);
    r |= strv_add(a, "-object");
    r |= strv_addf(a, "memory-backend-file,id=mem,size=%lluM,mem-path=/proc/self/fd/%d,share=on,dump=off", mib,
                   s->memory_fd);
    if (s->incoming) {
        /* What the firmware would load is in the memory that comes. */
        r |= strv_add(a, "-incoming");
        r |= strv_add(a, "defer");
        return r;
    }
    r |= strv_add(a, "-kernel");
    r |= strv_addf(a, "%s/vmlinux", s->guest_dir);
    r |= strv_add(a, "-initrd");
    r |= strv_addf(a, "%s/initramfs", s->guest_dir);
    r |= strv_add(a, "-append");
    r |= strv_add(a, cmdline);
    return r;
}

static int add_devices(const struct qemu_spec *s, struct strv *a) {
    int r = 0;
    r |= strv_add(a, "-chardev");
    r |= strv_addf(a, "socket,id=qmp,fd=%d", s->qmp_fd);
    r |= strv_add(a, "-mon");
    r |= strv_add(a, "chardev=qmp,mode=control");
    /* An fd set is how QEMU takes a pipe it need not open; without append=on it would truncate it, which fails. */
    r |= strv_add(a, "-add-fd");
    r |= strv_addf(a, "fd=%d,set=1", s->console_fd);
    r |= strv_add(a, "-chardev");
    r |= strv_add(a, "file,id=console,path=/dev/fdset/1,append=on");
    r |= strv_add(a, "-serial");
    r |= strv_add(a, "chardev:console");
    /* The image is never written: no lock, which a read-only file of another user would not grant. */
    r |= strv_add(a, "-blockdev");
    r |=
        add_escaped(a, "driver=file,node-name=root-file,filename=", s->guest_dir, "/root.img,read-only=on,locking=off");
    r |= strv_add(a, "-blockdev");
    r |= strv_add(a, "driver=raw,node-name=root,file=root-file,read-only=on");
    r |= strv_add(a, "-device");
    r |= strv_add(a, "virtio-blk-pci,drive=root");
    r |= strv_add(a, "-chardev");
    r |= strv_addf(a, "socket,id=share,fd=%d", s->virtiofsd_fd);
    r |= strv_add(a, "-device");
    r |= strv_add(a, "vhost-user-fs-pci,chardev=share,tag=share");
    r |= strv_add(a, "-chardev");
    r |= strv_addf(a, "socket,id=agent,fd=%d", s->agent_fd);
    r |= strv_add(a, "-device");
    /* One for the agent, and the first, which only a console may have. The default of 31 has 64 queues: the guest sets
     * up each of them, and QEMU's main loop polls an eventfd of each whenever it wakes. */
    r |= strv_add(a, "virtio-serial-pci,max_ports=2");
    r |= strv_add(a, "-device");
    r |= strv_add(a, "virtserialport,chardev=agent,name=agent");
    /* Tells the guest's kernel that it is a copy of another machine, so that it takes new entropy. */
    r |= strv_add(a, "-device");
    r |= strv_add(a, "vmgenid,guid=auto");
    return r;
}

int qemu_argv(const struct qemu_spec *s, struct strv *argv, struct err *err) {
    cleanup_free char *cmdline = NULL;
    int r = kernel_cmdline(s, &cmdline, err);
    if (r < 0)
        return r;
    if (add_machine(s, cmdline, argv) < 0 || add_devices(s, argv) < 0)
        return err_set(err, ENOMEM, "sandbox %s: out of memory", s->id);
    return 0;
}

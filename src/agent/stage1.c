/*
 * stage1: the first process of the guest. It is /init of the initramfs and does one thing: put the root image in
 * the place of the initramfs and become the agent.
 *
 * Theory of operation. The kernel can read the root image's file system by itself, but the driver of the disk it is
 * on is a module, so something has to run before the root is there. That is this program, statically linked and
 * alone in the initramfs with the modules under /modules, whose names sort in the order of loading. It holds no
 * policy: everything else (proc, cgroups, the share, the channel) is the agent's, which gets argv and environment
 * as the kernel gave them.
 *
 * There is nobody to report to yet and nothing to fall back on, so a failure is one line on the console and a
 * reboot, which ends QEMU (-no-reboot). The daemon finds the line in the console log.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MODULES "/modules"
#define ROOT_DEVICE "/dev/vda"
#define ROOT_TYPE "ext4"
#define NEWROOT "/root"
#define AGENT "/usr/lib/stasis/agent"

/* The device is normally there when its driver's init returns; the bound is for a host that has no CPU to spare. */
#define ROOT_DEADLINE_S 30
#define ROOT_POLL_NS 500000L

/* Far above what this program uses: a directory deeper than that is not one the build made. */
#define EMPTY_DEPTH_MAX 16

static _Noreturn void die(const char *what) {
    fprintf(stderr, "stasis stage1: %s: %s\n", what, strerror(errno));
    /* A serial console drains by interrupts; without the wait the reboot would swallow the message. */
    tcdrain(STDERR_FILENO);
    reboot(RB_AUTOBOOT);
    /* Only without CAP_SYS_BOOT, thus not as init of a guest; then init's exit panics, which reboots as well. */
    _exit(1);
}

static void mount_devices(void) {
    /* The initramfs inside the kernel already has /dev. */
    if (mkdir("/dev", 0755) < 0 && errno != EEXIST)
        die("mkdir /dev");
    if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") < 0)
        die("mount devtmpfs on /dev");
}

static void load_module(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        die(name);
    close(fd);
}

static int is_module(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* Loads all modules in the order of their names, which the build numbers so that each follows what it needs. */
static void load_modules(void) {
    struct dirent **names = NULL;
    int dir = open(MODULES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n;

    if (dir < 0)
        die("open " MODULES);
    n = scandirat(dir, ".", &names, is_module, alphasort);
    if (n < 0)
        die("list " MODULES);
    for (int i = 0; i < n; i++) {
        load_module(dir, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    close(dir);
}

static void await_root_device(void) {
    const struct timespec pause = {.tv_nsec = ROOT_POLL_NS};
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    while (access(ROOT_DEVICE, F_OK) < 0) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (errno != ENOENT || now.tv_sec - start.tv_sec >= ROOT_DEADLINE_S)
            die("wait for " ROOT_DEVICE);
        nanosleep(&pause, NULL);
    }
}

static void mount_root(void) {
    if (mkdir(NEWROOT, 0755) < 0 && errno != EEXIST)
        die("mkdir " NEWROOT);
    if (mount(ROOT_DEVICE, NEWROOT, ROOT_TYPE, MS_RDONLY, NULL) < 0)
        die("mount " ROOT_DEVICE " on " NEWROOT);
    if (mount("/dev", NEWROOT "/dev", NULL, MS_MOVE, NULL) < 0)
        die("move /dev to " NEWROOT "/dev");
}

/*
 * Removes what is below the directory dir (taken over) on the file system dev. The initramfs cannot be unmounted and
 * stays in memory for the life of the guest, and in each of its snapshots. What cannot be removed is left there: it
 * costs memory and nothing else.
 */
static void empty_directory(int dir, dev_t dev, int depth) {
    DIR *stream = fdopendir(dir);
    const struct dirent *entry;

    if (!stream) {
        close(dir);
        return;
    }
    while ((entry = readdir(stream))) {
        const char *name = entry->d_name;
        struct stat st;

        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        /* The device number keeps this away from the mounts, above all from the new root. */
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
            continue;
        if (S_ISDIR(st.st_mode) && depth < EMPTY_DEPTH_MAX) {
            int child = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            if (child >= 0)
                empty_directory(child, dev, depth + 1);
        }
        unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
    }
    closedir(stream);
}

static void switch_root(void) {
    int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (old < 0 || fstat(old, &st) < 0)
        die("open the initramfs");
    if (chdir(NEWROOT) < 0)
        die("chdir " NEWROOT);
    /* The initramfs is the one root that pivot_root refuses, so the new root is moved over it. */
    if (mount(".", "/", NULL, MS_MOVE, NULL) < 0)
        die("move " NEWROOT " to /");
    if (chroot(".") < 0 || chdir("/") < 0)
        die("chroot");
    empty_directory(old, st.st_dev, 0);
}

int main(int argc, char **argv, char **envp) {
    char name[] = AGENT;

    mount_devices();
    load_modules();
    await_root_device();
    mount_root();
    switch_root();
    if (argc > 0)
        argv[0] = name;
    execve(AGENT, argv, envp);
    die("exec " AGENT);
}

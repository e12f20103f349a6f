/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program the tests put in a jail, static so that the jail's root needs nothing else. Called by the name of QEMU or
 * virtiofsd it plays that role from a script (see play()); else it answers questions on fd 3, one line each.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char out[65536];

static void say(const char *text) {
    strncat(out, text, sizeof(out) - strlen(out) - 1);
}

static void result(long r) {
    const char *name = r < 0 ? strerrorname_np(errno) : "ok";
    say(name ? name : "an unknown error");
}

/* Names in the directory, sorted, each followed by a blank. */
static void list(const char *dir) {
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    if (n < 0) {
        result(-1);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
            say(names[i]->d_name);
            say(" ");
        }
        free(names[i]);
    }
    free(names);
}

/* The file with '|' for newlines. */
static void cat(const char *path) {
    char buf[16384];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
    if (n < 0) {
        result(-1);
    } else {
        buf[n] = '\0';
        for (char *p = buf; *p; p++)
            *p = *p == '\n' ? '|' : *p;
        say(buf);
    }
    if (fd >= 0)
        close(fd);
}

/* The value of a key of /proc/self/status. */
static void status(const char *key) {
    char line[4096];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':') {
            line[strcspn(line, "\n")] = '\0';
            say(line + strlen(key) + 1 + strspn(line + strlen(key) + 1, "\t "));
        }
    if (f)
        fclose(f);
}

static void fds(void) {
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) {
            char text[16];
            snprintf(text, sizeof(text), "%d ", fd);
            say(text);
        }
}

static void networks(void) {
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *i = all; i && i->if_index; i++) {
        say(i->if_name);
        say(" ");
    }
    if (all)
        if_freenameindex(all);
}

static void number(long long n) {
    char text[32];
    snprintf(text, sizeof(text), "%lld", n);
    say(text);
}

static void limit(const char *which) {
    struct rlimit l = {0};
    getrlimit(!strcmp(which, "core") ? RLIMIT_CORE : RLIMIT_NOFILE, &l);
    number((long long)l.rlim_max);
}

static void namespace_of(const char *kind) {
    char path[64], link[64] = "";
    snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
    if (readlink(path, link, sizeof(link) - 1) < 0)
        result(-1);
    say(link);
}

static void host_name(void) {
    char name[64] = "";
    gethostname(name, sizeof(name) - 1);
    say(name);
}

/* The name of the session keyring. */
static void keyring(void) {
    char text[256] = "";
    if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, text, sizeof(text) - 1) < 0)
        result(-1);
    say(text);
}

static void variable(const char *name) {
    const char *value = getenv(name);
    say(value ? value : "unset");
}

static void answer(const char *what, const char *arg) {
    if (!strcmp(what, "list"))
        list(arg);
    else if (!strcmp(what, "cat"))
        cat(arg);
    else if (!strcmp(what, "status"))
        status(arg);
    else if (!strcmp(what, "fds"))
        fds();
    else if (!strcmp(what, "networks"))
        networks();
    else if (!strcmp(what, "limit"))
        limit(arg);
    else if (!strcmp(what, "namespace"))
        namespace_of(arg);
    else if (!strcmp(what, "hostname"))
        host_name();
    else if (!strcmp(what, "keyring"))
        keyring();
    else if (!strcmp(what, "create"))
        result(open(arg, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    else if (!strcmp(what, "write"))
        result(open(arg, O_WRONLY | O_CLOEXEC));
    else if (!strcmp(what, "mkdir"))
        result(mkdir(arg, 0700));
    else if (!strcmp(what, "mknod"))
        result(mknod(arg, S_IFCHR | 0600, makedev(1, 3)));
    else if (!strcmp(what, "remount"))
        result(mount(NULL, arg, NULL, MS_REMOUNT | MS_BIND, NULL));
    else if (!strcmp(what, "umount"))
        result(umount2(arg, MNT_DETACH));
    else if (!strcmp(what, "setuid"))
        result(setresuid(0, 0, 0));
    else if (!strcmp(what, "seteuid"))
        result(seteuid(1000));
    else if (!strcmp(what, "securebits"))
        number(prctl(PR_GET_SECUREBITS));
    else if (!strcmp(what, "pid"))
        number(getpid());
    else if (!strcmp(what, "ppid"))
        number(getppid());
    else if (!strcmp(what, "env"))
        variable(arg);
    else if (!strcmp(what, "complain"))
        fprintf(stderr, "%s\n", arg);
    else if (!strcmp(what, "exit"))
        exit((int)strtol(arg, NULL, 10));
    else
        say("what?");
}

static int serve(void) {
    char line[4096];
    FILE *in = fdopen(3, "re");
    while (in && fgets(line, sizeof(line), in)) {
        line[strcspn(line, "\n")] = '\0';
        char *arg = strchr(line, ' ');
        if (arg)
            *arg++ = '\0';
        out[0] = '\0';
        answer(line, arg ? arg : "");
        say("\n");
        if (send(3, out, strlen(out), MSG_NOSIGNAL) < 0)
            return 1;
    }
    return 0;
}

static void read_to_the_end(int fd) {
    char buf[4096];
    while (read(fd, buf, sizeof(buf)) > 0)
        ;
}

/* The next line that comes on fd is awaited. */
static void hear(int fd) {
    char c = 0;
    while (c != '\n' && read(fd, &c, 1) == 1)
        ;
}

/*
 * A role: each line of the script is an action on the fds that vm.c gives QEMU and virtiofsd.
 *   qmp TEXT, console TEXT, complain TEXT   writes the line to QMP, the console, the error output
 *   hear       waits for a line on QMP            accept, follow   virtiofsd: takes the connection, and its end
 *   close FD   exit N   hang
 */
static int play(const char *script) {
    static char line[4096];
    int connection = -1;
    FILE *f = fopen(script, "re");
    while (f && fgets(line, sizeof(line), f)) {
        char *arg = strchr(line, ' ');
        arg = arg ? arg + 1 : line + strlen(line);
        if (!strncmp(line, "qmp ", 4))
            (void)!write(4, arg, strlen(arg));
        else if (!strncmp(line, "console ", 8))
            (void)!write(5, arg, strlen(arg));
        else if (!strncmp(line, "complain ", 9))
            (void)!write(2, arg, strlen(arg));
        else if (!strncmp(line, "hear", 4))
            hear(4);
        else if (!strncmp(line, "accept", 6))
            connection = accept(3, NULL, NULL);
        else if (!strncmp(line, "follow", 6))
            read_to_the_end(connection);
        else if (!strncmp(line, "close ", 6))
            close((int)strtol(arg, NULL, 10));
        else if (!strncmp(line, "exit ", 5))
            return (int)strtol(arg, NULL, 10);
        else if (!strncmp(line, "hang", 4))
            for (;;)
                pause();
    }
    return 99;
}

int main(int argc, char **argv) {
    (void)argc;
    if (strstr(argv[0], "qemu"))
        return play("/guest/script");
    if (strstr(argv[0], "virtiofsd"))
        return play("/share/script");
    return serve();
}

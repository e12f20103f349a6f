/* SPDX-License-Identifier: Apache-2.0 */
/* A monitor and what it shows of a container. Needs root: namespaces and mounts for real. */
#include "sandbox/view.h"
#include "support.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "base/json.h"
#include "base/path.h"
#include "sandbox/monitor.h"

struct fixture {
    struct tmpdir *dir;
    sd_event *event;
    struct share share;
    struct oci_guest_spec guest;
    json_t *spec;
    struct monitor *m;
    int pidfd;
    int signals[4];
    size_t n_signals;
};

static void on_signal(void *userdata, int sig) {
    struct fixture *f = userdata;
    assert_true(f->n_signals < ARRAY_SIZE(f->signals));
    f->signals[f->n_signals++] = sig;
}

static const char *const dirs[] = {"root",      "root/etc", "root/run", "root/var", "root/dev",
                                   "root/proc", "root/sys", "root/vol", "volume",   "outside"};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *dir = NULL;
    struct err err = ERR_INIT;
    signal(SIGPIPE, SIG_IGN);
    if (!f || tmpdir_setup(&dir) < 0 || sd_event_new(&f->event) < 0)
        return -1;
    f->dir = dir;
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (mkdirat(f->dir->fd, dirs[i], 0755) < 0)
            return -1;
    tmpdir_write(f->dir, "root/etc/passwd", "of the container");
    tmpdir_write(f->dir, "volume/data", "of the volume");
    tmpdir_write(f->dir, "outside/data", "of the host");
    cleanup_json json_t *args = json_pack("[s, s]", "sleep", "1000");
    if (share_open(f->dir->path, &f->share, &err) < 0 || monitor_start(f->event, args, on_signal, f, &f->m, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    f->pidfd = (int)syscall(SYS_pidfd_open, monitor_pid(f->m), 0);
    f->guest =
        (struct oci_guest_spec){.rootfs = tmpdir_path(f->dir, "root"), .mounts = calloc(4, sizeof(*f->guest.mounts))};
    f->spec = json_pack("{s:{s:b}, s:s, s:[]}", "root", "readonly", 0, "hostname", "box", "mounts");
    *state = f;
    return f->pidfd < 0 || !f->spec ? -1 : 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    void *dir = f->dir;
    monitor_free(f->m);
    fd_close(f->pidfd);
    share_close(&f->share);
    oci_guest_spec_clear(&f->guest);
    json_decref(f->spec);
    sd_event_unref(f->event);
    free(f);
    return tmpdir_teardown(&dir);
}

/* A mount of the spec; source (below the test's directory) NULL: of a file system that only the guest has. */
static void add(struct fixture *f, const char *destination, const char *type, const char *source, bool read_only) {
    json_t *list = json_object_get(f->spec, "mounts");
    if (source)
        f->guest.mounts[f->guest.n_mounts] = (struct oci_share_mount){.source = tmpdir_path(f->dir, source),
                                                                      .read_only = read_only,
                                                                      .recursive = true,
                                                                      .index = (unsigned)f->guest.n_mounts,
                                                                      .spec_index = (unsigned)json_array_size(list)};
    f->guest.n_mounts += source != NULL;
    json_array_append_new(list, json_pack("{s:s, s:s}", "destination", destination, "type", type));
}

/* In a process of its own, as the daemon does it. */
static int show(struct fixture *f, struct err *err) {
    struct view_spec v = {.share = &f->share,
                          .id = "c1",
                          .guest_id = "c1",
                          .pidfd = f->pidfd,
                          .spec = f->spec,
                          .mounts = f->guest.mounts,
                          .n_mounts = f->guest.n_mounts};
    if (share_add_container(&f->share, "c1", &f->guest, err) < 0)
        fail_msg("%s", err->msg);
    int p[2], status;
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = ERR_INIT;
        view_build(&v, &e);
        _exit(write(p[1], &e, sizeof(e)) == (ssize_t)sizeof(e) ? 0 : 1);
    }
    assert_true(pid > 0);
    assert_int_equal(read(p[0], err, sizeof(*err)), sizeof(*err));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(p[0]);
    close(p[1]);
    return -err->code;
}

static void must_show(struct fixture *f) {
    struct err err = ERR_INIT;
    if (show(f, &err) < 0)
        fail_msg("%s", err.msg);
}

/* As an engine does: runs fn in the monitor's namespaces, and returns what it returns, 0 to 100. */
static int inside(struct fixture *f, int (*fn)(void)) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (setns(f->pidfd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS) < 0)
            _exit(101);
        pid = fork();
        if (pid == 0)
            _exit(fn());
        _exit(waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 102);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 103;
}

static bool says(const char *path, const char *text) {
    char buf[64] = "";
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, buf, sizeof(buf) - 1) >= 0 && strcmp(buf, text) == 0;
}

static bool can_make(const char *path) {
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd >= 0;
}

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "not so inside: %s\n", #cond);                                                             \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* ---- before there is anything to show ---- */

static int in_an_empty_root(void) {
    struct statvfs st;
    CHECK(access("/etc", F_OK) < 0 && access("/proc", F_OK) < 0 && access("/..", F_OK) == 0);
    CHECK(access("/../etc", F_OK) < 0);
    CHECK(!can_make("/x") && errno == EROFS);
    CHECK(statvfs("/", &st) == 0 &&
          (st.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV)) == (ST_RDONLY | ST_NOSUID | ST_NODEV));
    return 0;
}

static void test_empty(void **state) {
    struct fixture *f = *state;
    char path[64];
    cleanup_free char *status = NULL, *title = NULL;
    assert_int_equal(inside(f, in_an_empty_root), 0);
    snprintf(path, sizeof(path), "/proc/%d/status", (int)monitor_pid(f->m));
    assert_int_equal(file_read_at(AT_FDCWD, path, 8192, &status, NULL, NULL), 0);
    assert_non_null(strstr(status, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(status, "CapBnd:\t0000000000000000"));
    assert_non_null(strstr(status, "NoNewPrivs:\t1"));
    assert_non_null(strstr(status, "Name:\tstasis-monitor"));
    size_t len = 0;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)monitor_pid(f->m));
    assert_int_equal(file_read_at(AT_FDCWD, path, 8192, &title, &len, NULL), 0);
    assert_int_equal(len, sizeof("sleep\0001000"));
    assert_memory_equal(title, "sleep\0001000", len);
}

static void test_namespaces(void **state) {
    struct fixture *f = *state;
    static const char *const own[] = {"mnt", "pid", "ipc", "uts", "cgroup"};
    for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
        char path[64], ours[64] = "", theirs[64] = "";
        snprintf(path, sizeof(path), "/proc/self/ns/%s", own[i]);
        assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
        snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)monitor_pid(f->m), own[i]);
        assert_true(readlink(path, theirs, sizeof(theirs) - 1) > 0);
        assert_string_not_equal(ours, theirs);
    }
}

static void test_signals(void **state) {
    struct fixture *f = *state;
    assert_int_equal(kill(monitor_pid(f->m), SIGTERM), 0);
    RUN_UNTIL(f->event, f->n_signals == 1);
    assert_int_equal(kill(monitor_pid(f->m), SIGRTMIN + 1), 0);
    RUN_UNTIL(f->event, f->n_signals == 2);
    assert_int_equal(f->signals[0], SIGTERM);
    assert_int_equal(f->signals[1], SIGRTMIN + 1);
}

static void test_exit_status(void **state) {
    struct fixture *f = *state;
    siginfo_t si = {0};
    monitor_exit(f->m, 7);
    assert_int_equal(waitid(P_PIDFD, (id_t)f->pidfd, &si, WEXITED | WNOWAIT), 0);
    assert_int_equal(si.si_code, CLD_EXITED);
    assert_int_equal(si.si_status, 7);
}

/* ---- the container's files ---- */

static int in_the_container(void) {
    char name[65] = "";
    CHECK(says("/etc/passwd", "of the container"));
    CHECK(says("/vol/data", "of the volume"));
    CHECK(can_make("/etc/new") && can_make("/vol/new"));
    CHECK(gethostname(name, sizeof(name) - 1) == 0 && strcmp(name, "box") == 0);
    CHECK(access("/etc/debian_version", F_OK) < 0);
    return 0;
}

static void test_files(void **state) {
    struct fixture *f = *state;
    add(f, "/vol", "bind", "volume", false);
    must_show(f);
    assert_int_equal(inside(f, in_the_container), 0);
    assert_int_equal(faccessat(f->dir->fd, "root/etc/new", F_OK, 0), 0);
    assert_int_equal(faccessat(f->dir->fd, "volume/new", F_OK, 0), 0);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/root/vol/data", (int)monitor_pid(f->m));
    assert_true(says(path, "of the volume"));
}

static int in_a_read_only_one(void) {
    CHECK(says("/etc/passwd", "of the container"));
    CHECK(!can_make("/etc/new") && errno == EROFS);
    CHECK(!can_make("/vol/new") && errno == EROFS);
    CHECK(can_make("/run/new"));
    return 0;
}

static void test_read_only(void **state) {
    struct fixture *f = *state;
    json_object_set_new(json_object_get(f->spec, "root"), "readonly", json_true());
    add(f, "/vol", "bind", "volume", true);
    add(f, "/run", "bind", "outside", false);
    must_show(f);
    assert_int_equal(inside(f, in_a_read_only_one), 0);
}

static int in_the_mount_table(void) {
    char line[4096];
    size_t n = 0;
    cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
    CHECK(f);
    for (; fgets(line, sizeof(line), f); n++)
        CHECK(strstr(line, " / /") || strstr(line, "/proc") || strstr(line, "/root /") || strstr(line, "/volume /vol"));
    CHECK(n > 3);
    return 0;
}

static int in_its_proc(void) {
    CHECK(access("/proc/1/stat", F_OK) == 0 && access("/proc/self", F_OK) == 0);
    size_t n = 0;
    cleanup_dir DIR *d = opendir("/proc");
    for (const struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] >= '1' && e->d_name[0] <= '9';
    CHECK(n == 2); /* the monitor and this one */
    CHECK(says("/proc/1/comm", "stasis-monitor\n"));
    CHECK(access("/proc/stat", R_OK) == 0 && access("/proc/uptime", R_OK) == 0);
    CHECK(access("/proc/sys/kernel", F_OK) < 0);
    static const char *const hidden[] = {"/proc/kcore", "/proc/cmdline", "/proc/sysrq-trigger", "/proc/kmsg"};
    for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
        cleanup_fd int fd = open(hidden[i], O_RDONLY | O_CLOEXEC);
        CHECK(fd < 0);
        fd = open(hidden[i], O_WRONLY | O_CLOEXEC);
        CHECK(fd < 0);
    }
    cleanup_fd int fd = open("/proc/1/oom_score_adj", O_WRONLY | O_CLOEXEC);
    CHECK(fd < 0 && errno == EROFS);
    return in_the_mount_table();
}

static int beside_the_guests(void) {
    CHECK(access("/dev/pts", F_OK) == 0 && access("/dev/null", F_OK) < 0);
    CHECK(access("/sys/kernel", F_OK) < 0);
    CHECK(access("/run/secret", F_OK) < 0);
    CHECK(!can_make("/run/x") && errno == EROFS);
    CHECK(!can_make("/dev/x") && errno == EROFS);
    CHECK(says("/run/vol/data", "of the volume"));
    return 0;
}

/* What only the guest has is not there, and nothing can be put where the container would not see it. */
static void test_guests_own(void **state) {
    struct fixture *f = *state;
    tmpdir_write(f->dir, "root/run/secret", "under a tmpfs");
    add(f, "/proc", "proc", NULL, false);
    add(f, "/dev", "tmpfs", NULL, false);
    add(f, "/dev/pts", "devpts", NULL, false);
    add(f, "/sys", "sysfs", NULL, false);
    add(f, "/run", "tmpfs", NULL, false);
    add(f, "/run/vol", "bind", "volume", false);
    must_show(f);
    assert_int_equal(inside(f, beside_the_guests), 0);
}

static void test_proc(void **state) {
    struct fixture *f = *state;
    add(f, "/proc", "proc", NULL, false);
    add(f, "/vol", "bind", "volume", false);
    must_show(f);
    assert_int_equal(inside(f, in_its_proc), 0);
}

/* ---- hostile roots ---- */

static int behind_links(void) {
    CHECK(says("/run/s/data", "of the volume")); /* /var/run/s */
    CHECK(says("/etc/v/data", "of the volume")); /* /away/v, where /away points out of the root */
    CHECK(says("/etc/passwd", "of the container"));
    return 0;
}

static void test_links(void **state) {
    struct fixture *f = *state;
    assert_int_equal(symlinkat("/run", f->dir->fd, "root/var/run"), 0);
    assert_int_equal(symlinkat("../../../../../../../etc", f->dir->fd, "root/away"), 0);
    assert_int_equal(mkdirat(f->dir->fd, "root/run/s", 0755), 0);
    assert_int_equal(mkdirat(f->dir->fd, "root/etc/v", 0755), 0);
    add(f, "/var/run/s", "bind", "volume", false);
    add(f, "/away/v", "bind", "volume", false);
    must_show(f);
    assert_int_equal(inside(f, behind_links), 0);
    assert_int_equal(access("/etc/v", F_OK), -1);
    assert_int_equal(count_mounts("/etc"), 0);
}

/* A root that is a link to a process's root, by way of the volume: /proc of the host is not what it leads to. */
static int not_out_of_it(void) {
    CHECK(!says("/vol/out/outside/data", "of the host"));
    CHECK(access("/../../outside/data", F_OK) < 0);
    CHECK(chroot("/etc") == 0); /* the old way out, with the working directory outside */
    for (int i = 0; i < 64; i++)
        CHECK(chdir("..") == 0);
    CHECK(chroot(".") == 0 && access("/outside/data", F_OK) < 0 && says("/etc/passwd", "of the container"));
    return 0;
}

static void test_no_way_out(void **state) {
    struct fixture *f = *state;
    assert_int_equal(symlinkat(f->dir->path, f->dir->fd, "volume/out"), 0);
    add(f, "/vol", "bind", "volume", false);
    must_show(f);
    assert_int_equal(inside(f, not_out_of_it), 0);
}

static void test_no_place(void **state) {
    struct fixture *f = *state;
    add(f, "/not/there", "bind", "volume", false);
    add(f, "/vol", "bind", "volume", false);
    must_show(f);
    assert_int_equal(inside(f, in_the_container), 0);
    assert_int_equal(faccessat(f->dir->fd, "root/not", F_OK, 0), -1);
}

static void test_loop_of_links(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(symlinkat("loop", f->dir->fd, "root/loop"), 0);
    add(f, "/loop/x", "bind", "volume", false);
    assert_int_equal(show(f, &err), -ELOOP);
    ASSERT_SAYS(&err, "mounts[0]: cannot open /loop/x in the container's root");
    assert_int_equal(inside(f, in_an_empty_root), 0);
}

static void test_monitor_died(void **state) {
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct pollfd p = {.fd = f->pidfd, .events = POLLIN};
    assert_int_equal(kill(monitor_pid(f->m), SIGKILL), 0);
    assert_int_equal(poll(&p, 1, 20000), 1);
    assert_int_equal(show(f, &err), -ESRCH);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(test_empty),        TEST(test_namespaces), TEST(test_signals),    TEST(test_exit_status),
        TEST(test_files),        TEST(test_read_only),  TEST(test_guests_own), TEST(test_proc),
        TEST(test_links),        TEST(test_no_way_out), TEST(test_no_place),   TEST(test_loop_of_links),
        TEST(test_monitor_died),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

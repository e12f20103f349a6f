/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/container.h"
#include "agent/deleted.h"
#include "base/mountinfo.h"
#include "support.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool bad(const char *link, bool is_directory, unsigned links) {
    const struct deleted_stat s = {.link = link, .is_directory = is_directory, .links = links};
    return deleted_judge(&s);
}

static void test_judge(void **state) {
    (void)state;
    assert_false(bad("/a", false, 1));
    assert_true(bad("/a", false, 0)); /* deleted by the host, or by another name */
    assert_true(bad("/a (deleted)", false, 0));
    assert_true(bad("/a (deleted)", false, 1)); /* the lower layer's file still has its link */
    assert_false(bad("/a (deleted)", false, 2));
    assert_false(bad("/a", true, 1));
    assert_true(bad("/a (deleted)", true, 1));
    assert_true(bad("/a (deleted)", true, 2));
    assert_false(bad(" (deleted)", false, 1));
}

static void test_replaced(void **state) {
    (void)state;
    assert_true(deleted_is_replaced(&(struct deleted_stat){.known_ino = 7, .ino = 8}));
    assert_false(deleted_is_replaced(&(struct deleted_stat){.known_ino = 7, .ino = 7}));
    assert_false(deleted_is_replaced(&(struct deleted_stat){.known_ino = 0, .ino = 8})); /* on no such volume */
    assert_false(deleted_is_replaced(&(struct deleted_stat){.known_ino = 7, .ino = 0})); /* gone */
}

/* The type of the file system that the test's directory is on stands for the share's. */
static char *fstype_of(int fd) {
    struct stat st;
    struct mountinfo m = {0};
    struct mountinfo_entry e;
    char dev[32], *ret = NULL;
    assert_int_equal(fstat(fd, &st), 0);
    snprintf(dev, sizeof(dev), "%u:%u", major(st.st_dev), minor(st.st_dev));
    assert_int_equal(mountinfo_open(MOUNTINFO_SELF, &m, NULL), 0);
    while (!ret && mountinfo_next(&m, &e))
        if (strcmp(e.dev, dev) == 0)
            ret = strdup(e.type);
    mountinfo_close(&m);
    return ret;
}

static const struct deleted_file *find(const struct deleted_list *l, const char *path) {
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].pid == getpid() && strcmp(l->v[i].path, path) == 0)
            return &l->v[i];
    return NULL;
}

static void test_scan(void **state) {
    struct tmpdir *t = *state;
    const struct agent a = {0};
    struct err err = ERR_INIT;
    cleanup_free char *type = fstype_of(t->fd), *open_path = tmpdir_path(t, "open?"),
                      *mapped_path = tmpdir_path(t, "mapped");
    cleanup_free struct deleted_list *list = calloc(1, sizeof(*list));
    if (!type)
        skip(); /* a file system whose mount shows another device than its files */
    tmpdir_write(t, "open\x1b", "x");
    tmpdir_write(t, "mapped", "x");
    tmpdir_write(t, "there", "x");
    cleanup_fd int fd = openat(t->fd, "open\x1b", O_RDONLY | O_CLOEXEC);
    cleanup_fd int there = openat(t->fd, "there", O_RDONLY | O_CLOEXEC);
    cleanup_fd int memory = memfd_create("memory", MFD_CLOEXEC);
    int map_fd = openat(t->fd, "mapped", O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, map_fd, 0);
    assert_true(fd >= 0 && there >= 0 && memory >= 0 && map != MAP_FAILED);
    close(map_fd);
    assert_int_equal(deleted_scan(&a, type, list, &err), 0);
    assert_null(find(list, open_path));
    tmpdir_remove(t, "open\x1b");
    tmpdir_remove(t, "mapped");
    memset(list, 0, sizeof(*list));
    assert_int_equal(deleted_scan(&a, "virtiofs", list, &err), 0);
    assert_null(find(list, open_path));
    assert_int_equal(deleted_scan(&a, type, list, &err), 0);
    const struct deleted_file *f = find(list, open_path);
    assert_non_null(f);
    assert_string_equal(f->container_id, "");
    assert_true(*f->command);
    if (geteuid() == 0) /* who else may look at map_files */
        assert_non_null(find(list, mapped_path));
    assert_int_equal(deleted_refuse(list, &err), -EBUSY);
    munmap(map, 4096);
}

/* In a copy only processes of containers count, and not what was known before. */
static void test_scan_copy(void **state) {
    struct tmpdir *t = *state;
    struct err err = ERR_INIT;
    cleanup_free char *type = fstype_of(t->fd), *pid = str_printf("%d\n", (int)getpid()),
                      *path = tmpdir_path(t, "file"), *other = tmpdir_path(t, "other");
    cleanup_free struct deleted_list *before = calloc(1, sizeof(*before)), *list = calloc(1, sizeof(*list));
    struct container c = {.id = "c1", .cgroup_fd = path_mkdirs_beneath(t->fd, "cgroup", 0755, NULL)};
    struct agent a = {0};
    if (!type)
        skip();
    assert_true(c.cgroup_fd >= 0);
    tmpdir_write(t, "cgroup/cgroup.procs", pid);
    tmpdir_write(t, "file", "x");
    tmpdir_write(t, "other", "x");
    cleanup_fd int fd = openat(t->fd, "file", O_RDONLY | O_CLOEXEC);
    cleanup_fd int fd2 = openat(t->fd, "other", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fd2 >= 0);
    tmpdir_remove(t, "file");
    assert_int_equal(deleted_scan_copy(&a, type, NULL, list, &err), 0);
    assert_int_equal(list->n, 0);
    a.containers = &c;
    assert_int_equal(deleted_scan_copy(&a, type, NULL, before, &err), 0);
    const struct deleted_file *f = find(before, path);
    assert_non_null(f);
    assert_string_equal(f->container_id, "c1");
    assert_int_equal(deleted_refuse_copy(before, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "is gone"));
    tmpdir_remove(t, "other");
    assert_int_equal(deleted_scan_copy(&a, type, before, list, &err), 0);
    assert_null(find(list, path));
    assert_non_null(find(list, other));
    before->more = 1;
    memset(list, 0, sizeof(*list));
    assert_int_equal(deleted_scan_copy(&a, type, before, list, &err), 0);
    assert_int_equal(list->n, 0);
    close(c.cgroup_fd);
}

static void test_refuse(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    cleanup_free struct deleted_list *l = calloc(1, sizeof(*l));
    l->n = DELETED_MAX;
    l->more = 3;
    for (size_t i = 0; i < l->n; i++)
        snprintf(l->v[i].path, sizeof(l->v[i].path), "/f%zu", i);
    snprintf(l->v[0].container_id, sizeof(l->v[0].container_id), "c1");
    snprintf(l->v[0].command, sizeof(l->v[0].command), "sh");
    l->v[0].pid = 7;
    assert_int_equal(deleted_refuse(l, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "/f0 (sh in c1, pid 7)"));
    assert_non_null(strstr(err.msg, "and 59 more"));
    assert_null(strstr(err.msg, "/f8 "));
    l->v[1].replaced = true;
    assert_int_equal(deleted_refuse_copy(l, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "/f0 (sh in c1, pid 7) is gone, /f1 "));
    assert_non_null(strstr(err.msg, " is another file,"));
    assert_non_null(strstr(err.msg, "and 59 more"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),    cmocka_unit_test_setup_teardown(test_scan, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_replaced), cmocka_unit_test_setup_teardown(test_scan_copy, tmpdir_setup, tmpdir_teardown),
        cmocka_unit_test(test_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

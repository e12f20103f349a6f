/* SPDX-License-Identifier: Apache-2.0 */
/* image_dir.c: what is kept of a checkpoint's work directory. Needs root: full disks are small mounts. */
#include "image_dir_fixture.h"

#include "base/log.h"

#define ALL 4 /* the log level that drops nothing */

static const char dump_log[] = "(00.000000) Parsing config file\n"
                               "(00.004692) Version: 4.1.1 (gitid 0)\n"
                               "(00.010000) Warn  (criu/net.c:1): odd\n"
                               "pie: 1: Running daemon\n"
                               "(01.178449) Error (criu/tun.c:85): tun: Unable to create tun\n"
                               "(02.000000) Dumping FAILED.";

static void collects_logs(void **state) {
    struct fixture *f = *state;
    cleanup_free char *to = tmpdir_path(f->t, "logs/of/it");
    cleanup_free char *old = tmpdir_path(f->t, "old");
    struct stat st;
    make(f, "");
    guest_writes(f->d.work, "dump.log", dump_log);
    guest_writes(f->d.work, "stats-dump", "a Warn  (\n");
    assert_int_equal(image_dir_collect_work(&f->d, to, ALL, &f->err), 0);
    assert_file(f, "logs/of/it/dump.log", dump_log);
    assert_file(f, "logs/of/it/stats-dump", "a Warn  (\n");
    assert_int_equal(fstatat(f->t->fd, "logs/of/it/dump.log", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    /* Those of the attempt before are replaced, never written through. */
    tmpdir_write(f->t, "old", "precious");
    assert_int_equal(unlinkat(f->t->fd, "logs/of/it/dump.log", 0), 0);
    assert_int_equal(symlinkat(old, f->t->fd, "logs/of/it/dump.log"), 0);
    assert_int_equal(image_dir_collect_work(&f->d, to, ALL, &f->err), 0);
    assert_file(f, "logs/of/it/dump.log", dump_log);
    assert_file(f, "old", "precious");
}

#define VERSION "(00.004692) Version: 4.1.1 (gitid 0)\n"
#define WARNING "(00.010000) Warn  (criu/net.c:1): odd\n"
#define ERROR "(01.178449) Error (criu/tun.c:85): tun: Unable to create tun\n"

static void log_levels(void **state) {
    struct fixture *f = *state;
    cleanup_free char *to = tmpdir_path(f->t, "logs");
    static const char *const want[] = {VERSION ERROR, VERSION ERROR, VERSION WARNING ERROR, dump_log, dump_log};
    make(f, "");
    guest_writes(f->d.work, "dump.log", dump_log);
    guest_writes(f->d.work, "restore.log", dump_log);
    guest_writes(f->d.work, "criu-diagnostic.log", dump_log);
    for (uint32_t level = 0; level < ARRAY_SIZE(want); level++) {
        assert_int_equal(image_dir_collect_work(&f->d, to, level, &f->err), 0);
        assert_file(f, "logs/dump.log", want[level]);
        assert_file(f, "logs/restore.log", want[level]);
        assert_file(f, "logs/criu-diagnostic.log", dump_log);
    }
}

/* Lines longer than what is looked at go as their beginning says; a mark further on does not count. */
static void long_lines(void **state) {
    struct fixture *f = *state;
    cleanup_free char *to = tmpdir_path(f->t, "logs");
    cleanup_free char *text = calloc(1, 40000), *want = calloc(1, 40000);
    memset(text, 'x', 10000);
    strcpy(text + 10000, "Error (late\nError (early: ");
    size_t n = strlen(text);
    memset(text + n, 'y', 10000);
    strcpy(text + n + 10000, "\nlast");
    strcpy(want, "Error (early: ");
    memset(want + strlen(want), 'y', 10000);
    strcat(want, "\n");
    make(f, "");
    guest_writes(f->d.work, "dump.log", text);
    assert_int_equal(image_dir_collect_work(&f->d, to, 1, &f->err), 0);
    assert_file(f, "logs/dump.log", want);
}

static void drops_what_is_no_log(void **state) {
    struct fixture *f = *state;
    cleanup_free char *to = tmpdir_path(f->t, "logs");
    make(f, "");
    guest_writes(f->d.work, "dump.log", "log");
    guest_writes(f->d.work, "twice.log", "log");
    guest_writes(f->d.work, "n\xc3\xb6.log", "log");
    {
        cleanup_fd int dir = open(f->d.work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        leave_symlink(dir);
        leave_hidden(dir);
        assert_int_equal(linkat(dir, "twice.log", dir, "again.log", 0), 0);
        assert_int_equal(mkfifoat(dir, "fifo.log", 0600), 0);
        assert_int_equal(mkdirat(dir, "dir.log", 0700), 0);
        cleanup_fd int huge = openat(dir, "huge.log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(huge, INT64_C(1) << 40), 0);
    }
    assert_int_equal(image_dir_collect_work(&f->d, to, ALL, &f->err), 0);
    assert_int_equal(count_in(to), 1);
    assert_file(f, "logs/dump.log", "log");
}

/* threats.md 35: neither the host's disk nor its log. */
static void logs_are_bounded(void **state) {
    struct fixture *f = *state;
    cleanup_free char *to = tmpdir_path(f->t, "logs");
    cleanup_free char *log = tmpdir_path(f->t, "log");
    cleanup_free char *told = NULL;
    char name[16];
    make(f, "");
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "%u.log", i);
        guest_writes(f->d.work, name, "x");
    }
    int fd = open(log, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    log_set_fd(fd);
    int r = image_dir_collect_work(&f->d, to, ALL, &f->err);
    log_set_fd(STDERR_FILENO);
    close(fd);
    assert_int_equal(r, 0);
    assert_int_equal(count_in(to), 64);
    assert_int_equal(file_read_at(AT_FDCWD, log, 1 << 20, &told, NULL, NULL), 0);
    const char *first = strchr(told, '\n');
    assert_non_null(strstr(told, "more than 64 files"));
    assert_true(first && first[1] == '\0'); /* one line */
}

static void logs_on_a_full_disk(void **state) {
    struct fixture *f = *state;
    cleanup_free char *to = tmpdir_path(f->t, "logs");
    cleanup_free char *text = calloc(1, 65536);
    memset(text, 'x', 65535);
    make(f, "");
    guest_writes(f->d.work, "dump.log", text);
    assert_int_equal(mkdir(to, 0700), 0);
    assert_int_equal(mount("tiny", to, "tmpfs", 0, "size=16k"), 0);
    assert_int_equal(image_dir_collect_work(&f->d, to, ALL, &f->err), -ENOSPC);
    ASSERT_SAYS(&f->err, "cannot copy dump.log to the work directory: ");
    assert_int_equal(umount2(to, MNT_DETACH), 0);
    /* Not a directory. */
    cleanup_free char *file = tmpdir_path(f->t, "file");
    tmpdir_write(f->t, "file", "");
    assert_true(image_dir_collect_work(&f->d, file, ALL, &f->err) < 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int main(void) {
    if (!own_mounts())
        return EXIT_SKIPPED;
    const struct CMUnitTest tests[] = {
        TEST(collects_logs),        TEST(log_levels),       TEST(long_lines),
        TEST(drops_what_is_no_log), TEST(logs_are_bounded), TEST(logs_on_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

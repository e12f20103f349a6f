/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/criu_checkpoint.h"
#include "oci/criu_pages.h"

#include "criu_support.h"

static void read_fails(const struct tmpdir *t, int r, const char *message) {
    cleanup_criu_checkpoint struct criu_checkpoint c = {0};
    struct err e = ERR_INIT;
    int got = criu_checkpoint_read(t->fd, &c, &e);
    if (got != r || strcmp(e.msg, message) != 0)
        fail_msg("%d: \"%s\" instead of %d: \"%s\"", got, e.msg, r, message);
}

static void reads_what_crit_wrote(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_checkpoint struct criu_checkpoint c = {0};
    struct err e = ERR_INIT;
    criu_write_all(t);
    if (criu_checkpoint_read(t->fd, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(c.img_version, 2);
    assert_string_equal(c.arch, "x86_64");
    assert_int_equal(c.root_files_id, 1);
    assert_int_equal(c.dump_uptime_usec, 123456789);
    assert_int_equal(c.n_processes, 3);
    const struct criu_process *p = c.processes;
    assert_int_equal(p[0].pid, 1);
    assert_int_equal(p[0].parent, 0);
    assert_string_equal(p[0].comm, "init");
    assert_string_equal(p[0].state, "alive");
    assert_int_equal(p[0].pages, 5);
    assert_int_equal(p[0].pages_parent, 10);
    assert_int_equal(p[0].pages_lazy, 2);
    assert_int_equal(p[1].pid, 7);
    assert_int_equal(p[1].ppid, 1);
    assert_int_equal(p[1].n_threads, 3);
    assert_int_equal(p[1].pages, 0);
    assert_int_equal(p[2].parent, 1);
    assert_string_equal(p[2].state, "zombie");
    assert_int_equal(p[0].n_fds, 4);
    assert_int_equal(p[0].fds[2].fd, 3);
    const struct criu_file *f = criu_files_find(&c.files, p[0].fds[2].file_id);
    assert_string_equal(f->kind, "inet");
    assert_string_equal(f->source, "127.0.0.1:80");
}

static void reads_open_files(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_files struct criu_files files = {0};
    criu_write_all(t);
    assert_int_equal(criu_files_read(t->fd, &files, NULL), 0);
    assert_int_equal(files.n, 5);
    assert_string_equal(criu_files_find(&files, 1)->name, "/dev/null");
    assert_string_equal(criu_files_find(&files, 1)->kind, "file");
    assert_int_equal(criu_files_find(&files, 2)->pipe_id, 77);
    const struct criu_file *f = criu_files_find(&files, 3);
    assert_string_equal(f->proto, "tcp");
    assert_string_equal(f->state, "ESTABLISHED");
    assert_string_equal(f->dest, "10.1.2.3:40000");
    f = criu_files_find(&files, 6);
    assert_string_equal(f->source, "[::1]:6379");
    assert_string_equal(f->state, "LISTEN");
    f = criu_files_find(&files, 4);
    assert_string_equal(f->name, "/run/x.sock");
    assert_string_equal(f->proto, "stream");
    assert_null(criu_files_find(&files, 5));
}

static void texts_are_printable(void **state) {
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } cases[] = {
        {"", 0, ""},
        {"/a b", 4, "/a b"},
        {"\0abs\0x", 6, "@abs@x"},
        {"\x1b[31m\n\x7f", 7, "?[31m??"},
        {"\xc3\xa9\xff\xe2\x82\xac\xe2\x82", 8, "\xc3\xa9?\xe2\x82\xac??"},
        {"\xc2\x9b"
         "A",
         3, "??A"}, /* a control sequence of eight-bit terminals */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *out = criu_text(cases[i].in, cases[i].len);
        assert_string_equal(out, cases[i].out);
    }
    char large[CRIU_TEXT_MAX + 1];
    memset(large, 'x', sizeof(large));
    cleanup_free char *out = criu_text(large, sizeof(large));
    assert_int_equal(strlen(out), CRIU_TEXT_MAX);
}

static void missing_files(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        const char *name, *message;
        int r;
    } cases[] = {
        {"inventory.img", "cannot open inventory.img: No such file or directory", -ENOENT},
        {"pstree.img", "cannot open pstree.img: No such file or directory", -ENOENT},
        {"core-7.img", "cannot open core-7.img: No such file or directory", -ENOENT},
        {"files.img", "fdinfo-1.img: entry 1: descriptor 0 is of a file that is not there", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        criu_write_all(t);
        assert_int_equal(unlinkat(t->fd, cases[i].name, 0), 0);
        read_fails(t, cases[i].r, cases[i].message);
    }
}

/* Trees that are none: a list of (pid, parent). */
static void broken_trees(void **state) {
    struct tmpdir *t = *state;
    static const struct {
        uint32_t p[3][2];
        const char *message;
    } cases[] = {
        {{{0, 0}}, "pstree.img: entry 1: a process with pid 0"},
        {{{1, 1}}, "pstree.img: entry 1: process 1 before its parent 1"},
        {{{1, 2}, {2, 1}}, "pstree.img: entry 1: process 1 before its parent 2"},
        {{{1, 0}, {2, 3}, {3, 2}}, "pstree.img: entry 2: process 2 before its parent 3"},
        {{{1, 0}, {2, 2}}, "pstree.img: entry 2: process 2 before its parent 2"},
        {{{1, 0}, {2, 1}, {2, 1}}, "pstree.img: entry 3: a second process with pid 2"},
        {{{1, 0}, {2, 0}}, "pstree.img: entry 2: process 2 is a second root"},
    };
    criu_write_all(t);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_criu_bytes struct criu_bytes b = {0};
        criu_begin(&b, "pstree.img");
        for (size_t k = 0; k < 3 && (k == 0 || cases[i].p[k][0]); k++) {
            Criu__Pstree e = CRIU__PSTREE__INIT;
            e.pid = cases[i].p[k][0];
            e.ppid = cases[i].p[k][1];
            criu_entry(&b, &e);
        }
        criu_write(t, "pstree.img", b.data, b.len);
        read_fails(t, -EINVAL, cases[i].message);
    }
    cleanup_criu_bytes struct criu_bytes b = {0};
    criu_begin(&b, "pstree.img");
    criu_write(t, "pstree.img", b.data, b.len);
    read_fails(t, -EINVAL, "pstree.img has no process");
}

static void counts_are_bounded(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_bytes struct criu_bytes b = {0};
    Criu__Pstree e = CRIU__PSTREE__INIT;
    criu_write_all(t);
    criu_begin(&b, "pstree.img");
    for (uint32_t i = 0; i <= CRIU_PROCESSES_MAX; i++) {
        e.pid = i + 1;
        e.ppid = i;
        criu_entry(&b, &e);
    }
    criu_write(t, "pstree.img", b.data, b.len);
    read_fails(t, -EFBIG, "pstree.img: entry 16385: more than 16384 processes");

    cleanup_free uint32_t *threads = calloc(CRIU_THREADS_MAX + 1, sizeof(*threads));
    e.pid = 1;
    e.ppid = 0;
    e.n_threads = CRIU_THREADS_MAX + 1;
    e.threads = threads;
    criu_begin(&b, "pstree.img");
    criu_entry(&b, &e);
    criu_write(t, "pstree.img", b.data, b.len);
    read_fails(t, -EFBIG, "pstree.img: entry 1: more than 65536 threads");
}

static void pages_do_not_overflow(void **state) {
    struct tmpdir *t = *state;
    static const uint64_t counts[][2] = {{UINT64_MAX, 0}, {UINT64_C(1) << 52, 1}, {(UINT64_C(1) << 52) + 1, 0}};
    criu_write_all(t);
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        cleanup_criu_bytes struct criu_bytes b = {0};
        Criu__PagemapHead head = CRIU__PAGEMAP_HEAD__INIT;
        criu_begin(&b, "pagemap-1.img");
        criu_entry(&b, &head);
        for (size_t k = 0; k < 2 && counts[i][k]; k++) {
            Criu__PagemapEntry e = CRIU__PAGEMAP_ENTRY__INIT;
            e.has_nr_pages = true;
            e.nr_pages = counts[i][k];
            criu_entry(&b, &e);
        }
        criu_write(t, "pagemap-1.img", b.data, b.len);
        char want[96];
        snprintf(want, sizeof(want), "pagemap-1.img: entry %d: more pages than there can be", counts[i][1] ? 3 : 2);
        read_fails(t, -EFBIG, want);
    }
}

static void duplicate_file_ids(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_bytes struct criu_bytes b = {0};
    Criu__File f = CRIU__FILE__INIT;
    f.id = 9;
    criu_write_all(t);
    criu_begin(&b, "files.img");
    criu_entry(&b, &f);
    criu_entry(&b, &f);
    criu_write(t, "files.img", b.data, b.len);
    read_fails(t, -EINVAL, "files.img: two files have the id 9");
}

static void bad_addresses(void **state) {
    struct tmpdir *t = *state;
    uint32_t addr[5] = {0};
    static const struct {
        uint32_t family, port;
        size_t n;
        const char *message;
    } cases[] = {
        {2, 65536, 1, "files.img: entry 1: socket with a bad address or port"},
        {2, 1, 0, "files.img: entry 1: socket with a bad address or port"},
        {2, 1, 4, "files.img: entry 1: socket with a bad address or port"},
        {10, 1, 1, "files.img: entry 1: socket with a bad address or port"},
        {10, 1, 5, "files.img: entry 1: socket with a bad address or port"},
        {1, 1, 1, "files.img: entry 1: socket of address family 1"},
    };
    criu_write_all(t);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_criu_bytes struct criu_bytes b = {0};
        Criu__InetSocket s = CRIU__INET_SOCKET__INIT;
        Criu__File f = CRIU__FILE__INIT;
        s.family = cases[i].family;
        s.src_port = cases[i].port;
        s.n_src_addr = s.n_dst_addr = cases[i].n;
        s.src_addr = s.dst_addr = addr;
        f.isk = &s;
        criu_begin(&b, "files.img");
        criu_entry(&b, &f);
        criu_write(t, "files.img", b.data, b.len);
        read_fails(t, -EINVAL, cases[i].message);
    }
}

/* A bit of every byte of every image flipped: an error or a result, and an error names a file. */
static void any_byte_may_be_wrong(void **state) {
    struct tmpdir *t = *state;
    for (size_t k = 0; k < ARRAY_SIZE(criu_fixtures); k++) {
        size_t len;
        cleanup_free char *data = criu_fixture(criu_fixtures[k], &len);
        criu_write_all(t);
        for (size_t i = 0; i < len; i++) {
            cleanup_criu_checkpoint struct criu_checkpoint c = {0};
            struct err e = ERR_INIT;
            data[i] ^= (char)(1 << (i % 8));
            criu_write(t, criu_fixtures[k], data, len);
            if (criu_checkpoint_read(t->fd, &c, &e) < 0 && !strstr(e.msg, ".img"))
                fail_msg("%s, byte %zu: %s", criu_fixtures[k], i, e.msg);
            data[i] ^= (char)(1 << (i % 8));
        }
    }
}

static void version_from_a_log(void **state) {
    struct tmpdir *t = *state;
    char v[CRIU_VERSION_MAX] = "untouched";
    struct err e = ERR_INIT;
    tmpdir_write(t, "dump.log", "(00.000000) Version: 4.1.1 (gitid 0)\n(00.000015) Running on box\n");
    assert_int_equal(criu_log_version(t->fd, "dump.log", v, NULL), 1);
    assert_string_equal(v, "4.1.1");
    static const char *const none[] = {"", "Version:", "Version: ", "Version: \x1b[2J", "no"};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        tmpdir_write(t, "dump.log", none[i]);
        assert_int_equal(criu_log_version(t->fd, "dump.log", v, NULL), 0);
        assert_string_equal(v, "4.1.1");
    }
    char large[256] = "Version: ";
    memset(large + 9, '1', 200);
    tmpdir_write(t, "dump.log", large);
    assert_int_equal(criu_log_version(t->fd, "dump.log", v, NULL), 0);
    assert_int_equal(criu_log_version(t->fd, "absent", v, &e), -ENOENT);
    assert_int_equal(mkfifoat(t->fd, "fifo", 0600), 0);
    assert_int_equal(criu_log_version(t->fd, "fifo", v, &e), -EINVAL);
    assert_string_equal(e.msg, "fifo is not a regular file");
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)

static void add_pages(struct criu_bytes *b, uint64_t n, bool has_flags, uint32_t flags) {
    Criu__PagemapEntry e = CRIU__PAGEMAP_ENTRY__INIT;
    e.has_flags = has_flags;
    e.flags = flags;
    e.compat_nr_pages = (uint32_t)n;
    e.has_nr_pages = n > UINT32_MAX;
    e.nr_pages = n;
    criu_entry(b, &e);
}

static void pages(const struct tmpdir *t, long long bytes) {
    cleanup_fd int fd = openat(t->fd, "pages-7.img", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, bytes), 0);
}

static void lacks_pages(const struct tmpdir *t, const char *want) {
    struct err e = ERR_INIT;
    assert_int_equal(criu_pages_check(t->fd, &e), -EINVAL);
    if (!strstr(e.msg, want))
        fail_msg("\"%s\" does not say: %s", e.msg, want);
}

/* CRIU would wait for ever for what is not in the file. */
static void memory_is_all_there(void **state) {
    struct tmpdir *t = *state;
    cleanup_criu_bytes struct criu_bytes b = {0};
    Criu__PagemapHead head = CRIU__PAGEMAP_HEAD__INIT;
    head.pages_id = 7;
    assert_int_equal(criu_pages_check(t->fd, NULL), 0); /* there are none */
    criu_begin(&b, "pagemap-1.img");
    criu_entry(&b, &head);
    add_pages(&b, 2, true, 4);
    add_pages(&b, 5, true, 1); /* in the parent */
    add_pages(&b, 1, false, 0);
    criu_write(t, "pagemap-shmem-3.img", b.data, b.len);
    lacks_pages(t, "pages-7.img is missing, of which pagemap-shmem-3.img has pages");
    pages(t, 3 * 4096);
    assert_int_equal(criu_pages_check(t->fd, NULL), 0);
    pages(t, 3 * 4096 - 1);
    lacks_pages(t, "pages-7.img is cut off: it has 12287 bytes");
    pages(t, 3 * 4096);
    add_pages(&b, UINT64_MAX, true, 4);
    criu_write(t, "pagemap-shmem-3.img", b.data, b.len);
    lacks_pages(t, "more pages than there can be");
    criu_write(t, "pagemap-shmem-3.img", b.data, MAGICS);
    lacks_pages(t, "it has no entry");
    /* Of more than are looked at CRIU has the last word: they are no error. */
    criu_begin(&b, "pagemap-1.img");
    criu_entry(&b, &head);
    for (size_t i = 0; i <= CRIU_ENTRIES_MAX; i++)
        add_pages(&b, 1, true, 4);
    criu_write(t, "pagemap-shmem-3.img", b.data, b.len);
    assert_int_equal(criu_pages_check(t->fd, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(reads_what_crit_wrote), T(reads_open_files),      T(texts_are_printable),   T(missing_files),
        T(broken_trees),          T(counts_are_bounded),    T(pages_do_not_overflow), T(duplicate_file_ids),
        T(bad_addresses),         T(any_byte_may_be_wrong), T(version_from_a_log),    T(memory_is_all_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <endian.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "memories.h"

static void new_checks_the_size(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    struct memory_image *m = (void *)1;
    static const uint64_t bad[] = {0, 1, PAGE - 1, PAGE + 1, SEG * MEMORY_SEGMENTS_MAX + PAGE, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(memory_image_new(bad[i], &m, &e), -EINVAL);
    assert_ptr_equal(m, (void *)1);
    static const struct {
        uint64_t size;
        uint32_t n;
    } good[] = {{PAGE, 1}, {SEG, 1}, {SEG + PAGE, 2}, {SEG * MEMORY_SEGMENTS_MAX, MEMORY_SEGMENTS_MAX}};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(memory_image_new(good[i].size, &m, &e), 0);
        assert_int_equal(m->n, good[i].n);
        assert_int_equal(m->size, good[i].size);
        assert_int_equal(memory_image_data(m), 0);
        assert_int_equal(m->segments[m->n - 1].data, 0);
        assert_null(memory_image_free(m));
    }
    assert_null(memory_image_free(NULL));
}

static void goes_there_and_back(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = mixed_memory();
    assert_int_equal(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    static const unsigned processes[] = {0, 1, 2, 3, 1000};
    cleanup_memory_image struct memory_image *first = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(processes); i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%zu", i);
        cleanup_fd int file = new_file(t, name);
        cleanup_memory_image struct memory_image *m = image_of(memory, file, processes[i]);
        assert_int_equal(memory_image_data(m), MIXED_DATA);
        assert_int_equal(m->segments[0].data, SEG);
        assert_int_equal(m->segments[1].data, 3 * PAGE);
        assert_int_equal(m->segments[2].data, MEMORY_CHUNK + PAGE);
        assert_int_equal(m->segments[3].data, 2 * PAGE);
        assert_int_equal(m->segments[4].data, PAGE);
        assert_in_range(allocated(file), MIXED_DATA, MIXED_DATA + 64 * PAGE);
        assert_same(memory, file, MIXED_SIZE);
        assert_int_equal(memory_image_verify(file, -1, m, processes[i], &e), 0);

        cleanup_fd int back = new_memory(MIXED_SIZE);
        assert_int_equal(fcntl(back, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
        assert_int_equal(memory_image_load(file, -1, m, back, processes[i], &e), 0);
        assert_in_range(allocated(back), MIXED_DATA, MIXED_DATA + 64 * PAGE);
        assert_same(memory, back, MIXED_SIZE);
        if (!first)
            first = TAKE_PTR(m);
        else
            assert_memory_equal(first->segments, m->segments, m->n * sizeof(*m->segments));
    }
}

/* Somebody who shares the target looked at it meanwhile; and one that userfaultfd(2) knows nothing of. */
static void the_target_has_pages_or_is_no_memfd(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = mixed_memory(), file = new_file(t, "f"), back = new_memory(MIXED_SIZE);
    cleanup_fd int other = new_file(t, "other");
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    for (uint64_t at = 0; at < 4 * SEG; at += SEG / 4)
        put_zeros(back, at, 2 * PAGE);
    assert_int_equal(memory_image_load(file, -1, m, back, 2, &e), 0);
    assert_same(memory, back, MIXED_SIZE);
    assert_int_equal(ftruncate(other, MIXED_SIZE), 0);
    assert_int_equal(memory_image_load(file, -1, m, other, 2, &e), 0);
    assert_same(memory, other, MIXED_SIZE);
}

static void empty_memory_is_all_hole(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = new_memory(40 * SEG), file = new_file(t, "f"), back = new_memory(40 * SEG);
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    assert_int_equal(memory_image_data(m), 0);
    assert_int_equal(allocated(file), 0);
    for (uint32_t i = 0; i < m->n; i++)
        for (size_t k = 0; k < MEMORY_DIGEST_SIZE; k++)
            assert_int_equal(m->segments[i].digest[k], 0);
    assert_int_equal(memory_image_load(file, -1, m, back, 2, &e), 0);
    assert_int_equal(allocated(back), 0);
}

/* The format of the digest, computed here by hand: what is on disks must be readable by what comes later. */
static void digest_is_what_the_header_says(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int memory = new_memory(2 * SEG), file = new_file(t, "f");
    put(memory, SEG + MEMORY_CHUNK - 2 * PAGE, 3 * PAGE, 9);
    put(memory, SEG + MEMORY_CHUNK + 5 * PAGE, PAGE, 10);
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 1);

    static const uint64_t runs[][2] = {
        {MEMORY_CHUNK - 2 * PAGE, 2 * PAGE}, {MEMORY_CHUNK, PAGE}, {MEMORY_CHUNK + 5 * PAGE, PAGE}};
    uint8_t *bytes = map(memory, 2 * SEG);
    XXH3_state_t *hash = XXH3_createState();
    XXH128_canonical_t want;
    XXH3_128bits_reset(hash);
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        uint64_t head[2] = {htole64(runs[i][0]), htole64(runs[i][1])};
        XXH3_128bits_update(hash, head, sizeof(head));
        XXH3_128bits_update(hash, bytes + SEG + runs[i][0], runs[i][1]);
    }
    XXH128_canonicalFromHash(&want, XXH3_128bits_digest(hash));
    XXH3_freeState(hash);
    munmap(bytes, 2 * SEG);
    assert_memory_equal(m->segments[1].digest, want.digest, sizeof(want.digest));
    assert_int_equal(m->segments[0].data, 0);
}

/* A copy by a program that knows no holes, and one with other holes, are the same image. */
static void layout_of_the_file_does_not_matter(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = mixed_memory(), file = new_file(t, "f"), full = new_file(t, "full");
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    uint8_t *bytes = map(file, MIXED_SIZE);
    assert_int_equal(fd_write_all(full, bytes, MIXED_SIZE), 0);
    munmap(bytes, MIXED_SIZE);
    assert_true(allocated(full) >= MIXED_SIZE);
    assert_int_equal(memory_image_verify(full, -1, m, 2, &e), 0);
    cleanup_fd int back = new_memory(MIXED_SIZE);
    assert_int_equal(memory_image_load(full, -1, m, back, 2, &e), 0);
    assert_in_range(allocated(back), MIXED_DATA, MIXED_DATA + 64 * PAGE);
    assert_same(memory, back, MIXED_SIZE);

    assert_int_equal(fallocate(full, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)SEG, 5 * (off_t)PAGE), 0);
    assert_int_equal(memory_image_verify(full, -1, m, 2, &e), 0);
}

/* Every second page: the worst case of the walk over holes. */
static void scattered_pages(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = new_memory(2 * SEG), file = new_file(t, "f"), back = new_memory(2 * SEG);
    for (uint64_t at = 0; at < 2 * SEG; at += 2 * PAGE)
        put(memory, at, PAGE, (unsigned)(at / PAGE));
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    assert_int_equal(memory_image_data(m), SEG);
    assert_int_equal(memory_image_load(file, -1, m, back, 2, &e), 0);
    assert_same(memory, back, 2 * SEG);
}

/* A page is zero only if all of it is. */
static void single_bytes_count(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = new_memory(SEG), file = new_file(t, "f"), back = new_memory(SEG);
    static const unsigned at[] = {0, 1, 7, 8, 9, 2048, 4088, 4095};
    for (size_t i = 0; i < ARRAY_SIZE(at); i++)
        assert_int_equal(pwrite(memory, "x", 1, (off_t)(2 * i * PAGE + at[i])), 1);
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 1);
    assert_int_equal(memory_image_data(m), ARRAY_SIZE(at) * PAGE);
    assert_int_equal(memory_image_load(file, -1, m, back, 1, &e), 0);
    assert_same(memory, back, SEG);
}

static void expect_bad(int file, const struct memory_image *m, const char *message) {
    for (unsigned processes = 1; processes <= 2; processes++) {
        struct err e = ERR_INIT;
        cleanup_fd int back = new_memory(m->size);
        assert_int_equal(memory_image_verify(file, -1, m, processes, &e), -EBADMSG);
        assert_string_equal(e.msg, message);
        e = (struct err)ERR_INIT;
        assert_int_equal(memory_image_load(file, -1, m, back, processes, &e), -EBADMSG);
        assert_string_equal(e.msg, message);
    }
}

static void flip(int fd, uint64_t at) {
    uint8_t b;
    assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
    b ^= 0x10;
    assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
}

static void flipped_bits_are_found(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = mixed_memory(), file = new_file(t, "f");
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    static const struct {
        uint64_t at;
        const char *message;
    } flips[] = {
        {0, "memory at 0x0: the contents do not fit the digest"},
        {SEG - 1, "memory at 0x0: the contents do not fit the digest"},
        {SEG + 5 * PAGE + 17, "memory at 0x1000000: the contents do not fit the digest"},
        {SEG, "memory at 0x1000000: 16384 bytes of data, and the image says 12288"},
        {2 * SEG + 4, "memory at 0x2000000: 270336 bytes of data, and the image says 266240"},
        {4 * SEG + 3 * PAGE - 1, "memory at 0x4000000: the contents do not fit the digest"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
        flip(file, flips[i].at);
        expect_bad(file, m, flips[i].message);
        flip(file, flips[i].at);
    }
    assert_int_equal(memory_image_verify(file, -1, m, 2, &e), 0);

    m->segments[1].digest[15] ^= 1;
    expect_bad(file, m, "memory at 0x1000000: the contents do not fit the digest");
}

static void moved_pages_are_found(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int memory = new_memory(SEG), file = new_file(t, "f"), other = new_memory(SEG);
    put(memory, 8 * PAGE, PAGE, 3);
    put(other, 9 * PAGE, PAGE, 3);
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 1);
    expect_bad(other, m, "memory at 0x0: the contents do not fit the digest");
}

static void lost_and_foreign_data_is_found(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int memory = new_memory(3 * SEG), file = new_file(t, "f");
    put(memory, SEG, 2 * PAGE, 1);
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    put(file, 2 * SEG + PAGE, PAGE, 1);
    expect_bad(file, m, "memory at 0x2000000: there is data, and the image says that there is none");
    put_zeros(file, 2 * SEG + PAGE, PAGE);
    put_zeros(file, SEG + PAGE, PAGE);
    expect_bad(file, m, "memory at 0x1000000: 4096 bytes of data, and the image says 8192");
    put_zeros(file, SEG, PAGE);
    expect_bad(file, m, "memory at 0x1000000: 0 bytes of data, and the image says 8192");
}

static void truncated_files_are_found(void **state) {
    struct tmpdir *t = *state;
    cleanup_fd int memory = mixed_memory(), file = new_file(t, "f");
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 2);
    static const struct {
        uint64_t size;
        const char *message;
    } sizes[] = {
        {MIXED_SIZE + 1, "memory at 0x4003000: the file goes on behind the end"},
        {MIXED_SIZE - 1, "memory at 0x4002fff: the file ends"},
        {3 * SEG + 100, "memory at 0x3000064: the file ends"},
        {1, "memory at 0x1: the file ends"},
        {0, "memory at 0x0: the file ends"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(ftruncate(file, (off_t)sizes[i].size), 0);
        expect_bad(file, m, sizes[i].message);
    }
}

static void wrong_fds_are_refused(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = new_memory(SEG), file = new_file(t, "f"), used = new_file(t, "used");
    cleanup_fd int small = new_memory(SEG - PAGE), big = new_memory(SEG + PAGE), null = open("/dev/null", O_RDWR);
    cleanup_memory_image struct memory_image *m = NULL;
    put(used, 0, 1, 1);
    assert_int_equal(memory_image_new(SEG, &m, &e), 0);
    assert_int_equal(memory_image_save(small, file, -1, 1, m, &e), -EINVAL);
    assert_int_equal(memory_image_save(big, file, -1, 1, m, &e), -EINVAL);
    assert_int_equal(memory_image_save(null, file, -1, 1, m, &e), -EINVAL);
    assert_int_equal(memory_image_save(-1, file, -1, 1, m, &e), -EBADF);
    assert_int_equal(memory_image_save(memory, used, -1, 1, m, &e), -EINVAL);
    assert_string_equal(e.msg, "the file for the image is not empty");
    assert_int_equal(memory_image_save(memory, null, -1, 1, m, &e), -EINVAL);
    assert_int_equal(memory_image_save(memory, file, -1, 1, m, &e), 0);
    assert_int_equal(memory_image_load(file, -1, m, small, 1, &e), -EINVAL);
    assert_int_equal(memory_image_load(file, -1, m, big, 1, &e), -EINVAL);
    assert_int_equal(memory_image_load(null, -1, m, memory, 1, &e), -EINVAL);
    assert_int_equal(memory_image_verify(-1, -1, m, 1, &e), -EBADF);
}

static void no_room_is_an_error_with_the_place(void **state) {
    struct tmpdir *t = *state;
    for (unsigned processes = 1; processes <= 2; processes++) {
        struct err e = ERR_INIT;
        char name[16];
        snprintf(name, sizeof(name), "f%u", processes);
        cleanup_fd int memory = new_memory(2 * SEG), file = new_file(t, name);
        cleanup_memory_image struct memory_image *m = NULL;
        put(memory, SEG, 2 * SMALL_BYTES, 1);
        assert_int_equal(memory_image_new(2 * SEG, &m, &e), 0);
        assert_int_equal(memory_image_save(memory, file, -1, processes, m, &e), -ENOSPC);
        assert_non_null(strstr(e.msg, "memory at 0x1"));
        assert_non_null(strstr(e.msg, "cannot write: No space left on device"));
        assert_int_equal(unlinkat(t->fd, name, 0), 0);
    }
}

/* RLIMIT_FSIZE stands for a full disk that is noticed late: the first writes go well. */
static void too_large_is_an_error_with_the_place(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = new_memory(SEG), file = new_file(t, "f");
    cleanup_memory_image struct memory_image *m = NULL;
    assert_int_equal(memory_image_new(SEG, &m, &e), 0);
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){.rlim_cur = SEG / 2, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    int r = memory_image_save(memory, file, -1, 1, m, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(r, -EFBIG);
    assert_string_equal(e.msg, "cannot size the image to 16777216 bytes: File too large");
}

static void unreadable_fds_are_errors(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int memory = new_memory(SEG), file = new_file(t, "f");
    put(memory, PAGE, PAGE, 1);
    cleanup_memory_image struct memory_image *m = image_of(memory, file, 1);
    cleanup_fd int blind = openat(t->fd, "f", O_WRONLY | O_CLOEXEC);
    assert_int_equal(memory_image_verify(blind, -1, m, 1, &e), -EBADF);
    assert_string_equal(e.msg, "memory at 0x1000: cannot read: Bad file descriptor");
    assert_int_equal(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(memory_image_load(file, -1, m, memory, 2, &e), -EPERM);
    assert_string_equal(e.msg, "memory at 0x1000: cannot write: Operation not permitted");
}

/* The pid of a child of pid, 0 if there is none. */
static pid_t child_of(pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    cleanup_file FILE *f = fopen(path, "re");
    int child = 0;
    return f && fscanf(f, "%d", &child) == 1 ? child : 0;
}

static bool alive(pid_t pid) {
    char path[64], state = 'X';
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    cleanup_file FILE *f = fopen(path, "re");
    return f && fscanf(f, "%*d %*s %c", &state) == 1 && state != 'Z' && state != 'X';
}

#define DEADLINE_USEC (20 * USEC_PER_SEC)

/* A process that saves again and again until it is killed, and one of its processes, stopped. Zeros are hashed by
 * nobody and written nowhere, so it costs little room. */
static pid_t saver(const struct tmpdir *t, int result, pid_t *ret_child) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct err e = ERR_INIT;
        cleanup_fd int memory = new_memory(8 * SEG);
        for (unsigned i = 0; i < 8; i++)
            put(memory, i * SEG, SEG / 4, i);
        for (;;) {
            struct memory_image *m = NULL;
            cleanup_fd int file = openat(t->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
            int r = memory_image_new(8 * SEG, &m, &e);
            if (r == 0)
                r = memory_image_save(memory, file, -1, 2, m, &e);
            memory_image_free(m);
            if (r < 0) {
                if (write(result, e.msg, strlen(e.msg)) < 0)
                    _exit(3);
                _exit(r == -EIO ? 0 : 1);
            }
        }
    }
    uint64_t deadline = now_usec() + DEADLINE_USEC;
    pid_t child = 0;
    while (!(child = child_of(pid)) || kill(child, SIGSTOP) < 0)
        assert_true(now_usec() < deadline);
    *ret_child = child;
    return pid;
}

static void killed_process_is_an_error(void **state) {
    struct tmpdir *t = *state;
    int p[2], status;
    pid_t child;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    /* The child may have done its work already when it is killed: then the save went well, and another is tried. */
    for (;;) {
        pid_t pid = saver(t, p[1], &child);
        kill(child, SIGKILL);
        uint64_t deadline = now_usec() + DEADLINE_USEC;
        pid_t ended = 0;
        while (alive(child))
            assert_true(now_usec() < deadline);
        uint64_t soon = now_usec() + USEC_PER_SEC;
        while (now_usec() < soon && (ended = waitpid(pid, &status, WNOHANG)) == 0)
            ;
        if (ended == pid)
            break;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    assert_int_equal(status, 0);
    char message[256] = "";
    assert_true(read(p[0], message, sizeof(message) - 1) > 0);
    assert_string_equal(message, "memory: a process that copied it ended with signal 9");
    close(p[0]);
    close(p[1]);
}

static void processes_die_with_their_parent(void **state) {
    struct tmpdir *t = *state;
    int status;
    pid_t child, pid = saver(t, -1, &child);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    /* It may have been stopped before it asked for the signal: then it finds its parent gone. */
    kill(child, SIGCONT);
    uint64_t deadline = now_usec() + DEADLINE_USEC;
    while (alive(child))
        assert_true(now_usec() < deadline);
}

/* No process can be started: this one does it all. */
static void works_without_children(void **state) {
    struct tmpdir *t = *state;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0};
        struct err e = ERR_INIT;
        cleanup_fd int memory = mixed_memory(), file = new_file(t, "f");
        struct memory_image *m = NULL;
        int r = memory_image_new(MIXED_SIZE, &m, &e);
        /* The limit holds for users other than root. */
        if (r < 0 || setrlimit(RLIMIT_NPROC, &none) < 0 || setuid(12345) < 0 || fork() >= 0)
            _exit(2);
        r = memory_image_save(memory, file, -1, 4, m, &e);
        _exit(r == 0 && memory_image_data(m) == MIXED_DATA ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void) {
#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_checks_the_size),
        WITH_DIR(goes_there_and_back),
        WITH_DIR(the_target_has_pages_or_is_no_memfd),
        WITH_DIR(empty_memory_is_all_hole),
        WITH_DIR(digest_is_what_the_header_says),
        WITH_DIR(layout_of_the_file_does_not_matter),
        WITH_DIR(scattered_pages),
        WITH_DIR(single_bytes_count),
        WITH_DIR(flipped_bits_are_found),
        WITH_DIR(moved_pages_are_found),
        WITH_DIR(lost_and_foreign_data_is_found),
        WITH_DIR(truncated_files_are_found),
        WITH_DIR(wrong_fds_are_refused),
        cmocka_unit_test_setup_teardown(no_room_is_an_error_with_the_place, small_setup, small_teardown),
        WITH_DIR(too_large_is_an_error_with_the_place),
        WITH_DIR(unreadable_fds_are_errors),
        WITH_DIR(killed_process_is_an_error),
        WITH_DIR(processes_die_with_their_parent),
        WITH_DIR(works_without_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

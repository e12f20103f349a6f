/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memories.h"

/* Memory that was changed since it was that of the base: in the ways that there are. */
static int changed_memory(void) {
    int fd = mixed_memory();
    put(fd, 7 * PAGE, PAGE, 100);                 /* other data */
    put_zeros(fd, MEMORY_CHUNK, 2 * PAGE);        /* none any more */
    put(fd, SEG + 20 * PAGE, PAGE, 101);          /* where there was none */
    put(fd, 2 * SEG + 7 * MEMORY_CHUNK, PAGE, 6); /* and in a chunk that had none */
    return fd;
}
#define CHANGED_OWN (3 * PAGE)
#define CHANGED_DATA (MIXED_DATA - 2 * PAGE + 2 * PAGE)

static void what_the_base_has_is_left_out(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int first = mixed_memory(), memory = changed_memory(), base = new_file(t, "base"),
                   all = new_file(t, "all");
    cleanup_memory_image struct memory_image *b = image_of(first, base, 2), *whole = image_of(memory, all, 2);
    assert_int_equal(memory_image_shared(b), 0);
    for (unsigned processes = 1; processes < 4; processes++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", processes);
        cleanup_fd int file = new_file(t, name), back = new_memory(MIXED_SIZE);
        cleanup_memory_image struct memory_image *m = NULL;
        assert_int_equal(memory_image_new(MIXED_SIZE, &m, &e), 0);
        assert_int_equal(memory_image_save(memory, file, base, processes, m, &e), 0);
        assert_int_equal(memory_image_data(m), CHANGED_DATA);
        assert_int_equal(memory_image_shared(m), CHANGED_DATA - CHANGED_OWN);
        assert_in_range(allocated(file), CHANGED_OWN, CHANGED_OWN + 16 * PAGE);
        /* Digests are of the memory, wherever it is. */
        assert_memory_equal(m->segments, whole->segments, m->n * sizeof(*m->segments));
        assert_int_equal(memory_image_verify(file, base, m, processes, &e), 0);
        assert_int_equal(memory_image_load(file, base, m, back, processes, &e), 0);
        assert_same(memory, back, MIXED_SIZE);
    }
}

static void nothing_is_the_same_and_all_is(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int first = mixed_memory(), other = new_memory(MIXED_SIZE), base = new_file(t, "base");
    cleanup_memory_image struct memory_image *m = NULL, *n = NULL;
    memory_image_free(image_of(first, base, 2));
    cleanup_fd int same = new_file(t, "same"), own = new_file(t, "own"), back = new_memory(MIXED_SIZE);
    assert_int_equal(memory_image_new(MIXED_SIZE, &m, &e), 0);
    assert_int_equal(memory_image_save(first, same, base, 2, m, &e), 0);
    assert_int_equal(memory_image_shared(m), MIXED_DATA);
    assert_int_equal(allocated(same), 0);
    assert_int_equal(memory_image_load(same, base, m, back, 2, &e), 0);
    assert_same(first, back, MIXED_SIZE);
    put(other, 0, 2 * PAGE, 50);
    assert_int_equal(memory_image_new(MIXED_SIZE, &n, &e), 0);
    assert_int_equal(memory_image_save(other, own, base, 2, n, &e), 0);
    assert_int_equal(memory_image_shared(n), 0);
    assert_int_equal(memory_image_verify(own, -1, n, 2, &e), 0);
}

static void a_base_that_does_not_fit(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int first = mixed_memory(), memory = changed_memory(), base = new_file(t, "base");
    cleanup_fd int file = new_file(t, "f"), small = new_memory(SEG),
                   blind = openat(t->fd, "base", O_WRONLY | O_CLOEXEC);
    cleanup_memory_image struct memory_image *m = NULL;
    memory_image_free(image_of(first, base, 2));
    assert_int_equal(memory_image_new(MIXED_SIZE, &m, &e), 0);
    assert_int_equal(memory_image_save(memory, file, small, 2, m, &e), -EBADMSG);
    assert_int_equal(memory_image_save(memory, file, blind, 2, m, &e), -EBADF);
    assert_non_null(strstr(e.msg, "the base"));
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(memory_image_save(memory, file, base, 2, m, &e), 0);
    assert_int_equal(memory_image_verify(file, -1, m, 2, &e), -EBADMSG);
    assert_non_null(strstr(e.msg, "there is none"));
    assert_int_equal(memory_image_verify(file, small, m, 2, &e), -EBADMSG);
    assert_non_null(strstr(e.msg, "the base has"));
    assert_int_equal(memory_image_verify(file, blind, m, 2, &e), -EBADF);
    /* Not a page of it is trusted. What it has and the image does not ask for may be anything. */
    put(base, MEMORY_CHUNK, PAGE, 77);
    assert_int_equal(memory_image_verify(file, base, m, 2, &e), 0);
    put(base, 4 * SEG + 2 * PAGE, PAGE, 78);
    assert_int_equal(memory_image_verify(file, base, m, 2, &e), -EBADMSG);
    assert_non_null(strstr(e.msg, "do not fit the digest"));
    /* Nor the bits. */
    put(base, 4 * SEG + 2 * PAGE, PAGE, 5);
    assert_int_equal(memory_image_verify(file, base, m, 2, &e), 0);
    m->base[0] ^= 1;
    assert_int_equal(memory_image_verify(file, base, m, 2, &e), -EBADMSG);
    m->base[0] ^= 1;
    m->base[MIXED_SIZE / MEMORY_CHUNK] |= UINT64_C(1) << 40; /* behind the end */
    assert_int_equal(memory_image_verify(file, base, m, 2, &e), -EBADMSG);
}

int main(void) {
#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DIR(what_the_base_has_is_left_out),
        WITH_DIR(nothing_is_the_same_and_all_is),
        WITH_DIR(a_base_that_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

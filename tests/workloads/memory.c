/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lot of memory, MEMORY_MIB or 64, of which each check changes one part in twenty; some shared with a child until
 * written; holes, protections, locked pages; the heap.
 */
#include "workload.h"

#include <stdlib.h>
#include <sys/mman.h>

#define MIB (1U << 20)
#define DEFAULT_MIB 64
#define PAGE 4096

static char *memory, *family, *odd, *heap;
static size_t size;
static unsigned changed, rounds; /* the first bytes of the memory have another seed */
static int ask, answer;

static void *map(size_t bytes, int flags) {
    void *p;
    must((p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)) != MAP_FAILED);
    return p;
}

/* The child has the family's memory as it was when it was born. */
__attribute__((noreturn)) static void child_main(int in, int out) {
    char c;
    while (read(in, &c, 1) == 1) {
        must(pattern_is(family, MIB, 4));
        must(write(out, &c, 1) == 1);
    }
    _exit(0);
}

static void start_child(void) {
    int in[2], out[2];
    pid_t pid;
    family = map(MIB, 0);
    pattern_fill(family, MIB, 4);
    must(!pipe(in) && !pipe(out) && (pid = fork_bound()) >= 0);
    if (pid == 0)
        child_main(in[0], out[1]);
    ask = in[1];
    answer = out[0];
    pattern_fill(family, MIB / 2, 5);
}

void set_up(void) {
    const char *mib = getenv("MEMORY_MIB");
    start_child();
    size = (mib ? strtoul(mib, NULL, 10) : DEFAULT_MIB) * MIB;
    memory = map(size, 0);
    pattern_fill(memory, size, 1);
    changed = (unsigned)(size / 20 / PAGE * PAGE);
    pattern_fill(memory, changed, 100);
    odd = map((size_t)4 * PAGE, 0);
    pattern_fill(odd, (size_t)4 * PAGE, 2);
    must(!madvise(odd + PAGE, PAGE, MADV_DONTNEED) && !mprotect(odd + (size_t)2 * PAGE, PAGE, PROT_READ));
    must(!mlock(odd, PAGE) && !mprotect(odd + (size_t)3 * PAGE, PAGE, PROT_NONE));
    must((heap = malloc(MIB / 16)));
    pattern_fill(heap, MIB / 16, 3);
}

/* What may be read and written, by a call that says so instead of a signal. */
static void check_protections(void) {
    int fd;
    must((fd = memfd_create("probe", 0)) >= 0);
    must(write(fd, odd + (size_t)3 * PAGE, 1) < 0 && errno == EFAULT);
    must(write(fd, odd + (size_t)2 * PAGE, 1) == 1 && pread(fd, odd + (size_t)2 * PAGE, 1, 0) < 0);
    must(!close(fd));
}

void check(void) {
    char c, zeros[PAGE] = "";
    must(pattern_is(memory, changed, 100 + rounds) && pattern_continues(memory, changed, size, 1));
    must(pattern_is(family, MIB / 2, 5) && pattern_continues(family, MIB / 2, MIB, 4));
    must(write(ask, "?", 1) == 1 && read(answer, &c, 1) == 1);
    must(!memcmp(odd + PAGE, zeros, PAGE) && pattern_is(odd, PAGE, 2) && pattern_is(heap, MIB / 16, 3));
    check_protections();
    pattern_fill(memory, changed, 100 + ++rounds);
}

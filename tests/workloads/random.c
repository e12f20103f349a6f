/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes as the C library draws them from version 2.41 on: by the kernel's function in the vDSO, from a state in
 * this process's memory that the kernel wipes in a child. A process and its child must never draw the same, and what is
 * drawn first in each round goes to the file "drawn", for a test that compares two restores of one checkpoint.
 */
#include "workload.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define FUNCTION "__vdso_getrandom"
#define DRAWN 32
#define PAGE 4096
#define SYMBOLS_MAX 256

/* As the kernel fills it when it is asked for the size of a state. */
struct state_params {
    uint32_t size, prot, flags, reserved[13];
};
typedef ssize_t (*getrandom_fn)(void *buffer, size_t size, unsigned flags, void *state, size_t state_size);

static getrandom_fn draw_from;
static struct state_params params;
static void *state;
static char *wiped; /* in a child */

/* What the vDSO's dynamic section says. */
struct vdso {
    const char *base; /* its addresses count from here */
    const ElfW(Sym) * symbols;
    const char *names;
    const ElfW(Dyn) * dynamic;
};

static void read_vdso(struct vdso *v) {
    const char *start = (const char *)getauxval(AT_SYSINFO_EHDR);
    const ElfW(Ehdr) *header = (const void *)start;
    must(start);
    const ElfW(Phdr) *p = (const void *)(start + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        if (p[i].p_type == PT_LOAD && !v->base)
            v->base = start + p[i].p_offset - p[i].p_vaddr;
        if (p[i].p_type == PT_DYNAMIC)
            v->dynamic = (const void *)(start + p[i].p_offset);
    }
    must(v->base && v->dynamic);
    for (const ElfW(Dyn) *d = v->dynamic; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB)
            v->symbols = (const void *)(v->base + d->d_un.d_ptr);
        if (d->d_tag == DT_STRTAB)
            v->names = v->base + d->d_un.d_ptr;
    }
    must(v->symbols && v->names);
}

/* The names follow the symbols, so the table ends there. */
static void *find(const char *name) {
    struct vdso v = {0};
    read_vdso(&v);
    for (int i = 0; i < SYMBOLS_MAX && (const char *)&v.symbols[i + 1] <= v.names; i++)
        if (strcmp(v.names + v.symbols[i].st_name, name) == 0)
            return (void *)(v.base + v.symbols[i].st_value);
    return NULL;
}

static void draw(unsigned char bytes[DRAWN]) {
    must(draw_from(bytes, DRAWN, 0, state, params.size) == DRAWN);
}

void set_up(void) {
    unsigned char bytes[DRAWN];
    must((draw_from = (getrandom_fn)find(FUNCTION)));
    must(!draw_from(NULL, 0, 0, &params, ~(size_t)0) && params.size <= PAGE);
    must((state = mmap(NULL, PAGE, (int)params.prot, (int)params.flags, -1, 0)) != MAP_FAILED);
    draw(bytes);
    must((wiped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
    must(!madvise(wiped, PAGE, MADV_WIPEONFORK));
    pattern_fill(wiped, PAGE, 1);
}

static void write_down(const unsigned char bytes[DRAWN]) {
    char line[2 * DRAWN + 2];
    int fd;
    for (int i = 0; i < DRAWN; i++)
        (void)snprintf(line + (size_t)2 * i, 3, "%02x", bytes[i]);
    line[sizeof(line) - 2] = '\n';
    must((fd = open("drawn", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) >= 0);
    must(write(fd, line, sizeof(line) - 1) == sizeof(line) - 1 && !close(fd));
}

__attribute__((noreturn)) static void child_main(int out) {
    static const char zeros[PAGE];
    unsigned char bytes[DRAWN];
    draw(bytes);
    must(!memcmp(wiped, zeros, PAGE));
    must(write(out, bytes, DRAWN) == DRAWN);
    _exit(0);
}

void check(void) {
    unsigned char first[DRAWN], own[DRAWN], childs[DRAWN];
    int out[2], status;
    pid_t pid;
    draw(first);
    write_down(first);
    must(!pipe(out) && (pid = fork_bound()) >= 0);
    if (pid == 0)
        child_main(out[1]);
    draw(own);
    must(read(out[0], childs, DRAWN) == DRAWN && waitpid(pid, &status, 0) == pid && status == 0);
    must(!close(out[0]) && !close(out[1]));
    must(memcmp(own, childs, DRAWN) != 0 && memcmp(first, childs, DRAWN) != 0 && memcmp(first, own, DRAWN) != 0);
    must(pattern_is(wiped, PAGE, 1));
}

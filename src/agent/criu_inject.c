/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu_inject.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define CODE_SEGMENT_32 0x23 /* of the kernel: __USER32_CS */
#define VDSO_MAX ((size_t)64 << 10)
#define SIGMASK_BYTES 8               /* of the kernel's sigset_t */
#define RSEQ_CS_OFFSET 8              /* of rseq_cs in struct rseq */
#define GET_RSEQ_CONFIGURATION 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION, in newer headers */

struct rseq_configuration {
    uint64_t pointer;
    uint32_t size, signature, flags, pad;
};

/* What the call would leave changed. */
struct saved {
    struct user_regs_struct regs;
    uint64_t sigmask;
    uint64_t rseq_at; /* where rseq_cs is; 0: there is none */
    uint64_t rseq_cs; /* the critical section it is in; the kernel clears it when it sees the thread elsewhere */
};

static int open_proc(pid_t tid, const char *name, int flags) {
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int find_vdso(pid_t tid, uint64_t *start, uint64_t *end) {
    char path[48], line[512];
    int r = -ENXIO;
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    while (r < 0 && fgets(line, sizeof(line), f)) {
        char *at;
        unsigned long long from = strtoull(line, &at, 16), to = *at == '-' ? strtoull(at + 1, NULL, 16) : 0;
        if (strstr(line, "[vdso]") && to > from && to - from <= VDSO_MAX) {
            *start = from;
            *end = to;
            r = 0;
        }
    }
    (void)fclose(f);
    return r;
}

/* The address of an instruction that enters the kernel: syscall, or int 0x80. */
static int find_instruction(pid_t tid, int mem, bool mode_32, uint64_t *ret) {
    static const uint8_t instructions[2][2] = {{0x0f, 0x05}, {0xcd, 0x80}};
    static uint8_t code[VDSO_MAX];
    uint64_t start = 0, end = 0;
    int r = find_vdso(tid, &start, &end);
    if (r < 0)
        return r;
    ssize_t n = pread(mem, code, end - start, (off_t)start);
    const uint8_t *at = n > 0 ? memmem(code, (size_t)n, instructions[mode_32], 2) : NULL;
    if (!at)
        return -ENXIO;
    *ret = start + (uint64_t)(at - code);
    return 0;
}

static int save(pid_t tid, int mem, struct saved *s) {
    struct rseq_configuration rseq = {0};
    if (ptrace(PTRACE_GETREGS, tid, NULL, &s->regs) < 0 ||
        ptrace(PTRACE_GETSIGMASK, tid, (void *)SIGMASK_BYTES, &s->sigmask) < 0)
        return -errno;
    if (ptrace((enum __ptrace_request)GET_RSEQ_CONFIGURATION, tid, (void *)sizeof(rseq), &rseq) < 0 || !rseq.pointer)
        return 0;
    s->rseq_at = rseq.pointer + RSEQ_CS_OFFSET;
    return pread(mem, &s->rseq_cs, sizeof(s->rseq_cs), (off_t)s->rseq_at) == sizeof(s->rseq_cs) ? 0 : -EIO;
}

static int put_back(pid_t tid, int mem, struct saved *s) {
    int r = 0;
    if (s->rseq_cs && pwrite(mem, &s->rseq_cs, sizeof(s->rseq_cs), (off_t)s->rseq_at) != sizeof(s->rseq_cs))
        r = -EIO;
    if (ptrace(PTRACE_SETSIGMASK, tid, (void *)SIGMASK_BYTES, &s->sigmask) < 0 ||
        ptrace(PTRACE_SETREGS, tid, NULL, &s->regs) < 0)
        r = -errno;
    return r;
}

/* One instruction. CRIU may have a handler for SIGCHLD that would wait for what is waited for here. */
static int step(pid_t tid) {
    sigset_t chld, before;
    int status, r = 0;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &before);
    if (ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) < 0)
        r = -errno;
    while (r == 0 && waitpid(tid, &status, __WALL) < 0)
        if (errno != EINTR)
            r = -errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (r == 0 && !(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP))
        r = WIFSTOPPED(status) ? -EINTR : -ESRCH;
    return r;
}

static int make_call(pid_t tid, int mem, struct saved *s, const struct inject_call *call, long *ret) {
    struct user_regs_struct regs = s->regs;
    bool mode_32 = regs.cs == CODE_SEGMENT_32;
    uint64_t all = ~UINT64_C(0), at;
    int r = find_instruction(tid, mem, mode_32, &at);
    if (r < 0)
        return r;
    regs.rip = at;
    regs.orig_rax = (unsigned long long)-1; /* it is in no call that the kernel would begin again */
    regs.rax = (unsigned long long)(mode_32 ? call->number_32 : call->number);
    regs.rdi = mode_32 ? 0 : call->args[0];
    regs.rsi = mode_32 ? 0 : call->args[1];
    regs.rdx = regs.r10 = regs.r8 = 0;
    if (mode_32) {
        regs.rbx = call->args[0];
        regs.rcx = call->args[1];
    }
    if (ptrace(PTRACE_SETSIGMASK, tid, (void *)SIGMASK_BYTES, &all) < 0 ||
        ptrace(PTRACE_SETREGS, tid, NULL, &regs) < 0 || (r = step(tid)) < 0 ||
        ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
        return r < 0 ? r : -errno;
    *ret = mode_32 ? (long)(int32_t)regs.rax : (long)regs.rax;
    return 0;
}

int inject_call(pid_t tid, const struct inject_call *call, long *ret) {
    struct saved s = {0};
    int mem = open_proc(tid, "mem", O_RDWR);
    if (mem < 0)
        return mem;
    int r = save(tid, mem, &s);
    if (r == 0) {
        r = make_call(tid, mem, &s, call, ret);
        int back = put_back(tid, mem, &s);
        r = r < 0 ? r : back;
    }
    (void)close(mem);
    return r;
}

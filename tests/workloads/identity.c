/* SPDX-License-Identifier: Apache-2.0 */
/* What a process is: users, groups, capabilities, limits, umask, no_new_privs, a seccomp filter, its directory. */
#include "workload.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const struct rlimit files = {.rlim_cur = 77, .rlim_max = 99}, stack = {.rlim_cur = 1 << 20, .rlim_max = 1 << 22};

static void capabilities(struct __user_cap_data_struct data[2]) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    must(!syscall(SYS_capget, &header, data));
}

/* setdomainname() fails as if it were not there. */
static void filter_calls(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setdomainname, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(rules) / sizeof(rules[0]), .filter = rules};
    must(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

void set_up(void) {
    must(!mkdir("sub", 0755) && !chdir("sub"));
    must(!setrlimit(RLIMIT_NOFILE, &files) && !setrlimit(RLIMIT_STACK, &stack));
    must(!setpriority(PRIO_PROCESS, 0, 7));
    umask(0137);
    must(!setgroups(2, (gid_t[]){2000, 3000}) && !setresgid(1001, 1002, 1003) && !setresuid(1001, 1002, 1003));
    must(!prctl(PR_SET_NAME, "someone else") && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    filter_calls();
}

void check(void) {
    uid_t r, e, s;
    gid_t groups[3];
    struct rlimit l;
    char text[4096];
    struct __user_cap_data_struct caps[2];
    must(!getresuid(&r, &e, &s) && r == 1001 && e == 1002 && s == 1003);
    must(!getresgid(&r, &e, &s) && r == 1001 && e == 1002 && s == 1003);
    must(getgroups(3, groups) == 2 && groups[0] == 2000 && groups[1] == 3000);
    capabilities(caps);
    must(!caps[0].effective && !caps[0].permitted && !caps[1].effective);
    must(!getrlimit(RLIMIT_NOFILE, &l) && !memcmp(&l, &files, sizeof(l)));
    must(!getrlimit(RLIMIT_STACK, &l) && !memcmp(&l, &stack, sizeof(l)));
    must(getpriority(PRIO_PROCESS, 0) == 7);
    must(umask(0137) == 0137);
    must(!prctl(PR_GET_NAME, text) && !strcmp(text, "someone else"));
    must(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER);
    must(setdomainname("x", 1) < 0 && errno == ENOTTY);
    must(getcwd(text, sizeof(text)) && strlen(text) > 13 && !strcmp(text + strlen(text) - 13, "/identity/sub"));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/agent share: a loop that runs until a condition holds, and a directory with a program that
 * stands for crun. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "agent/children.h"
#include "base/err.h"
#include "base/log.h"
#include "base/util.h"
#include "tmpdir.h"

#define TEST_DEADLINE (30 * USEC_PER_SEC)

/* Runs the loop until `cond` holds; fails the test after TEST_DEADLINE. */
#define RUN_UNTIL(event, cond)                                                                                         \
    do {                                                                                                               \
        uint64_t end_ = now_usec() + TEST_DEADLINE;                                                                    \
        while (!(cond)) {                                                                                              \
            if (now_usec() > end_)                                                                                     \
                fail_msg("timed out waiting for: %s", #cond);                                                          \
            assert_true(sd_event_run(event, 10 * USEC_PER_MSEC) >= 0);                                                 \
        }                                                                                                              \
    } while (0)

struct fixture {
    struct tmpdir *dir;
    sd_event *event;
    struct children *children;
};

/* Orphans come to this process, as they do to PID 1. */
static inline int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    void *dir = NULL;
    if (tmpdir_setup(&dir) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || sd_event_new(&f->event) < 0 ||
        children_new(f->event, &f->children, NULL) < 0)
        return -1;
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_LEVEL_ERROR); /* the stand-ins for cgroups make for warnings */
    f->dir = dir;
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state) {
    struct fixture *f = *state;
    void *dir = f->dir;
    children_free(f->children);
    sd_event_unref(f->event);
    free(f);
    /* Whatever a failed test left. */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return tmpdir_teardown(&dir);
}

#define FIXTURE_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

/*
 * Writes DIR/crun, which does what the files beside it say: "fail-COMMAND": its content becomes the log, exit code 1;
 * "hang-COMMAND": it never ends; "wait-COMMAND": it ends when the file goes. create and exec start `sh DIR/program`, or
 * a sleep, with its own stdio, and leave its pid; so does restore. checkpoint writes the images pages-1.img and
 * dump.log ("log-COMMAND" if there is one, restore its restore.log), keeps the CRIU configuration it found as
 * DIR/conf-seen and its arguments as DIR/args, and, unless it is to leave it running, kills DIR/victim. Each run adds a
 * line "COMMAND ID" to DIR/calls.
 */
static inline char *write_fake_crun(const struct tmpdir *t) {
    char *path = tmpdir_path(t, "crun");
    cleanup_free char *text =
        str_printf("#!/bin/sh\n"
                   "d=%s\n"
                   "for a; do case $a in\n"
                   "--log=file:*) log=${a#--log=file:};;\n"
                   "--pid-file=*) pf=${a#--pid-file=};;\n"
                   "--process=*|--resources=*) cp \"${a#*=}\" $d/input;;\n"
                   "create|start|exec|delete|update|checkpoint|restore) cmd=$a;;\n"
                   "--image-path=*) images=${a#*=};;\n"
                   "--work-path=*) work=${a#*=};;\n"
                   "--leave-running|--pre-dump) stays=1;;\n"
                   "esac; id=$a; done\n"
                   "echo \"$cmd $id\" >>$d/calls\n"
                   "[ -e $d/hang-$cmd ] && exec sleep 1000\n"
                   "while [ -e $d/wait-$cmd ]; do sleep 0.01; done\n"
                   "case $cmd in checkpoint|restore)\n"
                   "printf '%%s\\n' \"$@\" >$d/args\n"
                   "cp $d/criu/default.conf $d/conf-seen 2>/dev/null || rm -f $d/conf-seen\n"
                   "echo printed\n"
                   "[ $cmd = restore ] && l=restore.log || l=dump.log\n"
                   "[ -e $d/log-$cmd ] && cp $d/log-$cmd $work/$l;; esac\n"
                   "[ -e $d/fail-$cmd ] && { cat $d/fail-$cmd >$log; exit 1; }\n"
                   "case $cmd in checkpoint)\n"
                   "echo pages >$images/pages-1.img\n"
                   "[ \"$stays\" ] || kill -9 $(cat $d/victim);;\n"
                   "create|exec|restore)\n"
                   "exec 3<&0\n" /* a shell gives what it starts with & no stdin of its own accord */
                   "[ -e $d/program ] && p=$d/program || p=$d/sleep\n"
                   /* It begins when its parent is gone: a shell would reap a child that ends before it does. */
                   "sh -c \"while [ -d /proc/$$ ]; do sleep 0.001; done; exec sh $p\" <&3 3<&- &\n"
                   "echo $! >$pf;;\n"
                   "esac\n"
                   "exit 0\n",
                   t->path);
    tmpdir_write(t, "crun", text);
    tmpdir_write(t, "sleep", "exec sleep 1000\n");
    if (chmod(path, 0755) < 0)
        abort();
    return path;
}

static inline bool tmpdir_has(const struct tmpdir *t, const char *name) {
    return faccessat(t->fd, name, F_OK, 0) == 0;
}

static inline void tmpdir_remove(const struct tmpdir *t, const char *name) {
    assert_int_equal(unlinkat(t->fd, name, 0), 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The facade, with a program in the place of QEMU and virtiofsd that plays a script (jailed.c). */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"
#include "jail_harness.h"
#include "vm/vm.h"

#define BOOT                                                                                                           \
    "qmp {\"QMP\": {}}\nhear\nqmp {\"return\": {}, \"id\": 0}\n"                                                       \
    "console guest kernel\nconsole guest agent\n"
#define SERVE "accept\nfollow\nexit 0\n"

struct fixture {
    sd_event *event;
    struct vm *vm;
    int agent;
    unsigned died, lines;
    struct err why;
};

static void on_died(void *userdata, const struct err *err) {
    struct fixture *f = userdata;
    f->died++;
    err_copy(&f->why, err);
}

static void on_line(void *userdata, const char *line) {
    struct fixture *f = userdata;
    (void)line;
    f->lines++;
}

static const struct vm_ops ops = {.died = on_died, .console_line = on_line};

static struct vm_spec usual(const struct harness *h) {
    return (struct vm_spec){.id = "box",
                            .vmm_root = h->root,
                            .guest_dir = h->guest,
                            .share_dir = h->share,
                            .accel = ACCEL_TCG,
                            .memory = UINT64_C(128) << 20,
                            .cpus = 1,
                            .kernel_params = "",
                            .log_max = 1 << 20};
}

static void start(const struct harness *h, struct fixture *f, const char *qemu, const char *virtiofsd) {
    struct vm_spec spec = usual(h);
    struct err err = ERR_INIT;
    harness_write(h->guest, "script", qemu);
    harness_write(h->share, "script", virtiofsd);
    *f = (struct fixture){.agent = -1};
    assert_int_equal(sd_event_new(&f->event), 0);
    if (vm_start(f->event, &spec, &ops, f, &f->vm, &f->agent, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(f->agent >= 0);
}

static void stop(struct fixture *f) {
    pid_t qemu = vm_qemu_pid(f->vm), virtiofsd = vm_virtiofsd_pid(f->vm);
    unsigned died = f->died;
    uint64_t begin = now_usec();
    f->vm = vm_free(f->vm);
    assert_true(now_usec() - begin < 4 * USEC_PER_SEC); /* the wait for a process that does not end is 5 s each */
    assert_int_equal(f->died, died);
    assert_int_equal(kill(qemu, 0), -1);
    assert_int_equal(kill(virtiofsd, 0), -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    f->agent = fd_close(f->agent);
    sd_event_unref(f->event);
}

static void run_until(struct fixture *f, const unsigned *counter, unsigned n) {
    uint64_t end = now_usec() + DEADLINE_USEC;
    while (*counter < n && now_usec() < end)
        assert_true(sd_event_run(f->event, 100 * USEC_PER_MSEC) >= 0);
    assert_true(*counter >= n);
}

/* Plays the scripts to the end of the machine and checks what died() said. */
static void expect(const struct harness *h, const char *qemu, const char *virtiofsd, const char *message) {
    struct fixture f;
    start(h, &f, qemu, virtiofsd);
    run_until(&f, &f.died, 1);
    if (!strstr(f.why.msg, message) || strstr(f.why.msg, message) != f.why.msg)
        fail_msg("died() said \"%s\" instead of \"%s\"", f.why.msg, message);
    uint64_t end = now_usec() + 50 * USEC_PER_MSEC;
    while (now_usec() < end) /* the ends of the others come in, and cause no second call */
        assert_true(sd_event_run(f.event, 10 * USEC_PER_MSEC) >= 0);
    assert_int_equal(f.died, 1);
    /* both processes are gone, or nearly */
    assert_true(process_ends(vm_qemu_pid(f.vm)));
    assert_true(process_ends(vm_virtiofsd_pid(f.vm)));
    stop(&f);
}

static void it_runs(void **state) {
    struct harness *h = *state;
    struct fixture f;
    struct vm_timings t;
    if (!h) {
        skip();
        return;
    }
    start(h, &f, BOOT "hang\n", SERVE);
    vm_get_timings(f.vm, &t);
    assert_true(t.virtiofsd_started > 0 && t.qemu_started >= t.virtiofsd_started);
    assert_int_equal(t.console_first, 0);
    run_until(&f, &f.lines, 2);
    assert_string_equal(vm_console_tail(f.vm), "guest kernel\nguest agent");
    vm_get_timings(f.vm, &t);
    assert_true(t.console_first > 0);
    for (uint64_t end = now_usec() + DEADLINE_USEC; !t.qmp_ready && now_usec() < end; vm_get_timings(f.vm, &t))
        assert_true(sd_event_run(f.event, 100 * USEC_PER_MSEC) >= 0);
    assert_true(t.qmp_ready > 0);
    assert_int_equal(f.died, 0);
    stop(&f);
}

static void qemu_is_killed(void **state) {
    struct harness *h = *state;
    struct fixture f;
    char byte;
    if (!h) {
        skip();
        return;
    }
    start(h, &f, BOOT "hang\n", SERVE);
    run_until(&f, &f.lines, 2);
    assert_int_equal(kill(vm_qemu_pid(f.vm), SIGKILL), 0);
    run_until(&f, &f.died, 1);
    assert_string_equal(f.why.msg,
                        "QEMU was killed by signal 9; the end of the guest's console:\nguest kernel\nguest agent");
    assert_int_equal(read(f.agent, &byte, 1), 0); /* the agent's channel has ended */
    stop(&f);
}

static void virtiofsd_is_killed(void **state) {
    struct harness *h = *state;
    struct fixture f;
    if (!h) {
        skip();
        return;
    }
    start(h, &f, BOOT "hang\n", SERVE);
    run_until(&f, &f.lines, 2);
    assert_int_equal(kill(vm_virtiofsd_pid(f.vm), SIGKILL), 0);
    run_until(&f, &f.died, 1);
    assert_memory_equal(f.why.msg, "virtiofsd was killed by signal 9", 32);
    stop(&f);
}

static void ends_of_the_processes(void **state) {
    struct harness *h = *state;
    if (!h) {
        skip();
        return;
    }
    expect(h, "complain cannot set up guest memory\nexit 1\n", SERVE, "QEMU exited with 1: cannot set up guest memory");
    expect(h, BOOT "hang\n", "accept\ncomplain the disk is gone\nexit 3\n",
           "virtiofsd exited with 3: the disk is gone");
    /* virtiofsd takes QEMU with it: the first is the cause */
    expect(h, BOOT "hang\n", "exit 0\n", "virtiofsd exited with 0");
    expect(h, BOOT "exit 0\n", SERVE, "QEMU exited with 0; the end");
    expect(h, BOOT "close 4\nhang\n", SERVE, "QMP of sandbox box: the connection was closed");
    expect(h, "qmp nonsense\nhang\n", SERVE, "QMP of sandbox box: a message that is not a JSON object");
}

static void ends_of_the_guest(void **state) {
    struct harness *h = *state;
    if (!h) {
        skip();
        return;
    }
    static const char reset[] = BOOT "qmp {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": "
                                     "\"guest-shutdown\"}}\nexit 0\n";
    expect(h, reset, SERVE,
           "guest shut down (guest-shutdown); the end of the guest's console:\nguest kernel\nguest agent");
    static const char panic[] =
        BOOT "console [ 1.0] Kernel panic - not syncing: VFS: no root\n"
             "qmp {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\nexit 0\n";
    expect(h, panic, SERVE, "guest panic: VFS: no root; the end of the guest's console:\nguest kernel\n");
    /* it says that it shuts down and does not */
    static const char stuck[] = BOOT "qmp {\"event\": \"SHUTDOWN\"}\nhang\n";
    expect(h, stuck, SERVE, "guest shut down (unknown)");
    static const char device[] = BOOT "qmp {\"event\": \"GUEST_PANICKED\", \"data\": {}}\nhang\n";
    expect(h, device, SERVE, "guest panic: reported by the guest's kernel");
}

static void it_can_be_freed_at_any_time(void **state) {
    struct harness *h = *state;
    struct fixture f;
    if (!h) {
        skip();
        return;
    }
    for (int i = 0; i < 5; i++) {
        start(h, &f, BOOT "hang\n", SERVE);
        for (int turn = 0; turn < i; turn++)
            assert_true(sd_event_run(f.event, 10 * USEC_PER_MSEC) >= 0);
        stop(&f);
    }
    assert_null(vm_free(NULL));
}

static unsigned count_fds(void) {
    unsigned n = 0;
    cleanup_dir DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    return n;
}

static void a_failed_start_leaves_nothing(void **state) {
    struct harness *h = *state;
    if (!h) {
        skip();
        return;
    }
    sd_event *event = NULL;
    sd_event_source *timer = NULL; /* the loop opens its timer fd with the first one and keeps it */
    assert_int_equal(sd_event_new(&event), 0);
    assert_true(sd_event_add_time_relative(event, &timer, CLOCK_MONOTONIC, 0, 0, NULL, NULL) >= 0);
    sd_event_source_unref(timer);
    unsigned before = count_fds();
    struct vm_spec bad[4];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = usual(h);
    bad[0].memory = 4096;
    bad[1].vmm_root = "/nonexistent/vmm";
    bad[2].guest_dir = "/nonexistent/guest";
    bad[3].kernel_params = "a\nb";
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vm *vm = NULL;
        struct err err = ERR_INIT;
        int agent = -1;
        assert_true(vm_start(event, &bad[i], &ops, NULL, &vm, &agent, &err) < 0);
        assert_non_null(strstr(err.msg, "box"));
        assert_null(vm);
        assert_int_equal(agent, -1);
        assert_int_equal(count_fds(), before);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    }
    sd_event_unref(event);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_runs),
        cmocka_unit_test(qemu_is_killed),
        cmocka_unit_test(virtiofsd_is_killed),
        cmocka_unit_test(ends_of_the_processes),
        cmocka_unit_test(ends_of_the_guest),
        cmocka_unit_test(it_can_be_freed_at_any_time),
        cmocka_unit_test(a_failed_start_leaves_nothing),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}

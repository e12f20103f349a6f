/* SPDX-License-Identifier: Apache-2.0 */
/* threats.md 19: an agent whose every text is a path of the host. It is shown or kept as it is; the host opens nothing,
 * and makes and removes nothing there. Needs root: the share is mounted for real. */
#include "checkpoints.h"

#include <sys/inotify.h>

#define ANYTHING (IN_ALL_EVENTS)

struct victim {
    int watch;
    char *cwd, *paths[4]; /* of the file, in several ways */
};

/* Also by a path that is relative to the daemon's directory, or to one of those it works in. */
static void victim_make(const struct daemon *d, struct victim *v) {
    cleanup_free char *dir = tmpdir_path(d->dir, "victim");
    v->cwd = get_current_dir_name();
    assert_int_equal(mkdirat(d->dir->fd, "victim", 0755), 0);
    tmpdir_write(d->dir, "victim/file", "secret");
    assert_int_equal(chdir(d->dir->path), 0);
    v->paths[0] = str_printf("%s/file", dir);
    v->paths[1] = strdup("victim/file");
    v->paths[2] = strdup("../victim/file");
    v->paths[3] = str_printf("../../../../../../../../../../../..%s/file", dir);
    v->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    assert_true(v->watch >= 0 && inotify_add_watch(v->watch, dir, ANYTHING) >= 0);
}

static bool was_touched(const struct victim *v) {
    char buf[4096];
    ssize_t n = read(v->watch, buf, sizeof(buf));
    assert_true(n > 0 || errno == EAGAIN);
    return n > 0;
}

static void victim_clear(struct victim *v) {
    assert_int_equal(chdir(v->cwd), 0);
    close(v->watch);
    free(v->cwd);
    for (size_t i = 0; i < ARRAY_SIZE(v->paths); i++)
        free(v->paths[i]);
}

/* All calls whose answers have a text. */
static void ask_everything(struct daemon *d) {
    Stasis__Agent__V1__CheckResponse *check = NULL;
    Stasis__Agent__V1__ProcessesResponse *ps = NULL;
    Stasis__Sandbox__V1__Empty empty = STASIS__SANDBOX__V1__EMPTY__INIT;
    Stasis__Sandbox__V1__ProcessesRequest of = STASIS__SANDBOX__V1__PROCESSES_REQUEST__INIT;
    CheckpointRequest req = checkpoint_request(d);
    const char *says = the_agent()->says;
    of.id = text("c1");
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Processes", &of.base, NULL, 0, &ps), 0);
    assert_string_equal(ps->processes[0]->tty, says);
    mock_forget(&ps->base);
    assert_int_equal(daemon_call_fds(d, SANDBOX, "Check", &empty.base, NULL, 0, &check), 0);
    assert_string_equal(check->items[0]->name, says);
    mock_forget(&check->base);
    assert_int_equal(daemon_call(d, "Checkpoint", &req.base, NULL), 0);
    /* An error that is nothing but a path. */
    the_agent()->fail_criu = says;
    assert_int_equal(daemon_call(d, "Checkpoint", &req.base, NULL), -EIO);
    ASSERT_SAYS(&d->err, says);
    the_agent()->fail_criu = NULL;
}

static void test_no_path_is_opened(void **state) {
    struct daemon *d = *state;
    struct victim v;
    struct stat st;
    create_dumpable(d);
    victim_make(d, &v);
    for (size_t i = 0; i < ARRAY_SIZE(v.paths); i++) {
        the_agent()->says = v.paths[i];
        ask_everything(d);
        assert_false(was_touched(&v));
    }
    /* It would have been noticed. */
    close(open(v.paths[1], O_RDONLY | O_CLOEXEC));
    assert_true(was_touched(&v));
    assert_int_equal(fstatat(d->dir->fd, "victim/file", &st, 0), 0);
    victim_clear(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_path_is_opened, daemon_setup, daemon_teardown),
    };
    if (!own_mounts())
        return EXIT_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

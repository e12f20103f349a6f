/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/lookup.h"

#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "cli/task.h"

void lookup_clear(struct lookup *l) {
    oci_sandbox_state_clear(&l->state);
    sandbox_dir_close(&l->dir);
    l->container = NULL;
}

static struct oci_container_state *find_in(struct oci_sandbox_state *state, const char *id) {
    for (size_t i = 0; i < state->n_containers; i++)
        if (strcmp(state->containers[i].id, id) == 0)
            return &state->containers[i];
    return NULL;
}

static int ask(const struct sandbox_dir *dir, struct oci_sandbox_state *ret, struct err *err) {
    cleanup_session struct session s = {0};
    Stasis__Sandbox__V1__DescribeResponse *a = NULL;
    int r = session_open(&s, dir, LOOKUP_TIMEOUT, err);
    if (r == 0)
        r = task_describe(&s, &a, err);
    if (r == 0) {
        r = oci_sandbox_state_parse("the sandbox daemon's answer", a->state, strlen(a->state), ret, err);
        protobuf_c_message_free_unpacked(&a->base, NULL);
    }
    return r;
}

static int load_file(const struct sandbox_dir *dir, struct oci_sandbox_state *ret, struct err *err) {
    cleanup_free char *path = sandbox_dir_path(dir);
    return path ? oci_sandbox_state_load(path, ret, err) : err_set(err, ENOMEM, "out of memory");
}

/* *ret_silent may be NULL. */
static int load(const struct sandbox_dir *dir, struct oci_sandbox_state *ret, bool *ret_silent, struct err *err) {
    cleanup_sandbox_state struct oci_sandbox_state told = {0};
    struct err e = ERR_INIT;
    int r = load_file(dir, ret, err);
    /* One without containers, which are in the file before they are made, is not asked: our connection might be the
     * first one it gets, and the last. */
    if (r < 0 || ret->n_containers == 0 || !oci_sandbox_daemon_alive(ret))
        return r;
    r = ask(dir, &told, &e);
    if (r == 0) {
        oci_sandbox_state_clear(ret);
        *ret = told;
        told = (struct oci_sandbox_state){0};
        return 0;
    }
    if (r == -ETIMEDOUT || r == -EAGAIN) {
        log_warn("the sandbox daemon of %s (pid %d) does not answer: this is what it wrote down last", dir->id,
                 (int)ret->daemon_pid);
        if (ret_silent)
            *ret_silent = true;
        return 0;
    }
    log_debug("%s", e.msg);
    /* It may have ended meanwhile, or be of a release that cannot tell. */
    oci_sandbox_state_clear(ret);
    return load_file(dir, ret, err);
}

/* One sandbox; -ENOENT when it does not hold the container. */
static int look_into(const struct cli *cli, const char *sandbox_id, const char *id, struct lookup *ret,
                     struct err *err) {
    struct lookup l = LOOKUP_NONE;
    int r = sandbox_dir_open(cli->root, sandbox_id, &l.dir, err);
    if (r == 0)
        r = load(&l.dir, &l.state, &l.silent, err);
    if (r == 0) {
        l.container = find_in(&l.state, id);
        if (!l.container)
            r = -ENOENT;
    }
    if (r < 0)
        lookup_clear(&l);
    else
        *ret = l;
    return r;
}

int lookup_container(const struct cli *cli, const char *id, struct lookup *ret, struct err *err) {
    int r = id_validate("container id", id, err);
    if (r < 0)
        return r;
    r = look_into(cli, id, id, ret, err);
    if (r != -ENOENT)
        return r;
    cleanup_dir DIR *dir = opendir(cli->root);
    struct dirent *e;
    while (dir && (e = readdir(dir)))
        if (id_validate("sandbox id", e->d_name, NULL) == 0 && look_into(cli, e->d_name, id, ret, NULL) == 0)
            return 0;
    return err_set(err, ENOENT, "container does not exist");
}

static int each_in(const struct cli *cli, const char *sandbox_id,
                   int (*fn)(const struct oci_container_state *c, void *userdata), void *userdata, struct err *err) {
    cleanup_sandbox_state struct oci_sandbox_state state = {0};
    cleanup_sandbox_dir struct sandbox_dir d = SANDBOX_DIR_NONE;
    struct err problem = ERR_INIT;
    if (id_validate("sandbox id", sandbox_id, NULL) < 0 || sandbox_dir_open(cli->root, sandbox_id, &d, NULL) < 0)
        return 0;
    int r = load(&d, &state, NULL, &problem);
    if (r < 0) {
        if (r != -ENOENT) /* one that is just being made has no state yet */
            log_warn("%s: %s", sandbox_id, problem.msg);
        return 0;
    }
    for (size_t i = 0; i < state.n_containers; i++)
        if ((r = fn(&state.containers[i], userdata)) < 0)
            return err_set(err, -r, "cannot list container %s", state.containers[i].id);
    return 0;
}

int lookup_each(const struct cli *cli, int (*fn)(const struct oci_container_state *c, void *userdata), void *userdata,
                struct err *err) {
    struct dirent **names;
    int n = scandir(cli->root, &names, NULL, alphasort), r = 0;
    if (n < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "cannot read the state directory %s", cli->root);
    for (int i = 0; i < n; i++) {
        if (r == 0)
            r = each_in(cli, names[i]->d_name, fn, userdata, err);
        free(names[i]);
    }
    free(names);
    return r;
}

int lookup_running(const struct cli *cli, const char *id, struct lookup *ret, struct err *err) {
    int r = lookup_container(cli, id, ret, err);
    if (r == 0 && strcmp(ret->container->status, "stopped") == 0)
        r = err_set(err, EBUSY, "container not running");
    return r;
}

int lookup_connect(const struct cli *cli, const struct lookup *l, struct session *s, struct err *err) {
    struct config config;
    int r = cli_load_config(cli, &config, err);
    if (r < 0)
        return r;
    if (!oci_sandbox_daemon_alive(&l->state))
        return err_set(err, ECONNREFUSED, "the sandbox daemon of %s is not running", l->dir.id);
    return session_open(s, &l->dir, config.rpc_timeout, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "sandbox/checkpoint.h"
#include "sandbox/container_impl.h"
#include "sandbox/criu_options.h"
#include "sandbox/share.h"
#include "sandbox/worker.h"

/* What a container is to be made of, from its Create to the end of its Start. */
struct restore {
    struct container *c;          /* once it is started */
    char *image_path, *work_path; /* work_path "": the default */
    Stasis__Agent__V1__CriuOptions *options;
    struct image_dir dir; /* only its work directory is used */
    struct strv parents;
    struct sandbox_call *call;
    struct worker *worker;
    struct err failure;
};

int restore_new(const struct restore_spec *spec, struct restore **ret, struct err *err) {
    int r = path_is_normal(spec->image_path)
                ? image_dir_check(spec->image_path, err)
                : err_set(err, EINVAL, "checkpoint \"%.200s\": must be an absolute, normal path", spec->image_path);
    if (r == 0 && *spec->work_path && !path_is_normal(spec->work_path))
        r = err_set(err, EINVAL, "work directory \"%.200s\": must be an absolute, normal path", spec->work_path);
    if (r < 0)
        return r;
    struct restore *re = calloc(1, sizeof(*re));
    if (re) {
        re->image_path = strdup(spec->image_path);
        re->work_path = strdup(spec->work_path);
    }
    if (!re || !re->image_path || !re->work_path)
        r = err_set(err, ENOMEM, "out of memory");
    else
        r = criu_options_copy(spec->options, &re->options, err);
    if (r < 0 && re) {
        free(re->image_path);
        free(re->work_path);
        free(re);
    }
    if (r == 0)
        *ret = re;
    return r;
}

void restore_free(struct container *c) {
    struct restore *re = c->restore;
    if (!re)
        return;
    c->restore = NULL;
    call_cancel(re->call);
    worker_cancel(re->worker);
    image_dir_clear(&re->dir);
    strv_clear(&re->parents);
    if (re->options)
        stasis__agent__v1__criu_options__free_unpacked(re->options, NULL);
    free(re->image_path);
    free(re->work_path);
    free(re);
}

/* The end. A container that could not be restored stays what it was: it can be started again, and deleted. */
static void finish(struct restore *re) {
    struct container *c = re->c;
    struct err failure = re->failure;
    image_dir_clear(&re->dir);
    strv_clear(&re->parents);
    if (failure.code)
        err_append(&failure, " (checkpoint: %s)", re->image_path);
    else
        restore_free(c);
    container_started(c, failure.code ? &failure : NULL);
}

static int collect(void *arg, struct err *err) {
    struct restore *re = arg;
    return image_dir_collect_work(&re->dir, re->work_path, sandbox_config(re->c->sb)->criu_log_level, err);
}

static void on_collected(void *userdata, const struct err *err) {
    struct restore *re = userdata;
    re->worker = NULL;
    if (err) /* only logs */
        log_warn("container %s: %s", re->c->id, err->msg);
    finish(re);
}

/* The agent may have got further than its answer, or than we. */
static void undo_in_guest(const struct container *c) {
    Stasis__Agent__V1__ContainerRequest req = STASIS__AGENT__V1__CONTAINER_REQUEST__INIT;
    req.id = c->guest_id;
    if (sandbox_get_state(c->sb) == SANDBOX_READY)
        (void)sandbox_call(c->sb, "DeleteContainer", &req.base, call_ignore, NULL, NULL, NULL);
}

static void on_restored(void *userdata, ProtobufCMessage **reply, const struct err *err) {
    struct restore *re = userdata;
    struct container *c = re->c;
    struct err e = ERR_INIT;
    re->call = NULL;
    if (share_remove_checkpoint(sandbox_share(c->sb), c->guest_id, &e) < 0)
        log_error("container %s: %s", c->id, e.msg);
    sandbox_forget(c->sb);
    if (re->failure.code) {
        log_info("container %s: the restore that was given up is over, and what it made is deleted", c->id);
    } else if (err) {
        re->failure = *err;
        err_wrap_once(&re->failure, "cannot restore container", c->id); /* the agent does, too */
        err_append(&re->failure, " (logs: %s)", re->work_path);
    } else {
        const Stasis__Agent__V1__CreateContainerResponse *r = (const void *)*reply;
        if (FAULT(RESTORE_WATCH))
            err_errno(&re->failure, errno, "cannot watch process %u", r->pid);
        else if (container_still_wanted(c, &e) < 0 || process_watch(c->init, r->pid, &e) < 0)
            re->failure = e;
    }
    if (re->failure.code)
        undo_in_guest(c);
    if (worker_start(sandbox_event(c->sb), "logs of a restore", collect, re, on_collected, re, &re->worker, &e) < 0)
        on_collected(re, &e);
}

static int prepare(struct restore *re, struct err *err) {
    struct container *c = re->c;
    int r = 0;
    re->failure = (struct err)ERR_INIT;
    if (!*re->work_path) {
        free(re->work_path);
        re->work_path = checkpoint_default_work_path(c);
    }
    cleanup_free char *scratch = str_printf("%s/criu.restore", sandbox_dir(c->sb));
    if (!re->work_path || !scratch)
        return err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = image_dir_check(re->image_path, err); /* much may have happened since Create */
    if (r == 0)
        r = image_dir_make(scratch, "", &re->dir, err);
    if (r == 0)
        r = image_dir_parents(re->image_path, &re->parents, err);
    return r;
}

bool container_is_restoring(const struct container *c) {
    return c->restore && c->state == CONTAINER_STARTING;
}

void container_restore_abandon(struct container *c, const struct err *why) {
    struct restore *re = c->restore;
    if (!re || !re->call || re->failure.code)
        return;
    re->failure = *why;
    err_wrap(&re->failure, "cannot restore container %s", c->id);
}

int restore_run(struct container *c, struct err *err) {
    struct restore *re = c->restore;
    struct share_checkpoint_names names;
    re->c = c;
    int r = sandbox_config(c->sb)->checkpoint_enable
                ? prepare(re, err)
                : err_set(err, EPERM, "restoring is off: set enable = true under [checkpoint] in the configuration");
    struct share_checkpoint what = {
        .images = re->image_path, .images_read_only = true, .work = re->dir.work, .parents = &re->parents};
    if (r == 0)
        r = share_add_checkpoint(sandbox_share(c->sb), c->guest_id, &what, &names, err);
    cleanup_free char *text = json_text(c->guest.spec, JSON_COMPACT);
    if (r == 0 && !text)
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0) {
        Stasis__Agent__V1__CreateContainerRequest create;
        Stasis__Agent__V1__RestoreRequest req = STASIS__AGENT__V1__RESTORE_REQUEST__INIT;
        container_create_request(c, text, &create);
        req.create = &create;
        req.image_dir = names.images;
        req.work_dir = names.work;
        req.options = re->options;
        r = FAULT(RESTORE_CALL)
                ? err_errno(err, errno, "cannot call the agent")
                : sandbox_call_within(c->sb, "Restore", &req.base, sandbox_config(c->sb)->checkpoint_timeout,
                                      on_restored, re, &re->call, err);
    }
    if (r < 0) {
        (void)share_remove_checkpoint(sandbox_share(c->sb), c->guest_id, NULL); /* the error that led here counts */
        image_dir_clear(&re->dir);
        strv_clear(&re->parents);
        return err_wrap(err, "cannot restore container %s from %s", c->id, re->image_path);
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/criu.h"

#include <assert.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

#include "agent/criu_cgroups.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define BOTH (D | R)
#define D (1u << CRIU_DUMP)
#define R (1u << CRIU_RESTORE)

/* Each option that is on or off: crun's flag, or the line in the configuration file where crun has none. */
static const struct flag {
    const char *name; /* runc's, and crun's */
    size_t offset;    /* in struct criu_options */
    unsigned operations, crun;
    const char *conf;
} flags[] = {
    {"tcp-established", offsetof(struct criu_options, tcp_established), BOTH, BOTH, NULL},
    {"tcp-skip-in-flight", offsetof(struct criu_options, tcp_skip_in_flight), D, 0, "skip-in-flight"},
    {"tcp-close", offsetof(struct criu_options, tcp_close), BOTH, R, "tcp-close"},
    {"ext-unix-sk", offsetof(struct criu_options, ext_unix_sk), BOTH, BOTH, NULL},
    {"shell-job", offsetof(struct criu_options, shell_job), BOTH, BOTH, NULL},
    {"file-locks", offsetof(struct criu_options, file_locks), BOTH, BOTH, NULL},
};

/* Each option with a value. */
static const struct value {
    const char *name; /* crun's is the same */
    size_t offset;
    unsigned operations;
    const char *allowed[5]; /* none: anything */
} values[] = {
    {"manage-cgroups-mode",
     offsetof(struct criu_options, manage_cgroups_mode),
     BOTH,
     {"soft", "ignore", "full", "strict"}},
    {"network-lock", offsetof(struct criu_options, network_lock), BOTH, {"iptables", "nftables", "skip"}},
    {"lsm-profile", offsetof(struct criu_options, lsm_profile), R, {NULL}},
    {"lsm-mount-context", offsetof(struct criu_options, lsm_mount_context), R, {NULL}},
};

static const char *const operation_names[] = {[CRIU_DUMP] = "checkpoint", [CRIU_RESTORE] = "restore"};

static bool is_on(const struct criu_options *o, const struct flag *f) {
    return *(const bool *)((const char *)o + f->offset);
}

/* "" when it is not set. */
static const char *value_of(const struct criu_options *o, const struct value *v) {
    const char *s = *(const char *const *)((const char *)o + v->offset);
    return s ? s : "";
}

static int check_value(const struct value *v, const char *s, enum criu_operation op, struct err *err) {
    if (!(v->operations & (1u << op)))
        return err_set(err, EOPNOTSUPP, "%s is no option of %s", v->name, operation_names[op]);
    bool found = !v->allowed[0];
    for (size_t i = 0; v->allowed[i] && !found; i++)
        found = strcmp(s, v->allowed[i]) == 0;
    return found ? 0 : err_set(err, EINVAL, "%s: there is no \"%.64s\"", v->name, s);
}

int criu_options_check(const struct criu_options *o, enum criu_operation op, struct err *err) {
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (is_on(o, &flags[i]) && !(flags[i].operations & (1u << op)))
            return err_set(err, EOPNOTSUPP, "%s is no option of %s", flags[i].name, operation_names[op]);
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        const char *s = value_of(o, &values[i]);
        int r = *s ? check_value(&values[i], s, op, err) : 0;
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < o->n_empty_ns; i++)
        if (strcmp(o->empty_ns[i], "network") != 0)
            return err_set(err, EOPNOTSUPP, "empty-ns: only \"network\" is possible, not \"%.64s\"", o->empty_ns[i]);
    /* It would have to go on serving pages after crun has ended, to somebody outside of the guest. */
    if (o->lazy_pages)
        return err_set(err, EOPNOTSUPP,
                       "lazy-pages is not possible: nothing outside of the virtual machine could ask "
                       "the guest for pages");
    if (o->page_server && *o->page_server)
        return err_set(err, EOPNOTSUPP,
                       "page-server is not possible: the guest reaches none; the images are written "
                       "to the host directly");
    if (o->auto_dedup)
        return err_set(err, EOPNOTSUPP, "auto-dedup is not possible: the guest cannot change older images");
    /* The names that CRIU makes for it are gone when a dump leaves the processes alive, as each does here until its
     * images are on the disk. */
    if (o->link_remap)
        return err_set(err, EOPNOTSUPP, "link-remap is not possible: what it makes does not outlive the dump");
    if (o->log_level && o->log_level != CRIU_LOG_LEVEL)
        return err_set(err, EOPNOTSUPP, "CRIU's log level is %d, crun does not let it be %u", CRIU_LOG_LEVEL,
                       o->log_level);
    return 0;
}

int criu_options_argv(const struct criu_options *o, enum criu_operation op, struct strv *argv) {
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (flags[i].crun & (1u << op) && is_on(o, &flags[i]))
            r |= strv_addf(argv, "--%s", flags[i].name);
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        const char *s = value_of(o, &values[i]);
        /* crun 1.28 takes the value of --network-lock from the next argument only. */
        if (*s)
            r |= strv_addf(argv, "--%s", values[i].name) | strv_add(argv, s);
    }
    return r ? -ENOMEM : 0;
}

void criu_options_conf(const struct criu_options *o, enum criu_operation op, char out[CRIU_CONF_MAX]) {
    size_t n = 0;
    out[0] = '\0';
    /* All lines together are shorter than the buffer by far: none comes from outside. */
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (!(flags[i].crun & (1u << op)) && is_on(o, &flags[i]))
            n += (size_t)snprintf(out + n, CRIU_CONF_MAX - n, "%s\n", flags[i].conf);
    if (o->n_empty_ns)
        n += (size_t)snprintf(out + n, CRIU_CONF_MAX - n, "empty-ns net\n");
    /* Programs have chosen by now which instructions they use: the CPU of a restore must have them all, and registers
     * of the same size. A dump writes down what there is. */
    if (op == CRIU_DUMP || o->check_cpu)
        n += (size_t)snprintf(out + n, CRIU_CONF_MAX - n, "cpu-cap ins\n");
    if (op == CRIU_DUMP && o->dump_seconds)
        n += (size_t)snprintf(out + n, CRIU_CONF_MAX - n, "timeout %u\n", o->dump_seconds);
    if (op == CRIU_DUMP)
        snprintf(out + n, CRIU_CONF_MAX - n, "ghost-limit %llu\n", (unsigned long long)CRIU_GHOST_LIMIT);
    /* In images that runc had made, masked files are mounts of this name; crun has one for each path. */
    if (op == CRIU_RESTORE) {
        n += (size_t)snprintf(out + n, CRIU_CONF_MAX - n, "external mnt[/dev/null]:/dev/null\n");
        criu_cgroups_conf(out + n, CRIU_CONF_MAX - n);
    }
}

void criu_enter(struct criu_queue *q, struct criu_turn *t, void (*fn)(void *userdata), void *userdata) {
    struct criu_turn **at = &q->head;
    while (*at)
        at = &(*at)->next;
    t->next = NULL;
    t->fn = fn;
    t->userdata = userdata;
    *at = t;
    if (q->head == t)
        fn(userdata);
}

int criu_write_conf(const struct criu_queue *q, const struct criu_turn *t, struct err *err) {
    if (!t->conf[0])
        return 0;
    char dir[256];
    snprintf(dir, sizeof(dir), "%s", q->conf_path);
    int r = path_mkdirs(dirname(dir), 0755, err);
    if (r == 0)
        r = file_write_atomic(q->conf_path, t->conf, strlen(t->conf), 0600, false, err);
    return r < 0 ? err_wrap(err, "cannot write CRIU's configuration") : 0;
}

void criu_leave(struct criu_queue *q, struct criu_turn *t) {
    if (!t->fn)
        return;
    bool first = q->head == t;
    struct criu_turn **at = &q->head;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->fn = NULL;
    if (!first)
        return;
    if (unlink(q->conf_path) < 0 && errno != ENOENT)
        log_error("cannot remove %s: %s", q->conf_path, strerror(errno));
    if (q->head)
        q->head->fn(q->head->userdata);
}

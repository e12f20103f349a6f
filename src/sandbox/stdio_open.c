/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. All that can be opened is opened at once; loggers are started last and waited for together. done
 * is called from a deferred source when none is (any more) waited for. A logger that was ready when another failed sees
 * the end of its pipes, as it does at the end of the process.
 */
#include "sandbox/stdio_open.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "sandbox/fifo.h"
#include "sandbox/logger.h"

#define DIR_MODE 0755
#define FILE_MODE 0644

enum scheme { SCHEME_NONE, SCHEME_FD, SCHEME_FIFO, SCHEME_FILE, SCHEME_BINARY };

static const struct {
    const char *prefix;
    enum scheme scheme;
} schemes[] = {{"fd://", SCHEME_FD}, {"fifo://", SCHEME_FIFO}, {"file://", SCHEME_FILE}, {"binary://", SCHEME_BINARY}};

enum { IN, OUT, ERR, N_STREAMS };
static const char *const names[N_STREAMS] = {"stdin", "stdout", "stderr"};

struct uri {
    const char *name; /* of the stream */
    const char *text;
    enum scheme scheme;
    char *path;        /* owned */
    const char *query; /* in text, after the "?"; "" if none */
};

struct stdio_opening {
    struct process_stdio io;
    struct logger *loggers[N_STREAMS];
    sd_event_source *finished; /* deferred */
    struct err err;            /* of the first logger that failed */
    stdio_done_fn done;
    void *userdata;
};

static void uris_clear(struct uri (*uris)[N_STREAMS]) {
    for (size_t i = 0; i < N_STREAMS; i++)
        free((*uris)[i].path);
}
#define cleanup_uris CLEANUP(uris_clear)

/* Parsing. */

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10 : -1;
}

/* malloc'd; NULL with *ret_code set when it is no text or memory is short. */
static char *percent_decode(const char *s, size_t len, bool plus, int *ret_code) {
    cleanup_free char *text = malloc(len + 1);
    *ret_code = ENOMEM;
    if (!text)
        return NULL;
    *ret_code = EINVAL;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = plus && s[i] == '+' ? ' ' : s[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(s[i + 1]) : -1, low = i + 2 < len ? hex_digit(s[i + 2]) : -1;
            c = (char)(high * 16 + low);
            if (high < 0 || low < 0 || c == '\0')
                return NULL;
            i += 2;
        }
        text[n++] = c;
    }
    text[n] = '\0';
    return TAKE_PTR(text);
}

static int bad_uri(const struct uri *u, int code, const char *why, struct err *err) {
    return err_set(err, code, "%s: \"%.256s\": %s", u->name, u->text, why);
}

/* Splits "scheme://path?query". A query that its scheme has no use for is ignored, as containerd does. */
static int parse_uri(struct uri *u, struct err *err) {
    if (*u->text == '\0')
        return 0;
    if (strnlen(u->text, STDIO_URI_MAX + 1) > STDIO_URI_MAX)
        return bad_uri(u, ENAMETOOLONG, "the URI is too long", err);
    u->query = "";
    if (u->text[0] == '/') {
        u->scheme = SCHEME_FIFO;
        u->path = strdup(u->text);
        return u->path ? 0 : err_set(err, ENOMEM, "out of memory");
    }
    const char *path = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(schemes) && !path; i++)
        if (strncmp(u->text, schemes[i].prefix, strlen(schemes[i].prefix)) == 0) {
            u->scheme = schemes[i].scheme;
            path = u->text + strlen(schemes[i].prefix);
        }
    if (!path || (u->scheme == SCHEME_FD && *path) ||
        (u->name == names[IN] && (u->scheme == SCHEME_FILE || u->scheme == SCHEME_BINARY)))
        return bad_uri(u, EOPNOTSUPP, "cannot be used", err);
    if (u->scheme == SCHEME_FD)
        return 0;
    size_t len = strcspn(path, "?");
    if (path[len] == '?')
        u->query = path + len + 1;
    int code;
    u->path = percent_decode(path, len, false, &code);
    if (!u->path)
        return bad_uri(u, code, code == ENOMEM ? "out of memory" : "damaged percent-encoding", err);
    return u->path[0] == '/' ? 0 : bad_uri(u, EINVAL, "the path is not absolute", err);
}

static int add_arg(struct strv *argv, const struct uri *u, const char *s, size_t len, struct err *err) {
    int code;
    cleanup_free char *arg = percent_decode(s, len, true, &code);
    if (!arg)
        return bad_uri(u, code, code == ENOMEM ? "out of memory" : "damaged percent-encoding", err);
    if (argv->n > STDIO_LOGGER_ARGS_MAX)
        return bad_uri(u, E2BIG, "too many arguments", err);
    return strv_add(argv, arg) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* The program, then each key and, where there is a "=", its value, in the order given. */
static int logger_argv(const struct uri *u, struct strv *argv, struct err *err) {
    int r = strv_add(argv, u->path) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
    for (const char *pair = u->query; r == 0 && *pair;) {
        size_t len = strcspn(pair, "&");
        const char *value = memchr(pair, '=', len);
        if (len)
            r = add_arg(argv, u, pair, value ? (size_t)(value - pair) : len, err);
        if (r == 0 && value)
            r = add_arg(argv, u, value + 1, (size_t)(pair + len - value - 1), err);
        pair += len + (pair[len] == '&');
    }
    return r;
}

/* Opening. */

/* The device a path may name is not touched, and a FIFO does not block. */
static int open_file(const char *path, struct err *err) {
    cleanup_free char *dir = strdup(path);
    if (!dir)
        return err_set(err, ENOMEM, "out of memory");
    char *slash = strrchr(dir, '/');
    slash[slash == dir] = '\0';
    int r = path_mkdirs(dir, DIR_MODE, err);
    if (r < 0)
        return r;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s is not a regular file", path);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, FILE_MODE);
    return fd < 0 ? err_errno(err, errno, "cannot open %s", path) : fd;
}

static int *fd_of(struct process_stdio *io, size_t i) {
    return i == IN ? &io->in : i == OUT ? &io->out : &io->err;
}

static enum stdio_kind *kind_of(struct process_stdio *io, size_t i) {
    return i == IN ? &io->in_kind : i == OUT ? &io->out_kind : &io->err_kind;
}

/* One after the other whatever comes of it. */
static int take_fds(const struct stdio_spec *spec, const struct uri *uris, struct process_stdio *io, struct err *err) {
    int result = 0;
    for (size_t i = 0; i < N_STREAMS; i++) {
        if (strcmp(uris[i].text, "fd://") != 0)
            continue;
        struct err e = ERR_INIT;
        int fd = spec->take_fd(spec->userdata, &e);
        if (i == ERR && spec->terminal) {
            fd_close(fd);
        } else if (fd >= 0) {
            *fd_of(io, i) = fd;
        } else if (result == 0) {
            err_wrap(&e, "%s", names[i]);
            result = err_copy(err, &e);
        }
    }
    return result;
}

static int open_paths(struct uri *uris, size_t n, struct process_stdio *io, struct err *err) {
    for (size_t i = 0; i < MIN(n, ARRAY_SIZE(names)); i++) {
        int fd;
        if (uris[i].scheme == SCHEME_FIFO) {
            fd = fifo_open(uris[i].path, i == IN, err);
            *kind_of(io, i) = STDIO_FIFO;
        } else if (uris[i].scheme == SCHEME_FILE) {
            fd = open_file(uris[i].path, err);
            *kind_of(io, i) = STDIO_LOG;
        } else {
            continue;
        }
        if (fd < 0)
            return err_wrap(err, "%s", names[i]);
        *fd_of(io, i) = fd;
    }
    return 0;
}

/* The result. */

struct stdio_opening *stdio_cancel(struct stdio_opening *o) {
    if (!o)
        return NULL;
    for (size_t i = 0; i < N_STREAMS; i++)
        logger_cancel(o->loggers[i]);
    sd_event_source_disable_unref(o->finished);
    process_stdio_close(&o->io);
    free(o);
    return NULL;
}

static int on_finished(sd_event_source *source, void *userdata) {
    (void)source;
    struct stdio_opening *o = userdata;
    stdio_done_fn done = o->done;
    void *to = o->userdata;
    struct process_stdio io = o->io;
    struct err e = o->err;
    o->io = PROCESS_STDIO_NONE;
    stdio_cancel(o);
    if (e.code) {
        process_stdio_close(&io);
        done(to, NULL, &e);
    } else {
        done(to, &io, NULL);
        process_stdio_close(&io);
    }
    return 0;
}

/* All are waited for, unless one has failed. */
static void on_logger(struct stdio_opening *o, size_t i, const struct err *err) {
    o->loggers[i] = NULL;
    if (err && !o->err.code) {
        err_copy(&o->err, err);
        err_wrap(&o->err, "%s", names[i]);
    }
    if (o->err.code || (!o->loggers[OUT] && !o->loggers[ERR]))
        (void)sd_event_source_set_enabled(o->finished, SD_EVENT_ONESHOT);
}

static void on_out_logger(void *userdata, const struct err *err) {
    on_logger(userdata, OUT, err);
}

static void on_err_logger(void *userdata, const struct err *err) {
    on_logger(userdata, ERR, err);
}

/* A logger for stream i, and for stderr too if `both`. */
static int start_logger(struct stdio_opening *o, sd_event *event, const struct stdio_spec *spec, const struct uri *u,
                        size_t i, bool both, struct err *err) {
    cleanup_strv struct strv argv = {0};
    int r = logger_argv(u, &argv, err);
    cleanup_fd int out = -1, err_out = -1;
    for (size_t k = i; r == 0 && k <= (both ? ERR : i); k++) {
        int p[2];
        if (pipe2(p, O_CLOEXEC) < 0)
            return err_errno(err, errno, "%s: cannot make a pipe", names[k]);
        *(k == OUT ? &out : &err_out) = p[0];
        *fd_of(&o->io, k) = p[1];
        *kind_of(&o->io, k) = STDIO_LOG;
    }
    if (r < 0)
        return r;
    struct logger_spec ls = {
        .argv = &argv,
        .container_id = spec->container_id,
        .namespace = spec->namespace,
        .out = out,
        .err = err_out,
        .host = spec->host,
        .ready_usec = spec->logger_ready_usec,
    };
    r = logger_start(event, &ls, i == OUT ? on_out_logger : on_err_logger, o, &o->loggers[i], err);
    return r < 0 ? err_wrap(err, "%s", names[i]) : 0;
}

static int start_loggers(struct stdio_opening *o, sd_event *event, const struct stdio_spec *spec, struct uri *uris,
                         size_t n, struct err *err) {
    int r = 0;
    bool both = n > ERR && strcmp(uris[OUT].text, uris[ERR].text) == 0;
    if (uris[OUT].scheme == SCHEME_BINARY)
        r = start_logger(o, event, spec, &uris[OUT], OUT, both, err);
    if (r == 0 && !both && n > ERR && uris[ERR].scheme == SCHEME_BINARY)
        r = start_logger(o, event, spec, &uris[ERR], ERR, false, err);
    return r;
}

static int open_all(struct stdio_opening *o, sd_event *event, const struct stdio_spec *spec, struct err *err) {
    const char *texts[N_STREAMS] = {spec->in, spec->out, spec->err};
    cleanup_uris struct uri uris[N_STREAMS] = {{0}};
    size_t n = spec->terminal ? ERR : N_STREAMS;
    for (size_t i = 0; i < N_STREAMS; i++)
        uris[i] = (struct uri){.name = names[i], .text = texts[i]};
    o->io.terminal = spec->terminal;
    int r = take_fds(spec, uris, &o->io, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = parse_uri(&uris[i], err);
    if (r == 0)
        r = open_paths(uris, n, &o->io, err);
    if (r == 0)
        r = start_loggers(o, event, spec, uris, n, err);
    if (r < 0)
        return r;
    r = sd_event_add_defer(event, &o->finished, on_finished, o);
    if (r >= 0 && (o->loggers[OUT] || o->loggers[ERR]))
        r = sd_event_source_set_enabled(o->finished, SD_EVENT_OFF);
    return r < 0 ? err_errno(err, -r, "cannot open stdio") : 0;
}

int stdio_open(sd_event *event, const struct stdio_spec *spec, stdio_done_fn done, void *userdata,
               struct stdio_opening **ret, struct err *err) {
    struct stdio_opening *o = calloc(1, sizeof(*o));
    if (!o) /* the request's fds go with its connection */
        return err_set(err, ENOMEM, "out of memory");
    o->io = PROCESS_STDIO_NONE;
    o->done = done;
    o->userdata = userdata;
    int r = open_all(o, event, spec, err);
    if (r < 0) {
        stdio_cancel(o);
        return r;
    }
    *ret = o;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <assert.h>
#include <fcntl.h>
#include <ini.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"

#define LINE_MAX_BYTES 4096 /* of one line; longer than any value may be */
#define MEMORY_MIN (UINT64_C(128) << 20)
#define MEMORY_MAX (UINT64_C(1) << 40)
#define MEMORY_STEP (UINT64_C(2) << 20)
#define CPUS_MAX 255
#define PIDS_LIMIT_MAX 4194304 /* PID_MAX_LIMIT of the kernel */

enum key_id {
    KEY_ACCEL,
    KEY_MEMORY,
    KEY_CPUS,
    KEY_MEMORY_MAX,
    KEY_CPUS_MAX,
    KEY_KERNEL_PARAMS,
    KEY_VMM_ROOT,
    KEY_GUEST,
    KEY_BOOT_TIMEOUT,
    KEY_TEMPLATE,
    KEY_RPC_TIMEOUT,
    KEY_DEBUG_CONSOLE,
    KEY_PIDS_LIMIT,
    KEY_ACL,
    KEY_CHECKPOINT_ENABLE,
    KEY_CHECKPOINT_TIMEOUT,
    KEY_CRIU_LOG_LEVEL,
    KEY_SNAPSHOT_DIR,
    KEY_TEMPLATE_DIR,
    KEY_NETWORK_MISSING,
    KEY_LOG_LEVEL,
    KEY_GUEST_CONSOLE,
    KEY_GUEST_LOG_MAX,
    KEY_COUNT,
};

/* docs/configuration.md has these texts word for word (tests/unit/base/test_config_doc.c). */
static const struct config_key keys[KEY_COUNT] = {
    [KEY_ACCEL] = {"vm", "accel", "auto, kvm or tcg", "auto",
                   "How the guest's CPU is run. auto: KVM where it is real, else TCG, which emulates and is slow."},
    [KEY_MEMORY] = {"vm", "memory", "size, 128M to 1T, a multiple of 2M", "2G", "Memory of the guest."},
    [KEY_CPUS] = {"vm", "cpus", "number, 1 to 255", "2", "CPUs of the guest."},
    [KEY_MEMORY_MAX] = {"vm", "memory_max", "size, 0 or 128M to 1T", "0",
                        "The most memory that annotations or a pod's limits may ask for. 0: what the host has."},
    [KEY_CPUS_MAX] = {"vm", "cpus_max", "number, 0 to 255", "0",
                      "The most CPUs that annotations or a pod's limits may ask for. 0: what the host has online."},
    [KEY_KERNEL_PARAMS] = {"vm", "kernel_params", "text, at most 1023 bytes of printable ASCII", "",
                           "Appended to the command line of the guest's kernel."},
    [KEY_VMM_ROOT] = {"vm", "vmm_root", "directory, absolute", "",
                      "The VMM root: QEMU and virtiofsd. Empty: the one that was installed beside the program."},
    [KEY_GUEST] =
        {"vm", "guest", "directory, absolute", "",
         "The guest: kernel, initramfs and root image. Empty: the one that was installed beside the program."},
    [KEY_BOOT_TIMEOUT] = {"vm", "boot_timeout", "seconds, 1 to 3600", "60",
                          "How long a guest may take until its agent answers, and then to be saved as a template."},
    [KEY_TEMPLATE] = {"vm", "template", "true or false", "true",
                      "Starts each VM as a copy of a template, which the first start makes. false: boots each."},
    [KEY_RPC_TIMEOUT] = {"agent", "timeout", "seconds, 1 to 3600", "60",
                         "How long the agent may take to answer a request that does not wait for a process."},
    [KEY_DEBUG_CONSOLE] = {"agent", "debug_console", "true or false", "false",
                           "Allows `stasis console`: a root shell in the guest, for those who may use stasis."},
    [KEY_PIDS_LIMIT] =
        {"container", "pids_limit", "number, 0 to 4194304", "2048",
         "The most processes and threads in a container whose specification has no limit. 0: unlimited."},
    [KEY_ACL] = {"container", "acl", "warn or refuse", "warn",
                 "What to do with a container on whose volumes POSIX ACLs are found, which do not count in its VM."},
    [KEY_CHECKPOINT_ENABLE] = {"checkpoint", "enable", "true or false", "true",
                               "Allows checkpointing containers and restoring them."},
    [KEY_CHECKPOINT_TIMEOUT] =
        {"checkpoint", "timeout", "seconds, 1 to 3600", "600",
         "How long a dump, its way to the disk, a restore in the guest, or a snapshot may take."},
    [KEY_CRIU_LOG_LEVEL] =
        {"checkpoint", "criu_log_level", "number, 0 to 4", "4",
         "How much of CRIU's messages dump.log and restore.log keep: errors (0, 1), warnings too (2), all (3, 4)."},
    [KEY_SNAPSHOT_DIR] = {"snapshot", "dir", "directory, absolute", "/var/lib/stasis/snapshots",
                          "Where snapshots are kept."},
    [KEY_TEMPLATE_DIR] = {"snapshot", "templates", "directory, absolute", "/var/lib/stasis/templates",
                          "Where templates are kept."},
    [KEY_NETWORK_MISSING] =
        {"network", "missing", "warn or refuse", "warn",
         "What to do with a container whose network namespace has interfaces, which it does not get in its VM."},
    [KEY_LOG_LEVEL] = {"log", "level", "error, warn, info or debug", "info",
                       "The least important messages that are logged, by the daemon and by the agent."},
    [KEY_GUEST_CONSOLE] = {"log", "guest_console", "true or false", "true",
                           "Writes the guest's console (kernel and agent) to the sandbox's log."},
    [KEY_GUEST_LOG_MAX] =
        {"log", "guest_log_max", "size, 64K to 1G", "1M",
         "The most that a guest's console takes of the log, and the errors of its QEMU and virtiofsd, each."},
};

static int set_accel(void *field, const char *value) {
    static const char *const names[] = {[ACCEL_AUTO] = "auto", [ACCEL_KVM] = "kvm", [ACCEL_TCG] = "tcg"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(value, names[i]) == 0) {
            *(enum accel *)field = (enum accel)i;
            return 0;
        }
    return -EINVAL;
}

static int set_memory(void *field, const char *value) {
    uint64_t v;
    if (parse_size(value, &v) < 0 || v < MEMORY_MIN || v > MEMORY_MAX || v % MEMORY_STEP)
        return -EINVAL;
    *(uint64_t *)field = v;
    return 0;
}

static int set_memory_max(void *field, const char *value) {
    uint64_t v;
    if (parse_size(value, &v) < 0 || (v != 0 && v < MEMORY_MIN) || v > MEMORY_MAX)
        return -EINVAL;
    *(uint64_t *)field = v;
    return 0;
}

static int set_cpus(void *field, const char *value) {
    uint64_t v;
    if (parse_u64(value, CPUS_MAX, &v) < 0 || v == 0)
        return -EINVAL;
    *(uint32_t *)field = (uint32_t)v;
    return 0;
}

static int set_cpus_max(void *field, const char *value) {
    uint64_t v;
    if (parse_u64(value, CPUS_MAX, &v) < 0)
        return -EINVAL;
    *(uint32_t *)field = (uint32_t)v;
    return 0;
}

static int set_pids_limit(void *field, const char *value) {
    uint64_t v;
    if (parse_u64(value, PIDS_LIMIT_MAX, &v) < 0)
        return -EINVAL;
    *(uint32_t *)field = (uint32_t)v;
    return 0;
}

static int set_kernel_params(void *field, const char *value) {
    size_t n = strlen(value);
    for (size_t i = 0; i < n; i++)
        if (value[i] < 0x20 || value[i] > 0x7e)
            return -EINVAL;
    if (n >= sizeof(((struct config *)NULL)->kernel_params))
        return -EINVAL;
    memcpy(field, value, n + 1);
    return 0;
}

static int set_directory(void *field, const char *value) {
    size_t n = strlen(value);
    if (n >= sizeof(((struct config *)NULL)->vmm_root) || (n && !path_is_normal(value)))
        return -EINVAL;
    memcpy(field, value, n + 1);
    return 0;
}

static int set_own_directory(void *field, const char *value) {
    return *value ? set_directory(field, value) : -EINVAL;
}

static int set_seconds(void *field, const char *value) {
    uint64_t v;
    if (parse_u64(value, 3600, &v) < 0 || v == 0)
        return -EINVAL;
    *(uint64_t *)field = v * USEC_PER_SEC;
    return 0;
}

static int set_bool(void *field, const char *value) {
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return -EINVAL;
    *(bool *)field = value[0] == 't';
    return 0;
}

static int set_refuse(void *field, const char *value) {
    if (strcmp(value, "warn") != 0 && strcmp(value, "refuse") != 0)
        return -EINVAL;
    *(bool *)field = value[0] == 'r';
    return 0;
}

static int set_criu_log_level(void *field, const char *value) {
    uint64_t v;
    if (parse_u64(value, 4, &v) < 0)
        return -EINVAL;
    *(uint32_t *)field = (uint32_t)v;
    return 0;
}

static int set_log_level(void *field, const char *value) {
    return log_level_parse(value, field);
}

static int set_log_size(void *field, const char *value) {
    uint64_t v;
    if (parse_size(value, &v) < 0 || v < UINT64_C(64) << 10 || v > UINT64_C(1) << 30)
        return -EINVAL;
    *(uint64_t *)field = v;
    return 0;
}

static const struct {
    int (*set)(void *field, const char *value);
    size_t offset;
} setters[KEY_COUNT] = {
    [KEY_ACCEL] = {set_accel, offsetof(struct config, accel)},
    [KEY_MEMORY] = {set_memory, offsetof(struct config, memory)},
    [KEY_CPUS] = {set_cpus, offsetof(struct config, cpus)},
    [KEY_MEMORY_MAX] = {set_memory_max, offsetof(struct config, memory_max)},
    [KEY_CPUS_MAX] = {set_cpus_max, offsetof(struct config, cpus_max)},
    [KEY_KERNEL_PARAMS] = {set_kernel_params, offsetof(struct config, kernel_params)},
    [KEY_VMM_ROOT] = {set_directory, offsetof(struct config, vmm_root)},
    [KEY_GUEST] = {set_directory, offsetof(struct config, guest_dir)},
    [KEY_BOOT_TIMEOUT] = {set_seconds, offsetof(struct config, boot_timeout)},
    [KEY_TEMPLATE] = {set_bool, offsetof(struct config, use_template)},
    [KEY_RPC_TIMEOUT] = {set_seconds, offsetof(struct config, rpc_timeout)},
    [KEY_DEBUG_CONSOLE] = {set_bool, offsetof(struct config, debug_console)},
    [KEY_PIDS_LIMIT] = {set_pids_limit, offsetof(struct config, pids_limit)},
    [KEY_ACL] = {set_refuse, offsetof(struct config, acl_refuse)},
    [KEY_CHECKPOINT_ENABLE] = {set_bool, offsetof(struct config, checkpoint_enable)},
    [KEY_CHECKPOINT_TIMEOUT] = {set_seconds, offsetof(struct config, checkpoint_timeout)},
    [KEY_CRIU_LOG_LEVEL] = {set_criu_log_level, offsetof(struct config, criu_log_level)},
    [KEY_SNAPSHOT_DIR] = {set_own_directory, offsetof(struct config, snapshot_dir)},
    [KEY_TEMPLATE_DIR] = {set_own_directory, offsetof(struct config, template_dir)},
    [KEY_NETWORK_MISSING] = {set_refuse, offsetof(struct config, network_refuse)},
    [KEY_LOG_LEVEL] = {set_log_level, offsetof(struct config, log_level)},
    [KEY_GUEST_CONSOLE] = {set_bool, offsetof(struct config, guest_console)},
    [KEY_GUEST_LOG_MAX] = {set_log_size, offsetof(struct config, guest_log_max)},
};

static_assert(sizeof(((struct config *)NULL)->vmm_root) == sizeof(((struct config *)NULL)->guest_dir),
              "set_directory() serves both");

uint64_t config_start_limit(const struct config *c) {
    return 3 * c->boot_timeout + c->rpc_timeout;
}

const struct config_key *config_keys(size_t *ret_n) {
    *ret_n = KEY_COUNT;
    return keys;
}

static int set_key(struct config *c, size_t k, const char *value) {
    return setters[k].set((char *)c + setters[k].offset, value);
}

void config_init(struct config *c) {
    *c = (struct config){0};
    /* The texts of the table are the defaults, so that the documentation cannot say anything else. */
    for (size_t k = 0; k < KEY_COUNT; k++) {
        int r = set_key(c, k, keys[k].default_text);
        assert(r == 0);
        (void)r;
    }
}

struct parser {
    struct config *config;
    const char *name; /* of the file */
    const char *next; /* what has not been handed to the library yet */
    int line;         /* number of the line it was given last */
    int seen[KEY_COUNT];
    bool failed;
    struct err *err;
};

static int fail(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Only the first error counts. Returns 0, as the handler does on failure. */
static int fail(struct parser *p, const char *fmt, ...) {
    if (p->failed)
        return 0;
    p->failed = true;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err_set(p->err, EINVAL, "%s:%d: %s", p->name, p->line, text);
    return 0;
}

/* Hands out one line, and counts it: the library does not tell the handler where it is. */
static char *read_line(char *buf, int size, void *stream) {
    struct parser *p = stream;
    if (!*p->next || p->failed)
        return NULL;
    p->line++;
    size_t n = strcspn(p->next, "\n");
    if (p->next[n] == '\n')
        n++;
    if (n >= (size_t)size || n >= LINE_MAX_BYTES) {
        fail(p, "longer than %d bytes", MIN(size, LINE_MAX_BYTES) - 1);
        return NULL;
    }
    memcpy(buf, p->next, n);
    buf[n] = '\0';
    p->next += n;
    return buf;
}

static int on_pair(void *user, const char *section, const char *name, const char *value) {
    struct parser *p = user;
    bool section_known = false;
    for (size_t k = 0; k < KEY_COUNT; k++) {
        if (strcmp(section, keys[k].section) != 0)
            continue;
        section_known = true;
        if (strcmp(name, keys[k].key) != 0)
            continue;
        if (p->seen[k])
            return fail(p, "%s is set a second time in [%s], the first was in line %d", name, section, p->seen[k]);
        p->seen[k] = p->line;
        if (set_key(p->config, k, value) < 0)
            return fail(p, "%s = \"%.200s\" in [%s]: must be %s", name, value, section, keys[k].type);
        return 1;
    }
    if (section_known)
        return fail(p, "unknown key \"%.100s\" in section [%s]", name, section);
    if (!*section)
        return fail(p, "\"%.100s\" stands before the first section", name);
    return fail(
        p,
        "unknown section [%.100s]; there are [vm], [agent], [container], [checkpoint], [snapshot], [network] and [log]",
        section);
}

int config_parse(struct config *c, const char *name, const char *text, struct err *err) {
    struct config copy = *c; /* unchanged on failure */
    struct parser p = {.config = &copy, .name = name, .next = text, .err = err};
    /* The library's own bound is 200 bytes, and without this it would cut longer lines in two. */
    ini_max_line = LINE_MAX_BYTES;
    ini_allow_multiline = false;
    ini_stop_on_first_error = true;
    int r = ini_parse_stream(read_line, &p, on_pair, &p);
    if (r > 0) /* a line that is no pair, section or comment; any other error has set its message already */
        fail(&p, "must be [section], key = value or a comment");
    if (r < 0)
        return err_set(err, ENOMEM, "%s: out of memory", name);
    if (p.failed)
        return -EINVAL;
    *c = copy;
    return 0;
}

int config_load(struct config *c, const char *path, struct err *err) {
    const char *file = path ? path : CONFIG_DEFAULT_PATH;
    config_init(c);
    cleanup_fd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 && errno == ENOENT && !path)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot open %s", file);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "cannot use %s: it is not a regular file", file);
    cleanup_free char *text = NULL;
    size_t len;
    int r = fd_read_all(fd, CONFIG_FILE_MAX, &text, &len, err);
    if (r < 0)
        return err_wrap(err, "cannot read %s", file);
    if (strlen(text) != len)
        return err_set(err, EINVAL, "%s: is not text, it has a NUL byte", file);
    return config_parse(c, file, text, err);
}

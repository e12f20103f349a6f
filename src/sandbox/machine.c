/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/machine.h"

#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "vm/qemu.h"
#include "vm/virtiofsd.h"

#define CPUINFO_MAX ((size_t)16 << 20)

void machine_clear(struct machine *m) {
    free(m->vmm_root);
    free(m->guest_dir);
    struct manifest_machine *d = &m->made;
    char *texts[] = {d->vmm, d->guest, d->type, d->accel, d->cpu, d->kernel_params};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        free(texts[i]);
    *m = (struct machine){0};
}

#define NAME_DIGEST_BYTES 8 /* of a digest that is part of a name */

/* PREFIX/lib/stasis/<kind>/<name>, from PREFIX/bin/<this program>, unless the configuration names a directory. Resolved
 * now, so that a later `make setup` does not change what a running sandbox stands on. */
static int find_dir(const char *configured, const char *kind, const char *name, const char *below, char **ret,
                    struct err *err) {
    cleanup_free char *own = NULL;
    int r = path_own_dir(&own, err);
    if (r < 0)
        return r;
    cleanup_free char *path =
        *configured ? strdup(configured) : str_printf("%s/../lib/stasis/%s/%s%s", own, kind, name, below);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    *ret = realpath(path, NULL);
    if (!*ret)
        return err_set(err, ENOENT, "no %s at %s: run make setup", strcmp(kind, "vmm") == 0 ? "VMM root" : "guest",
                       path);
    return 0;
}

/* The name of the directory that stands for the content: …/<hash> of a guest, …/<hash>/root of a VMM root. */
static char *content_name(const char *dir) {
    size_t len = strlen(dir);
    if (len > 5 && strcmp(dir + len - 5, "/root") == 0)
        len -= 5;
    size_t begin = len;
    while (begin > 0 && dir[begin - 1] != '/')
        begin--;
    return strndup(dir + begin, len - begin);
}

/* Everything the guest can see of the machine: the arguments of QEMU and virtiofsd, but for the sandbox's id. */
static int describe_type(const struct machine *m, char **ret, struct err *err) {
    cleanup_strv struct strv argv = {0};
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char text[2 * NAME_DIGEST_BYTES + 1];
    struct qemu_spec q = {.id = "-",
                          .accel = m->accel,
                          .memory = m->made.memory,
                          .cpus = m->made.cpus,
                          .guest_dir = "/guest",
                          .kernel_params = m->made.kernel_params,
                          .agent_debug = m->made.agent_debug};
    int r = qemu_argv(&q, &argv, err);
    if (r == 0)
        r = virtiofsd_argv(0, "/share", &argv, err);
    if (r < 0)
        return r;
    sha256_init(&sha);
    for (size_t i = 0; i < argv.n; i++)
        sha256_update(&sha, strlen(argv.v[i]) + 1, (const uint8_t *)argv.v[i]);
    sha256_digest(&sha, sizeof(digest), digest);
    hex_format(digest, NAME_DIGEST_BYTES, text);
    *ret = str_printf("q35:%s", text);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* QEMU's model; under KVM the guest has the host's CPU, so that is part of it. */
static int describe_cpu(enum accel accel, char **ret, struct err *err) {
    if (accel == ACCEL_TCG) {
        *ret = strdup("max");
        return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
    }
    cleanup_free char *text = NULL;
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char digest_text[2 * NAME_DIGEST_BYTES + 1];
    int r = file_read_at(AT_FDCWD, "/proc/cpuinfo", CPUINFO_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    static const char *const keys[] = {"vendor_id", "cpu family", "model", "model name", "stepping", "flags"};
    sha256_init(&sha);
    char *end = strstr(text, "\n\n"); /* the first CPU's */
    if (end)
        *end = '\0';
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
            if (strncmp(line, keys[i], strlen(keys[i])) == 0 && strchr("\t :", line[strlen(keys[i])]))
                sha256_update(&sha, strlen(line) + 1, (const uint8_t *)line);
    sha256_digest(&sha, sizeof(digest), digest);
    hex_format(digest, NAME_DIGEST_BYTES, digest_text);
    *ret = str_printf("host:%s", digest_text);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int describe(struct machine *m, const char *kernel_params, struct err *err) {
    m->made.vmm = content_name(m->vmm_root);
    m->made.guest = content_name(m->guest_dir);
    m->made.accel = strdup(m->accel == ACCEL_KVM ? "kvm" : "tcg");
    m->made.kernel_params = strdup(kernel_params);
    if (!m->made.vmm || !m->made.guest || !m->made.accel || !m->made.kernel_params)
        return err_set(err, ENOMEM, "out of memory");
    int r = describe_type(m, &m->made.type, err);
    return r < 0 ? r : describe_cpu(m->accel, &m->made.cpu, err);
}

int machine_here(const struct config *config, struct machine *ret, struct err *err) {
    cleanup_machine struct machine m = {
        .made = {.memory = config->memory, .cpus = config->cpus, .agent_debug = config->log_level >= LOG_LEVEL_DEBUG}};
    int r = find_dir(config->vmm_root, "vmm", "current", "/root", &m.vmm_root, err);
    if (r == 0)
        r = find_dir(config->guest_dir, "guest", "current", "", &m.guest_dir, err);
    if (r == 0)
        r = accel_resolve(config->accel, &m.accel, NULL, err);
    if (r == 0)
        r = describe(&m, config->kernel_params, err);
    if (r < 0)
        return r;
    *ret = m;
    m = (struct machine){0};
    return 0;
}

int machine_like(const struct config *config, const struct manifest_machine *saved, struct machine *ret,
                 struct err *err) {
    cleanup_machine struct machine m = {
        .made = {.memory = saved->memory, .cpus = saved->cpus, .agent_debug = saved->agent_debug}};
    /* The one it was made with may be there beside a newer one. */
    int r = find_dir(config->vmm_root, "vmm", saved->vmm, "/root", &m.vmm_root, NULL);
    if (r == -ENOENT)
        r = find_dir(config->vmm_root, "vmm", "current", "/root", &m.vmm_root, err);
    if (r == 0) {
        r = find_dir(config->guest_dir, "guest", saved->guest, "", &m.guest_dir, NULL);
        if (r == -ENOENT)
            r = find_dir(config->guest_dir, "guest", "current", "", &m.guest_dir, err);
    }
    if (r == 0)
        r = accel_resolve(config->accel, &m.accel, NULL, err);
    if (r == 0)
        r = describe(&m, saved->kernel_params, err);
    if (r == 0)
        r = manifest_check_machine(saved, &m.made, err);
    if (r < 0)
        return r;
    *ret = m;
    m = (struct machine){0};
    return 0;
}

int machine_check_snapshot(const struct config *config, int dir, struct err *err) {
    cleanup_manifest struct manifest manifest = {0};
    cleanup_machine struct machine m = {0};
    int r = manifest_read(dir, &manifest, err);
    return r < 0 ? r : machine_like(config, &manifest.machine, &m, err);
}

void machine_vm_spec(const struct machine *m, struct vm_spec *ret) {
    *ret = (struct vm_spec){.vmm_root = m->vmm_root,
                            .guest_dir = m->guest_dir,
                            .accel = m->accel,
                            .memory = m->made.memory,
                            .cpus = m->made.cpus,
                            .kernel_params = m->made.kernel_params,
                            .agent_debug = m->made.agent_debug};
}

void machine_template_name(const struct machine *m, char ret[ID_MAX + 1]) {
    const struct manifest_machine *d = &m->made;
    const char *const texts[] = {d->vmm, d->guest, d->type, d->accel, d->cpu, STASIS_VERSION};
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char text[2 * NAME_DIGEST_BYTES + 1];
    const uint8_t format = MANIFEST_VERSION;
    sha256_init(&sha); /* memory, CPUs and parameters are in the type */
    sha256_update(&sha, sizeof(format), &format);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        sha256_update(&sha, strlen(texts[i]) + 1, (const uint8_t *)texts[i]);
    sha256_digest(&sha, sizeof(digest), digest);
    hex_format(digest, NAME_DIGEST_BYTES, text);
    snprintf(ret, ID_MAX + 1, "%s-%lluM-%ucpu-%s", d->accel, (unsigned long long)(d->memory >> 20), d->cpus, text);
}

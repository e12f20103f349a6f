/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json: parsed, checked, rewritten. Mutations work on the tree, not on bytes: a value somewhere in a valid
 * specification is replaced, removed or doubled, so that the rewrite is reached and not only the JSON parser. Whatever
 * comes out must be a specification that is valid by our own rules and speaks of nothing on the host.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#define ID "c-1"
#define SOURCE_PREFIX OCI_GUEST_SHARE "/" ID "/mounts/"

static void require(bool good) {
    if (!good)
        abort();
}

/* A bind is from the share, or of one of the guest's own devices. */
static void check_mounts(const struct oci_guest_spec *g) {
    const json_t *mounts = json_object_get(g->spec, "mounts");
    size_t shares = 0;
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const json_t *m = json_array_get(mounts, i);
        const char *type = json_string_value(json_object_get(m, "type"));
        const char *source = json_string_value(json_object_get(m, "source"));
        require(type && source && json_string_value(json_object_get(m, "destination"))[0] == '/');
        if (strcmp(type, "bind") != 0)
            continue;
        bool share = strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) == 0;
        require(share || strncmp(source, "/dev/", 5) == 0);
        shares += share;
    }
    require(shares >= g->n_mounts); /* more: what is mounted below a read-only one is a mount of its own */
    for (size_t i = 0; i < g->n_mounts; i++)
        require(g->mounts[i].index == i && g->mounts[i].source[0] == '/');
}

static void check_linux(const struct oci_guest_spec *g) {
    const json_t *lin = json_object_get(g->spec, "linux");
    const json_t *list = json_object_get(lin, "namespaces");
    require(json_array_size(list) >= 2);
    for (size_t i = 0; i < json_array_size(list); i++)
        require(!json_object_get(json_array_get(list, i), "path"));
    require(strcmp(json_string_value(json_object_get(lin, "cgroupsPath")), "/stasis/" ID) == 0);
    require(!json_object_get(json_object_get(lin, "seccomp"), "listenerPath"));
}

static void rewrite(const json_t *spec) {
    cleanup_guest_spec struct oci_guest_spec g = {0};
    struct err err = ERR_INIT;
    int r = oci_spec_for_guest(spec, ID, "/", &g, &err);
    if (r < 0) {
        require(err.code == -r && err.msg[0] && !g.spec);
        return;
    }
    require(!json_object_get(g.spec, "annotations") && json_object_size(json_object_get(g.spec, "hooks")) <= 1);
    require(strcmp(json_string_value(json_object_get(json_object_get(g.spec, "root"), "path")),
                   OCI_GUEST_SHARE "/" ID "/rootfs") == 0);
    check_mounts(&g);
    check_linux(&g);
    require(oci_spec_validate(g.spec, &err) == 0);
    cleanup_free char *text = json_text(g.spec, 0);
    require(text != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_json json_t *spec = NULL, *process = NULL;
    cleanup_strv struct strv notes = {0};
    if (json_parse("fuzz", (const char *)data, size, &spec, NULL) < 0)
        return 0;
    oci_process_for_guest(spec, &process, &notes, NULL);
    cleanup_json json_t *before = json_deep_copy(spec);
    rewrite(spec);
    require(json_equal(spec, before));
    return 0;
}

/* What stands in specifications, and what should not. */
static const char *const values[] = {
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "5",
    "229",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "\"\"",
    "\"/\"",
    "\"..\"",
    "\"x\"",
    "\"bind\"",
    "\"rbind\"",
    "\"ro\"",
    "\"tmpfs\"",
    "\"proc\"",
    "\"size=1m\"",
    "\"none\"",
    "\"cgroup\"",
    "\"/proc\"",
    "\"/sys\"",
    "\"/dev/null\"",
    "\"/dev/fuse\"",
    "\"/tmp\"",
    "\"/etc/hosts\"",
    "\"user\"",
    "\"cgroup\"",
    "\"time\"",
    "\"uts\"",
    "\"c\"",
    "\"p\"",
    "\"a\"",
    "\"rwm\"",
    "\"CAP_KILL\"",
    "\"A=b\"",
    "\"RLIMIT_CORE\"",
    "\"SCMP_ACT_NOTIFY\"",
    "\"SCMP_ACT_ERRNO\"",
    "\"2MB\"",
    "\"rslave\"",
    "[]",
    "{}",
    "[\"\"]",
    "[0]",
    "{\"a.b\":\"c\"}",
    "{\"\":null}",
    "{\"path\":\"/bin/x\"}",
    "{\"type\":\"user\"}",
    "{\"limit\":1}",
    "{\"containerID\":0,\"hostID\":0,\"size\":1}",
    "{\"pageSize\":\"2MB\",\"limit\":1}",
    "{\"type\":\"c\",\"path\":\"/dev/fuse\",\"major\":10,\"minor\":229}",
    "{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/etc\",\"options\":[\"rbind\",\"ro\"]}",
    "{\"destination\":\"/sys\",\"type\":\"bind\",\"source\":\"/sys\"}",
    "{\"type\":\"RLIMIT_NOFILE\",\"hard\":-1,\"soft\":1}",
    "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"a\"],\"action\":\"SCMP_ACT_LOG\"}]}",
};

static const char *const keys[] = {
    "hooks",
    "prestart",
    "startContainer",
    "createContainer",
    "annotations",
    "uidMappings",
    "gidMappings",
    "devices",
    "seccomp",
    "sysctl",
    "memory",
    "cpu",
    "pids",
    "hugepageLimits",
    "unified",
    "blockIO",
    "limit",
    "cpus",
    "personality",
    "timeOffsets",
    "domain",
    "syscalls",
    "args",
    "env",
    "umask",
    "additionalGids",
    "consoleSize",
    "apparmorProfile",
    "oomScoreAdj",
    "scheduler",
    "ioPriority",
    "listenerPath",
    "rootfsPropagation",
    "path",
    "options",
    "vm",
    "new",
};

/* The n-th node of the tree below v, in depth-first order; *n counts down. */
static json_t *pick(json_t *v, unsigned *n) {
    if ((*n)-- == 0)
        return v;
    const char *key;
    json_t *child, *found = NULL;
    size_t i;
    if (json_is_object(v)) {
        json_object_foreach(v, key, child) {
            if (!found)
                found = pick(child, n);
        }
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, child) {
            if (!found)
                found = pick(child, n);
        }
    }
    return found;
}

/* A member's name: one that v has, or one that it might have. */
static const char *pick_key(json_t *v, unsigned r) {
    size_t n = json_object_size(v);
    if (n == 0 || r % 4 == 0)
        return keys[r / 4 % ARRAY_SIZE(keys)];
    void *it = json_object_iter(v);
    for (size_t skip = r / 4 % n; skip; skip--)
        it = json_object_iter_next(v, it);
    return json_object_iter_key(it);
}

static void mutate_node(json_t *v, unsigned r) {
    json_t *value = json_loads(values[r / 16 % ARRAY_SIZE(values)], JSON_DECODE_ANY, NULL);
    size_t n = json_array_size(v);
    if (json_is_object(v) && r % 16 == 0) {
        json_object_del(v, pick_key(v, r / 7));
        json_decref(value);
    } else if (json_is_object(v)) {
        json_object_set_new(v, pick_key(v, r / 7), value);
    } else if (json_is_array(v) && n && r % 16 < 3) {
        json_array_remove(v, r / 7 % n);
        json_decref(value);
    } else if (json_is_array(v) && n && r % 16 < 6) {
        json_array_append(v, json_array_get(v, r / 7 % n));
        json_decref(value);
    } else if (json_is_array(v)) {
        json_array_insert_new(v, n ? r / 7 % n : 0, value);
    } else {
        if (json_is_string(v) && json_is_string(value))
            json_string_set(v, json_string_value(value));
        if (json_is_integer(v) && json_is_integer(value))
            json_integer_set(v, json_integer_value(value));
        json_decref(value);
    }
}

/* Whole parts that the default specification lacks; random values rarely make one. Their insides are then mutated. */
static const struct {
    const char *in, *key, *json;
} grafts[] = {
    {"", "annotations", "{\"run.oci.handler\":\"wasm\"}"},
    {"", "domainname", "\"d\""},
    {"", "hooks",
     "{\"startContainer\":[{\"path\":\"/x\",\"args\":[\"x\"],\"env\":[\"A=b\"],\"timeout\":5}],\"poststop\":"
     "[{\"path\":\"/y\"}]}"},
    {"", "mounts",
     "[{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/etc\",\"options\":[\"rbind\",\"ro\","
     "\"rprivate\"]},{\"destination\":\"/y\",\"type\":\"tmpfs\",\"options\":[\"size=1m\",\"mode=1777\","
     "\"tmpcopyup\",\"silent\",\"lazytime\",\"context=x\"]},{\"destination\":\"/sys\",\"source\":\"/sys\","
     "\"options\":[\"rbind\"]},{\"destination\":\"/n\",\"type\":\"bind\",\"source\":\"/dev/null\"}]"},
    {"process", "user", "{\"uid\":1,\"gid\":2,\"umask\":18,\"additionalGids\":[3]}"},
    {"process", "scheduler", "{\"policy\":\"SCHED_FIFO\",\"priority\":1,\"flags\":[\"x\"]}"},
    {"process", "selinuxLabel", "\"x\""},
    {"linux", "namespaces",
     "[{\"type\":\"network\",\"path\":\"/run/netns/x\"},{\"type\":\"mount\"},{\"type\":\"user\"},"
     "{\"type\":\"uts\"}]"},
    {"linux", "uidMappings", "[{\"containerID\":0,\"hostID\":4294967295,\"size\":1}]"},
    {"linux", "gidMappings", "[{\"containerID\":0,\"hostID\":0,\"size\":4294967295}]"},
    {"linux", "devices",
     "[{\"type\":\"c\",\"path\":\"/dev/fuse\",\"major\":10,\"minor\":229},{\"type\":\"p\",\"path\":"
     "\"/p\"}]"},
    {"linux", "seccomp",
     "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"listenerPath\":\"\",\"syscalls\":[{\"names\":[\"a\"],"
     "\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":-1,\"op\":\"SCMP_CMP_EQ\"}]}]}"},
    {"linux", "sysctl", "{\"net.x\":\"1\"}"},
    {"linux", "rootfsPropagation", "\"rslave\""},
    {"linux", "timeOffsets", "{\"monotonic\":{\"secs\":1,\"nanosecs\":2}}"},
    {"linux", "resources",
     "{\"devices\":[{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":-1,\"access\":\"rwm\"}],"
     "\"memory\":{\"limit\":1,\"swappiness\":5},\"cpu\":{\"shares\":1,\"cpus\":\"0\"},\"pids\":{"
     "\"limit\":1},\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":1}],\"unified\":{"
     "\"memory.high\":\"1\"},\"blockIO\":{\"weight\":10}}"},
};

static void graft(json_t *spec, unsigned r) {
    r %= ARRAY_SIZE(grafts);
    json_t *to = *grafts[r].in ? json_object_get(spec, grafts[r].in) : spec;
    json_object_set_new(to, grafts[r].key, json_loads(grafts[r].json, JSON_DECODE_ANY, NULL));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    srand(seed);
    if (rand() % 32 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    cleanup_json json_t *spec = NULL;
    if (json_parse("seed", (const char *)data, size, &spec, NULL) < 0) {
        spec = oci_spec_default();
        json_object_set_new(json_object_get(spec, "root"), "path", json_string("/"));
    }
    if (rand() % 2)
        graft(spec, (unsigned)rand());
    for (int i = rand() % 4; i > 0; i--) {
        unsigned n = (unsigned)rand() % 200;
        json_t *node = pick(spec, &n);
        mutate_node(node ? node : spec, (unsigned)rand());
    }
    cleanup_free char *text = json_text(spec, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0;
    if (len == 0 || len > max_size)
        return LLVMFuzzerMutate(data, size, max_size);
    memcpy(data, text, len);
    return len;
}

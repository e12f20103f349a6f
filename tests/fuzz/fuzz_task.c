/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every request a sandbox daemon takes, on one connection, in any order: Task in both versions and Sandbox. The input
 * is a sequence of orders: which method, the payload, and what the guest does. Before the payload may go a valid
 * message of the method's (protobuf merges the two), so that an order of four bytes is a call that works, and the
 * payload changes fields of it. The VM is a stand-in whose agent answers, refuses, or never answers. Needs root
 * (scratch_root.h).
 */
#include <systemd/sd-event.h>

#include "scratch_root.h"

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "oci/spec.h"
#include "proto/agent.pb-c.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"
#include "proto/ttrpc.pb-c.h"
#include "sandbox/logger.h"
#include "shim/notify.h"
#include "shim/service.h"
#include "ttrpc/frame.h"
#include "vm/vm.h"

#include "../unit/shim/vm_no_snapshots.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ORDERS_MAX 40
#define TURNS_MAX 400 /* of the loop, per order */
#define HELD_MAX 64
#define CANNED_MAX 1024

static void require(bool ok) {
    if (!ok)
        abort();
}

/* ---- the guest ---- */

static struct {
    const struct vm_ops *ops;
    void *userdata;
    struct ttrpc_server *agent;
    struct ttrpc_request *held[HELD_MAX]; /* not answered */
    size_t n_held;
    bool silent, refuses, vm_fails;
    bool running;
} guest;

static void refuse(struct ttrpc_request *req) {
    struct err err = ERR_INIT;
    err_set(&err, EIO, "the agent refuses");
    ttrpc_fail(req, &err);
}

static void hold(struct ttrpc_request *req) {
    if (guest.n_held < HELD_MAX)
        guest.held[guest.n_held++] = req;
    else
        refuse(req);
}

static void answer_held(bool ok) {
    while (guest.n_held > 0) {
        struct ttrpc_request *req = guest.held[--guest.n_held];
        if (ok)
            ttrpc_reply(req, NULL);
        else
            refuse(req);
    }
}

static void on_any(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    (void)userdata;
    if (guest.silent)
        hold(req);
    else if (guest.refuses)
        refuse(req);
    else
        ttrpc_reply(req, NULL);
}

static void on_long(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    (void)in;
    (void)userdata;
    hold(req);
}

static void on_hello(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    Stasis__Agent__V1__HelloResponse out = STASIS__AGENT__V1__HELLO_RESPONSE__INIT;
    out.version = 1;
    if (guest.silent || guest.refuses)
        on_any(req, in, userdata);
    else
        ttrpc_reply(req, &out.base);
}

static void on_read(struct ttrpc_request *req, const ProtobufCMessage *in, void *userdata) {
    Stasis__Agent__V1__ReadResponse out = STASIS__AGENT__V1__READ_RESPONSE__INIT;
    static unsigned n;
    out.data.data = (uint8_t *)(uintptr_t) "output\n";
    out.data.len = 7;
    if (n++ % 4 == 3) { /* not without end */
        out.data.len = 0;
        out.eof = true;
    }
    if (guest.silent || guest.refuses)
        on_any(req, in, userdata);
    else
        ttrpc_reply(req, &out.base);
}

static const struct ttrpc_handler agent_handlers[] = {
    {"Hello", on_hello},        {"CreateContainer", on_any},
    {"StartContainer", on_any}, {"DeleteContainer", on_any},
    {"Exec", on_any},           {"DeleteProcess", on_any},
    {"Signal", on_any},         {"Wait", on_long},
    {"Read", on_read},          {"Write", on_any},
    {"CloseStdin", on_any},     {"CloseOutput", on_any},
    {"Resize", on_any},         {"Pause", on_any},
    {"Resume", on_any},         {"Update", on_any},
    {"Processes", on_any},      {"Stats", on_any},
    {"Events", on_long},        {"Check", on_any},
    {"Console", on_any},        {NULL, NULL},
};

static const struct ttrpc_service agent_service = {.desc = &stasis__agent__v1__agent__descriptor,
                                                   .handlers = agent_handlers};

int vm_start(sd_event *event, const struct vm_spec *spec, const struct vm_ops *ops, void *userdata, struct vm **ret,
             int *ret_agent_fd, struct err *err) {
    int fds[2];
    (void)spec;
    if (guest.vm_fails)
        return err_set(err, EIO, "QEMU would not start");
    require(!guest.running && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    require(ttrpc_server_new(event, &guest.agent, err) == 0);
    require(ttrpc_server_add(guest.agent, &agent_service, NULL, err) == 0);
    require(ttrpc_server_add_channel(guest.agent, fds[0], err) == 0);
    guest.ops = ops;
    guest.userdata = userdata;
    guest.running = true;
    *ret_agent_fd = fds[1];
    *ret = (struct vm *)(void *)&guest;
    return 0;
}

struct vm *vm_free(struct vm *vm) {
    if (!vm)
        return NULL;
    guest.running = false;
    guest.agent = ttrpc_server_free(guest.agent);
    answer_held(false);
    return NULL;
}

pid_t vm_qemu_pid(const struct vm *vm) {
    (void)vm;
    return 2;
}

pid_t vm_virtiofsd_pid(const struct vm *vm) {
    (void)vm;
    return 3;
}

const char *vm_console_tail(struct vm *vm) {
    (void)vm;
    return "a line of the console";
}

int accel_resolve(enum accel want, enum accel *ret, const char **ret_reason, struct err *err) {
    (void)want;
    (void)ret_reason;
    (void)err;
    *ret = ACCEL_TCG;
    return 0;
}

/* ---- what acts on the host and is not for an input to use ---- */

int logger_start(sd_event *event, const struct logger_spec *spec, logger_ready_fn ready, void *userdata,
                 struct logger **ret, struct err *err) {
    (void)event;
    (void)ready;
    (void)userdata;
    (void)ret;
    return err_set(err, ENOENT, "cannot run %s", spec->argv->v[0]);
}

struct logger *logger_cancel(struct logger *l) {
    require(!l);
    return NULL;
}

int cgroup_remove(const char *dir, struct err *err) {
    (void)dir, (void)err;
    return 0;
}

int cgroup_enter(const char *cgroups_path, struct cgroup_place **ret, struct err *err) {
    *ret = NULL;
    return strlen(cgroups_path) % 2 ? 0 : err_set(err, EROFS, "cgroups are read-only");
}

void cgroup_leave(struct cgroup_place *place) {
    require(!place);
}

/* ---- the requests ---- */

static const struct {
    const ProtobufCServiceDescriptor *desc;
    const char *name;
} services[] = {
    {&containerd__task__v2__task__descriptor, "containerd.task.v2.Task"},
    {&containerd__task__v2__task__descriptor, "containerd.task.v3.Task"},
    {&stasis__sandbox__v1__sandbox__descriptor, "stasis.sandbox.v1.Sandbox"},
};

static char *text(const char *s) {
    return (char *)(uintptr_t)s;
}

/* Gives a field of the message its valid value, if it has one of this name. */
static void set_string(ProtobufCMessage *m, const char *field, const char *value) {
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, field);
    if (f && f->type == PROTOBUF_C_TYPE_STRING && f->label != PROTOBUF_C_LABEL_REPEATED)
        *(char **)(void *)((char *)m + f->offset) = text(value);
}

/* A request of the method that would work, encoded; `exec` has it about an exec. The fields that requests share are
 * found by their names; the rest is each one's own. */
static size_t canned(const ProtobufCMethodDescriptor *method, bool exec, uint8_t buf[CANNED_MAX]) {
    static const char process[] = "{\"args\":[\"sh\"],\"cwd\":\"/\"}", resources[] = "{\"memory\":{\"limit\":1048576}}";
    union {
        ProtobufCMessage base;
        Containerd__Task__V2__CreateTaskRequest create;
        Containerd__Task__V2__ExecProcessRequest exec;
        Containerd__Task__V2__UpdateTaskRequest update;
        Containerd__Task__V2__KillRequest kill;
        Containerd__Task__V2__CloseIORequest close_io;
        char room[512];
    } m;
    Containerd__Task__V2__Any any = CONTAINERD__TASK__V2__ANY__INIT;
    Containerd__Task__V2__Mount bind = CONTAINERD__TASK__V2__MOUNT__INIT, *mounts[] = {&bind};
    require(method->input->sizeof_message <= sizeof(m));
    protobuf_c_message_init(method->input, &m.base);
    set_string(&m.base, "id", exec && strcmp(method->name, "Console") == 0 ? "" : "c1");
    set_string(&m.base, "exec_id", exec ? "e1" : "");
    set_string(&m.base, "bundle", "/bundle");
    set_string(&m.base, "path", "/checkpoint");
    if (method->input == &containerd__task__v2__create_task_request__descriptor) {
        bind.type = text("bind");
        bind.source = text("/image");
        m.create.rootfs = mounts;
        m.create.n_rootfs = exec;
        m.create.stdin = text("/in");
        m.create.stdout = text("/out");
        m.create.stderr = text("file:///logs/err");
    } else if (method->input == &containerd__task__v2__exec_process_request__descriptor) {
        any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/Process");
        any.value = (ProtobufCBinaryData){sizeof(process) - 1, (uint8_t *)text(process)};
        m.exec.exec_id = text("e1");
        m.exec.stdout = text(exec ? "fd://" : "");
        m.exec.spec = &any;
    } else if (method->input == &containerd__task__v2__update_task_request__descriptor) {
        any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/LinuxResources");
        any.value = (ProtobufCBinaryData){sizeof(resources) - 1, (uint8_t *)text(resources)};
        m.update.resources = &any;
    } else if (method->input == &containerd__task__v2__kill_request__descriptor) {
        m.kill.signal = 9;
    } else if (method->input == &containerd__task__v2__close_iorequest__descriptor) {
        m.close_io.stdin = true;
    } else if (strcmp(method->name, "Console") == 0) {
        set_string(&m.base, "exec_id", "con");
    }
    require(protobuf_c_message_get_packed_size(&m.base) <= CANNED_MAX);
    return protobuf_c_message_pack(&m.base, buf);
}

/* ---- the daemon ---- */

struct daemon {
    sd_event *event;
    struct service s;
    struct config config;
    int client;
    uint32_t stream;
};

static void put_file(const char *path, const char *content) {
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && fd_write_all(fd, content, strlen(content)) == 0);
}

static const char *default_config;

static void furnish(void) {
    require(mkdir("/bundle", 0700) == 0 && mkdir("/bundle/rootfs", 0755) == 0 && mkdir("/image", 0755) == 0);
    require(mkdir("/box", 0700) == 0 && mkfifo("/in", 0600) == 0 && mkfifo("/out", 0600) == 0);
    put_file("/bundle/config.json", default_config);
}

static void reconnect(struct daemon *d) {
    struct err err = ERR_INIT;
    int fds[2];
    fd_close(d->client);
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    require(ttrpc_server_add_plain(d->s.server, fds[0], &err) == 0);
    d->client = fds[1];
    d->stream = 1;
}

static bool ended(const struct daemon *d) {
    int code;
    return sd_event_get_exit_code(d->event, &code) >= 0;
}

static void turn(struct daemon *d) {
    static uint8_t sink[1 << 16];
    for (int i = 0; i < TURNS_MAX && !ended(d) && sd_event_run(d->event, 0) > 0; i++)
        while (recv(d->client, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            continue;
}

/* serve.c's: this daemon is used until its input ends. */
void service_end_if_unused(struct service *s) {
    (void)s;
}

static void begin(struct daemon *d, uint8_t how) {
    struct err err = ERR_INIT;
    struct publisher_spec publisher = {.ttrpc_address = "/events.sock", .namespace = "ns"};
    config_init(&d->config);
    d->config.use_template = false;
    d->config.accel = ACCEL_TCG;
    d->config.debug_console = how & 1;
    d->config.log_level = LOG_LEVEL_ERROR;
    snprintf(d->config.vmm_root, sizeof(d->config.vmm_root), "/image");
    snprintf(d->config.guest_dir, sizeof(d->config.guest_dir), "/image");
    d->s.config = &d->config;
    d->s.namespace = how & 2 ? "ns" : NULL;
    require(sd_event_new(&d->event) >= 0);
    d->s.event = d->event;
    if (how & 4)
        require(publisher_new(d->event, &publisher, &d->s.publisher, &err) == 0);
    guest.vm_fails = how & 8;
    struct sandbox_spec spec = {.id = "box", .dir = "/box", .config = &d->config, .host = HOST_NAMESPACES_NONE};
    require(sandbox_new(d->event, &spec, &d->s.sb, &err) == 0);
    require(ttrpc_server_new(d->event, &d->s.server, &err) == 0);
    require(service_add_task(&d->s, &err) == 0 && service_add_control(&d->s, &err) == 0);
    reconnect(d);
}

static void end(struct daemon *d) {
    turn(d);
    d->s.sb = sandbox_free(d->s.sb);
    notify_clear(&d->s);
    publisher_free(d->s.publisher);
    ttrpc_server_free(d->s.server);
    fd_close(d->client);
    sd_event_unref(d->event);
    require(!guest.running && guest.n_held == 0);
}

/* One request with an fd beside it, if it fits into the socket. */
static void send_request(struct daemon *d, const char *service, const char *method, const uint8_t *payload, size_t len,
                         bool with_fd) {
    Ttrpc__Request req = TTRPC__REQUEST__INIT;
    req.service = text(service);
    req.method = text(method);
    req.payload = (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)payload};
    struct ttrpc_header h = {
        .length = (uint32_t)ttrpc__request__get_packed_size(&req), .stream = d->stream, .type = TTRPC_REQUEST};
    cleanup_free uint8_t *frame = malloc(TTRPC_HEADER_SIZE + h.length);
    require(frame);
    d->stream += 2;
    ttrpc_header_encode(&h, frame);
    ttrpc__request__pack(&req, frame + TTRPC_HEADER_SIZE);
    int pipe_fds[2] = {-1, -1};
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = frame, .iov_len = TTRPC_HEADER_SIZE + h.length};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (with_fd) {
        require(pipe2(pipe_fds, O_CLOEXEC) == 0);
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pipe_fds[1], sizeof(int));
    }
    /* The rest of one that does not fit is never sent: the connection is of no more use. */
    if (sendmsg(d->client, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)iov.iov_len)
        reconnect(d);
    fd_close(pipe_fds[0]);
    fd_close(pipe_fds[1]);
}

enum {
    HOW_CANNED = 1,   /* the payload goes behind a valid message */
    HOW_EXEC = 2,     /* which is about an exec */
    HOW_PIPELINE = 4, /* do not wait for the answer */
    HOW_GUEST = 24,   /* two bits: it answers, refuses, is silent, or answers what it held back */
    HOW_FD = 32,
    HOW_AFTER = 192, /* two bits: nothing; the guest dies; a new connection; what was held back fails */
};

static void order(struct daemon *d, uint8_t which, uint8_t how, const uint8_t *payload, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(services); i++)
        n += services[i].desc->n_methods;
    size_t service = 0, method = which % n;
    while (method >= services[service].desc->n_methods)
        method -= services[service++].desc->n_methods;
    const ProtobufCMethodDescriptor *m = &services[service].desc->methods[method];

    guest.refuses = (how & HOW_GUEST) == 8;
    guest.silent = (how & HOW_GUEST) == 16;
    if ((how & HOW_GUEST) == HOW_GUEST)
        answer_held(true);
    /* The end of the loop, which these may bring, is the end of the process: what else is under way is not freed. */
    bool last = strcmp(m->name, "Shutdown") == 0 || strcmp(m->name, "Remove") == 0;
    if (last)
        turn(d);
    cleanup_free uint8_t *buf = malloc(CANNED_MAX + len);
    require(buf);
    size_t at = how & HOW_CANNED ? canned(m, how & HOW_EXEC, buf) : 0;
    if (len)
        memcpy(buf + at, payload, len);
    if (!ended(d))
        send_request(d, services[service].name, m->name, buf, at + len, how & HOW_FD);
    if (last || !(how & HOW_PIPELINE))
        turn(d);
    if ((how & HOW_AFTER) == 64 && guest.running) {
        struct err err = ERR_INIT;
        err_set(&err, EIO, "QEMU was killed");
        guest.ops->died(guest.userdata, &err);
    } else if ((how & HOW_AFTER) == 128) {
        turn(d);
        reconnect(d);
    } else if ((how & HOW_AFTER) == HOW_AFTER) {
        answer_held(false);
    }
}

/* Orders: which, how, then a length of two bytes, then as many bytes as there are. */
static void play(struct daemon *d, const uint8_t *data, size_t size) {
    for (int i = 0; i < ORDERS_MAX && size >= 4 && !ended(d); i++) {
        size_t len = MIN((size_t)data[2] << 8 | data[3], size - 4);
        order(d, data[0], data[1], data + 4, len);
        data += 4 + len;
        size -= 4 + len;
    }
}

static void run(const uint8_t *data, size_t size) {
    struct daemon d = {.client = -1};
    memset(&guest, 0, sizeof(guest));
    scratch_enter();
    furnish();
    begin(&d, data[0]);
    scratch.mounts = 0;
    play(&d, data + 1, size - 1);
    end(&d);
    scratch_leave();
}

/* ---- what the fuzzer starts from ---- */

static void put_order(uint8_t **at, uint8_t which, uint8_t how, const uint8_t *payload, size_t len) {
    *(*at)++ = which;
    *(*at)++ = how;
    *(*at)++ = (uint8_t)(len >> 8);
    *(*at)++ = (uint8_t)len;
    memcpy(*at, payload, len);
    *at += len;
}

/* The request of the Task service with this name. */
static uint8_t task_method(const char *name) {
    for (uint8_t i = 0; i < services[0].desc->n_methods; i++)
        if (strcmp(services[0].desc->methods[i].name, name) == 0)
            return i;
    abort();
}

/* An input: this method, with a container and an exec that run, or (alive false) without; its message spelled out, for
 * the fuzzer to change. */
static size_t seed(const ProtobufCMethodDescriptor *m, uint8_t which, bool alive, bool exec, uint8_t *buf) {
    uint8_t payload[CANNED_MAX], *at = buf;
    *at++ = 7;
    if (alive) {
        put_order(&at, task_method("Create"), HOW_CANNED, payload, 0);
        put_order(&at, task_method("Start"), HOW_CANNED, payload, 0);
        put_order(&at, task_method("Exec"), HOW_CANNED, payload, 0);
        put_order(&at, task_method("Start"), HOW_CANNED | HOW_EXEC, payload, 0);
    }
    put_order(&at, which, HOW_FD, payload, canned(m, exec, payload));
    put_order(&at, task_method("State"), HOW_CANNED | HOW_GUEST, payload, 0);
    put_order(&at, task_method("Delete"), HOW_CANNED, payload, 0);
    return (size_t)(at - buf);
}

/* Into the corpus, where there is one; else they are played once. */
static void plant_seeds(const char *corpus) {
    uint8_t which = 0, buf[CANNED_MAX + 128];
    for (size_t i = 0; i < ARRAY_SIZE(services); i++)
        for (size_t k = 0; k < services[i].desc->n_methods; k++, which++)
            for (unsigned form = i == 1 ? 3 : 0; form < 4; form++) { /* v3 has v2's handlers */
                size_t len = seed(&services[i].desc->methods[k], which, form & 1, form & 2, buf);
                if (!corpus) {
                    run(buf, len);
                    continue;
                }
                cleanup_free char *path = str_printf("%s/seed-%u-%u", corpus, which, form);
                cleanup_fd int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
                require(fd >= 0 && fd_write_all(fd, buf, len) == 0);
            }
}

/* The first argument that is no option, if it is a directory. */
static const char *find_corpus(int argc, char **argv) {
    struct stat st;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            return stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode) ? argv[i] : NULL;
    return NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *corpus = find_corpus(*argc, *argv);
    cleanup_json json_t *spec = oci_spec_default();
    require(json_object_set_new(json_object_get(spec, "process"), "terminal", json_false()) == 0);
    default_config = json_text(spec, JSON_COMPACT);
    require(default_config);
    signal(SIGPIPE, SIG_IGN);
    log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (!scratch_init()) {
        fprintf(stderr, "fuzz_task: it needs to be root, and did nothing\n");
        exit(0);
    }
    plant_seeds(corpus);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0)
        run(data, size);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trips of a task's calls at a shim's socket, any shim's that serves containerd.task.v2.Task. For bench.py.
 *
 * Usage: task_rtt SOCKET ID State|Connect|Kill CALLS. Prints the median in microseconds.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/fd.h"
#include "base/util.h"
#include "proto/task.pb-c.h"
#include "ttrpc/client.h"

#define CALLS_MAX 1000000
#define CALL_USEC (UINT64_C(10) * USEC_PER_SEC)

typedef Containerd__Task__V2__StateRequest StateRequest;
typedef Containerd__Task__V2__KillRequest KillRequest;
typedef Containerd__Task__V2__ConnectRequest ConnectRequest;

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int measure(struct ttrpc_client *client, const char *method, const ProtobufCMessage *request, size_t n,
                   struct err *err) {
    cleanup_free double *took = calloc(n, sizeof(*took));
    if (!took)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        double start = now();
        int r = ttrpc_client_call_sync(client, &containerd__task__v2__task__descriptor, method, request, NULL, 0,
                                       CALL_USEC, NULL, err);
        if (r < 0)
            return err_wrap(err, "%s", method);
        took[i] = now() - start;
    }
    qsort(took, n, sizeof(*took), compare);
    printf("%.1f\n", took[n / 2]);
    return 0;
}

/* Each of these can be called again and again, and changes nothing: SIGCONT does not, and 0 is no signal to a shim. */
static int measure_named(struct ttrpc_client *client, const char *method, const char *id, size_t n, struct err *err) {
    StateRequest state = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
    ConnectRequest conn = CONTAINERD__TASK__V2__CONNECT_REQUEST__INIT;
    KillRequest kill = CONTAINERD__TASK__V2__KILL_REQUEST__INIT;
    state.id = conn.id = kill.id = (char *)(uintptr_t)id;
    kill.signal = SIGCONT;
    const struct {
        const char *name;
        const ProtobufCMessage *request;
    } methods[] = {{"State", &state.base}, {"Connect", &conn.base}, {"Kill", &kill.base}};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (strcmp(methods[i].name, method) == 0)
            return measure(client, method, methods[i].request, n, err);
    return err_set(err, EINVAL, "%s: must be State, Connect or Kill", method);
}

static int run(const char *path, const char *id, const char *method, size_t n, struct err *err) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path))
        return err_set(err, EINVAL, "%s is too long", path);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_errno(err, errno, "cannot connect to %s", path);
    sd_event *event = NULL;
    struct ttrpc_client *client = NULL;
    int r = sd_event_new(&event);
    if (r < 0)
        return err_errno(err, -r, "cannot create an event loop");
    r = ttrpc_client_new_plain(event, TAKE_FD(fd), NULL, NULL, &client, err);
    if (r == 0)
        r = measure_named(client, method, id, n, err);
    ttrpc_client_free(client);
    sd_event_unref(event);
    return r;
}

int main(int argc, char **argv) {
    struct err err = ERR_INIT;
    uint64_t n;
    if (argc != 5 || parse_u64(argv[4], CALLS_MAX, &n) < 0 || n == 0) {
        fprintf(stderr, "usage: task_rtt SOCKET ID METHOD CALLS\n");
        return 2;
    }
    if (run(argv[1], argv[2], argv[3], n, &err) < 0) {
        fprintf(stderr, "task_rtt: %s\n", err.msg);
        return 1;
    }
    return 0;
}

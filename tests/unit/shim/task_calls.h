/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the Task service about one container, "c1". */
#pragma once

#include "daemon.h"

#include "sandbox/container.h"
#include "sandbox/process.h"

typedef Containerd__Task__V2__Any any_t;

static inline Containerd__Task__V2__CreateTaskRequest create_request(const struct daemon *d) {
    Containerd__Task__V2__CreateTaskRequest req = CONTAINERD__TASK__V2__CREATE_TASK_REQUEST__INIT;
    req.id = text("c1");
    req.bundle = d->bundle;
    return req;
}

static inline void create(struct daemon *d) {
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
}

static inline int simple(struct daemon *d, const char *method, const char *exec_id) {
    /* State, Start, Delete and Wait have the same fields. */
    Containerd__Task__V2__StartRequest start = CONTAINERD__TASK__V2__START_REQUEST__INIT;
    Containerd__Task__V2__DeleteRequest del = CONTAINERD__TASK__V2__DELETE_REQUEST__INIT;
    Containerd__Task__V2__PauseRequest pause_req = CONTAINERD__TASK__V2__PAUSE_REQUEST__INIT;
    Containerd__Task__V2__ResumeRequest resume = CONTAINERD__TASK__V2__RESUME_REQUEST__INIT;
    start.id = del.id = pause_req.id = resume.id = text("c1");
    start.exec_id = del.exec_id = text(exec_id);
    return daemon_call(d, method,
                       !strcmp(method, "Start")    ? &start.base
                       : !strcmp(method, "Delete") ? &del.base
                       : !strcmp(method, "Pause")  ? &pause_req.base
                                                   : &resume.base,
                       NULL);
}

static inline void must(struct daemon *d, const char *method, const char *exec_id) {
    if (simple(d, method, exec_id) < 0)
        fail_msg("%s: %s", method, d->err.msg);
}

static inline Containerd__Task__V2__Status status_of(struct daemon *d, const char *exec_id, uint32_t *ret_exit) {
    Containerd__Task__V2__StateRequest req = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
    Containerd__Task__V2__StateResponse *out = NULL;
    req.id = text("c1");
    req.exec_id = text(exec_id);
    if (daemon_call(d, "State", &req.base, &out) < 0)
        fail_msg("%s", d->err.msg);
    assert_string_equal(out->id, "c1");
    assert_string_equal(out->exec_id, exec_id);
    assert_string_equal(out->bundle, d->bundle);
    assert_true(*exec_id ? out->pid > 1 : out->pid == monitor_of(d, "c1"));
    Containerd__Task__V2__Status status = out->status;
    assert_int_equal(out->exited_at != NULL, status == CONTAINERD__TASK__V2__STATUS__STOPPED);
    if (ret_exit)
        *ret_exit = out->exit_status;
    containerd__task__v2__state_response__free_unpacked(out, NULL);
    return status;
}

static inline int kill_it(struct daemon *d, const char *exec_id, uint32_t signo, bool all) {
    Containerd__Task__V2__KillRequest req = CONTAINERD__TASK__V2__KILL_REQUEST__INIT;
    req.id = text("c1");
    req.exec_id = text(exec_id);
    req.signal = signo;
    req.all = all;
    return daemon_call(d, "Kill", &req.base, NULL);
}

static inline void start_wait(struct daemon *d, struct ttrpc_client *client, const char *exec_id, struct later *l) {
    Containerd__Task__V2__WaitRequest req = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
    req.id = text("c1");
    req.exec_id = text(exec_id);
    start_call(d, client, TASK, "Wait", &req.base, l);
}

static inline void expect_exit(struct daemon *d, struct later *l, uint32_t status) {
    RUN_UNTIL(d->event, l->n);
    if (!l->reply)
        fail_msg("%s", l->err.msg);
    assert_int_equal(((Containerd__Task__V2__WaitResponse *)l->reply)->exit_status, status);
    protobuf_c_message_free_unpacked(TAKE_PTR(l->reply), NULL);
}

/* Another one, so that the daemon goes on. */
static inline void create_c2(struct daemon *d) {
    Containerd__Task__V2__CreateTaskRequest req = create_request(d);
    req.id = text("c2");
    if (daemon_call(d, "Create", &req.base, NULL) < 0)
        fail_msg("%s", d->err.msg);
    /* The mock has one process at a time to wait for. */
    RUN_UNTIL(d->event, the_agent()->waiter);
    mock_fail(&the_agent()->waiter, EIO, "forgotten");
    RUN_UNTIL(d->event, process_get_exit(container_find(sandbox_find(d->s.sb, "c2"), "")));
}

static inline int add_exec(struct daemon *d, const char *exec_id) {
    Containerd__Task__V2__ExecProcessRequest req = CONTAINERD__TASK__V2__EXEC_PROCESS_REQUEST__INIT;
    any_t any = CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = text("types.containerd.io/opencontainers/runtime-spec/1/Process");
    any.value.data = (uint8_t *)text("{\"args\":[\"sh\"],\"cwd\":\"/\"}");
    any.value.len = strlen((char *)any.value.data);
    req.id = text("c1");
    req.exec_id = text(exec_id);
    req.spec = &any;
    return daemon_call(d, "Exec", &req.base, NULL);
}

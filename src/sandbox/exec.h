/* SPDX-License-Identifier: Apache-2.0 */
/* The processes exec'd into one container. */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "sandbox/process.h"
#include "sandbox/sandbox.h"

struct exec;

struct exec_list {
    struct exec *first;
    size_t n;
};

/* As container_exec(). */
int exec_add(struct exec_list *l, struct container *c, const char *exec_id, const char *process_json, size_t len,
             pid_t host_pid, struct process_stdio *io, struct err *err);
/* Of a snapshot: one that is there already; the process is taken. */
int exec_adopt(struct exec_list *l, struct container *c, struct process *p, struct err *err);
/* Calls fn for each. */
int exec_each(const struct exec_list *l, int (*fn)(struct process *p, void *userdata, struct err *err), void *userdata,
              struct err *err);
int exec_start(struct exec_list *l, struct process *p, sandbox_done_fn done, void *userdata, struct err *err);
int exec_delete(struct exec_list *l, struct process *p, struct err *err);
struct process *exec_find(const struct exec_list *l, const char *exec_id);
/* One that is running or being started; NULL: none is. */
struct process *exec_find_running(const struct exec_list *l);
void exec_lost(struct exec_list *l);
void exec_clear(struct exec_list *l);

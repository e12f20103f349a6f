/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/find_exec.h"

#include <stdio.h>
#include <string.h>

#include "cli/task.h"

#define LIST_MAX 1024 /* bytes of the list in the message */

struct search {
    const char *wanted;
    char *ret, list[LIST_MAX];
    bool found, by_pid;
};

static void look_at(struct search *f, const char *exec_id, uint32_t pid) {
    char number[16];
    size_t at = strlen(f->list);
    snprintf(number, sizeof(number), "%u", pid);
    bool same = strcmp(f->wanted, exec_id) == 0;
    /* Clients of containerd may call an exec by a number, which is then meant. */
    if (same || (strcmp(f->wanted, number) == 0 && !f->found)) {
        snprintf(f->ret, ID_MAX + 1, "%s", exec_id);
        f->found = true;
        f->by_pid = !same;
    }
    snprintf(f->list + at, sizeof(f->list) - at, "%s%s (PID %s)", at ? ", " : "", exec_id, number);
}

int find_exec(struct session *s, const char *id, const char *wanted, char ret[ID_MAX + 1], struct err *err) {
    struct search f = {.wanted = wanted, .ret = ret};
    Stasis__Sandbox__V1__ExecsResponse *execs = NULL;
    bool terminal;
    int r = task_execs(s, id, &execs, err);
    if (r < 0)
        return r;
    for (size_t i = 0; (!f.found || f.by_pid) && i < execs->n_execs; i++)
        look_at(&f, execs->execs[i]->id, execs->execs[i]->pid);
    stasis__sandbox__v1__execs_response__free_unpacked(execs, NULL);
    if (f.found)
        return 0;
    /* One that has ended is not among them. */
    if ((r = id_validate("exec id", wanted, err)) < 0 || (r = task_has_terminal(s, id, wanted, &terminal, err)) < 0)
        return r == -ENOENT ? err_set(err, ENOENT, "exec %s of container %s does not exist; %s%s", wanted, id,
                                      f.list[0] ? "there is " : "it has none", f.list)
                            : r;
    snprintf(ret, ID_MAX + 1, "%s", wanted);
    return 0;
}

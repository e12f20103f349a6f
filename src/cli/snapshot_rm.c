/* SPDX-License-Identifier: Apache-2.0 */
/* `snapshot rm` and `template rm`. */
#include "base/path.h"
#include "cli/cmd_snapshot.h"

static int rm_one(const struct store *store, enum snapshot_kind kind, const char *name, bool force, struct err *err) {
    const char *what = snapshot_kind_name(kind);
    int r = id_validate("name", name, err);
    if (r == 0)
        r = store->fd < 0 ? -ENOENT : store_remove(store, name, err);
    if (r == -ENOENT && force)
        return 0;
    if (r == -ENOENT)
        return err_set(err, ENOENT, "there is no %s %s", what, name);
    if (r == 0)
        printf("%s\n", name);
    return r < 0 ? err_wrap(err, "cannot remove %s %s", what, name) : 0;
}

int snapshot_rm(const struct cli *cli, enum snapshot_kind kind, const struct snapshot_rm_options *o, int n,
                char *const *names, struct err *err) {
    struct config config;
    struct store store = {.fd = -1};
    cleanup_strv struct strv all = {0};
    int failed = 0;
    if (o->all == (n > 0))
        return err_set(err, EINVAL, "takes names, or --all and no name");
    int r = cli_load_config(cli, &config, err);
    if (r == 0)
        r = store_open(snapshot_kind_dir(kind, &config), false, &store, err);
    if (r == -ENOENT)
        r = 0; /* then there is none */
    if (r == 0 && o->all && store.fd >= 0)
        r = store_list(&store, &all, err);
    for (int i = 0; r == 0 && i < (o->all ? (int)all.n : n); i++) {
        struct err e = ERR_INIT;
        if (rm_one(&store, kind, o->all ? all.v[i] : names[i], o->force, &e) == 0)
            continue;
        cli_report(cli, &e);
        failed = 1; /* the others go all the same */
    }
    store_close(&store);
    return r < 0 ? r : failed;
}

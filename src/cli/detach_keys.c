/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/detach_keys.h"

#include <string.h>

#include "base/util.h"

/* One key of len bytes; -1: there is none of that name. */
static int parse_key(const char *s, size_t len) {
    static const char prefix[] = "ctrl-";
    if (len == 1 && s[0] > ' ' && s[0] < 127)
        return s[0];
    if (len != strlen(prefix) + 1 || strncmp(s, prefix, strlen(prefix)) != 0)
        return -1;
    char c = s[len - 1];
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 1;
    if (c == '@')
        return 0;
    return c >= '[' && c <= '_' ? c - '@' : -1;
}

int detach_keys_parse(const char *text, struct detach_keys *ret, struct err *err) {
    struct detach_keys k = {.n = 0};
    for (const char *s = text; *s;) {
        size_t len = strcspn(s, ",");
        int key = parse_key(s, len);
        if (key < 0)
            return err_set(err, EINVAL,
                           "--detach-keys: \"%.*s\" is neither a character nor ctrl- and one of a-z@[\\]^_",
                           (int)MIN(len, (size_t)64), s);
        if (k.n == DETACH_KEYS_MAX)
            return err_set(err, EINVAL, "--detach-keys: more than %d keys", DETACH_KEYS_MAX);
        k.keys[k.n++] = (char)key;
        if (s[len] == ',' && !s[len + 1])
            return err_set(err, EINVAL, "--detach-keys: nothing behind the last comma");
        s += len + (s[len] == ',');
    }
    *ret = k;
    return 0;
}

/* How many of the sequence's first keys are at the end of the first n held ones and c. */
static size_t next_held(const struct detach_keys *k, char c) {
    char typed[DETACH_KEYS_MAX + 1];
    memcpy(typed, k->keys, k->held);
    typed[k->held] = c;
    for (size_t n = k->held + 1; n; n--)
        if (memcmp(typed + k->held + 1 - n, k->keys, n) == 0)
            return n;
    return 0;
}

bool detach_keys_filter(struct detach_keys *k, char *buf, size_t *len) {
    cleanup_free char *out = k->n ? malloc(*len + DETACH_KEYS_MAX) : NULL;
    size_t n = 0;
    if (!out) /* no keys; or no memory: then they do not work this once */
        return false;
    for (size_t i = 0; i < *len; i++) {
        size_t held = next_held(k, buf[i]), passed = k->held + 1 - held;
        /* What is no longer the beginning of a sequence goes on. */
        for (size_t j = 0; j < passed; j++)
            out[n++] = j < k->held ? k->keys[j] : buf[i];
        k->held = held;
        if (held == k->n) {
            k->held = 0;
            *len = 0;
            return true;
        }
    }
    memcpy(buf, out, n);
    *len = n;
    return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* stasis.conf: what is accepted is within bounds, what is refused changes nothing and names its line. */
#include <stdint.h>

#include "config_bounds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as it is, or, if it begins with a byte that no file does, as the value of a key. */
static char *make_text(const uint8_t *data, size_t size) {
    size_t n;
    const struct config_key *keys = config_keys(&n);
    if (size == 0 || data[0] < 0x80)
        return str_printf("%.*s", (int)size, (const char *)data);
    const struct config_key *k = &keys[(data[0] - 0x80) % n];
    return str_printf("[%s]\n%s = %.*s\n", k->section, k->key, (int)size - 1, (const char *)data + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *text = make_text(data, size);
    struct config c, before;
    struct err err = ERR_INIT;
    config_init(&c);
    before = c;
    int r = config_parse(&c, "f.conf", text, &err);
    if (r == 0) {
        check_bounds(&c);
    } else {
        require(r == -EINVAL && err.code == EINVAL && memcmp(&c, &before, sizeof(c)) == 0);
        require(strncmp(err.msg, "f.conf:", 7) == 0 && atoi(err.msg + 7) >= 1);
    }
    return 0;
}

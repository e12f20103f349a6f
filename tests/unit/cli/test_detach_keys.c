/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/detach_keys.h"

#include "support.h"

static void parses(void **state) {
    (void)state;
    static const struct {
        const char *text, *keys;
        size_t n;
    } good[] = {
        {DETACH_KEYS_DEFAULT, "\x10\x11", 2},
        {"", "", 0},
        {"x", "x", 1},
        {"ctrl-a,d",
         "\x01"
         "d",
         2},
        {"ctrl-@", "\0", 1},
        {"ctrl-]", "\x1d", 1},
        {"ctrl-_,ctrl-^,ctrl-\\,ctrl-[", "\x1f\x1e\x1c\x1b", 4},
    };
    static const char *const bad[] = {"ctrl-",
                                      "ctrl-A",
                                      "ctrl-ab",
                                      "ab",
                                      ",",
                                      "a,",
                                      ",a",
                                      "a,,b",
                                      "strg-p",
                                      " ",
                                      "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct detach_keys k;
        assert_int_equal(detach_keys_parse(good[i].text, &k, NULL), 0);
        assert_int_equal(k.n, good[i].n);
        assert_memory_equal(k.keys, good[i].keys, k.n);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct detach_keys k;
        struct err err = ERR_INIT;
        if (detach_keys_parse(bad[i], &k, &err) != -EINVAL)
            fail_msg("\"%s\" was taken", bad[i]);
        assert_message(&err, "--detach-keys");
    }
}

/* Types each string in a read of its own; returns what came through, "!" at the end if the sequence was complete. */
static const char *type(const char *keys, const char *const *typed) {
    static char out[256];
    struct detach_keys k;
    size_t n = 0;
    assert_int_equal(detach_keys_parse(keys, &k, NULL), 0);
    for (; *typed; typed++) {
        char buf[64 + DETACH_KEYS_MAX];
        size_t len = strlen(*typed);
        memcpy(buf, *typed, len);
        bool detached = detach_keys_filter(&k, buf, &len);
        memcpy(out + n, buf, len);
        n += len;
        if (detached) {
            out[n++] = '!';
            break;
        }
    }
    out[n] = '\0';
    return out;
}
#define TYPE(keys, ...) type(keys, (const char *const[]){__VA_ARGS__, NULL})

static void filters(void **state) {
    (void)state;
    assert_string_equal(TYPE("a,b,c", "xyz"), "xyz");
    assert_string_equal(TYPE("a,b,c", "abc"), "!");
    assert_string_equal(TYPE("a,b,c", "a", "b", "c", "d"), "!");
    assert_string_equal(TYPE("a,b,c", "a", "b", "x"), "abx"); /* what was held comes, in order */
    assert_string_equal(TYPE("a,b,c", "ab"), "");             /* and not before */
    assert_string_equal(TYPE("a,b,c", "ab", "a", "bc"), "ab!");
    assert_string_equal(TYPE("a,a,b", "a", "a", "a", "b"), "a!"); /* it begins anew within what was held */
    assert_string_equal(TYPE("", "abc"), "abc");
    assert_string_equal(TYPE("ctrl-p,ctrl-q", "l\x10s\x10", "\x11"), "l\x10s!");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parses), cmocka_unit_test(filters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A protobuf message as lines of text, for comparing: "field=value", the fields of a message in it as "outer.field";
 * what has its default value is left out. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include <protobuf-c/protobuf-c.h>

#include "base/util.h"

static inline void message_print(const ProtobufCMessage *m, const char *prefix, FILE *out) {
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const char *at = (const char *)m + f->offset;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
            for (size_t k = 0; k < n && f->type == PROTOBUF_C_TYPE_STRING; k++)
                fprintf(out, "%s%s=%s\n", prefix, f->name, (*(char **const *)(const void *)at)[k]);
            for (size_t k = 0; k < n && f->type == PROTOBUF_C_TYPE_MESSAGE; k++) {
                cleanup_free char *inner = str_printf("%s%s[%zu].", prefix, f->name, k);
                message_print((*(ProtobufCMessage * *const *)(const void *)at)[k], inner, out);
            }
        } else if (f->type == PROTOBUF_C_TYPE_STRING) {
            const char *text = *(const char *const *)(const void *)at;
            if (*text)
                fprintf(out, "%s%s=%s\n", prefix, f->name, text);
        } else if (f->type == PROTOBUF_C_TYPE_BOOL) {
            if (*(const protobuf_c_boolean *)(const void *)at)
                fprintf(out, "%s%s=true\n", prefix, f->name);
        } else if (f->type == PROTOBUF_C_TYPE_UINT32) {
            if (*(const uint32_t *)(const void *)at)
                fprintf(out, "%s%s=%u\n", prefix, f->name, *(const uint32_t *)(const void *)at);
        } else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
            const ProtobufCMessage *sub = *(const ProtobufCMessage *const *)(const void *)at;
            cleanup_free char *inner = str_printf("%s%s.", prefix, f->name);
            if (sub)
                message_print(sub, inner, out);
        } else {
            abort(); /* no message of the tests has others */
        }
    }
}

/* malloc'd: "path=PATH", then the message. */
static inline char *message_text(const ProtobufCMessage *m, const char *path) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        abort();
    fprintf(out, "path=%s\n", path);
    message_print(m, "", out);
    fclose(out);
    return text;
}

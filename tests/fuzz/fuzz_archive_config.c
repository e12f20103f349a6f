/* SPDX-License-Identifier: Apache-2.0 */
/* config.dump and spec.dump of archives that other engines made: what is accepted is text within bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "oci/archive_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *s) {
    for (const char *c = s; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            abort();
    if (s && strlen(s) > ARCHIVE_TEXT_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_archive_config struct archive_config c = {0}, of_spec = {0};
    cleanup_free char *text = NULL, *annotated = NULL, *input = malloc(size + 1);
    const char *engine = NULL;
    if (!input)
        return 0;
    memcpy(input, data, size);
    input[size] = '\0';
    if (archive_config_parse(input, size, &c, NULL) == 0) {
        const char *const texts[] = {c.id, c.name, c.rootfs_image, c.rootfs_image_ref, c.rootfs_image_name, c.runtime};
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
            check_text(texts[i]);
        cleanup_archive_config struct archive_config again = {0};
        text = archive_config_text(&c);
        if (!text || archive_config_parse(text, strlen(text), &again, NULL) < 0)
            abort();
    }
    if (archive_engine(input, size, &engine, NULL) == 0 && !engine)
        abort();
    (void)archive_spec_annotate(input, "name", &annotated, NULL);
    cleanup_json json_t *spec = NULL;
    if (json_parse("spec", input, size, &spec, NULL) == 0)
        (void)archive_config_from_spec(spec, &of_spec, NULL);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <getopt.h>
#include <string.h>

#define CODE_BASE 256 /* getopt's return values for rows; letters are below */
#define CODE_HELP 'h'

static const struct option_row help_row = {.name = "help", .letter = 'h', .kind = OPTION_FLAG, .help = "show help"};

static void *field_of(const struct option_row *row, void *values) {
    return (char *)values + row->offset;
}

static int set_flag(const struct option_row *row, const char *value, bool *field, struct err *err) {
    if (!value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
        *field = true;
    else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
        *field = false;
    else
        return err_set(err, EINVAL, "invalid boolean value \"%s\" for -%s", value, row->name);
    *field ^= row->inverted;
    return 0;
}

static int set_field(const struct option_row *row, char *value, void *values, struct err *err) {
    void *field = field_of(row, values);
    switch (row->kind) {
    case OPTION_FLAG:
        return set_flag(row, value, field, err);
    case OPTION_TEXT:
        *(const char **)field = value;
        return 0;
    case OPTION_LIST:
        return strv_add(field, value) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
    case OPTION_UINT:
        if (parse_u64(value, UINT64_MAX, field) < 0)
            return err_set(err, EINVAL, "invalid value \"%s\" for flag -%s: must be a number", value, row->name);
        return 0;
    }
    return 0;
}

/* getopt's two descriptions of the table. */
struct description {
    struct option longs[2 * OPTIONS_MAX + 2];
    char shorts[2 * OPTIONS_MAX + 4];
};

static int describe(const struct option_table *table, struct description *ret, struct err *err) {
    size_t n = 0, s = 0;
    if (table->n > OPTIONS_MAX)
        return err_set(err, E2BIG, "more than %d options in a table", OPTIONS_MAX);
    *ret = (struct description){0};
    if (table->stop_at_first)
        ret->shorts[s++] = '+';
    ret->shorts[s++] = ':'; /* a missing argument is told apart */
    ret->shorts[s++] = CODE_HELP;
    ret->longs[n++] = (struct option){.name = help_row.name, .val = CODE_HELP};
    for (size_t i = 0; i < table->n; i++) {
        const struct option_row *row = &table->rows[i];
        int has = row->kind == OPTION_FLAG ? optional_argument : required_argument;
        ret->longs[n++] = (struct option){.name = row->name, .has_arg = has, .val = CODE_BASE + (int)i};
        if (row->alias)
            ret->longs[n++] = (struct option){.name = row->alias, .has_arg = has, .val = CODE_BASE + (int)i};
        if (row->letter) {
            ret->shorts[s++] = row->letter;
            if (row->kind != OPTION_FLAG)
                ret->shorts[s++] = ':';
        }
    }
    return 0;
}

static const struct option_row *row_of(const struct option_table *table, int code) {
    if (code >= CODE_BASE)
        return &table->rows[code - CODE_BASE];
    for (size_t i = 0; i < table->n; i++)
        if (table->rows[i].letter && table->rows[i].letter == code)
            return &table->rows[i];
    return &help_row;
}

/* The word that getopt did not understand, without its dashes and value. */
static int unknown(char *const *argv, int letter, struct err *err) {
    const char *word = argv[optind > 0 ? optind - 1 : 0];
    if (letter)
        return err_set(err, EINVAL, "flag provided but not defined: -%c", letter);
    while (*word == '-')
        word++;
    return err_set(err, EINVAL, "flag provided but not defined: -%.*s", (int)strcspn(word, "="), word);
}

int options_parse(const struct option_table *table, void *values, int argc, char **argv, bool *ret_help,
                  struct err *err) {
    struct description d;
    int r = describe(table, &d, err), code;
    optind = 0; /* GNU: starts afresh */
    opterr = 0;
    *ret_help = false;
    while (r == 0 && (code = getopt_long(argc, argv, d.shorts, d.longs, NULL)) != -1) {
        if (code == CODE_HELP)
            *ret_help = true;
        else if (code == ':')
            r = err_set(err, EINVAL, "flag needs an argument: -%s", row_of(table, optopt)->name);
        else if (code == '?')
            /* optopt of a known long option: a value was given to one that takes none (only help). */
            r = unknown(argv, optopt >= CODE_BASE || optopt == CODE_HELP ? 0 : optopt, err);
        else
            r = set_field(row_of(table, code), optarg, values, err);
    }
    return r < 0 ? r : optind;
}

void options_clear(const struct option_table *table, void *values) {
    for (size_t i = 0; i < table->n; i++)
        if (table->rows[i].kind == OPTION_LIST)
            strv_clear(field_of(&table->rows[i], values));
}

static int print_names(const struct option_row *row, char *buf, size_t size) {
    const char *value = row->kind == OPTION_FLAG ? "" : " value";
    int n = snprintf(buf, size, "--%s%s", row->name, value);
    if (row->letter)
        n += snprintf(buf + n, size - (size_t)n, ", -%c%s", row->letter, value);
    return n;
}

void options_print(const struct option_table *table, FILE *out) {
    char names[128];
    int width = print_names(&help_row, names, sizeof(names));
    for (size_t i = 0; i < table->n; i++)
        width = MAX(width, print_names(&table->rows[i], names, sizeof(names)));
    for (size_t i = 0; i <= table->n; i++) {
        const struct option_row *row = i < table->n ? &table->rows[i] : &help_row;
        print_names(row, names, sizeof(names));
        fprintf(out, "   %-*s  %s\n", width, names, row->help);
    }
}

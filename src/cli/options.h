/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options as tables: a row names a flag and the field of a struct that it sets. One parser (getopt_long) and one
 * printer of help for the global options and every subcommand.
 *
 * Both "--name VALUE" and "--name=VALUE" are accepted, and "--flag=false" for flags, as runc does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/util.h"

#define OPTIONS_MAX 40 /* rows of one table */

enum option_kind {
    OPTION_FLAG, /* bool */
    OPTION_TEXT, /* const char *, borrowed from argv */
    OPTION_LIST, /* struct strv; may be given several times */
    OPTION_UINT, /* uint64_t */
};

struct option_row {
    const char *name, *help;
    const char *alias; /* another name; NULL: none. Not shown in the help */
    size_t offset;     /* of the field in the values' struct */
    enum option_kind kind;
    char letter;   /* 0: none */
    bool inverted; /* a flag that is on by default: the field is set by "--name=false" */
};

/* A row for `field` of `type`. */
#define OPTION(kind_, type, field, name_, letter_, help_)                                                              \
    { .name = (name_), .letter = (letter_), .kind = (kind_), .offset = offsetof(type, field), .help = (help_) }

struct option_table {
    const struct option_row *rows;
    size_t n;
    bool stop_at_first; /* what follows the first argument that is no option is left alone */
};

/*
 * Sets the fields of `values`; fields of options that are not given keep what they hold. argv[0] is skipped; arguments
 * that are no options are moved to the end. Returns the index of the first of them; *ret_help is set for -h and --help.
 * Errors: -EINVAL, with runc's words ("flag provided but not defined: -x", "flag needs an argument: -x").
 */
int options_parse(const struct option_table *table, void *values, int argc, char **argv, bool *ret_help,
                  struct err *err);

/* Frees what options_parse put into lists. */
void options_clear(const struct option_table *table, void *values);

/* One line per option, aligned. */
void options_print(const struct option_table *table, FILE *out);

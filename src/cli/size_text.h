/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and times for people. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SIZE_TEXT_MAX 24

/* "0 B", "999 B", "1.0 KiB", "72.3 MiB", "1.2 GiB". Returns buf. */
char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX]);

/* "84 ms", "1.2 s". Returns buf. */
char *time_text(uint64_t usec, char buf[SIZE_TEXT_MAX]);

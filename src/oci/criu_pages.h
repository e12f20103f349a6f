/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the memory of a checkpoint is all there: CRIU does not look, and waits for ever for what is not. */
#pragma once

#include "base/err.h"

/* Compares each pages-<n>.img below dirfd with what the pagemaps say of it, as far as these have no more than a million
 * entries together. -EINVAL, with the file's name, when one is
 * too short or missing, or a pagemap is damaged; open's and read's errors. */
int criu_pages_check(int dirfd, struct err *err);

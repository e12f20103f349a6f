/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of exec processes and consoles made by the CLI: 128 random bits in hexadecimal. */
#pragma once

#include "base/err.h"

#define EXEC_ID_SIZE 33

int exec_id_make(char ret[EXEC_ID_SIZE], struct err *err);

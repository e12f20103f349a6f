/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's service (proto/agent.proto) over ttrpc: decodes, calls, answers. Knows the protocol and nothing else. */
#pragma once

#include "agent/agent.h"

/* Makes the server and serves the channel (takes fd, also on failure). */
int rpc_start(struct agent *a, int fd, struct err *err);

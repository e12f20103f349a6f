/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a terminal is set up that crun makes for an exec, before the program that gets it can run: the library that is
 * preloaded into crun (tty_setup.c) takes it from the environment.
 */
#pragma once

#define TTY_SETUP "STASIS_TTY"
#define TTY_SETUP_FORMAT "%u %u %u" /* width and height, 0: unknown; 1: newlines stay as they are, 0: become CR LF */
#define TTY_SETUP_SIZE 24           /* bytes, what TTY_SETUP_FORMAT gives included */

/* common.h - what all commands share: one-line messages, and the way from options to an open model.
 */
#ifndef STRAND_APP_COMMON_H
#define STRAND_APP_COMMON_H

#include "options.h"
#include "strand.h"

#include <stdio.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF_LIKE(text, first)
#endif

#define DEFAULT_MODEL "hyenadna-tiny-strand"

/* "strand: ..." on stderr, always exactly one line. */
void complain(const char *format, ...) PRINTF_LIKE(1, 2);
/* The same for things worth knowing that are no failure; silent after messages_quiet(1). */
void remark(const char *format, ...) PRINTF_LIKE(1, 2);
void messages_quiet(int quiet);

/* A context and the model that a command works with. `backends` names where the operators run: filled when a plan is made. */
typedef struct runtime {
    const options *settings;
    strand_context *context;
    strand_model *model;
    strand_model_info info;
    char backends[256];
} runtime;

/* Opens the context by the common options. Returns 0 or an exit code, after a message. */
int runtime_open_context(runtime *rt, const options *settings);
/* The same and the model `name` (NULL: --model, else the built-in one). */
int runtime_open(runtime *rt, const options *settings, const char *name);
/* Reads mapped weights into large pages where that pays: `tokens` steps lie ahead (-1: many), the plan is the CPU's alone,
 * and the file is not small but at most half of the memory that is free. --mmap and --no-mmap decide otherwise. 0 or an exit
 * code, after a message. */
int runtime_hold(runtime *rt, int64_t tokens);
void runtime_close(runtime *rt);
/* A plan for this model by the common options (backends, memory). Fills rt->backends. */
strand_status runtime_plan(runtime *rt, int64_t batch, int64_t length, const char *outputs, strand_plan **plan);
/* Index of the model's output of this name, or -1. `shape` may be NULL. */
int32_t runtime_output(const runtime *rt, const char *name, strand_tensor *shape);
/* "shift=0.05 ..." of the model, into `text`. */
void runtime_settings(const runtime *rt, char *text, size_t size);

#endif

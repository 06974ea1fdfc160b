/* runtime.h - what all commands share: the way from the options to an open model and its plan.
 */
#ifndef STRAND_APP_RUNTIME_H
#define STRAND_APP_RUNTIME_H

#include "options.h"
#include "output.h"
#include "say.h"
#include "strand.h"

#define DEFAULT_MODEL "hyenadna-tiny-strand"

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
/* The '#' lines that text outputs begin with: version, model and SHA-256, precision, backend, settings, command line. */
int runtime_header(const runtime *rt, output *out);

/* The metadata of this run for safetensors outputs (st_open): fills at most 16 pointers ended by NULL, or returns NULL under
 * --no-version. */
typedef struct run_metadata {
    const char *pairs[16];
    char settings[512];
} run_metadata;
const char *const *runtime_metadata(const runtime *rt, run_metadata *metadata);

#endif

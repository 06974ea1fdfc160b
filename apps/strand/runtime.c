/* runtime.c - from the common options to an open context, model and plan.
 */
#include "runtime.h"

#include "memory.h"

#include <stdio.h>
#include <string.h>

/* user: an int that counts errors. */
static void library_log(void *user, strand_log_level level, const char *text) {
    if (level == STRAND_LOG_ERROR) ++*(int *)user;
    if (level == STRAND_LOG_ERROR)
        complain("%s", text);
    else if (level == STRAND_LOG_WARNING)
        remark("%s", text);
}

int runtime_open_context(runtime *rt, const options *settings) {
    memset(rt, 0, sizeof *rt);
    rt->settings = settings;
    static int errors; /* of the library's log, which is all there is when no context could be made */
    strand_context_params params;
    strand_context_params_init(&params);
    params.threads = settings->threads > INT32_MAX ? INT32_MAX : (int32_t)settings->threads;
    params.log = library_log;
    params.log_user = &errors;
    params.plugin_path = settings->plugins;
    const strand_status status = strand_context_open(&params, &rt->context);
    if (status == STRAND_OK) return 0;
    rt->context = NULL;
    if (!errors) complain("the library could not be opened (%s)", strand_status_name(status));
    return EXIT_FAILED;
}

int runtime_open(runtime *rt, const options *settings, const char *name) {
    if (settings->mmap && settings->no_mmap) return complain("give one of --mmap and --no-mmap"), EXIT_USAGE;
    const int rc = runtime_open_context(rt, settings);
    if (rc) return rc;
    if (!name) name = settings->model ? settings->model : DEFAULT_MODEL;
    strand_model_params params;
    strand_model_params_init(&params);
    params.config = settings->config;
    params.hold = settings->no_mmap;
    params.settings = settings->settings.items;
    params.n_settings = settings->settings.n;
    if (strand_model_open(rt->context, name, &params, &rt->model) != STRAND_OK ||
        strand_model_get(rt->model, &rt->info) != STRAND_OK) {
        complain("%s", strand_error(rt->context));
        runtime_close(rt);
        return EXIT_FAILED;
    }
    return 0;
}

/* A file of less is as fast mapped, in fewer tokens the copy does not come back. */
#define HOLD_LEAST_BYTES  ((uint64_t)8 << 20)
#define HOLD_LEAST_TOKENS 64

int runtime_hold(runtime *rt, int64_t tokens) {
    const options *s = rt->settings;
    const uint64_t bytes = rt->info.weight_bytes;
    if (s->mmap || s->no_mmap || (tokens >= 0 && tokens < HOLD_LEAST_TOKENS) || bytes < HOLD_LEAST_BYTES) return 0;
    if (strcmp(rt->backends, "cpu") || bytes > memory_available() / 2 || !memory_large_pages()) return 0;
    if (strand_model_hold(rt->model)) remark("weights stay mapped: %s", strand_error(rt->context));
    return 0;
}

void runtime_close(runtime *rt) {
    if (rt->model) strand_model_close(rt->model);
    strand_context_close(rt->context);
    rt->model = NULL;
    rt->context = NULL;
}

/* The distinct backends of the plan's nodes, in order of first use. */
static void note_backends(runtime *rt, const strand_plan *plan) {
    strand_plan_node_info node;
    size_t used = 0;
    rt->backends[0] = 0;
    for (int32_t i = 0; strand_plan_node(plan, i, &node) == STRAND_OK; i++) {
        const size_t width = strlen(node.backend);
        const char *found = rt->backends;
        while ((found = strstr(found, node.backend)) != NULL) {
            if ((found == rt->backends || found[-1] == ',') && (found[width] == 0 || found[width] == ',')) break;
            found++;
        }
        if (found || used + width + 2 > sizeof rt->backends) continue;
        if (used) rt->backends[used++] = ',';
        memcpy(rt->backends + used, node.backend, width + 1);
        used += width;
    }
}

strand_status runtime_plan(runtime *rt, int64_t batch, int64_t length, const char *outputs, strand_plan **plan) {
    strand_plan_params params;
    strand_plan_params_init(&params);
    params.max_batch = batch;
    params.max_length = length;
    params.memory_limit = rt->settings->memory;
    params.backends = rt->settings->backend;
    params.outputs = outputs;
    strand_status status = strand_plan_open(rt->model, &params, plan);
    /* Without --memory a plan that the machine cannot hold is made again for three quarters of what is there: slower, and with
     * the same bytes, but not killed half-way. */
    strand_plan_info info;
    const uint64_t available = params.memory_limit ? 0 : memory_available();
    if (status == STRAND_OK && available && strand_plan_get(*plan, &info) == STRAND_OK &&
        info.block_bytes > available / 4 * 3) {
        strand_plan_close(*plan);
        params.memory_limit = available / 4 * 3;
        status = strand_plan_open(rt->model, &params, plan);
    }
    if (status == STRAND_OK) note_backends(rt, *plan);
    return status;
}

int32_t runtime_output(const runtime *rt, const char *name, strand_tensor *shape) {
    strand_tensor tensor;
    for (int32_t i = 0; strand_model_output(rt->model, i, &tensor) == STRAND_OK; i++)
        if (!strcmp(tensor.name, name)) {
            if (shape) *shape = tensor;
            return i;
        }
    return -1;
}

void runtime_settings(const runtime *rt, char *text, size_t size) {
    const char *key, *value;
    size_t used = 0;
    text[0] = 0;
    for (int32_t i = 0; strand_model_setting(rt->model, i, &key, &value) == STRAND_OK && used < size; i++) {
        const int n = snprintf(text + used, size - used, "%s%s=%s", i ? " " : "", key, value);
        if (n < 0) return;
        used += (size_t)n;
    }
}

int runtime_header(const runtime *rt, output *out) {
    char settings[512];
    runtime_settings(rt, settings, sizeof settings);
    output_printf(out, "# strand %s\n", strand_version());
    output_printf(out, "# model %s sha256 %s precision %s\n", rt->info.name, strand_model_sha256(rt->model),
                  rt->info.precision);
    output_printf(out, "# backend %s\n", rt->backends[0] ? rt->backends : "none");
    if (settings[0]) output_printf(out, "# settings %s\n", settings);
    return output_printf(out, "# command %s\n", rt->settings->line);
}

const char *const *runtime_metadata(const runtime *rt, run_metadata *metadata) {
    if (rt->settings->no_version) return NULL;
    runtime_settings(rt, metadata->settings, sizeof metadata->settings);
    const char *pairs[] = {
        "strand",    strand_version(),   "model",   rt->info.name, "model_sha256", strand_model_sha256(rt->model),
        "precision", rt->info.precision, "backend", rt->backends,  "settings",     metadata->settings,
        "command",   rt->settings->line, NULL};
    memcpy(metadata->pairs, pairs, sizeof pairs);
    return metadata->pairs;
}

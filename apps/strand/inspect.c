/* inspect.c - `strand inspect`: what a model holds, or a file of tensors that no model family knows.
 */
#include "commands.h"
#include "runtime.h"

#include <inttypes.h>
#include <string.h>

static void print_tensor(const strand_tensor *t) {
    printf("  %-60s %-5s [", t->name, strand_dtype_name(t->dtype));
    for (int32_t i = 0; i < t->rank; i++) {
        if (i) printf(", ");
        if (t->dims[i] == STRAND_DIM_BATCH)
            printf("batch");
        else if (t->dims[i] == STRAND_DIM_LENGTH)
            printf("length");
        else
            printf("%" PRId64, t->dims[i]);
    }
    printf("]\n");
}

static void print_model(const runtime *rt) {
    const strand_model_info *info = &rt->info;
    const char *key, *value;
    strand_tensor tensor;
    printf("name        %s\nfamily      %s\npath        %s\nformat      %s\nprecision   %s\nsha256      %s\n", info->name,
           info->family, info->path, info->format, info->precision, strand_model_sha256(rt->model));
    printf("parameters  %" PRId64 "\nweights     %" PRIu64 " bytes\nmax length  %" PRId64 "\nwindow      %" PRId64 "\n",
           info->parameters, info->weight_bytes, info->max_length, info->window);
    printf("settings\n");
    for (int32_t i = 0; strand_model_setting(rt->model, i, &key, &value) == STRAND_OK; i++) printf("  %s = %s\n", key, value);
    printf("inputs\n");
    for (int32_t i = 0; strand_model_input(rt->model, i, &tensor) == STRAND_OK; i++) print_tensor(&tensor);
    printf("outputs\n");
    for (int32_t i = 0; strand_model_output(rt->model, i, &tensor) == STRAND_OK; i++) print_tensor(&tensor);
    printf("weights\n");
    for (int64_t i = 0; strand_model_weight(rt->model, i, &tensor) == STRAND_OK; i++) print_tensor(&tensor);
}

/* Returns 0 when `path` is a file of tensors. */
static int print_file(runtime *rt, const char *path, const char *why_no_model) {
    strand_file *file;
    strand_tensor tensor;
    if (strand_file_open(rt->context, path, &file) != STRAND_OK) return -1;
    const int64_t n = strand_file_count(file);
    printf("format      %s\nmodel       none: %s\ntensors     %" PRId64 "\n", strand_file_format(file), why_no_model, n);
    for (int64_t i = 0; i < n; i++)
        if (strand_file_get(file, i, &tensor) == STRAND_OK) print_tensor(&tensor);
    strand_file_close(file);
    return 0;
}

int run_inspect(const options *settings) {
    runtime rt;
    const char *name = settings->n_args ? settings->args[0] : settings->model ? settings->model : DEFAULT_MODEL;
    int rc = runtime_open_context(&rt, settings);
    if (rc) return rc;
    strand_model_params params;
    strand_model_params_init(&params);
    params.config = settings->config;
    params.settings = settings->settings.items;
    params.n_settings = settings->settings.n;
    if (strand_model_open(rt.context, name, &params, &rt.model) == STRAND_OK) {
        if (strand_model_get(rt.model, &rt.info) == STRAND_OK) print_model(&rt);
    } else {
        char why[1024];
        rt.model = NULL;
        snprintf(why, sizeof why, "%s", strand_error(rt.context));
        if (print_file(&rt, name, why)) {
            complain("%s", why);
            rc = EXIT_FAILED;
        }
    }
    runtime_close(&rt);
    return rc;
}

/* run.c - `strand run`: any model on named tensors, one run for exactly the shapes of the input file.
 */
#include "commands.h"
#include "runtime.h"
#include "output.h"
#include "progress.h"
#include "engine.h"
#include "run_table.h"
#include "safetensors_write.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };

typedef struct run_job {
    runtime rt;
    strand_file *file;
    strand_tensor inputs[MOST], outputs[MOST];
    void *converted[MOST];
    int32_t n_inputs, n_outputs;
    int64_t batch, length;
    char *planned;     /* the outputs that the plan makes, where that is not --outputs */
    int32_t logprob;   /* which of the outputs is the tokens' log-probability, made here of the logits; -1: none */
    float *logprobs;
} run_job;

static void shape_text(const strand_tensor *t, char *text, size_t size) {
    size_t n = (size_t)snprintf(text, size, "[");
    for (int32_t i = 0; i < t->rank && n < size; i++) {
        if (t->dims[i] == STRAND_DIM_BATCH)
            n += (size_t)snprintf(text + n, size - n, "%sbatch", i ? ", " : "");
        else if (t->dims[i] == STRAND_DIM_LENGTH)
            n += (size_t)snprintf(text + n, size - n, "%slength", i ? ", " : "");
        else
            n += (size_t)snprintf(text + n, size - n, "%s%lld", i ? ", " : "", (long long)t->dims[i]);
    }
    if (n < size) snprintf(text + n, size - n, "]");
}

/* Reads batch and length from an input's shape; all inputs must agree. */
static int match_shape(run_job *job, const strand_tensor *want, const strand_tensor *have) {
    int bad = want->rank != have->rank;
    for (int32_t i = 0; !bad && i < want->rank; i++) {
        const int64_t extent = have->dims[i];
        int64_t *free_axis = want->dims[i] == STRAND_DIM_BATCH    ? &job->batch
                             : want->dims[i] == STRAND_DIM_LENGTH ? &job->length
                                                                  : NULL;
        if (free_axis && !*free_axis) *free_axis = extent;
        bad = free_axis ? *free_axis != extent || extent < 1 : want->dims[i] != extent;
    }
    if (!bad) return 0;
    char a[128], b[128];
    shape_text(have, a, sizeof a);
    shape_text(want, b, sizeof b);
    complain("%s: tensor '%s' has shape %s, but the model wants %s%s", job->rt.settings->input, have->name, a, b,
             job->batch > 0 ? " (one batch and length for all inputs, at least 1)" : "");
    return -1;
}

static int64_t integer_at(const void *data, strand_dtype dtype, uint64_t i) {
    switch (dtype) {
    case STRAND_I8:
        return ((const int8_t *)data)[i];
    case STRAND_U8:
    case STRAND_BOOL:
        return ((const uint8_t *)data)[i];
    case STRAND_I16:
        return ((const int16_t *)data)[i];
    case STRAND_U16:
        return ((const uint16_t *)data)[i];
    case STRAND_I32:
        return ((const int32_t *)data)[i];
    case STRAND_U32:
        return ((const uint32_t *)data)[i];
    default:
        return ((const int64_t *)data)[i];
    }
}

static int is_integer(strand_dtype dtype) {
    return dtype >= STRAND_I8 && dtype <= STRAND_BOOL && dtype != STRAND_U64;
}

/* Whole numbers of any width become the I64 of ids; F64 becomes F32. Everything else must have the model's own type. */
static int convert(run_job *job, const strand_tensor *want, strand_tensor *have, void **block) {
    if (have->dtype == want->dtype) return 0;
    const int ids = want->dtype == STRAND_I64 && is_integer(have->dtype);
    if (!ids && !(want->dtype == STRAND_F32 && have->dtype == STRAND_F64)) {
        complain("%s: tensor '%s' is %s, but the model wants %s", job->rt.settings->input, have->name,
                 strand_dtype_name(have->dtype), strand_dtype_name(want->dtype));
        return -1;
    }
    const uint64_t n = have->bytes / strand_dtype_size(have->dtype), bytes = n * strand_dtype_size(want->dtype);
    *block = malloc(bytes + 1);
    if (!*block) return complain("out of memory"), -1;
    for (uint64_t i = 0; i < n; i++) {
        if (ids)
            ((int64_t *)*block)[i] = integer_at(have->data, have->dtype, i);
        else
            ((float *)*block)[i] = (float)((const double *)have->data)[i];
    }
    have->dtype = want->dtype;
    have->data = *block;
    have->bytes = bytes;
    return 0;
}

/* A model of one input takes it from an array or a table. */
static int table_input(run_job *job) {
    strand_tensor want, other, have;
    const char *path = job->rt.settings->input;
    if (strand_model_input(job->rt.model, 0, &want) != STRAND_OK) return -1;
    if (strand_model_input(job->rt.model, 1, &other) == STRAND_OK) {
        complain("%s: the model has more inputs than one ('%s', '%s' ...); give them as -i IN.safetensors", path, want.name,
                 other.name);
        return -1;
    }
    if (table_read(path, &want, &have, &job->converted[0]) || match_shape(job, &want, &have)) return -1;
    job->inputs[job->n_inputs++] = have;
    return 0;
}

static int find_inputs(run_job *job) {
    strand_tensor want, have;
    const int64_t in_file = strand_file_count(job->file);
    for (int32_t i = 0; strand_model_input(job->rt.model, i, &want) == STRAND_OK && i < MOST; i++) {
        int found = 0;
        for (int64_t k = 0; !found && k < in_file; k++)
            found = strand_file_get(job->file, k, &have) == STRAND_OK && !strcmp(have.name, want.name);
        if (!found) {
            complain("%s: has no tensor '%s', which the model needs", job->rt.settings->input, want.name);
            return -1;
        }
        if (match_shape(job, &want, &have) || convert(job, &want, &have, &job->converted[i])) return -1;
        job->inputs[job->n_inputs++] = have;
    }
    for (int64_t k = 0; k < in_file; k++) {
        int used = strand_file_get(job->file, k, &have) != STRAND_OK;
        for (int32_t i = 0; !used && i < job->n_inputs; i++) used = !strcmp(job->inputs[i].name, have.name);
        if (!used) remark("%s: tensor '%s' is ignored; the model has no such input", job->rt.settings->input, have.name);
    }
    return 0;
}

/* `logprob` [batch, length - 1], ln p(id[t + 1] | id[..t]), of any model that gives `logits` after `input_ids`. */
static int32_t derived(run_job *job, const char *name, strand_tensor *tensor) {
    strand_tensor input;
    int32_t index = strcmp(name, "logprob") ? -1 : runtime_output(&job->rt, "logits", tensor);
    if (index < 0 || tensor->rank != 3 || strand_model_input(job->rt.model, 0, &input) != STRAND_OK ||
        strcmp(input.name, "input_ids"))
        return -1;
    job->logprob = job->n_outputs;
    return index;
}

/* The plan makes logits in place of them. */
static int plan_logits(run_job *job) {
    const char *wanted = job->rt.settings->outputs, *at = strstr(wanted, "logprob");
    const size_t n = strlen(wanted);
    job->planned = malloc(n + 1);
    if (!job->planned) return complain("out of memory"), -1;
    snprintf(job->planned, n + 1, "%.*slogits%s", (int)(at - wanted), wanted, at + strlen("logprob"));
    return 0;
}

static int make_logprobs(run_job *job) {
    strand_tensor *out = &job->outputs[job->logprob];
    const int64_t *ids = job->inputs[0].data, batch = out->dims[0], length = out->dims[1], width = out->dims[2];
    const float *logits = out->data;
    job->logprobs = malloc((size_t)(batch * length) * sizeof *job->logprobs);
    if (!job->logprobs) return complain("out of memory"), -1;
    float *to = job->logprobs;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t + 1 < length; t++) {
            const int64_t next = ids[b * length + t + 1];
            *to++ = (float)engine_loglik(logits + (b * length + t) * width, width, next < 0 || next >= width ? 0 : next);
        }
    *out = (strand_tensor){
        .name = "logprob", .dtype = STRAND_F32, .rank = 2, .dims = {batch, length - 1}, .data = job->logprobs};
    out->bytes = (uint64_t)(batch * (length - 1)) * sizeof *job->logprobs;
    return 0;
}

static int choose_outputs(run_job *job) {
    strand_tensor tensor;
    const char *wanted = job->rt.settings->outputs;
    if (!wanted) {
        const int32_t n = strand_model_default_outputs(job->rt.model);
        while (job->n_outputs < MOST && job->n_outputs < n &&
               strand_model_output(job->rt.model, job->n_outputs, &tensor) == STRAND_OK)
            job->outputs[job->n_outputs++] = (strand_tensor){.name = tensor.name};
        return 0;
    }
    while (*wanted) {
        char name[256];
        const size_t width = strcspn(wanted, ",");
        snprintf(name, sizeof name, "%.*s", (int)width, wanted);
        int32_t index = runtime_output(&job->rt, name, &tensor);
        if (index < 0 && (index = derived(job, name, &tensor)) >= 0 && plan_logits(job)) return -1;
        if (index < 0 || job->n_outputs == MOST) {
            complain("the model has no output '%s'; 'strand inspect' lists its outputs", name);
            return -1;
        }
        job->outputs[job->n_outputs++] = (strand_tensor){.name = tensor.name};
        wanted += width + (wanted[width] == ',');
    }
    return 0;
}

static int write_results(run_job *job) {
    run_metadata metadata;
    output *out = output_open(job->rt.settings->output);
    if (!out) return -1;
    if (!output_seekable(out)) {
        complain("%s: safetensors need a regular file", job->rt.settings->output);
        output_close(out, 0);
        return -1;
    }
    st_writer *w = st_open(out, job->outputs, job->n_outputs, runtime_metadata(&job->rt, &metadata));
    int bad = !w;
    for (int32_t i = 0; !bad && i < job->n_outputs; i++)
        bad = st_write(w, job->outputs[i].data, job->outputs[i].bytes) || st_next(w, job->outputs[i].dims[0]);
    if (w && st_close(w, !bad)) bad = 1;
    if (output_close(out, !bad)) bad = 1;
    return bad ? -1 : 0;
}

/* Fills the outputs, which stay good while `session` is open, and writes them. */
static int run_session(run_job *job, strand_session *session) {
    if (strand_session_run(session, job->inputs, job->n_inputs, job->outputs, job->n_outputs) == STRAND_OK)
        return (job->logprob >= 0 && make_logprobs(job)) || write_results(job) ? -1 : 0;
    if (!interrupted()) complain("%s", strand_session_error(session));
    return -1;
}

static int run_plan_and_session(run_job *job) {
    strand_plan *plan;
    strand_session *session;
    strand_session_params params;
    if (runtime_plan(&job->rt, job->batch, job->length, job->planned ? job->planned : job->rt.settings->outputs, &plan) !=
        STRAND_OK) {
        complain("%s", strand_error(job->rt.context));
        return -1;
    }
    strand_session_params_init(&params);
    params.check_finite = 1;
    params.progress = progress_callback;
    int bad = 0;
    if (strand_session_open(plan, &params, &session) == STRAND_OK) {
        bad = run_session(job, session);
        strand_session_close(session);
    } else
        bad = (complain("%s", strand_error(job->rt.context)), -1);
    strand_plan_close(plan);
    return bad;
}

int run_run(const options *settings) {
    run_job *job = calloc(1, sizeof *job);
    if (!job) return complain("out of memory"), EXIT_FAILED;
    job->logprob = -1;
    const char *model = settings->n_args ? settings->args[0] : settings->model;
    int rc = EXIT_USAGE;
    if (!model)
        complain("run: no model; see 'strand help run'");
    else if (!settings->input)
        complain("run: no input; give -i IN.safetensors");
    else if (!settings->output || !strcmp(settings->output, "-"))
        complain("run: no output; give -o OUT.safetensors");
    else
        rc = runtime_open(&job->rt, settings, model);
    if (rc) return free(job), rc;
    const int table = table_is(settings->input);
    int bad = !table && strand_file_open(job->rt.context, settings->input, &job->file) != STRAND_OK;
    if (bad) {
        job->file = NULL;
        complain("%s", strand_error(job->rt.context));
    }
    bad = bad || (table ? table_input(job) : find_inputs(job)) || choose_outputs(job) || run_plan_and_session(job);
    for (int i = 0; i < MOST; i++) free(job->converted[i]);
    free(job->planned);
    free(job->logprobs);
    if (job->file) strand_file_close(job->file);
    runtime_close(&job->rt);
    free(job);
    return bad ? EXIT_FAILED : EXIT_DONE;
}

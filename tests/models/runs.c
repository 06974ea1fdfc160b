/* runs.c - see runs.h. */
#include "runs.h"

opened open_all(strand_context *c, const char *path, const run_how *how, int64_t batch, int64_t length) {
    opened o = {.context = c};
    strand_model_params mp;
    strand_plan_params pp;
    strand_model_params_init(&mp);
    strand_plan_params_init(&pp);
    mp.settings = how->settings;
    mp.n_settings = how->n_settings;
    assert_ok(c, strand_model_open(c, path, &mp, &o.model));
    pp.max_batch = how->max_batch ? how->max_batch : batch;
    pp.max_length = how->max_length ? how->max_length : length;
    pp.memory_limit = how->limit;
    pp.no_tiling = how->no_tiling;
    pp.outputs = how->outputs;
    pp.backends = how->backends ? how->backends : "cpu";
    assert_ok(c, strand_plan_open(o.model, &pp, &o.plan));
    assert_int_equal(strand_plan_get(o.plan, &o.info), STRAND_OK);
    if (how->limit && o.info.block_bytes + o.info.device_bytes > how->limit) fail_msg("%s: the plan is beyond its limit", path);
    assert_ok(c, strand_session_open(o.plan, NULL, &o.session));
    return o;
}

void close_all(opened *o) {
    strand_session_close(o->session);
    strand_plan_close(o->plan);
    strand_model_close(o->model);
    *o = (opened){0};
}

float *run_output(opened *o, const int64_t *ids, int64_t batch, int64_t length, const char *name, strand_tensor *out) {
    union {
        const void *read;
        void *any;
    } data = {ids};
    strand_tensor in = {"input_ids", STRAND_I64, 2, {batch, length}, data.any, (uint64_t)(batch * length) * sizeof *ids};
    *out = (strand_tensor){.name = name};
    if (strand_session_run(o->session, &in, 1, out, 1)) fail_msg("run: %s", strand_session_error(o->session));
    float *copy = malloc(out->bytes);
    assert_non_null(copy);
    memcpy(copy, out->data, out->bytes);
    return copy;
}

float *run_once(strand_context *c, const char *path, const run_how *how, const int64_t *ids, int64_t batch, int64_t length,
                const char *name, strand_tensor *out) {
    opened o = open_all(c, path, how, batch, length);
    float *x = run_output(&o, ids, batch, length, name, out);
    close_all(&o);
    return x;
}

uint64_t unlimited_bytes(strand_context *c, const char *path, const run_how *how, int64_t batch, int64_t length) {
    run_how plain = *how;
    plain.limit = 0;
    opened o = open_all(c, path, &plain, batch, length);
    uint64_t bytes = o.info.block_bytes + o.info.device_bytes;
    close_all(&o);
    return bytes;
}

void random_bases(randoms *r, int64_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) ids[i] = 7 + random_below(r, 4);
}

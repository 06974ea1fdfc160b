/* token_shift.c - TOKEN_SHIFT: the token before, or a mixture of it with the token itself. Nothing but memory is moved;
 * pieces are runs of tokens, and the first token of a sequence meets the state. */
#include "matrix_state.h"

typedef struct job {
    ms_tokens x, mix, y;
    const float *state;
    float *last;
    int64_t state_batch, last_batch, begin, length, channel, n, height, down;
    uint32_t form;
} job;

/* before: the token before, NULL for zeros. */
static void row(const job *j, float *y, const float *x, const float *before) {
    const float *mix = j->mix.data ? ms_at(&j->mix, 0, 0, j->channel) : NULL;
    for (int64_t c = 0; c < j->n; c += CPU_LANES) {
        int64_t left = j->n - c;
        vf was = before ? ms_load(before + c, left) : vf_zero(), result = was;
        if (mix) {
            vf m = ms_load(mix + c, left), is = ms_load(x + c, left);
            result = j->form == STRAND_SHIFT_LERP_X ? vf_fma(was, 1.0f - m, is * m) : vf_fma(was - is, m, is);
        }
        ms_store(y + c, result, left);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t b = i / j->down, first = i % j->down * j->height, end = cpu_min(first + j->height, j->length);
    (void)worker;
    for (int64_t t = first; t < end; t++) {
        const float *before = j->state ? j->state + b * j->state_batch : NULL;
        if (j->begin + t > 0) before = ms_at(&j->x, b, t - 1, j->channel);
        row(j, ms_at(&j->y, b, t, j->channel), ms_at(&j->x, b, t, j->channel), before);
    }
}

/* The last token, after everything has read the state that it may lie over. */
static void keep(const job *j, int64_t batches) {
    for (int64_t b = 0; b < batches; b++) {
        const float *from = j->length  ? ms_at(&j->x, b, j->length - 1, j->channel)
                            : j->state ? j->state + b * j->state_batch
                                       : NULL;
        for (int64_t c = 0; c < j->n; c += CPU_LANES)
            ms_store(j->last + b * j->last_batch + c, from ? ms_load(from + c, j->n - c) : vf_zero(), j->n - c);
    }
}

CPU_KERNEL(cpu_token_shift) {
    const strand_op_token_shift *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0], *state = cpu_input(node, 2);
    job j = {.form = p->form, .begin = out->origin[1], .length = out->dims[1], .channel = out->origin[2], .n = out->dims[2]};
    (void)scratch;
    j.x = ms_view(node, x);
    j.x.data += (out->origin[1] - x->origin[1]) * x->strides[1];
    j.mix = ms_view(node, cpu_input(node, 1));
    j.y = ms_view(node, out);
    if (state) {
        j.state = cpu_f32(state) + (out->origin[0] - state->origin[0]) * state->strides[0] +
                  (out->origin[2] - state->origin[1]) * state->strides[1];
        j.state_batch = state->strides[0];
    }
    j.height = cpu_max(1, 32768 / cpu_max(1, j.n));
    j.down = (j.length + j.height - 1) / j.height;
    cpu_parallel(device, out->dims[0] * j.down, body, &j);
    if (node->n_outputs < 2) return STRAND_PLUGIN_OK;
    j.last = cpu_f32(&node->outputs[1]);
    j.last_batch = node->outputs[1].strides[0];
    keep(&j, out->dims[0]);
    return STRAND_PLUGIN_OK;
}

/* short_conv.c - SHORT_CONV: a few causal taps per channel, y[t] = act(bias + sum_i weight[i] x[t - (K-1) + i]).
 *
 * Taps are summed in order of i, a lane an output, so an element's bytes depend neither on where a tile began nor on the
 * layout's vectors. What stands before position 0 is the state, or zeros, and is multiplied like everything else.
 * Channel-major rows are vectors along the time; token-major ones are vectors of channels, a few tokens side by side, with
 * the weight turned to [K][C] in working memory. The activation follows while the results are in the first cache. */
#include "kernels.h"
#include "rows.h"
#include "simd.h"

#include <string.h>

#define CHUNK  1024 /* outputs between two passes of the activation */
#define NEAR   64   /* taps up to which the beginning of a row is gathered into a buffer */
#define LONG_ROWS 8   /* rows of many taps that are a piece of work */
#define TOKENS 4    /* tokens that are computed side by side */
#define AHEAD  4096 /* floats: rows so short are prefetched in the order of memory, for side by side they are no streams */
#define BAND   4096 /* elements between two passes of the activation, about */

typedef struct job {
    cpu_operand out, x, state; /* state: over the output's axes, 0 along the time */
    int64_t dims[STRAND_PLUGIN_RANK], begin; /* begin: the tile's first position in the sequence */
    const float *weight, *bias;
    int64_t weight_stride, bias_stride, taps;
    uint32_t activation;
    bool has_state, single; /* single: the whole sequence is one token */
    int64_t state_step; /* of its time axis */
    /* channel-major */
    cpu_pieces pieces;
    cpu_operand kept; /* many taps: the new state, over the output's axes; base NULL: none */
    float *inputs;    /* `room` floats for each worker */
    int64_t room;
    /* token-major */
    const float *turned, *zero; /* taps rows of `padded` floats, then the bias; zeros of a row */
    int64_t padded, tokens, width, down, across;
} job;

/* ---- channel-major: one row ---- */

typedef struct row {
    float *y;
    const float *x, *w, *state; /* x[i] and y[i] stand at one position; state[0, taps - 1) before `start`, or NULL */
    int64_t start, taps;        /* start: where position 0 is, at most 0 */
    float bias;
} row;

static float input_at(const row *r, int64_t i) {
    if (i >= r->start) return r->x[i];
    int64_t back = r->taps - 1 + (i - r->start);
    return r->state && back >= 0 ? r->state[back] : 0;
}

/* y[t, t + n), n at most a vector, from inputs that may stand before position 0. */
static void beginning(const row *r, int64_t t, int64_t n) {
    float inputs[NEAR + CPU_LANES] = {0};
    int64_t first = t - (r->taps - 1);
    vf sum = vf_set(r->bias);
    if (r->taps <= NEAR) {
        for (int64_t i = 0; i < r->taps - 1 + n; i++) inputs[i] = input_at(r, first + i);
        for (int64_t i = 0; i < r->taps; i++) sum = vf_fma(vf_set(r->w[i]), vf_load(inputs + i), sum);
    } else {
        for (int64_t i = 0; i < r->taps; i++) {
            int64_t at = first + i, back = r->taps - 1 + (at - r->start);
            const float *from = at >= r->start                                ? r->x + at
                                : r->state && at + n <= r->start && back >= 0 ? r->state + back
                                                                              : NULL;
            if (!from && !r->state && at + n <= r->start) continue; /* zeros */
            for (int64_t k = 0; !from && k < n; k++) inputs[k] = input_at(r, at + k);
            sum = vf_fma(vf_set(r->w[i]), from ? vf_load_part(from, n) : vf_load(inputs), sum);
        }
    }
    vf_store_part(r->y + t, sum, n);
}

#if CPU_LANES == 16
/* The same from registers: a window of the last two vectors, so that each input is loaded once. Two to four taps. */
#define SHIFTED(s) (vf) _mm512_alignr_epi32((__m512i)now, (__m512i)before, 16 - (s))
CPU_INLINE void windows(const row *r, const int taps, int64_t from, int64_t to) {
    vf w[4], bias = vf_set(r->bias);
    for (int i = 0; i < taps; i++) w[i] = vf_set(r->w[i]);
    vf before = (vf)_mm512_maskz_loadu_ps((__mmask16)(0xffffu << (17 - taps)), r->x + from - CPU_LANES); /* taps - 1 of them */
    for (int64_t t = from; t < to; t += CPU_LANES) {
        int64_t n = cpu_min(CPU_LANES, to - t);
        vf now = vf_load_part(r->x + t, n), sum = bias;
        if (taps > 3) sum = vf_fma(w[taps - 4], SHIFTED(3), sum);
        if (taps > 2) sum = vf_fma(w[taps - 3], SHIFTED(2), sum);
        sum = vf_fma(w[taps - 2], SHIFTED(1), sum);
        sum = vf_fma(w[taps - 1], now, sum);
        vf_store_part(r->y + t, sum, n);
        before = now;
    }
}
#endif

/* y[from, to) where every input stands in x; `taps` is known to the compiler for a few numbers. */
CPU_INLINE void inside(const row *r, int64_t taps, int64_t from, int64_t to) {
    const float *x = r->x - (taps - 1);
    int64_t t = from;
#if CPU_LANES == 16
    if (__builtin_constant_p(taps) && taps >= 2 && taps <= 4) {
        windows(r, (int)taps, from, to);
        return;
    }
#endif
    for (; t + 4 * CPU_LANES <= to; t += 4 * CPU_LANES) {
        vf sum[4];
        for (int k = 0; k < 4; k++) sum[k] = vf_set(r->bias);
        for (int64_t i = 0; i < taps; i++)
            for (int k = 0; k < 4; k++) sum[k] = vf_fma(vf_set(r->w[i]), vf_load(x + t + i + k * CPU_LANES), sum[k]);
        for (int k = 0; k < 4; k++) vf_store(r->y + t + k * CPU_LANES, sum[k]);
    }
    for (; t < to; t += CPU_LANES) {
        int64_t n = cpu_min(CPU_LANES, to - t);
        vf sum = vf_set(r->bias);
        for (int64_t i = 0; i < taps; i++) sum = vf_fma(vf_set(r->w[i]), vf_load_part(x + t + i, n), sum);
        vf_store_part(r->y + t, sum, n);
    }
}

/* y[0] of a sequence of one token with many taps: lanes of taps, which are many more than the outputs. */
static void one_token(const row *r) {
    vf sum[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    int64_t n = r->state ? r->taps - 1 : 0, i = 0;
    for (; i + 4 * CPU_LANES <= n; i += 4 * CPU_LANES)
        for (int k = 0; k < 4; k++)
            sum[k] = vf_fma(vf_load(r->w + i + k * CPU_LANES), vf_load(r->state + i + k * CPU_LANES), sum[k]);
    float y = vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; i < n; i++) y += r->w[i] * r->state[i];
    r->y[0] = y + r->w[r->taps - 1] * r->x[0] + r->bias;
}

static void along_time(const row *r, int64_t from, int64_t to) {
    int64_t t = from;
    for (; t < cpu_min(to, r->start + r->taps - 1); t += CPU_LANES) beginning(r, t, cpu_min(CPU_LANES, to - t));
    if (t >= to) return;
    if (r->taps == 3)
        inside(r, 3, t, to);
    else if (r->taps == 4)
        inside(r, 4, t, to);
    else if (r->taps == 2)
        inside(r, 2, t, to);
    else
        inside(r, r->taps, t, to);
}

static void channel_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t at, end, column, width;
    (void)worker;
    cpu_piece(&j->pieces, i, &at, &end, &column, &width);
    for (; at < end; at++) {
        int64_t c = at % j->dims[2];
        row r = {.y = (float *)(void *)cpu_row(&j->out, j->dims, at),
                 .x = (const float *)(const void *)cpu_row(&j->x, j->dims, at),
                 .w = j->weight + c * j->weight_stride,
                 .state = j->has_state ? (const float *)(const void *)cpu_row(&j->state, j->dims, at) : NULL,
                 .start = -j->begin,
                 .taps = j->taps,
                 .bias = j->bias ? j->bias[c * j->bias_stride] : 0};
        for (int64_t t = column; t < column + width; t += CHUNK) {
            int64_t n = cpu_min(CHUNK, column + width - t);
            if (j->single && j->taps > NEAR)
                one_token(&r);
            else
                along_time(&r, t, t + n);
            cpu_unary_row(j->activation, 0, 0, r.y + t, r.y + t, n);
        }
    }
}

/* ---- channel-major, many taps before which a state stands: a piece is a few rows, and their new state is kept while they
 * are in cache ---- */

/* The last n of a row's inputs: `seen` of them end at `end`, those before are the state, or zeros. */
static void keep_row(float *y, const float *end, const float *state, int64_t n, int64_t seen) {
    int64_t fresh = cpu_min(n, seen), old = n - fresh;
    if (state)
        memmove(y, state + fresh, (size_t)old * sizeof *y);
    else
        memset(y, 0, (size_t)old * sizeof *y);
    memcpy(y + old, end - fresh, (size_t)fresh * sizeof *y);
}

/* The inputs of a row one after the other: taps - 1 that stand before the tile, then the tile's. */
static void gather(const row *r, float *to, int64_t length) {
    int64_t n = r->taps - 1, old = cpu_min(n, cpu_max(0, n + r->start)); /* of the state, whose last one stands before
                                                                            `start` */
    memcpy(to, r->state + n - old, (size_t)old * sizeof *to);
    memcpy(to + old, r->x - (n - old), (size_t)(n - old + length) * sizeof *to);
}

static void long_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t length = j->dims[3], end = cpu_min(cpu_rows(j->dims), (i + 1) * LONG_ROWS);
    for (int64_t at = i * LONG_ROWS; at < end; at++) {
        int64_t c = at % j->dims[2];
        row r = {.y = (float *)(void *)cpu_row(&j->out, j->dims, at),
                 .x = (const float *)(const void *)cpu_row(&j->x, j->dims, at),
                 .w = j->weight + c * j->weight_stride,
                 .state = (const float *)(const void *)cpu_row(&j->state, j->dims, at),
                 .start = -j->begin,
                 .taps = j->taps,
                 .bias = j->bias ? j->bias[c * j->bias_stride] : 0};
        const float *x = r.x;
        if (j->single) {
            one_token(&r);
        } else {
            float *inputs = j->inputs + worker * j->room;
            gather(&r, inputs, length);
            r.x = inputs + r.taps - 1;
            inside(&r, r.taps, 0, length);
        }
        cpu_unary_row(j->activation, 0, 0, r.y, r.y, length);
        if (j->kept.base)
            keep_row((float *)(void *)cpu_row(&j->kept, j->dims, at), x + length, r.state, j->taps - 1, length + j->begin);
    }
}

/* ---- token-major ---- */

typedef struct entry { /* one of the batch; rows of x and of the state as tokens, counted from the tile's first */
    const job *j;
    const float *x, *state;
    float *y;
    int64_t x_stride, y_stride, last; /* last: tokens of the tile */
} entry;

/* The inputs at token t, from channel 0 of the tile on. */
static const float *token(const entry *e, int64_t t) {
    const job *j = e->j;
    if (t + j->begin >= 0) return e->x + t * e->x_stride;
    int64_t back = j->taps - 1 + (t + j->begin);
    return e->state && back >= 0 ? e->state + back * j->state_step : j->zero;
}

/* Tokens [t, t + tokens), channels [from, to): `taps` and `tokens` are known to the compiler. A vector of weights serves all
 * tokens, and the inputs of a token stay in registers for the next ones. */
CPU_INLINE void some_tokens(const entry *e, const int taps, const int tokens, int64_t from, int64_t to, int64_t t) {
    const float *w = e->j->turned, *x[TOKENS + 3];
    float *y = e->y + t * e->y_stride;
    int64_t padded = e->j->padded;
    for (int i = 0; i < tokens + taps - 1; i++) x[i] = token(e, t - (taps - 1) + i);
    int64_t ahead = tokens > 1 && t + 2 * tokens <= e->last && e->x_stride == to - from && e->y_stride == to - from
                        ? tokens * e->x_stride
                        : 0;
    if (ahead > AHEAD) ahead = 0;
    for (int64_t c = from; c < to; c += CPU_LANES) {
        int64_t lanes = cpu_min(CPU_LANES, to - c);
        vf weight[4], bias = vf_load(w + taps * padded + c), in[TOKENS + 3];
#pragma GCC unroll 4
        for (int i = 0; i < taps; i++) weight[i] = vf_load(w + i * padded + c);
#pragma GCC unroll 8
        for (int i = 0; i < tokens + taps - 1; i++)
            in[i] = lanes == CPU_LANES ? vf_load(x[i] + c) : vf_load_part(x[i] + c, lanes);
        if (ahead) {
            const float *next = e->x + (t + tokens) * e->x_stride + (c - from) * tokens;
            float *next_y = y + ahead + (c - from) * tokens;
#pragma GCC unroll 4
            for (int k = 0; k < tokens; k++) {
                __builtin_prefetch(next + k * CPU_LANES, 0, 3);
                __builtin_prefetch(next_y + k * CPU_LANES, 1, 3);
            }
        }
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++) {
            vf sum = bias;
#pragma GCC unroll 4
            for (int i = 0; i < taps; i++) sum = vf_fma(weight[i], in[k + i], sum);
            if (lanes == CPU_LANES)
                vf_store(y + k * e->y_stride + c, sum);
            else
                vf_store_part(y + k * e->y_stride + c, sum, lanes);
        }
    }
}

CPU_INLINE void all_tokens(const entry *e, const int taps, int64_t from, int64_t to, int64_t t, int64_t end) {
    for (; t + TOKENS <= end; t += TOKENS) some_tokens(e, taps, TOKENS, from, to, t);
    for (; t < end; t++) some_tokens(e, taps, 1, from, to, t);
}

/* Any number of taps: one token after another. */
static void any_taps(const entry *e, int64_t from, int64_t to, int64_t t, int64_t end) {
    const job *j = e->j;
    for (; t < end; t++)
        for (int64_t c = from; c < to; c += CPU_LANES) {
            int64_t lanes = cpu_min(CPU_LANES, to - c);
            vf sum = vf_load(j->turned + j->taps * j->padded + c);
            for (int64_t i = 0; i < j->taps; i++)
                sum = vf_fma(vf_load(j->turned + i * j->padded + c), vf_load_part(token(e, t - (j->taps - 1) + i) + c, lanes),
                             sum);
            vf_store_part(e->y + t * e->y_stride + c, sum, lanes);
        }
}

static void token_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t channel = i % j->across * j->width, to = cpu_min(channel + j->width, j->dims[3]),
            first = i / j->across % j->down * j->tokens;
    int64_t at = i / j->across / j->down * j->dims[2], last = cpu_min(first + j->tokens, j->dims[2]);
    entry e = {.j = j,
               .x = (const float *)(const void *)cpu_row(&j->x, j->dims, at),
               .y = (float *)(void *)cpu_row(&j->out, j->dims, at),
               .state = j->has_state ? (const float *)(const void *)cpu_row(&j->state, j->dims, at) : NULL,
               .x_stride = j->x.strides[2],
               .y_stride = j->out.strides[2],
               .last = j->dims[2]};
    (void)worker;
    int64_t band = cpu_max(1, BAND / ((to - channel) * TOKENS)) * TOKENS;
    for (int64_t t = first; t < last; t += band) {
        int64_t end = cpu_min(t + band, last);
        if (j->taps == 4)
            all_tokens(&e, 4, channel, to, t, end);
        else if (j->taps == 3)
            all_tokens(&e, 3, channel, to, t, end);
        else if (j->taps == 2)
            all_tokens(&e, 2, channel, to, t, end);
        else
            any_taps(&e, channel, to, t, end);
        int64_t rows = e.y_stride == to - channel ? 1 : end - t, width = (to - channel) * (end - t) / rows;
        for (int64_t k = 0; k < rows && j->activation; k++) {
            float *y = e.y + (t + k) * e.y_stride + channel;
            cpu_unary_row(j->activation, 0, 0, y, y, width);
        }
    }
}

/* ---- the operator ---- */

static bool token_major(const strand_plugin_node *node) {
    return ((const strand_op_short_conv *)node->params)->flags & STRAND_SHORT_CONV_TOKEN_MAJOR;
}

static int64_t padded_channels(const strand_plugin_node *node) {
    const strand_plugin_tensor *out = &node->outputs[0];
    return (out->dims[out->rank - 1] + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

/* Many taps of rows, and a state before them. */
static bool is_long(const strand_plugin_node *node) {
    return !token_major(node) && cpu_input(node, 3) && node->inputs[1].dims[1] > NEAR;
}

/* Floats of the inputs of a row, and room for a vector. */
static int64_t long_room(const strand_plugin_node *node) {
    return (node->inputs[1].dims[1] + node->outputs[0].dims[node->outputs[0].rank - 1] + 2 * CPU_LANES) / CPU_LANES * CPU_LANES;
}

uint64_t cpu_short_conv_scratch(const cpu_device *device, const strand_plugin_node *node) {
    if (is_long(node)) return (uint64_t)cpu_workers(device) * (uint64_t)long_room(node) * sizeof(float);
    return token_major(node) ? (uint64_t)padded_channels(node) * ((uint64_t)node->inputs[1].dims[1] + 2) * sizeof(float) : 0;
}

static void turn_weight(job *j, float *to) {
    float *bias = to + j->taps * j->padded, *zero = bias + j->padded;
    memset(to, 0, (size_t)(j->padded * (j->taps + 2)) * sizeof *to);
    for (int64_t c = 0; c < j->dims[3]; c++) {
        for (int64_t i = 0; i < j->taps; i++) to[i * j->padded + c] = j->weight[c * j->weight_stride + i];
        if (j->bias) bias[c] = j->bias[c * j->bias_stride];
    }
    j->turned = to;
    j->zero = zero;
}

/* The new state's rows. */
static void place_kept(const strand_plugin_tensor *kept, cpu_operand *to) {
    *to = (cpu_operand){.base = kept->memory.data, .bytes = sizeof(float)};
    for (uint32_t i = 0; i < kept->rank; i++) to->strides[STRAND_PLUGIN_RANK - kept->rank + i] = kept->strides[i];
    to->strides[3] = 1;
}

/* The last inputs, after everything has been read: the new state may lie over the old one, and moves only towards its
 * beginning. */
static void keep_state(const job *j, const strand_plugin_tensor *kept, bool tokens) {
    int time = tokens ? 2 : 3, channel = 5 - time;
    int64_t length = j->dims[time], n = j->taps - 1, dims[STRAND_PLUGIN_RANK];
    cpu_operand to;
    place_kept(kept, &to);
    memcpy(dims, j->dims, sizeof dims);
    dims[time] = 1;
    int64_t rows = tokens ? 1 : dims[2]; /* of a batch entry; a token-major row is all channels */
    for (int64_t b = 0; b < dims[0] * dims[1] * rows; b++) {
        int64_t at = tokens ? b * j->dims[2] : b, i1 = b / rows % dims[1], i0 = b / rows / dims[1];
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, at);
        const float *state = j->has_state ? (const float *)(const void *)cpu_row(&j->state, j->dims, at) : NULL;
        float *y = (float *)(void *)to.base + i0 * to.strides[0] + i1 * to.strides[1] + (tokens ? 0 : b % rows * to.strides[2]);
        if (!tokens) {
            keep_row(y, x + length, state, n, length + j->begin);
            continue;
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t t = length - n + i, back = n + t + j->begin; /* position t of the tile, or `back` of the state */
            int64_t width = tokens ? dims[channel] : 1;
            const float *from = t + j->begin >= 0    ? x + t * j->x.strides[time]
                                : state && back >= 0 ? state + back * j->state_step
                                                     : NULL;
            float *row = y + i * to.strides[time];
            if (from)
                memmove(row, from, (size_t)width * sizeof *row);
            else
                memset(row, 0, (size_t)width * sizeof *row);
        }
    }
}

static void collect(const strand_plugin_node *node, job *j) {
    const strand_op_short_conv *p = node->params;
    const strand_plugin_tensor *w = &node->inputs[1], *bias = cpu_input(node, 2), *state = cpu_input(node, 3),
                               *out = &node->outputs[0];
    bool tokens = token_major(node);
    uint32_t channels = out->rank - (tokens ? 1 : 2), time = out->rank - (tokens ? 2 : 1);
    *j = (job){.begin = out->origin[time], .weight_stride = w->strides[0], .taps = w->dims[1], .activation = p->activation};
    j->single = out->whole[time] == 1;
    j->weight = cpu_f32(w) + cpu_lead(w, 0, out, channels) * w->strides[0];
    if (bias) {
        j->bias_stride = bias->strides[0];
        j->bias = cpu_f32(bias) + cpu_lead(bias, 0, out, channels) * bias->strides[0];
    }
    cpu_extents(out, j->dims);
    cpu_place(out, out, false, &j->out);
    cpu_place(out, &node->inputs[0], false, &j->x);
    j->out.strides[3] = j->x.strides[3] = 1; /* an extent of 1 may come with any stride */
    j->has_state = state && j->taps > 1;
    if (!j->has_state) return;
    j->state = (cpu_operand){.base = state->memory.data, .bytes = sizeof(float)};
    j->state_step = tokens ? state->strides[time] : 1;
    for (uint32_t i = 0; i < out->rank; i++) {
        if (i == time) continue;
        int64_t stride = i + 1 == out->rank ? 1 : state->strides[i];
        j->state.strides[STRAND_PLUGIN_RANK - out->rank + i] = stride;
        j->state.base += cpu_lead(state, i, out, i) * stride * j->state.bytes;
    }
}

CPU_KERNEL(cpu_short_conv) {
    job j;
    collect(node, &j);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++)
        if (j.dims[i] < 1) return STRAND_PLUGIN_OK;
    if (token_major(node)) {
        j.padded = padded_channels(node);
        turn_weight(&j, scratch);
        j.width = cpu_min(2048, j.padded);
        j.across = (j.dims[3] + j.width - 1) / j.width;
        j.tokens = cpu_max(1, 16384 / (j.width * TOKENS)) * TOKENS;
        j.down = (j.dims[2] + j.tokens - 1) / j.tokens;
        cpu_parallel(device, j.dims[0] * j.dims[1] * j.down * j.across, token_body, &j);
    } else if (is_long(node)) {
        bool keeps = node->n_outputs > 1;
        j.inputs = scratch;
        j.room = long_room(node);
        if (keeps) place_kept(&node->outputs[1], &j.kept);
        cpu_parallel(device, (cpu_rows(j.dims) + LONG_ROWS - 1) / LONG_ROWS, long_body, &j);
        return STRAND_PLUGIN_OK;
    } else {
        j.pieces = cpu_cut(j.dims);
        cpu_parallel(device, j.pieces.count, channel_body, &j);
    }
    if (node->n_outputs > 1 && j.taps > 1) keep_state(&j, &node->outputs[1], token_major(node));
    return STRAND_PLUGIN_OK;
}

/* conv1d.c - CONV1D: an implicit product of the weights with shifted rows of x.
 *
 * Time lies in lanes. A piece of work is some channels of one group (or all of some small groups) over a stretch of time,
 * BLOCK by BLOCK: it lays the rows of x that it needs out in its own memory, padded, so that what tap j of row i meets is
 * one run of floats. Without much reach that is one copy of the row for each remainder of the stride; else, one for each
 * tap. Register blocks of channels by vectors of time then go through rows and taps. Weights are packed once, [channels of a
 * register block] for each row and tap.
 *
 * Invariant: each result is one chain of vf_fma over rows and taps in order, begun at its bias; rows that do not fit one
 * turn go on from what the result holds. Padding is multiplied too. So the bytes do not depend on pieces or tiles. */
#include "kernels.h"
#include "rows.h"
#include "simd.h"

#define BLOCK   512   /* results of a piece; a multiple of 8 vectors */
#define ROOM    32768 /* floats of the rows laid out at once: they stay in L2 */
#define WORK    262144 /* multiply-adds of vectors that a piece should have */
#define PACKED  64 /* channels that are packed at once */
#define CHANNELS 8    /* of a register block */

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_conv1d *p;
    int64_t batch, ins, outs, taps, tokens;     /* ins, outs: channels of a group in x and the whole result; tokens: of the
                                                   tile */
    int64_t first, channels;                    /* the tile's channels [first, first + channels) */
    int64_t ld, phase, turn;                    /* floats of a row laid out, of one remainder of it; rows of a turn */
    bool by_tap;
    int64_t group0, groups;                     /* that the tile touches */
    int64_t groups_each, outs_each, tokens_each; /* of a piece: so many groups, or channels of one; in both, tokens */
    int64_t blocks, spans, parts;               /* pieces along time, groups, channels of a group */
    float *weights, *rows;
    int64_t *offsets;                           /* [taps]: where the run of a tap begins in its row */
    int64_t rows_each;                          /* floats of a worker */
} job;

static int64_t rounded(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* ---- the register block ---- */

/* channels x vectors results: c = (start, one number a channel, or c itself where that is NULL)
 * + sum over rows i < n and taps of weights[i][tap][channel] x[i][offset[tap] + lane]. */
CPU_INLINE void block(int channels, int vectors, const float *w, const float *x, int64_t ld, const int64_t *offsets,
                      int64_t taps, int64_t n, const float *start, float *c, int64_t c_stride) {
    vf sum[CHANNELS][8];
#pragma GCC unroll 8
    for (int r = 0; r < channels; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[r][v] = start ? vf_set(start[r]) : vf_load(c + r * c_stride + v * CPU_LANES);
    for (int64_t i = 0; i < n; i++, x += ld)
#pragma GCC unroll 1
        for (int64_t j = 0; j < taps; j++, w += channels) {
            const float *run = x + offsets[j];
            vf y[8];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) y[v] = vf_load(run + v * CPU_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < channels; r++) {
                vf a = vf_set(w[r]);
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++) sum[r][v] = vf_fma(a, y[v], sum[r][v]);
            }
        }
#pragma GCC unroll 8
    for (int r = 0; r < channels; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) vf_store(c + r * c_stride + v * CPU_LANES, sum[r][v]);
}

typedef void block_fn(const float *w, const float *x, int64_t ld, const int64_t *offsets, int64_t taps, int64_t n,
                      const float *start, float *c, int64_t c_stride);
#define BLOCK_FN(channels, vectors)                                                                                            \
    static void block_##channels##_##vectors(const float *w, const float *x, int64_t ld, const int64_t *offsets, int64_t taps, \
                                             int64_t n, const float *start, float *c, int64_t c_stride) {                     \
        block(channels, vectors, w, x, ld, offsets, taps, n, start, c, c_stride);                                              \
    }
#if CPU_LANES == 16 || defined(__aarch64__)
#define WIDE_8 2
#define WIDE_4 4
#define WIDE_2 8
BLOCK_FN(8, 2)
BLOCK_FN(8, 1)
BLOCK_FN(4, 4)
BLOCK_FN(2, 8)
static block_fn *const wide[] = {[8] = block_8_2, [4] = block_4_4, [2] = block_2_8};
static block_fn *const narrow_8 = block_8_1;
#else /* 16 registers */
#define WIDE_8 1
#define WIDE_4 2
#define WIDE_2 4
BLOCK_FN(8, 1)
BLOCK_FN(4, 2)
BLOCK_FN(2, 4)
static block_fn *const wide[] = {[8] = block_8_1, [4] = block_4_2, [2] = block_2_4};
static block_fn *const narrow_8 = block_8_1;
#endif
#define WIDE_1 8
BLOCK_FN(4, 1)
BLOCK_FN(2, 1)
BLOCK_FN(1, 8)
BLOCK_FN(1, 1)

/* So many channels go together when n are left. */
static int64_t together(int64_t n) {
    return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

/* `channels` (8, 4, 2 or 1) rows of the result over n tokens. The last vector goes through memory of its own. */
static void channel_block(const job *j, int64_t channels, const float *w, const float *x, int64_t rows, int64_t n,
                          const float *start, float *c, int64_t c_stride) {
    static const int64_t widths[] = {[8] = WIDE_8, [4] = WIDE_4, [2] = WIDE_2, [1] = WIDE_1};
    block_fn *const big = channels == 1 ? block_1_8 : wide[channels];
    block_fn *const one = channels == 8 ? narrow_8 : channels == 4 ? block_4_1 : channels == 2 ? block_2_1 : block_1_1;
    int64_t t = 0, width = widths[channels] * CPU_LANES;
    for (; t + width <= n; t += width) big(w, x + t, j->ld, j->offsets, j->taps, rows, start, c + t, c_stride);
    for (; t + CPU_LANES <= n; t += CPU_LANES) one(w, x + t, j->ld, j->offsets, j->taps, rows, start, c + t, c_stride);
    if (t == n) return;
    float last[CHANNELS * CPU_LANES] = {0};
    size_t bytes = (size_t)(n - t) * sizeof *c;
    for (int64_t r = 0; r < channels && !start; r++) memcpy(last + r * CPU_LANES, c + r * c_stride + t, bytes);
    one(w, x + t, j->ld, j->offsets, j->taps, rows, start, last, CPU_LANES);
    for (int64_t r = 0; r < channels; r++) memcpy(c + r * c_stride + t, last + r * CPU_LANES, bytes);
}

/* ---- weights: for each group, its channels of the tile in blocks of 8, 4, 2, 1; in each [rows of x][taps][channels] ---- */

/* The tile's channels of group g: [from, to) of the whole result. */
static void group_channels(const job *j, int64_t g, int64_t *from, int64_t *to) {
    *from = cpu_max(g * j->outs, j->first);
    *to = cpu_min((g + 1) * j->outs, j->first + j->channels);
}

static void pack(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const strand_plugin_tensor *w = &j->node->inputs[1];
    int64_t o, end, cuts = (j->outs + PACKED - 1) / PACKED;
    (void)worker;
    group_channels(j, j->group0 + i / cuts, &o, &end);
    o += i % cuts * PACKED;
    end = cpu_min(end, o + PACKED);
    float *to = j->weights + (o - j->first) * j->ins * j->taps;
    while (o < end) {
        int64_t n = together(end - o);
        for (int64_t r = 0; r < n; r++) {
            const float *from = cpu_f32(w) + (o + r - w->origin[0]) * w->strides[0];
            for (int64_t c = 0; c < j->ins; c++)
                for (int64_t k = 0; k < j->taps; k++) to[(c * j->taps + k) * n + r] = from[c * w->strides[1] + k];
        }
        to += n * j->ins * j->taps;
        o += n;
    }
}

/* ---- rows of x ---- */

/* n floats of positions s, s + step, ... of a row that is there for positions [low, high); zeros outside. */
static void run_of(float *to, const float *row, int64_t s, int64_t step, int64_t n, int64_t low, int64_t high) {
    int64_t before = s < low ? cpu_min(n, (low - s + step - 1) / step) : 0, i = 0;
    int64_t inside = s >= high ? 0 : cpu_min(n, (high - s + step - 1) / step);
    for (; i < before; i++) to[i] = 0;
    if (step == 1 && inside > i) {
        memcpy(to + i, row + (s + i - low), (size_t)(inside - i) * sizeof *to);
        i = inside;
    }
    for (; i < inside; i++) to[i] = row[s + i * step - low];
    for (; i < n; i++) to[i] = 0;
}

/* Lays out what the results of tokens [t, t + n) (of the whole) meet in one row of x, which begins where the view does. The
 * view has all that is needed; lanes beyond the tile may meet zeros instead. */
static void lay_out(const job *j, float *to, const float *row, int64_t t, int64_t n) {
    const strand_op_conv1d *p = j->p;
    const strand_plugin_tensor *x = &j->node->inputs[0];
    int64_t low = x->origin[2], high = cpu_min(low + x->dims[2], x->whole[2]);
    int64_t s = t * p->stride - p->pad_left;
    n = rounded(n, CPU_LANES);
    if (j->by_tap)
        for (int64_t k = 0; k < j->taps; k++) run_of(to + j->offsets[k], row, s + k * p->dilation, p->stride, n, low, high);
    else
        for (int64_t r = 0; r < p->stride; r++)
            run_of(to + r * j->phase, row, s + r, p->stride, n + (j->taps - 1) * p->dilation / p->stride + 1, low, high);
}

/* ---- pieces ---- */

static float *result_at(const job *j, int64_t b, int64_t o, int64_t t) {
    const strand_plugin_tensor *out = &j->node->outputs[0];
    return cpu_f32(out) + b * out->strides[0] + (o - j->first) * out->strides[1] + t;
}

/* What the results of n channels from o on begin with. */
static void begin(const job *j, int64_t o, int64_t n, float start[CHANNELS]) {
    const strand_plugin_tensor *bias = cpu_input(j->node, 2);
    for (int64_t r = 0; r < n; r++)
        start[r] = bias ? cpu_f32(bias)[(o + r - bias->origin[0]) * (bias->dims[0] > 1 ? bias->strides[0] : 1)] : 0;
}

/* Channels [from, to) of group g, tokens [t, t + n) of the tile. */
static void group_part(const job *j, int64_t b, int64_t g, int64_t from, int64_t to, int64_t t, int64_t n, float *rows) {
    const strand_plugin_tensor *x = &j->node->inputs[0], *out = &j->node->outputs[0];
    int64_t group_from, group_to;
    group_channels(j, g, &group_from, &group_to);
    for (int64_t i = 0; i < j->ins; i += j->turn) {
        int64_t some = cpu_min(j->turn, j->ins - i);
        for (int64_t c = 0; c < some; c++) {
            const float *row = cpu_f32(x) + (cpu_lead(x, 0, out, 0) + b) * x->strides[0] + (g * j->ins + i + c) * x->strides[1];
            lay_out(j, rows + c * j->ld, row, out->origin[2] + t, n);
        }
        for (int64_t o = from; o < to;) {
            int64_t many = together(group_to - o);
            const float *w = j->weights + ((o - j->first) * j->ins + i * many) * j->taps;
            float start[CHANNELS];
            begin(j, o, many, start);
            channel_block(j, many, w, rows, some, n, i ? NULL : start, result_at(j, b, o, t), out->strides[1]);
            o += many;
        }
    }
    for (int64_t o = from; o < to; o++) cpu_unary_row(j->p->activation, 0, 0, result_at(j, b, o, t), result_at(j, b, o, t), n);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    float *rows = j->rows + worker * j->rows_each;
    int64_t part = i % j->parts, first = i / j->parts % j->blocks * j->tokens_each, span = i / j->parts / j->blocks % j->spans,
            b = i / j->parts / j->blocks / j->spans;
    int64_t end = cpu_min(j->group0 + (span + 1) * j->groups_each, j->group0 + j->groups),
            last = cpu_min(first + j->tokens_each, j->tokens);
    for (int64_t g = j->group0 + span * j->groups_each; g < end; g++) {
        int64_t from, to;
        group_channels(j, g, &from, &to);
        from += part * j->outs_each;
        for (int64_t t = first; t < last && from < to; t += BLOCK)
            group_part(j, b, g, from, cpu_min(from + j->outs_each, to), t, cpu_min(BLOCK, last - t), rows);
    }
}

/* Floats of a row laid out one copy a remainder, or one a tap; INT64_MAX where that is out of the question. */
static int64_t by_remainder(const job *j) {
    int64_t reach = (j->taps - 1) * j->p->dilation / j->p->stride;
    return reach > (1 << 20) || j->p->stride > 4096 ? INT64_MAX : j->p->stride * (BLOCK + rounded(reach + 1, CPU_LANES));
}

static job job_of(const strand_plugin_node *node) {
    const strand_plugin_tensor *w = &node->inputs[1], *out = &node->outputs[0];
    job j = {.node = node, .p = node->params, .batch = out->dims[0], .tokens = out->dims[2], .first = out->origin[1],
             .channels = out->dims[1]};
    j.ins = w->dims[1];
    j.taps = w->dims[2];
    j.outs = cpu_max(1, out->whole[1] / j.p->groups);
    int64_t one = by_remainder(&j), each = BLOCK * j.taps;
    j.by_tap = each < one;
    j.ld = j.by_tap ? each : one;
    j.phase = j.by_tap ? 0 : one / j.p->stride;
    j.turn = cpu_max(1, cpu_min(j.ins, ROOM / j.ld));
    j.rows_each = rounded(j.turn * j.ld + 8 * CPU_LANES, CPU_ALIGN / 4);
    if (j.channels < 1) return j;
    j.group0 = j.first / j.outs;
    j.groups = (j.first + j.channels - 1) / j.outs - j.group0 + 1;
    int64_t work = cpu_max(1, j.ins * j.taps * cpu_min(BLOCK, cpu_max(1, j.tokens)) / CPU_LANES); /* of a channel */
    j.outs_each = cpu_min(j.outs, rounded(cpu_max(1, WORK / work), CHANNELS));
    int64_t blocks = (j.tokens + BLOCK - 1) / BLOCK,
            along = j.outs_each < j.outs ? 1 : cpu_max(1, cpu_min(blocks, WORK / (work * j.outs)));
    j.tokens_each = along * BLOCK; /* along a row first: it is a run of memory */
    j.groups_each = j.outs_each < j.outs ? 1 : cpu_max(1, cpu_min(j.groups, WORK / (work * j.outs * along)));
    j.spans = (j.groups + j.groups_each - 1) / j.groups_each;
    j.parts = (cpu_min(j.outs, j.channels) + j.outs_each - 1) / j.outs_each;
    j.blocks = (j.tokens + j.tokens_each - 1) / j.tokens_each;
    return j;
}

static uint64_t offsets_bytes(const job *j) {
    return cpu_round((uint64_t)j->taps * sizeof(int64_t));
}
static uint64_t weights_bytes(const job *j) {
    return cpu_round((uint64_t)(j->channels * j->ins * j->taps) * sizeof(float));
}

uint64_t cpu_conv1d_scratch(const cpu_device *device, const strand_plugin_node *node) {
    job j = job_of(node);
    return offsets_bytes(&j) + weights_bytes(&j) + (uint64_t)j.rows_each * sizeof(float) * (uint64_t)cpu_workers(device);
}

CPU_KERNEL(cpu_conv1d) {
    job j = job_of(node);
    if (j.batch < 1 || j.channels < 1 || j.tokens < 1) return STRAND_PLUGIN_OK;
    j.offsets = scratch;
    j.weights = (float *)(void *)((char *)scratch + offsets_bytes(&j));
    j.rows = (float *)(void *)((char *)j.weights + weights_bytes(&j));
    for (int64_t k = 0; k < j.taps; k++) {
        int64_t u = k * j.p->dilation;
        j.offsets[k] = j.by_tap ? k * BLOCK : u % j.p->stride * j.phase + u / j.p->stride;
    }
    cpu_parallel(device, j.groups * ((j.outs + PACKED - 1) / PACKED), pack, &j);
    cpu_parallel(device, j.batch * j.spans * j.blocks * j.parts, body, &j);
    return STRAND_PLUGIN_OK;
}

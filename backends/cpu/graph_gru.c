/* graph_gru.c - GRAPH_GRU: a GRU over the nodes of a small dense graph, whose products read a diffusion of the state.
 *
 * A piece of work is one entry of the batch through the whole sequence. A node's features stand as [matrix of the
 * diffusion][units, in whole vectors], so that a diffusion is a product with a support and a gate one product with the
 * packed weight, whose rows stand in the same order; that packing is a prepared constant when the weights are constants,
 * else it is made in working memory. With precision BF16, where the processor has AVX512-BF16, the packed weight and the
 * diffused state are rounded to pairs along the sum (VDPBF16PS); diffusions, sums, gates and the state stay F32.
 *
 * Invariant: each element is one chain of multiply-adds in the order written here, whichever block of rows it fell into. */
#include "graphs_links.h"
#include "half.h"
#include "kernels.h"
#include "vecmath.h"

#if CPU_LANES == 16
#define MOST_ROWS 10
#else
#define MOST_ROWS 4
#endif

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_graph_gru *p;
    int64_t n, h, pitch, count, all; /* nodes; units; units in whole vectors; supports; matrices of the diffusion */
    int64_t length, each, links;     /* each: floats of working memory a worker; links: the last ones, for the supports */
    const float *gates, *candidate;  /* packed: [all][pitch][2 pitch] and [all][pitch][pitch], or half of it in pairs of rows */
    float *work;
    bool pairs;                      /* products in BF16 */
} job;

static int64_t whole_vectors(int64_t n) {
    return (n + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

static job shape_of(const cpu_device *device, const strand_plugin_node *node) {
    const strand_plugin_tensor *x = &node->inputs[1], *s = &node->inputs[2];
    job j = {
        .node = node, .p = node->params, .n = x->dims[2], .h = x->dims[3], .length = x->dims[1], .count = s->dims[s->rank - 3]};
    j.all = 1 + j.count * j.p->steps;
    j.pairs = j.p->precision == STRAND_PRECISION_BF16 && CPU_LANES == 16 && device && device->features & CPU_AVX512_BF16;
    j.pitch = whole_vectors(j.h);
    j.links = j.n * j.pitch * (j.all + 4); /* the diffusion, two gates, the candidate, the state */
    j.each = whole_vectors(j.links + cpu_links_floats(j.n, j.count));
    return j;
}

/* Of F32, though pairs take half of it: what is prepared does not go by the device. */
static uint64_t packed_floats(const strand_plugin_node *node) {
    job j = shape_of(NULL, node);
    return (uint64_t)(j.all * j.pitch) * (uint64_t)j.pitch * 3;
}

static float weight_at(const job *j, const strand_plugin_tensor *w, int64_t m, int64_t f, int64_t part, int64_t c) {
    return f < j->h && c < j->h ? cpu_f32(w)[(f * j->all + m) * w->strides[0] + part * j->h + c] : 0.0f;
}

/* Row f * all + m of the weight becomes row m * pitch + f; each of `parts` blocks of h columns begins at a whole vector. Two
 * rows are one of pairs. */
static float *pack(const job *j, const strand_plugin_tensor *w, int parts, float *to) {
    for (int64_t m = 0; m < j->all; m++)
        for (int64_t f = 0; f < j->pitch; f += j->pairs ? 2 : 1, to += parts * j->pitch)
            for (int part = 0; part < parts; part++)
                for (int64_t c = 0; c < j->pitch; c++) {
                    float x = weight_at(j, w, m, f, part, c);
                    uint16_t pair[2];
                    if (j->pairs) {
                        pair[0] = cpu_f32_to_bf16(x);
                        pair[1] = cpu_f32_to_bf16(weight_at(j, w, m, f + 1, part, c));
                        memcpy(&x, pair, sizeof x);
                    }
                    memcpy(to + part * j->pitch + c, &x, sizeof x);
                }
    return to;
}

static void pack_both(const job *j, float *to) {
    pack(j, &j->node->inputs[4], 1, pack(j, &j->node->inputs[3], 2, to));
}

/* ---- products ---- */

/* y += q s: rows of q over `depth` rows of s, in units; columns are whole vectors. */
typedef struct product {
    const float *q, *s;
    float *y;
    int64_t q_pitch, s_pitch, y_pitch, depth, columns;
} product;

#define TARGET
#define UNIT_FMA      vf_fma
#define PRODUCT(name) numbers_##name
#include "graph_gru_product.h"

#if CPU_LANES == 16
CPU_INLINE CPU_TARGET_BF16 vf fma_pairs(vf a, vf b, vf c) {
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}
#define TARGET        CPU_TARGET_BF16
#define UNIT_FMA      fma_pairs
#define PRODUCT(name) pairs_##name
#include "graph_gru_product.h"

/* n floats, whole vectors, as pairs, half as many; in place if need be. */
CPU_TARGET_BF16 static void round_pairs(const float *from, float *to, int64_t n) {
    for (int64_t i = 0; i < n; i += CPU_LANES)
        _mm256_storeu_si256((void *)(to + i / 2), (__m256i)_mm512_cvtneps_pbh((__m512)vf_load(from + i)));
}
#else
static void pairs_multiply(const product *p, int64_t rows) {
    numbers_multiply(p, rows);
}
static void round_pairs(const float *from, float *to, int64_t n) {
    memmove(to, from, (size_t)n * sizeof *to);
}
#endif

/* ---- a step ---- */

/* x_0 stands at the front of every node's features; the others are made behind it. */
static void diffuse(const job *j, const cpu_links *supports, float *d) {
    const int64_t pitch = j->all * j->pitch;
    int64_t start = 0, made = 1;
    for (int64_t m = 0; m < j->count; m++) {
        int64_t before = start, now = start;
        for (int64_t k = 1; k <= j->p->steps; k++, made++) { /* S x, then 2 S x - x_before */
            cpu_links_carry(supports, m, d + now * j->pitch, k > 1 ? d + before * j->pitch : NULL, d + made * j->pitch, pitch,
                            j->pitch);
            before = now;
            now = made;
        }
        if (j->p->flags & STRAND_DIFFUSION_CARRY_OVER) start = before;
    }
}

/* `parts` blocks of h to blocks of whole vectors. */
static void rows_in(const job *j, const float *from, int64_t stride, int parts, float *to) {
    for (int64_t i = 0; i < j->n; i++)
        for (int part = 0; part < parts; part++, to += j->pitch)
            for (int64_t c = 0; c < j->pitch; c += CPU_LANES) {
                int64_t left = j->h - c;
                vf_store(to + c, left >= CPU_LANES ? vf_load(from + i * stride + part * j->h + c)
                                                   : vf_load_part(from + i * stride + part * j->h + c, left));
            }
}

/* y, [n][parts pitch], which holds what came in, gains the product of the diffusion with a weight. */
static void gate(const job *j, float *d, const float *w, int parts, float *y) {
    product p = {.q = d,
                 .q_pitch = j->all * j->pitch,
                 .depth = j->all * j->pitch,
                 .s = w,
                 .s_pitch = parts * j->pitch,
                 .y = y,
                 .y_pitch = parts * j->pitch,
                 .columns = parts * j->pitch};
    if (!j->pairs) {
        numbers_multiply(&p, j->n);
        return;
    }
    round_pairs(d, d, j->n * p.q_pitch);
    p.q_pitch /= 2;
    p.depth /= 2;
    pairs_multiply(&p, j->n);
}

static bool is_zero(const float *h, int64_t n) {
    int64_t i = 0;
    while (i < n && h[i] == 0) i++;
    return i == n;
}

/* What the state, which is not zero, adds to the gates and to the candidate. */
static void add_state(const job *j, const cpu_links *supports, float *d, const float *h, float *ru, float *c) {
    int64_t d_pitch = j->all * j->pitch;
    for (int64_t i = 0; i < j->n; i++) memcpy(d + i * d_pitch, h + i * j->pitch, (size_t)j->pitch * sizeof(float));
    diffuse(j, supports, d);
    gate(j, d, j->gates, 2, ru);
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = 0; k < j->pitch; k += CPU_LANES)
            vf_store(d + i * d_pitch + k, vf_sigmoid(vf_load(ru + 2 * i * j->pitch + k)) * vf_load(h + i * j->pitch + k));
    diffuse(j, supports, d);
    gate(j, d, j->candidate, 1, c);
}

static void step(const job *j, const cpu_links *supports, float *d, float *h) {
    float *ru = h + j->n * j->pitch, *c = ru + 2 * j->n * j->pitch;
    if (!is_zero(h, j->n * j->pitch)) add_state(j, supports, d, h, ru, c);
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = 0; k < j->pitch; k += CPU_LANES) {
            vf u = vf_sigmoid(vf_load(ru + (2 * i + 1) * j->pitch + k)), now = vf_tanh(vf_load(c + i * j->pitch + k)),
               old = vf_load(h + i * j->pitch + k);
            vf_store(h + i * j->pitch + k, vf_fma(u, old - now, now));
        }
}

static void rows_out(const job *j, const float *h, float *to, int64_t stride) {
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t c = 0; c < j->h; c += CPU_LANES)
            if (j->h - c >= CPU_LANES)
                vf_store(to + i * stride + c, vf_load(h + i * j->pitch + c));
            else
                vf_store_part(to + i * stride + c, vf_load(h + i * j->pitch + c), j->h - c);
}

/* ---- the operator ---- */

static int64_t first_of(const strand_plugin_node *node, const strand_plugin_tensor *t, int64_t b) {
    return (b + node->outputs[0].origin[0] - t->origin[0]) * t->strides[0];
}

static void body(void *arg, int64_t b, int32_t worker) {
    const job *j = arg;
    const strand_plugin_node *node = j->node;
    const strand_plugin_tensor *x = &node->inputs[0], *xc = &node->inputs[1], *s = &node->inputs[2],
                               *state = cpu_input(node, 5), *out = &node->outputs[0];
    float *h = j->work + worker * j->each, *ru = h + j->n * j->pitch, *c = ru + 2 * j->n * j->pitch, *d = c + j->n * j->pitch;
    cpu_links supports = cpu_links_of(cpu_f32(s) + (s->rank == 4 ? first_of(node, s, b) : 0), s->strides + (s->rank - 3), j->n,
                                      j->count, h + j->links);
    memset(h, 0, (size_t)(j->n * j->pitch) * sizeof *h);
    if (state) rows_in(j, cpu_f32(state) + first_of(node, state, b), state->strides[1], 1, h);
    for (int64_t t = 0; t < j->length; t++) {
        rows_in(j, cpu_f32(x) + first_of(node, x, b) + t * x->strides[1], x->strides[2], 2, ru);
        rows_in(j, cpu_f32(xc) + first_of(node, xc, b) + t * xc->strides[1], xc->strides[2], 1, c);
        step(j, &supports, d, h);
        rows_out(j, h, cpu_f32(out) + b * out->strides[0] + t * out->strides[1], out->strides[2]);
    }
    if (node->n_outputs > 1)
        rows_out(j, h, cpu_f32(&node->outputs[1]) + b * node->outputs[1].strides[0], node->outputs[1].strides[1]);
}

static bool constant(const strand_plugin_node *node) {
    return node->inputs[3].flags & node->inputs[4].flags & STRAND_TENSOR_CONSTANT;
}

uint64_t cpu_graph_gru_scratch(const cpu_device *device, const strand_plugin_node *node) {
    job j = shape_of(device, node);
    return (packed_floats(node) + (uint64_t)cpu_workers(device) * (uint64_t)j.each) * sizeof(float);
}

uint64_t cpu_graph_gru_prepare_size(const strand_plugin_node *node) {
    return constant(node) ? packed_floats(node) * sizeof(float) : 0;
}

static strand_plugin_status no_weights(const cpu_device *device, const strand_plugin_node *node) {
    return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: a weight has no memory", node->name ? node->name : "graph_gru");
}

CPU_KERNEL(cpu_graph_gru_prepare) {
    (void)scratch;
    if (!node->inputs[3].memory.data || !node->inputs[4].memory.data) return no_weights(device, node);
    job j = shape_of(device, node);
    pack_both(&j, node->prepared.data);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_graph_gru) {
    job j = shape_of(device, node);
    const float *packed = node->prepared.data;
    j.work = (float *)scratch + packed_floats(node);
    if (!packed || !constant(node) || node->prepared.bytes < cpu_graph_gru_prepare_size(node)) {
        if (!node->inputs[3].memory.data || !node->inputs[4].memory.data) return no_weights(device, node);
        pack_both(&j, scratch);
        packed = scratch;
    }
    j.gates = packed;
    j.candidate = packed + j.all * j.pitch * (j.pairs ? 1 : 2) * j.pitch;
    cpu_parallel(device, node->outputs[0].dims[0], body, &j);
    return STRAND_PLUGIN_OK;
}

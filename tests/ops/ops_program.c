/* ops_program.c - making test cases: tensors with random bytes in random layouts, and the pieces that their axis rules
 * allow. */
#include "ops_program.h"

#include "dtype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void ops_program_begin(ops_program *g, uint64_t seed) {
    memset(g, 0, sizeof *g);
    g->random = seed;
    g->slack = 1;
    g->strided = ops_random(&g->random) & 1;
}

void ops_program_free(ops_program *g) {
    for (int i = 0; i < g->n_tensors; i++) free(g->tensors[i].start);
    g->n_tensors = g->n_nodes = 0;
}

int64_t ops_between(ops_program *g, int64_t low, int64_t high) {
    return low + (int64_t)(ops_random(&g->random) % (uint64_t)(high - low + 1));
}

int64_t ops_extent(ops_program *g, int64_t most) {
    static const int64_t favourites[] = {1,   2,   3,   4,   5,   7,   8,   12,   15,   16,   17,  24,
                                         31,  32,  33,  48,  63,  64,  65,  96,   127,  128,  129, 144,
                                         145, 255, 256, 257, 511, 512, 513, 1000, 1024, 1026, 4096};
    int64_t n = 0, count = (int64_t)(sizeof favourites / sizeof *favourites);
    while (n < count && favourites[n] <= most) n++;
    if (n == 0) return most;
    return ops_between(g, 0, 2) ? favourites[ops_between(g, 0, n - 1)] : ops_between(g, 1, most < 70 ? most : 70);
}

bool ops_quantised(uint32_t dtype) {
    return dtype_quantised((strand_dtype)dtype);
}

int64_t ops_block(uint32_t dtype) {
    return dtype_block_of((strand_dtype)dtype).elements;
}

uint64_t ops_block_bytes(uint32_t dtype) {
    return dtype_block_of((strand_dtype)dtype).bytes;
}

int64_t ops_count(const strand_plugin_tensor *view) {
    int64_t n = 1;
    for (uint32_t i = 0; i < view->rank; i++) n *= view->dims[i];
    return n;
}

uint64_t ops_place(const ops_tensor *t, const strand_plugin_tensor *view, int64_t index) {
    int64_t at = 0;
    for (uint32_t i = view->rank; i-- > 0; index /= view->dims[i])
        at += (index % view->dims[i] + view->origin[i]) * view->strides[i];
    return t->lead + (uint64_t)(at / ops_block(view->dtype)) * ops_block_bytes(view->dtype);
}

void ops_mark(const ops_tensor *t, const strand_plugin_tensor *view, unsigned char *mask) {
    int64_t n = ops_count(view), block = ops_block(view->dtype);
    for (int64_t i = 0; i < n; i += block) memset(mask + ops_place(t, view, i), 1, ops_block_bytes(view->dtype));
}

/* A tensor with its storage all ones. */
static int add_blank(ops_program *g, uint32_t dtype, int rank, const int64_t *dims) {
    ops_tensor *t = &g->tensors[g->n_tensors];
    uint64_t size = ops_block_bytes(dtype);
    int64_t stride = 1, block = ops_block(dtype);
    *t = (ops_tensor){.view = {.dtype = dtype, .rank = (uint32_t)rank}, .lead = OPS_GUARD};
    for (int i = rank; i-- > 0;) {
        t->view.dims[i] = t->view.whole[i] = dims[i];
        t->view.strides[i] = stride;
        stride *= dims[i];
        if (g->strided && i > 0) stride += ops_between(g, 0, 5) * block;
    }
    if (g->strided) t->lead += (uint64_t)ops_between(g, 0, 9) * size;
    t->bytes = (t->lead + (uint64_t)(stride / block) * size + 2 * OPS_GUARD - 1) / OPS_GUARD * OPS_GUARD;
    t->start = malloc(t->bytes);
    if (!t->start) abort();
    memset(t->start, 0xff, t->bytes);
    return g->n_tensors++;
}

static uint16_t to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)(bits >> 16);
}

/* A number that F16 holds exactly, or nearly: eight bits of mantissa, no denormals. */
static uint16_t to_f16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    int exponent = (int)(bits >> 23 & 255) - 127 + 15;
    if (exponent < 1 || exponent > 30) return (uint16_t)(bits >> 16 & 0x8000);
    return (uint16_t)((bits >> 16 & 0x8000) | (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff));
}

static float random_value(ops_program *g, ops_values values) {
    double u = (double)(ops_random(&g->random) >> 11) * 0x1p-53, v = (double)(ops_random(&g->random) >> 11) * 0x1p-53;
    double x = (u + v - 1) * 2;
    if (values == OPS_WIDE) x *= 10;
    if (values == OPS_WIDE && ops_random(&g->random) % 50 == 0) x *= 20;
    return (float)x;
}

/* Random bytes with scales that make numbers about -1 .. 1; the minimum of Q4_K puts its numbers about 0. */
static void random_block(ops_program *g, uint32_t dtype, unsigned char *block) {
    static const float steps[] = {1 / 127.0f, 1 / 8.0f, 1 / 480.0f, 1 / 4096.0f, 1 / 8.0f, 1 / 16.0f, 1 / 16.0f, 1 / 960.0f};
    for (uint64_t i = 0; i < ops_block_bytes(dtype); i++) block[i] = (unsigned char)ops_random(&g->random);
    float step = steps[dtype - STRAND_PLUGIN_Q8_0] * (0.5f + (float)(ops_random(&g->random) % 1024) / 1024);
    uint16_t d = to_f16(step), dmin = to_f16(step * 7);
    memcpy(block + (dtype == STRAND_PLUGIN_Q6_K ? 208 : 0), &d, 2);
    if (dtype == STRAND_PLUGIN_Q4_K || dtype == STRAND_PLUGIN_Q5_K) memcpy(block + 2, &dmin, 2);
    uint16_t m = to_f16(step * (dtype == STRAND_PLUGIN_Q4_1 ? -7 : -15));
    if (dtype == STRAND_PLUGIN_Q4_1 || dtype == STRAND_PLUGIN_Q5_1) memcpy(block + 2, &m, 2);
}

static void random_blocks(ops_program *g, ops_tensor *t) {
    int64_t n = ops_count(&t->view), block = ops_block(t->view.dtype);
    for (int64_t i = 0; i < n; i += block) random_block(g, t->view.dtype, t->start + ops_place(t, &t->view, i));
}

int ops_add(ops_program *g, uint32_t dtype, int rank, const int64_t *dims, ops_values values) {
    int index = add_blank(g, dtype, rank, dims);
    ops_tensor *t = &g->tensors[index];
    if (ops_quantised(dtype)) {
        random_blocks(g, t);
        return index;
    }
    int64_t n = values == OPS_OUTPUT ? 0 : ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        float x = random_value(g, values);
        uint16_t half = dtype == STRAND_PLUGIN_F16 ? to_f16(x) : to_bf16(x);
        unsigned char *at = t->start + ops_place(t, &t->view, i);
        if (dtype == STRAND_PLUGIN_F32)
            memcpy(at, &x, 4);
        else
            memcpy(at, &half, 2);
    }
    return index;
}

int ops_add_ids(ops_program *g, uint32_t dtype, int rank, const int64_t *dims, int64_t rows) {
    int index = add_blank(g, dtype, rank, dims);
    ops_tensor *t = &g->tensors[index];
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        int64_t id = ops_between(g, 0, rows - 1);
        int32_t small = (int32_t)id;
        memcpy(t->start + ops_place(t, &t->view, i), dtype == STRAND_PLUGIN_I64 ? (void *)&id : (void *)&small,
               ops_block_bytes(dtype));
    }
    return index;
}

ops_node *ops_add_node(ops_program *g, uint32_t op, const void *params, size_t params_bytes, uint32_t n_inputs,
                       const int *inputs, int output) {
    ops_node *n = &g->nodes[g->n_nodes++];
    *n = (ops_node){.op = op, .n_inputs = n_inputs, .output = output, .second = -1};
    if (params_bytes) memcpy(n->params, params, params_bytes);
    for (uint32_t i = 0; i < n_inputs; i++) n->inputs[i] = inputs[i];
    return n;
}

/* ---- pieces ---- */

void ops_cut(strand_plugin_tensor *view, int axis, int64_t begin, int64_t end) {
    view->origin[axis] += begin;
    view->dims[axis] = end - begin;
}

static op_shape shape_of(const strand_plugin_tensor *v) {
    op_shape s = {.dtype = (strand_dtype)v->dtype, .rank = (int)v->rank};
    for (uint32_t i = 0; i < v->rank; i++) s.dims[i] = (op_dim){OP_DIM_FIXED, v->whole[i]};
    return s;
}

/* The interval of input k that the rule asks for. */
static void needed(const op_axis_rule *r, int64_t begin, int64_t end, int64_t whole, int64_t *low, int64_t *high) {
    *low = r->left >= begin ? 0 : begin - r->left;
    *high = r->right >= whole - end ? whole : end + r->right;
}

static const ops_node *maker(const ops_program *g, int tensor, int before, int *index) {
    for (int i = 0; i < before; i++)
        if (g->nodes[i].output == tensor) {
            *index = i;
            return &g->nodes[i];
        }
    return NULL;
}

/* Cuts node i's output to [begin, end) of axis and its inputs to what that needs; then the nodes that make those. */
static bool tile_node(const ops_program *g, int i, int axis, int64_t begin, int64_t end, ops_views *v) {
    const ops_node *n = &g->nodes[i];
    op_shape in[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, out = shape_of(&g->tensors[n->output].view);
    op_axis_rule rules[STRAND_PLUGIN_MAX_INPUTS];
    for (uint32_t k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] >= 0) in[k] = shape_of(&g->tensors[n->inputs[k]].view);
    if (!op_find(n->op)->axis_rule(in, n->n_inputs, &out, n->params, axis, rules)) return false;
    v->outputs[i] = g->tensors[n->output].view;
    ops_cut(&v->outputs[i], axis, begin, end);
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        int from = 0;
        if (n->inputs[k] < 0) continue;
        bool made = maker(g, n->inputs[k], i, &from) != NULL;
        v->inputs[i][k] = g->tensors[n->inputs[k]].view;
        if (rules[k].axis < 0) {
            if (made) return false;
            continue;
        }
        int64_t low, high;
        needed(&rules[k], begin, end, v->inputs[i][k].whole[rules[k].axis], &low, &high);
        ops_cut(&v->inputs[i][k], rules[k].axis, low, high);
        if (made && !tile_node(g, from, rules[k].axis, low, high, v)) return false;
    }
    return true;
}

bool ops_tile(const ops_program *g, int axis, int64_t begin, int64_t end, ops_views *v) {
    memset(v, 0, sizeof *v);
    if (axis >= 0) return tile_node(g, g->n_nodes - 1, axis, begin, end, v);
    for (int i = 0; i < g->n_nodes; i++) {
        const ops_node *n = &g->nodes[i];
        v->outputs[i] = g->tensors[n->output].view;
        if (n->second >= 0) v->seconds[i] = g->tensors[n->second].view;
        for (uint32_t k = 0; k < n->n_inputs; k++)
            if (n->inputs[k] >= 0) v->inputs[i][k] = g->tensors[n->inputs[k]].view;
    }
    return true;
}

/* hyena.c - a layer of HyenaDNA as two launches around its long convolution (kernels/hyena_mma.cu), where products may be in
 * BF16. Two groups are claimed, each only whole, untiled and of widths that the kernels have:
 *
 *   in   layer_norm, three times (matmul to channels, short_conv), long_conv with both gates
 *   out  matmul from channels, add, layer_norm, matmul with GELU, matmul, add
 *
 * Products of these widths are on our own tensor core kernel also where a group is not claimed (cuda_hyena_product): same
 * bytes. */
#include "driver_cuda.h"
#include "kernels/numbers.h"

#include <stdlib.h>
#include <string.h>

#define TOKENS     128
#define IN_NODES   8
#define OUT_NODES  6
#define NEXT256(x) (((uint64_t)(x) + 255) / 256 * 256)

static bool width(int64_t d) {
    return d == 128 || d == 256;
}

/* A product of the kind that these layers are made of, whatever stands beside it. */
bool cuda_hyena_product(const strand_plugin_node *node) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0];
    if (p->precision != STRAND_PRECISION_BF16) return false;
    const int64_t k = a->whole[a->rank - (p->transpose_a ? 2 : 1)], n = y->whole[y->rank - 1], m = y->whole[y->rank - 2];
    if (b->rank == 2) return (width(k) && n % 64 == 0 && n <= 4096) || (width(n) && k % 64 == 0 && k <= 4096);
    return a->rank == 2 && m == k && width(k);
}

/* ---- recognising ---- */

static bool whole(const strand_plugin_node *node) {
    for (uint32_t i = 0; i < node->n_inputs + node->n_outputs; i++) {
        const strand_plugin_tensor *t = i < node->n_inputs ? &node->inputs[i] : &node->outputs[i - node->n_inputs];
        if (i < node->n_inputs && !cpu_input(node, i)) continue;
        for (uint32_t j = 0; j < t->rank; j++)
            if (t->dims[j] != t->whole[j] || t->origin[j]) return false;
    }
    return true;
}

static bool is(const strand_plugin_node *node, uint32_t input, const strand_plugin_tensor *t) {
    return cpu_input(node, input) && t->id && node->inputs[input].id == t->id;
}

static bool matrix(const strand_plugin_node *node, uint32_t input, int64_t rows, int64_t columns) {
    const strand_plugin_tensor *t = &node->inputs[input];
    return t->rank == 2 && t->dims[0] == rows && t->dims[1] == columns &&
           (t->dtype == STRAND_PLUGIN_F32 || t->dtype == STRAND_PLUGIN_F16 || t->dtype == STRAND_PLUGIN_BF16);
}

static bool product(const strand_plugin_node *node, bool ta, uint32_t bias, uint32_t activation) {
    const strand_op_matmul *p = node->params;
    return node->op == STRAND_OP_MATMUL && p->precision == STRAND_PRECISION_BF16 && (p->transpose_a != 0) == ta &&
           p->transpose_b && p->activation == activation && (p->bias == bias || p->bias == STRAND_BIAS_NONE);
}

static bool sum(const strand_plugin_node *node, const strand_plugin_tensor *a, const strand_plugin_tensor *b) {
    const strand_op_binary *p = node->params;
    if (node->op != STRAND_OP_BINARY || p->kind != STRAND_BINARY_ADD || p->activation != STRAND_UNARY_IDENTITY ||
        a->id == b->id)
        return false;
    for (uint32_t i = 0; i < 2; i++)
        if (is(node, i, a) && is(node, 1 - i, b)) return true;
    return false;
}

/* [B, L, d] as the kernels take it. */
static bool sequence(const strand_plugin_tensor *t) {
    return t->dtype == STRAND_PLUGIN_F32 && t->rank == 3 && t->dims[0] <= CUDA_GROUPS_YZ && t->dims[1] < INT32_MAX - TOKENS;
}

static bool is_in(const strand_plugin_node *n) {
    const strand_plugin_tensor *x = &n[0].inputs[0], *norm = &n[0].outputs[0];
    const strand_plugin_node *conv = &n[7];
    if (n[0].op != STRAND_OP_LAYER_NORM || conv->op != STRAND_OP_LONG_CONV || !sequence(x) || !width(x->dims[2]) ||
        x->dims[1] >= (int64_t)CUDA_GROUPS_YZ * 64)
        return false;
    const int64_t d = x->dims[2];
    for (int i = 1; i < 7; i += 2) {
        const strand_op_short_conv *s = n[i + 1].params;
        if (!product(&n[i], false, STRAND_BIAS_ROWS, STRAND_UNARY_IDENTITY) || !matrix(&n[i], 0, d, d) || !is(&n[i], 1, norm))
            return false;
        if (n[i + 1].op != STRAND_OP_SHORT_CONV || n[i + 1].n_outputs != 1 || s->flags ||
            s->activation != STRAND_UNARY_IDENTITY || !is(&n[i + 1], 0, &n[i].outputs[0]) || cpu_input(&n[i + 1], 3) ||
            n[i + 1].inputs[1].dims[1] > HYENA_HALO + 1 || n[i + 1].inputs[1].dims[1] != n[2].inputs[1].dims[1] ||
            !cpu_input(&n[i], 2) != !cpu_input(&n[1], 2) || !cpu_input(&n[i + 1], 2) != !cpu_input(&n[2], 2))
            return false;
    }
    /* In the order of the nodes x0, x1, v: the gate behind, the gate before, the sequence. */
    return is(conv, 0, &n[6].outputs[0]) && is(conv, 3, &n[4].outputs[0]) && is(conv, 4, &n[2].outputs[0]);
}

static bool is_out(const strand_plugin_node *n) {
    const strand_plugin_tensor *mixed = &n[0].inputs[0], *y = &n[5].outputs[0], *r = &n[1].outputs[0];
    if (!sequence(y) || !width(y->dims[2]) || !sequence(mixed) || mixed->dims[0] != y->dims[0] ||
        mixed->dims[1] != y->dims[2] || mixed->dims[2] != y->dims[1] || n[3].op != STRAND_OP_MATMUL)
        return false;
    const int64_t d = y->dims[2], inner = n[3].outputs[0].dims[2];
    const strand_plugin_tensor *x =
        n[1].op == STRAND_OP_BINARY && is(&n[1], 0, &n[0].outputs[0]) ? &n[1].inputs[1] : &n[1].inputs[0];
    return inner % 64 == 0 && inner <= 4096 && product(&n[0], true, STRAND_BIAS_COLUMNS, STRAND_UNARY_IDENTITY) &&
           matrix(&n[0], 1, d, d) && sequence(x) && sum(&n[1], x, &n[0].outputs[0]) && x->dims[1] == y->dims[1] &&
           x->dims[0] == y->dims[0] && x->dims[2] == d && n[2].op == STRAND_OP_LAYER_NORM && is(&n[2], 0, r) &&
           product(&n[3], false, STRAND_BIAS_COLUMNS, STRAND_UNARY_GELU_TANH) && is(&n[3], 0, &n[2].outputs[0]) &&
           matrix(&n[3], 1, inner, d) && product(&n[4], false, STRAND_BIAS_COLUMNS, STRAND_UNARY_IDENTITY) &&
           is(&n[4], 0, &n[3].outputs[0]) && matrix(&n[4], 1, d, inner) && sum(&n[5], r, &n[4].outputs[0]);
}

static uint32_t in_shared(int64_t d) {
    return (uint32_t)((TOKENS * (d + 8) + 64 * cpu_max(d + 8, 2 * (TOKENS + 4))) * 2);
}
static uint32_t out_shared(int64_t d) {
    return (uint32_t)(((TOKENS + 64) * (d + 8) + (TOKENS + d) * 72) * 2);
}

static strand_plugin_status kernel_of(cuda_device *d, bool in, int64_t wide, CUfunction *function) {
    return cuda_own_find(d,
                         in            ? wide == 128 ? CUDA_OWN_hyena_in_128 : CUDA_OWN_hyena_in_256
                         : wide == 128 ? CUDA_OWN_hyena_out_128
                                       : CUDA_OWN_hyena_out_256,
                         true, function);
}

uint32_t cuda_hyena_claim(cuda_device *d, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    const bool in = n >= IN_NODES && is_in(nodes), out = !in && n >= OUT_NODES && is_out(nodes);
    const uint32_t count = in ? IN_NODES : OUT_NODES;
    const char *setting = getenv("STRAND_CUDA_GROUPS");
    if (!d->tensor_cores || !(in || out) || (setting && !strcmp(setting, "0"))) return 0;
    for (uint32_t i = 0; i < count; i++)
        if (!whole(&nodes[i]) || (i + 1 < count && needed[i])) return 0;
    const int64_t wide = nodes[0].inputs[0].dims[in ? 2 : 1];
    CUfunction function = NULL;
    if ((in ? in_shared(wide) : out_shared(wide)) > d->shared_bytes || cuda_current(d) || kernel_of(d, in, wide, &function) ||
        !function)
        return 0;
    return count;
}

/* ---- memory ---- */

/* Weights in BF16, one after another. */
static uint64_t packed_bytes(const strand_plugin_node *nodes, bool in) {
    const int64_t d = nodes[0].inputs[0].dims[in ? 2 : 1];
    return NEXT256((in ? 3 * d * d : d * d + 2 * d * nodes[3].outputs[0].dims[2]) * 2);
}

static uint64_t dense_bytes(const strand_plugin_tensor *t, int64_t tokens) {
    return NEXT256(t->dims[0] * cpu_min(t->dims[1], tokens) * t->dims[2] * 4);
}

/* `in`: packed weights, the gated sequence, then the long convolution's own. `out`: packed weights, or the results of its nodes
 * for a few tokens. */
uint64_t cuda_hyena_scratch(cuda_device *d, const strand_plugin_node *nodes, uint32_t n) {
    uint64_t few = 0, most = 0;
    if (n == IN_NODES)
        return packed_bytes(nodes, true) + NEXT256(gpu_count(&nodes[7].outputs[0]) * 4) + gpu_node_scratch(&d->base, &nodes[7]);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t one = gpu_node_scratch(&d->base, &nodes[i]);
        if (one > most) most = one;
        if (i + 1 < n) few += dense_bytes(&nodes[i].outputs[0], CUDA_TENSOR_ROWS - 1);
    }
    few += most;
    return few > packed_bytes(nodes, false) ? few : packed_bytes(nodes, false);
}

static strand_plugin_memory part_of(const strand_plugin_memory *m, uint64_t at) {
    return (strand_plugin_memory){m->data, m->buffer, m->offset + at, m->bytes - at};
}

/* A weight in BF16, dense, *at bytes into the memory. */
static strand_plugin_status pack(cuda_device *d, const strand_plugin_tensor *w, const strand_plugin_memory *scratch,
                                 uint64_t *at) {
    strand_plugin_tensor to = *w;
    to.dtype = STRAND_PLUGIN_BF16;
    to.strides[1] = 1;
    to.strides[0] = w->dims[1];
    to.memory = part_of(scratch, *at);
    to.memory.bytes = (uint64_t)(w->dims[0] * w->dims[1] * 2);
    *at += to.memory.bytes;
    const strand_plugin_node cast = {
        .op = STRAND_OP_CAST, .version = 1, .n_inputs = 1, .n_outputs = 1, .inputs = w, .outputs = &to, .name = "weights"};
    return gpu_cast(&d->base, &cast, NULL);
}

/* ---- launches ---- */

static strand_plugin_status launch(cuda_device *d, bool in, int64_t wide, int64_t tiles, int64_t batch, void **arguments) {
    const uint32_t groups[3] = {(uint32_t)tiles, (uint32_t)batch, 1};
    CUfunction function = NULL;
    strand_plugin_status status = kernel_of(d, in, wide, &function);
    if (!status && !function)
        status = gpu_fail(d->base.host, STRAND_PLUGIN_ERR_DEVICE, "the device has no code for this group");
    return status ? status
                  : cuda_launch(d, d->base.segment, function, groups, 256, in ? in_shared(wide) : out_shared(wide), arguments,
                                "a layer");
}

static strand_plugin_status run_in(cuda_device *d, const strand_plugin_node *nodes, const strand_plugin_memory *scratch) {
    const strand_op_layer_norm *norm = nodes[0].params;
    const strand_plugin_node *conv = &nodes[7];
    const strand_plugin_tensor *x = &nodes[0].inputs[0], *y = &conv->outputs[0];
    const int64_t wide = x->dims[2];
    uint64_t at = 0, packed = packed_bytes(nodes, true);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    /* What lies before the convolution is in working memory, the gate behind it where its result will be. */
    strand_plugin_tensor inputs[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, *gated = &inputs[0];
    for (uint32_t i = 0; i < conv->n_inputs; i++) inputs[i] = conv->inputs[i];
    gated->flags = 0;
    gated->memory = part_of(scratch, packed);
    gated->memory.bytes = (uint64_t)gpu_count(y) * 4;
    gated->strides[2] = 1;
    gated->strides[1] = y->dims[2];
    gated->strides[0] = y->dims[1] * y->dims[2];
    inputs[3] = (strand_plugin_tensor){0};
    inputs[4] = *y;
    hyena_in_numbers n = {.length = (int)x->dims[1], .taps = (int)nodes[2].inputs[1].dims[1],
                          .norm_bias = cpu_input(&nodes[0], 2) != NULL, .x_row = (int)x->strides[1],
                          .gated_row = (int)gated->strides[1], .post_row = (int)y->strides[1], .x_batch = (int)x->strides[0],
                          .gated_batch = (int)gated->strides[0], .post_batch = (int)y->strides[0], .eps = norm->eps};
    for (int i = 0; i < 3 && !status; i++) {
        status = pack(d, &nodes[2 * i + 1].inputs[0], scratch, &at);
        n.bias[i] = cuda_address_or(cpu_input(&nodes[2 * i + 1], 2), 0, 0);
        n.taps_of[i] = cuda_address(&nodes[2 * i + 2].inputs[1], 0);
        n.tap_bias[i] = cuda_address_or(cpu_input(&nodes[2 * i + 2], 2), 0, 0);
    }
    if (status) return status;
    CUdeviceptr at_x = cuda_address(x, 0), at_norm = cuda_address(&nodes[0].inputs[1], 0),
                at_norm_bias = cuda_address_or(cpu_input(&nodes[0], 2), 0, at_x), weights = scratch->buffer->memory + scratch->offset,
                at_gated = cuda_address(gated, 0), at_post = cuda_address(y, 0);
    void *arguments[] = {&at_x, &at_norm, &at_norm_bias, &weights, &at_gated, &at_post, &n};
    status = launch(d, true, wide, (x->dims[1] + TOKENS - HYENA_HALO - 1) / (TOKENS - HYENA_HALO), x->dims[0], arguments);
    if (status) return status;
    strand_plugin_node rest = *conv;
    const strand_plugin_memory left = part_of(scratch, packed + NEXT256(gpu_count(y) * 4));
    rest.inputs = inputs;
    return gpu_run_node(&d->base, &rest, &left);
}

/* Few tokens are not for tensor cores: node by node, what lies between in working memory. */
static strand_plugin_status run_nodes(cuda_device *d, const strand_plugin_node *nodes, uint32_t n,
                                      const strand_plugin_memory *scratch) {
    strand_plugin_tensor made[OUT_NODES], inputs[STRAND_PLUGIN_MAX_INPUTS];
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        made[i] = nodes[i].outputs[0];
        if (i + 1 == n) break;
        made[i].flags = 0;
        made[i].memory = part_of(scratch, at);
        made[i].memory.bytes = dense_bytes(&made[i], INT64_MAX);
        at += made[i].memory.bytes;
    }
    const strand_plugin_memory left = part_of(scratch, at);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (uint32_t i = 0; i < n && !status; i++) {
        strand_plugin_node one = nodes[i];
        for (uint32_t k = 0; k < one.n_inputs; k++) {
            inputs[k] = nodes[i].inputs[k];
            for (uint32_t j = 0; j < i; j++)
                if (is(&nodes[i], k, &made[j])) inputs[k] = made[j];
        }
        one.inputs = inputs;
        one.outputs = &made[i];
        status = gpu_run_node(&d->base, &one, &left);
    }
    return status;
}

static strand_plugin_status run_out(cuda_device *d, const strand_plugin_node *nodes, const strand_plugin_memory *scratch) {
    const strand_op_layer_norm *norm = nodes[2].params;
    const strand_plugin_tensor *mixed = &nodes[0].inputs[0], *y = &nodes[5].outputs[0],
                               *x = &nodes[1].inputs[is(&nodes[1], 0, &nodes[0].outputs[0]) ? 1 : 0];
    const int64_t wide = y->dims[2], inner = nodes[3].outputs[0].dims[2];
    if (y->dims[1] < CUDA_TENSOR_ROWS) return run_nodes(d, nodes, OUT_NODES, scratch);
    uint64_t at = 0, places[3];
    strand_plugin_status status = STRAND_PLUGIN_OK;
    static const int products[3] = {0, 3, 4};
    for (int i = 0; i < 3 && !status; i++) {
        places[i] = scratch->buffer->memory + scratch->offset + at;
        status = pack(d, &nodes[products[i]].inputs[1], scratch, &at);
    }
    if (status) return status;
    hyena_out_numbers n = {.rows = (int)y->dims[1], .inner = (int)inner, .bias0 = cpu_input(&nodes[0], 2) != NULL,
                           .bias1 = cpu_input(&nodes[3], 2) != NULL, .bias2 = cpu_input(&nodes[4], 2) != NULL,
                           .norm_bias = cpu_input(&nodes[2], 2) != NULL, .mixed_row = (int)mixed->strides[1],
                           .x_row = (int)x->strides[1], .y_row = (int)y->strides[1], .mixed_batch = (int)mixed->strides[0],
                           .x_batch = (int)x->strides[0], .y_batch = (int)y->strides[0], .eps = norm->eps};
    CUdeviceptr at_mixed = cuda_address(mixed, 0), at_x = cuda_address(x, 0), at_y = cuda_address(y, 0),
                at_norm = cuda_address(&nodes[2].inputs[1], 0), at_norm_bias = cuda_address_or(cpu_input(&nodes[2], 2), 0, at_x),
                b0 = cuda_address_or(cpu_input(&nodes[0], 2), 0, at_x), b1 = cuda_address_or(cpu_input(&nodes[3], 2), 0, at_x),
                b2 = cuda_address_or(cpu_input(&nodes[4], 2), 0, at_x), w0 = places[0], w1 = places[1], w2 = places[2];
    void *arguments[] = {&at_mixed, &at_x, &at_y, &w0, &b0, &at_norm, &at_norm_bias, &w1, &b1, &w2, &b2, &n};
    return launch(d, false, wide, (y->dims[1] + TOKENS - 1) / TOKENS, y->dims[0], arguments);
}

strand_plugin_status cuda_hyena_run(cuda_device *d, const strand_plugin_node *nodes, uint32_t n,
                                    const strand_plugin_memory *scratch) {
    strand_plugin_status status = cuda_current(d);
    if (!status &&
        (!scratch || !scratch->buffer || scratch->bytes < cuda_hyena_scratch(d, nodes, n) || (n != IN_NODES && n != OUT_NODES)))
        status = gpu_fail(d->base.host, STRAND_PLUGIN_ERR_ARGUMENT,
                          "%s: too little working memory given to launch, or no group of this device's",
                          nodes[0].name ? nodes[0].name : "group");
    if (status) return status;
    if (gpu_count(&nodes[n - 1].outputs[0]) == 0) return STRAND_PLUGIN_OK;
    return n == IN_NODES ? run_in(d, nodes, scratch) : run_out(d, nodes, scratch);
}

/* kernels.c - faraway's operators, written from the definitions in strand_plugin.h and from nothing else: plain loops over the
 * indices of the whole tensor, sums in double precision. Slow on purpose; a second opinion on the CPU plugin's kernels. */
#include "faraway.h"

#include <math.h>
#include <string.h>

#define RANK STRAND_PLUGIN_RANK

/* A tensor by indices of the whole: element idx stands at first + sum (idx - origin) stride. */
typedef struct place {
    float *first;
    uint32_t rank;
    int64_t origin[RANK], stride[RANK], dims[RANK], whole[RANK];
} place;

static place place_of(strand_plugin_device *d, const strand_plugin_tensor *t) {
    place p = {.rank = t->rank};
    memcpy(p.origin, t->origin, sizeof p.origin);
    memcpy(p.stride, t->strides, sizeof p.stride);
    memcpy(p.dims, t->dims, sizeof p.dims);
    memcpy(p.whole, t->whole, sizeof p.whole);
    p.first = (float *)(void *)far_bytes(d, t->memory.buffer, t->memory.offset, t->memory.bytes);
    return p;
}

static const strand_plugin_tensor *input(const strand_plugin_node *n, uint32_t i) {
    return i < n->n_inputs && n->inputs[i].dtype != STRAND_PLUGIN_NONE ? &n->inputs[i] : NULL;
}

static float *at(const place *p, const int64_t *index) {
    int64_t offset = 0;
    for (uint32_t i = 0; i < p->rank; i++) offset += (index[i] - p->origin[i]) * p->stride[i];
    return p->first + offset;
}

/* Steps through the output's tile in row-major order; false after the last. */
static void start(const place *p, int64_t *index) {
    for (uint32_t i = 0; i < RANK; i++) index[i] = i < p->rank ? p->origin[i] : 0;
}

static bool step(const place *p, int64_t *index, uint32_t axes) {
    for (uint32_t i = axes; i-- > 0;) {
        if (++index[i] < p->origin[i] + p->dims[i]) return true;
        index[i] = p->origin[i];
    }
    return false;
}

static double apply(uint32_t kind, double x) {
    switch (kind) {
    case STRAND_UNARY_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case STRAND_UNARY_GELU:
        return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case STRAND_UNARY_SILU:
        return x / (1 + exp(-x));
    case STRAND_UNARY_SIGMOID:
        return 1 / (1 + exp(-x));
    case STRAND_UNARY_SIN:
        return sin(x);
    case STRAND_UNARY_EXP:
        return exp(x);
    case STRAND_UNARY_TANH:
        return tanh(x);
    case STRAND_UNARY_RELU:
        return x > 0 ? x : 0;
    default:
        return x;
    }
}

static void matmul(strand_plugin_device *d, const strand_plugin_node *n) {
    const strand_op_matmul *p = n->params;
    place a = place_of(d, &n->inputs[0]), b = place_of(d, &n->inputs[1]), out = place_of(d, n->outputs), bias = {0};
    if (input(n, 2)) bias = place_of(d, &n->inputs[2]);
    uint32_t row = out.rank - 2, column = out.rank - 1;
    uint32_t ma = a.rank - (p->transpose_a ? 1 : 2), ka = a.rank - (p->transpose_a ? 2 : 1);
    uint32_t nb = b.rank - (p->transpose_b ? 2 : 1), kb = b.rank - (p->transpose_b ? 1 : 2);
    int64_t index[RANK], ia[RANK] = {0}, ib[RANK] = {0};
    start(&out, index);
    do {
        for (uint32_t i = 0; i < row; i++) {
            if (a.rank > 2) ia[i] = index[i];
            if (b.rank > 2) ib[i] = index[i];
        }
        ia[ma] = index[row];
        ib[nb] = index[column];
        ia[ka] = ib[kb] = 0;
        const float *x = at(&a, ia), *y = at(&b, ib);
        double sum = 0;
        for (int64_t k = 0; k < a.dims[ka]; k++) sum += (double)x[k * a.stride[ka]] * y[k * b.stride[kb]];
        if (bias.first) sum += *at(&bias, &index[p->bias == STRAND_BIAS_ROWS ? row : column]);
        *at(&out, index) = (float)apply(p->activation, sum);
    } while (step(&out, index, out.rank));
}

static void layer_norm(strand_plugin_device *d, const strand_plugin_node *n) {
    const strand_op_layer_norm *p = n->params;
    place x = place_of(d, &n->inputs[0]), out = place_of(d, n->outputs), w = {0}, b = {0};
    if (input(n, 1)) w = place_of(d, &n->inputs[1]);
    if (input(n, 2)) b = place_of(d, &n->inputs[2]);
    uint32_t last = out.rank - 1;
    int64_t index[RANK], width = out.dims[last];
    start(&out, index);
    do {
        const float *from = at(&x, index);
        float *to = at(&out, index);
        double mean = 0, square = 0;
        for (int64_t i = 0; i < width; i++) mean += from[i] / (double)width;
        for (int64_t i = 0; i < width; i++) square += (from[i] - mean) * (from[i] - mean) / (double)width;
        double scale = 1 / sqrt(square + (double)p->eps);
        for (int64_t i = 0; i < width; i++) {
            double y = (from[i] - mean) * scale * (w.first ? *at(&w, &i) : 1.0f);
            to[i] = (float)(y + (b.first ? *at(&b, &i) : 0.0f));
        }
    } while (step(&out, index, last));
}

static void unary(strand_plugin_device *d, const strand_plugin_node *n) {
    place x = place_of(d, &n->inputs[0]), out = place_of(d, n->outputs);
    int64_t index[RANK];
    start(&out, index);
    do *at(&out, index) = (float)apply(((const strand_op_unary *)n->params)->kind, *at(&x, index));
    while (step(&out, index, out.rank));
}

static void binary(strand_plugin_device *d, const strand_plugin_node *n) {
    uint32_t kind = ((const strand_op_binary *)n->params)->kind;
    place a = place_of(d, &n->inputs[0]), b = place_of(d, &n->inputs[1]), out = place_of(d, n->outputs);
    int64_t index[RANK], other[RANK];
    start(&out, index);
    do {
        for (uint32_t i = 0; i < out.rank; i++) other[i] = b.whole[i] == 1 ? 0 : index[i];
        float x = *at(&a, index), y = *at(&b, other);
        *at(&out, index) = kind == STRAND_BINARY_ADD ? x + y : kind == STRAND_BINARY_MUL ? x * y : x - y;
    } while (step(&out, index, out.rank));
}

static void short_conv(strand_plugin_device *d, const strand_plugin_node *n) {
    place x = place_of(d, &n->inputs[0]), w = place_of(d, &n->inputs[1]), out = place_of(d, n->outputs), bias = {0};
    if (input(n, 2)) bias = place_of(d, &n->inputs[2]);
    uint32_t last = out.rank - 1;
    int64_t index[RANK], taps = w.dims[1];
    start(&out, index);
    do {
        int64_t t = index[last], from[RANK], tap[2] = {index[last - 1], 0};
        memcpy(from, index, sizeof from);
        double sum = bias.first ? *at(&bias, &index[last - 1]) : 0.0f;
        for (tap[1] = 0; tap[1] < taps; tap[1]++) {
            from[last] = t - (taps - 1) + tap[1];
            if (from[last] >= 0) sum += (double)*at(&w, tap) * *at(&x, from);
        }
        *at(&out, index) = (float)sum;
    } while (step(&out, index, out.rank));
}

/* The prepared filter is [channels of the whole, taps], each row back to front. */
static void long_conv(strand_plugin_device *d, const strand_plugin_node *n, const strand_plugin_memory *scratch) {
    place u = place_of(d, &n->inputs[0]), k = {0}, out = place_of(d, n->outputs), skip = {0}, pre = {0}, post = {0};
    const strand_plugin_tensor *filter = &n->inputs[1];
    int64_t taps = filter->dims[1];
    const float *made = NULL;
    if (n->prepared.buffer)
        made = (const float *)(const void *)far_bytes(d, n->prepared.buffer, n->prepared.offset, n->prepared.bytes);
    else
        k = place_of(d, filter);
    if (input(n, 2)) skip = place_of(d, &n->inputs[2]);
    if (input(n, 3)) pre = place_of(d, &n->inputs[3]);
    if (input(n, 4)) post = place_of(d, &n->inputs[4]);
    float *w = (float *)(void *)far_bytes(d, scratch->buffer, scratch->offset, scratch->bytes);
    uint32_t last = out.rank - 1;
    int64_t index[RANK];
    start(&out, index);
    do {
        int64_t from[RANK], c = index[last - 1], end = out.origin[last] + out.dims[last];
        memcpy(from, index, sizeof from);
        for (int64_t s = 0; s < end; s++) {
            from[last] = s;
            w[s] = *at(&u, from) * (pre.first ? *at(&pre, from) : 1.0f);
        }
        for (int64_t t = out.origin[last]; t < end; t++) {
            double sum = skip.first ? (double)*at(&skip, &c) * w[t] : 0;
            for (int64_t s = t - taps + 1 > 0 ? t - taps + 1 : 0; s <= t; s++)
                sum += (double)w[s] *
                       (made ? made[(c - filter->origin[0]) * taps + taps - 1 - (t - s)] : *at(&k, (int64_t[]){c, t - s}));
            from[last] = t;
            *at(&out, from) = (float)(post.first ? sum * *at(&post, from) : sum);
        }
    } while (step(&out, index, last));
}

static void decay_window(strand_plugin_device *d, const strand_plugin_node *n) {
    const strand_op_decay_window *p = n->params;
    place k = place_of(d, &n->inputs[0]), rate = place_of(d, &n->inputs[1]), out = place_of(d, n->outputs);
    int64_t index[RANK];
    start(&out, index);
    do {
        double slow = fabs((double)*at(&rate, &index[0]));
        *at(&out, index) = (float)(*at(&k, index) * (exp(-(double)index[1] / (double)(p->n - 1) * slow) + (double)p->shift));
    } while (step(&out, index, 2));
}

void far_prepare_filter(strand_plugin_device *d, const strand_plugin_node *n) {
    place k = place_of(d, &n->inputs[1]);
    float *to = (float *)(void *)far_bytes(d, n->prepared.buffer, n->prepared.offset, n->prepared.bytes);
    int64_t taps = k.dims[1];
    for (int64_t c = 0; c < k.dims[0]; c++)
        for (int64_t t = 0; t < taps; t++) to[c * taps + taps - 1 - t] = *at(&k, (int64_t[]){k.origin[0] + c, k.origin[1] + t});
}

void far_kernel(strand_plugin_device *d, const strand_plugin_node *n, const strand_plugin_memory *scratch) {
    switch (n->op) {
    case STRAND_OP_MATMUL:
        matmul(d, n);
        break;
    case STRAND_OP_LAYER_NORM:
        layer_norm(d, n);
        break;
    case STRAND_OP_UNARY:
        unary(d, n);
        break;
    case STRAND_OP_BINARY:
        binary(d, n);
        break;
    case STRAND_OP_SHORT_CONV:
        short_conv(d, n);
        break;
    case STRAND_OP_LONG_CONV:
        long_conv(d, n, scratch);
        break;
    default:
        decay_window(d, n);
        break;
    }
}

/* Gives the results inside a group their places in the working memory, and runs the nodes in order. */
void far_run(strand_plugin_device *d, far_command *c) {
    strand_plugin_memory rest = c->scratch;
    if (c->kind == FAR_MAKE) {
        far_prepare_filter(d, &c->nodes[0].node);
        return;
    }
    for (uint32_t i = 0; i < c->n; i++) {
        far_node *x = &c->nodes[i];
        if (i + 1 < c->n) {
            int64_t stride = 1;
            for (uint32_t axis = x->output.rank; axis-- > 0; stride *= x->output.dims[axis]) x->output.strides[axis] = stride;
            x->output.memory = rest;
            rest.offset += far_view_bytes(&x->output);
            rest.bytes -= far_view_bytes(&x->output);
        }
        for (uint32_t k = 0; k < x->node.n_inputs; k++)
            for (uint32_t j = 0; j < i; j++)
                if (x->inputs[k].id && x->inputs[k].id == c->nodes[j].output.id) x->inputs[k] = c->nodes[j].output;
    }
    for (uint32_t i = 0; i < c->n; i++) far_kernel(d, &c->nodes[i].node, &rest);
}

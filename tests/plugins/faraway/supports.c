/* supports.c - what faraway takes, what it prepares and claims, and how much working memory it asks for.
 *
 * far_capable is what the kernels can do: shapes, types, and inputs that cover the tile of the output. Launch asks it again.
 * The subset that is offered on top of it is judged once, at the plan's maximum: a shorter run may have any extents. */
#include "faraway.h"

#include <stdio.h>
#include <string.h>

#define NO(...)                                                                                                                \
    do {                                                                                                                       \
        snprintf(why, why_bytes, __VA_ARGS__);                                                                                 \
        return false;                                                                                                          \
    } while (0)

uint64_t far_view_bytes(const strand_plugin_tensor *t) {
    uint64_t n = sizeof(float);
    for (uint32_t i = 0; i < t->rank; i++) n *= (uint64_t)t->dims[i];
    return n;
}

static const strand_plugin_tensor *input(const strand_plugin_node *n, uint32_t i) {
    return i < n->n_inputs && n->inputs[i].dtype != STRAND_PLUGIN_NONE ? &n->inputs[i] : NULL;
}

/* Does axis ia of `in` hold [from, to) of the whole? */
static bool holds(const strand_plugin_tensor *in, uint32_t ia, int64_t from, int64_t to) {
    return in->origin[ia] <= from && in->origin[ia] + in->dims[ia] >= to;
}

static bool covers(const strand_plugin_tensor *in, uint32_t ia, const strand_plugin_tensor *out, uint32_t oa) {
    return holds(in, ia, out->origin[oa], out->origin[oa] + out->dims[oa]);
}

static bool same_cover(const strand_plugin_tensor *in, const strand_plugin_tensor *out) {
    if (in->rank != out->rank) return false;
    for (uint32_t i = 0; i < out->rank; i++)
        if (!covers(in, i, out, i)) return false;
    return true;
}

static bool vector(const strand_plugin_tensor *v, const strand_plugin_tensor *out, uint32_t axis) {
    return !v || (v->rank == 1 && covers(v, 0, out, axis));
}

static bool matmul(const strand_plugin_node *n) {
    const strand_op_matmul *p = n->params;
    const strand_plugin_tensor *a = input(n, 0), *b = input(n, 1), *out = n->outputs;
    if (!a || !b || a->rank < 2 || b->rank < 2 || out->rank < 2) return false;
    uint32_t ma = a->rank - (p->transpose_a ? 1 : 2), ka = a->rank - (p->transpose_a ? 2 : 1);
    uint32_t nb = b->rank - (p->transpose_b ? 2 : 1), kb = b->rank - (p->transpose_b ? 1 : 2);
    if (a->dims[ka] != b->dims[kb] || a->dims[ka] != a->whole[ka] || b->dims[kb] != b->whole[kb]) return false;
    if (!covers(a, ma, out, out->rank - 2) || !covers(b, nb, out, out->rank - 1)) return false;
    for (uint32_t i = 0; i + 2 < out->rank; i++)
        if ((a->rank > 2 && !covers(a, i, out, i)) || (b->rank > 2 && !covers(b, i, out, i))) return false;
    if (p->activation > STRAND_UNARY_RELU || (input(n, 2) != NULL) != (p->bias != STRAND_BIAS_NONE)) return false;
    return vector(input(n, 2), out, out->rank - (p->bias == STRAND_BIAS_ROWS ? 2 : 1));
}

static bool binary(const strand_plugin_node *n) {
    const strand_plugin_tensor *b = input(n, 1), *out = n->outputs;
    if (!same_cover(&n->inputs[0], out) || !b || b->rank != out->rank) return false;
    for (uint32_t i = 0; i < out->rank; i++)
        if (b->whole[i] != 1 && !covers(b, i, out, i)) return false;
    const strand_op_binary *p = n->params;
    return p->kind <= STRAND_BINARY_SUB && p->activation == STRAND_UNARY_IDENTITY;
}

/* Along the length the kernel needs [from, end of the tile). */
static bool history(const strand_plugin_tensor *x, const strand_plugin_tensor *out, int64_t from) {
    uint32_t last = out->rank - 1;
    if (!x || x->rank != out->rank) return false;
    for (uint32_t i = 0; i < last; i++)
        if (!covers(x, i, out, i)) return false;
    return holds(x, last, from < 0 ? 0 : from, out->origin[last] + out->dims[last]);
}

static bool short_conv(const strand_plugin_node *n) {
    const strand_plugin_tensor *w = input(n, 1), *out = n->outputs;
    const strand_op_short_conv *p = n->params;
    if (p->flags || p->activation || input(n, 3)) return false;
    if (!w || out->rank < 2 || w->rank != 2 || w->dims[1] != w->whole[1] || !covers(w, 0, out, out->rank - 2)) return false;
    return history(input(n, 0), out, out->origin[out->rank - 1] - w->dims[1] + 1) && vector(input(n, 2), out, out->rank - 2);
}

static bool long_conv(const strand_plugin_node *n) {
    const strand_plugin_tensor *k = input(n, 1), *out = n->outputs;
    if (!k || out->rank < 2 || k->rank != 2 || k->dims[1] != k->whole[1] || !covers(k, 0, out, out->rank - 2)) return false;
    if (input(n, 5) || !history(input(n, 0), out, 0) || !vector(input(n, 2), out, out->rank - 2)) return false;
    return (!input(n, 3) || history(input(n, 3), out, 0)) && (!input(n, 4) || same_cover(input(n, 4), out));
}

bool far_capable(const strand_plugin_node *n, char *why, size_t why_bytes) {
    const strand_plugin_tensor *out = n->outputs;
    bool good = false;
    if (n->n_outputs != 1 || n->n_inputs < 1 || n->n_inputs > STRAND_PLUGIN_MAX_INPUTS || !input(n, 0))
        NO("wrong number of tensors");
    for (uint32_t i = 0; i <= n->n_inputs; i++) {
        const strand_plugin_tensor *t = i < n->n_inputs ? input(n, i) : out;
        if (t && t->dtype != STRAND_PLUGIN_F32) NO("not F32");
        if (t && (t->rank < 1 || t->rank > STRAND_PLUGIN_RANK)) NO("rank %u", t->rank);
    }
    uint32_t last = out->rank - 1;
    switch (n->op) {
    case STRAND_OP_MATMUL:
        good = matmul(n);
        break;
    case STRAND_OP_LAYER_NORM:
        good = same_cover(&n->inputs[0], out) && out->dims[last] == out->whole[last] && vector(input(n, 1), out, last) &&
               vector(input(n, 2), out, last);
        break;
    case STRAND_OP_UNARY:
        good = same_cover(&n->inputs[0], out) && ((const strand_op_unary *)n->params)->kind <= STRAND_UNARY_RELU;
        break;
    case STRAND_OP_BINARY:
        good = binary(n);
        break;
    case STRAND_OP_SHORT_CONV:
        good = short_conv(n);
        break;
    case STRAND_OP_LONG_CONV:
        good = long_conv(n);
        break;
    case STRAND_OP_DECAY_WINDOW:
        good = out->rank == 2 && same_cover(&n->inputs[0], out) && input(n, 1) && vector(input(n, 1), out, 0);
        break;
    default:
        break;
    }
    if (!good) NO("operator %u with these extents is beyond its kernels", n->op);
    return true;
}

/* FNV-1a over the seed and the node's name, mixed. */
static bool in_subset(uint64_t seed, const char *name) {
    uint64_t h = 14695981039346656037ull ^ (seed * 0x9e3779b97f4a7c15ull);
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211ull;
    h ^= h >> 29;
    return (h * 0xbf58476d1ce4e5b9ull >> 40) % 3 != 0;
}

bool far_supports(const strand_plugin_device *d, const strand_plugin_node *n, char *why, size_t why_bytes) {
    const strand_plugin_tensor *out = n->outputs;
    if (!far_capable(n, why, why_bytes)) return false;
    if (d->instance->set.subset) {
        if (!in_subset(d->instance->set.seed, n->name)) NO("not in the random subset");
        return true;
    }
    if (n->op == STRAND_OP_MATMUL && out->dims[out->rank - 1] % 3 == 0) NO("the columns are a multiple of 3");
    if (n->op == STRAND_OP_LAYER_NORM && !input(n, 2)) NO("it wants a bias");
    if (n->op == STRAND_OP_UNARY && ((const strand_op_unary *)n->params)->kind == STRAND_UNARY_SIN) NO("it knows no sine");
    if (n->op == STRAND_OP_LONG_CONV && n->inputs[1].dims[1] > 300) NO("more than 300 taps");
    return true;
}

/* ---- working memory ---- */

/* The results inside a group stand one after the other, then comes one row of the gated input of a long convolution. */
uint64_t far_scratch_size(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n) {
    uint64_t bytes = 0, row = 0;
    (void)d;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n) bytes += far_view_bytes(nodes[i].outputs);
        if (nodes[i].op != STRAND_OP_LONG_CONV) continue;
        uint64_t need = (uint64_t)nodes[i].inputs[0].dims[nodes[i].inputs[0].rank - 1] * sizeof(float);
        if (need > row) row = need;
    }
    return bytes + row;
}

/* The filter, back to front. */
uint64_t far_prepare_size(strand_plugin_device *d, const strand_plugin_node *n) {
    if (!d->instance->set.prepare || n->op != STRAND_OP_LONG_CONV || !(n->inputs[1].flags & STRAND_TENSOR_CONSTANT)) return 0;
    return far_view_bytes(&n->inputs[1]);
}

/* A chain: each node reads the one before it, whose result nobody else wants. */
uint32_t far_claim(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    uint32_t taken = 1;
    if (!d->instance->set.claim) return 0;
    for (; taken < n && taken < FAR_MAX_GROUP && !needed[taken - 1]; taken++) {
        const strand_plugin_node *next = &nodes[taken];
        bool reads = false;
        for (uint32_t k = 0; k < next->n_inputs; k++)
            reads = reads || (next->inputs[k].id && next->inputs[k].id == nodes[taken - 1].outputs[0].id);
        if (!reads || next->op == STRAND_OP_LONG_CONV) break;
    }
    return taken > 1 ? taken : 0;
}

/* build_parts.c - the part of build.h that joins tensors of the graph by operators and knows nothing of files: functions of
 * elements, shapes, gated MLPs, shifts by a token. */
#include <string.h>

#include "build.h"

tensor_id build_unary(builder *b, const char *name, uint32_t kind, tensor_id x, float alpha, float beta) {
    strand_op_unary p = {kind, alpha, beta};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_UNARY, &p, &x, 1, NULL);
}

static tensor_id binary(builder *b, const char *name, const strand_op_binary *p, tensor_id x, tensor_id y) {
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_BINARY, p, (tensor_id[]){x, y}, 2, NULL);
}

tensor_id build_binary(builder *b, const char *name, uint32_t kind, tensor_id x, tensor_id y) {
    return binary(b, name, &(strand_op_binary){.kind = kind}, x, y);
}

tensor_id build_add(builder *b, const char *name, tensor_id x, tensor_id y) {
    return build_binary(b, name, STRAND_BINARY_ADD, x, y);
}

tensor_id build_mul(builder *b, const char *name, tensor_id x, tensor_id y) {
    return build_binary(b, name, STRAND_BINARY_MUL, x, y);
}

tensor_id build_gate(builder *b, const char *name, uint32_t activation, tensor_id x, tensor_id y) {
    return binary(b, name, &(strand_op_binary){.kind = STRAND_BINARY_MUL, .activation = activation}, x, y);
}

tensor_id build_norm(builder *b, const char *name, const strand_op_norm *p, tensor_id x, tensor_id weight, tensor_id bias) {
    return build_failed(b) ? 0
                           : graph_op(b->g, build_name(b, name), STRAND_OP_NORM, p, (tensor_id[]){x, weight, bias}, 3, NULL);
}

tensor_id build_repeat(builder *b, const char *name, tensor_id x, int axis, int64_t times, bool interleave) {
    strand_op_repeat p = {.axis = axis, .interleave = interleave, .times = times};
    if (times == 1) return x;
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_REPEAT, &p, &x, 1, NULL);
}

tensor_id build_permute(builder *b, const char *name, tensor_id x, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3) {
    strand_op_permute p = {{a0, a1, a2, a3}};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_PERMUTE, &p, &x, 1, NULL);
}

tensor_id build_reverse(builder *b, const char *name, tensor_id x) {
    strand_op_slice p = {.axis = -1, .begin = -1, .step = -1};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_SLICE, &p, &x, 1, NULL);
}

tensor_id build_reshape(builder *b, const char *name, tensor_id x, int rank, const op_dim *dims) {
    op_shape hint = {.dtype = STRAND_F32, .rank = rank};
    if (build_failed(b)) return 0;
    memcpy(hint.dims, dims, (size_t)rank * sizeof *dims);
    return graph_op(b->g, build_name(b, name), STRAND_OP_RESHAPE, NULL, &x, 1, &hint);
}

tensor_id build_split_heads(builder *b, const char *name, tensor_id x, int64_t heads, int64_t width) {
    return build_reshape(b, name, x, 4, (op_dim[]){DIM_B, DIM_L, DIM(heads), DIM(width)});
}

tensor_id build_join_heads(builder *b, const char *name, tensor_id x, int64_t channels) {
    return build_reshape(b, name, x, 3, (op_dim[]){DIM_B, DIM_L, DIM(channels)});
}

tensor_id build_slice(builder *b, const char *name, tensor_id x, int64_t begin, int64_t n) {
    strand_op_slice p = {.axis = -1, .begin = begin, .count = n, .step = 1};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_SLICE, &p, &x, 1, NULL);
}

tensor_id build_gated_mlp(builder *b, const build_glu *n, tensor_id x, int64_t d, int64_t inner) {
    tensor_id gate = build_linear(b, n->gate, x, inner, d, STRAND_UNARY_IDENTITY),
              up = build_linear(b, n->up, x, inner, d, STRAND_UNARY_IDENTITY);
    return build_linear(b, n->down, build_gate(b, n->up, n->activation, gate, up), d, inner, STRAND_UNARY_IDENTITY);
}

tensor_id build_state_after(builder *b, const char *name) {
    const char *full = build_name(b, name);
    for (tensor_id t = 1; t < b->g->n_tensors; t++)
        if (b->g->tensors[t].kind == TENSOR_STATE && !strcmp(b->g->tensors[t].name, full)) return b->g->tensors[t].next;
    return 0;
}

build_shift build_shift_begin(builder *b, const char *name, tensor_id x, int64_t channels) {
    return (build_shift){.x = x, .state = build_state(b, name, 1, &channels)};
}

tensor_id build_shift_mix(builder *b, const char *name, build_shift *s, tensor_id mix, uint32_t form) {
    strand_op_token_shift p = {.form = form};
    if (build_failed(b)) return 0;
    /* The last one's second output is taken: those of the others are the same, and nobody's. */
    return graph_op2(b->g, build_name(b, name), STRAND_OP_TOKEN_SHIFT, &p, (tensor_id[]){s->x, mix, s->state}, 3, NULL,
                     &s->next);
}

void build_shift_end(builder *b, build_shift *s) {
    build_state_next(b, s->state, s->next);
}

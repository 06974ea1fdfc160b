/* ops_matrix_state.c - recurrences with a matrix state on the GPU plugins, token by token (kernels/matrix_state.k): what few
 * tokens do, as in decoding. Many go in chunks (ops_ssd.c, ops_chunks_forms.c).
 *
 * y may be a tile of batch entries and channels; `values` is cut with it, everything else is whole. */
#include "ops_chunks_forms.h"

#include <math.h>

#define MOST_ROWS 448 /* of a head's matrix: sixteen columns of it live in shared memory */

static int32_t lead(const strand_plugin_tensor *t, const strand_plugin_tensor *y) {
    return (int32_t)(cpu_lead(t, 0, y, 0) * t->strides[0]);
}

static bool runs(int64_t rows, char *why, size_t why_bytes) {
    if (rows > MOST_ROWS) return cpu_no(why, why_bytes, "a head's matrix has more than %d rows", MOST_ROWS);
    return true;
}

/* The heads that y's channels touch, and the groups for them. */
typedef struct head_range {
    int64_t first, blocks, groups;
} head_range;

static head_range heads_of(const strand_plugin_tensor *y, int64_t width) {
    head_range r = {y->origin[2] / width, (width + 15) / 16, 0};
    if (y->dims[2] > 0) r.groups = ((y->origin[2] + y->dims[2] - 1) / width - r.first + 1) * r.blocks;
    return r;
}

/* The parameters that all matrix recurrences share. rows_first: is the state [.., rows, columns]? */
static void push_common(gpu_dispatch *d, const strand_plugin_node *node, int64_t rows, int64_t width, int64_t heads,
                        const strand_plugin_tensor *q, const strand_plugin_tensor *k, const strand_plugin_tensor *v,
                        const strand_plugin_tensor *state, bool rows_first) {
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    head_range r = heads_of(y, width);
    const int64_t sizes[] = {y->dims[1], rows, width, heads, r.first, r.blocks, y->origin[2], y->dims[2]};
    gpu_ints(d, sizes, 8);
    const strand_plugin_tensor *const four[] = {q, k, v, y};
    for (int i = 0; i < 4; i++) {
        gpu_int(d, four[i]->strides[0]);
        gpu_int(d, four[i]->strides[1]);
    }
    const strand_plugin_tensor *const two[] = {state, after};
    for (int i = 0; i < 2; i++) {
        const strand_plugin_tensor *t = two[i];
        gpu_int(d, t != NULL);
        gpu_int(d, t ? t->strides[0] : 0);
        gpu_int(d, t ? t->strides[1] : 0);
        gpu_int(d, t ? t->strides[rows_first ? 2 : 3] : 0);
        gpu_int(d, t ? t->strides[rows_first ? 3 : 2] : 0);
    }
}

/* ---- SSD ---- */

bool gpu_supports_ssd(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssd *p = node->params;
    (void)device;
    return runs(node->inputs[2].dims[2] / p->groups, why, why_bytes);
}

static int64_t ssd_rows(const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    return node->inputs[2].dims[2] / p->groups;
}

static int64_t ssd_width(const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    return node->outputs[0].whole[2] / p->heads;
}

/* Token by token. */
static strand_plugin_status ssd_walk(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *B = &node->inputs[2], *C = &node->inputs[3],
                               *dt = cpu_input(node, 4);
    const strand_plugin_tensor *D = cpu_input(node, 5), *bias = cpu_input(node, 6), *state = cpu_input(node, 7),
                               *y = &node->outputs[0];
    int64_t rows = ssd_rows(node), width = ssd_width(node);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd);
    const strand_plugin_tensor *const all[] = {x, a, B, C, dt, D, bias};
    for (int i = 0; i < 7; i++) gpu_bind_or(device, &d, all[i], x);
    gpu_bind_or(device, &d, state, x);
    gpu_bind(device, &d, y);
    gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    const strand_plugin_tensor *const batched[] = {x, a->rank == 3 ? a : NULL, B, C, dt, NULL, NULL, state};
    for (int i = 0; i < 8; i++)
        if (batched[i]) d.params[i] += lead(batched[i], y);
    d.params[0] += (int32_t)cpu_lead(x, 2, y, 2);
    push_common(&d, node, rows, width, p->heads, C, B, x, state, false);
    gpu_int(&d, p->heads / p->groups);
    gpu_int(&d, a->rank);
    gpu_int(&d, a->strides[0]);
    gpu_int(&d, a->rank == 3 ? a->strides[1] : 0);
    gpu_int(&d, a->rank == 1 ? a->strides[0] : 1);
    gpu_int(&d, dt != NULL);
    gpu_int(&d, dt ? dt->strides[0] : 0);
    gpu_int(&d, dt ? dt->strides[1] : 0);
    gpu_int(&d, D != NULL);
    gpu_int(&d, D ? D->strides[0] : 0);
    gpu_int(&d, bias != NULL);
    gpu_int(&d, bias ? bias->strides[0] : 0);
    gpu_int(&d, p->softplus != 0);
    gpu_float(&d, p->dt_min);
    gpu_float(&d, p->dt_max);
    return gpu_groups(device, &d, heads_of(y, width).groups, y->dims[0], 1);
}

GPU_RUN(ssd) {
    bool done;
    strand_plugin_status status = gpu_ssd_in_chunks(device, node, scratch, &done);
    return done ? status : ssd_walk(device, node);
}

/* ---- gated linear attention ---- */

bool gpu_supports_gated_linear_attention(strand_plugin_device *device, const strand_plugin_node *node, char *why,
                                         size_t why_bytes) {
    const strand_op_gated_linear_attention *p = node->params;
    (void)device;
    return runs(node->inputs[0].dims[2] / p->heads, why, why_bytes);
}

static strand_plugin_status gated_walk(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_gated_linear_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *w = &node->inputs[3],
                               *u = cpu_input(node, 4);
    const strand_plugin_tensor *state = cpu_input(node, 5), *y = &node->outputs[0];
    int64_t rows = q->dims[2] / p->heads, width = y->whole[2] / p->heads;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_gated_linear_attention);
    const strand_plugin_tensor *const all[] = {q, k, v, w, u, state};
    for (int i = 0; i < 6; i++) gpu_bind_or(device, &d, all[i], q);
    gpu_bind(device, &d, y);
    gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    const strand_plugin_tensor *const batched[] = {q, k, v, w->rank == 3 ? w : NULL, NULL, state};
    for (int i = 0; i < 6; i++)
        if (batched[i]) d.params[i] += lead(batched[i], y);
    d.params[2] += (int32_t)cpu_lead(v, 2, y, 2);
    push_common(&d, node, rows, width, p->heads, q, k, v, state, true);
    gpu_int(&d, w->rank);
    gpu_int(&d, w->rank == 3 ? w->strides[0] : 0);
    gpu_int(&d, w->rank == 3 ? w->strides[1] : 0);
    gpu_int(&d, p->log_w != 0);
    gpu_int(&d, u != NULL);
    gpu_int(&d, u ? u->strides[0] : 0);
    gpu_float(&d, p->scale);
    gpu_int(&d, w->rank == 1 ? w->strides[0] : 1);
    return gpu_groups(device, &d, heads_of(y, width).groups, y->dims[0], 1);
}

GPU_RUN(gated_linear_attention) {
    bool done;
    strand_plugin_status status = gpu_gated_in_chunks(device, node, scratch, &done);
    return done ? status : gated_walk(device, node);
}

/* ---- delta rule ---- */

bool gpu_supports_delta_rule(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_delta_rule *p = node->params;
    (void)device;
    return runs(node->inputs[0].dims[2] / p->heads, why, why_bytes);
}

static strand_plugin_status delta_walk(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_delta_rule *p = node->params;
    const strand_plugin_tensor *r = &node->inputs[0], *w = &node->inputs[1], *k = &node->inputs[2], *v = &node->inputs[3],
                               *a = &node->inputs[4], *b = &node->inputs[5];
    const strand_plugin_tensor *state = cpu_input(node, 6), *y = &node->outputs[0];
    int64_t rows = r->dims[2] / p->heads, width = y->whole[2] / p->heads;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_delta_rule);
    const strand_plugin_tensor *const all[] = {r, w, k, v, a, b, state};
    for (int i = 0; i < 7; i++) gpu_bind_or(device, &d, all[i], r);
    gpu_bind(device, &d, y);
    gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    for (int i = 0; i < 7; i++)
        if (all[i]) d.params[i] += lead(all[i], y);
    d.params[3] += (int32_t)cpu_lead(v, 2, y, 2);
    push_common(&d, node, rows, width, p->heads, r, k, v, state, false);
    const strand_plugin_tensor *const three[] = {w, a, b};
    for (int i = 0; i < 3; i++) {
        gpu_int(&d, three[i]->strides[0]);
        gpu_int(&d, three[i]->strides[1]);
    }
    gpu_int(&d, p->log_w != 0);
    gpu_float(&d, p->scale);
    return gpu_groups(device, &d, heads_of(y, width).groups, y->dims[0], 1);
}

GPU_RUN(delta_rule) {
    bool done;
    strand_plugin_status status = gpu_delta_in_chunks(device, node, scratch, &done);
    return done ? status : delta_walk(device, node);
}

/* ---- linear attention ---- */

static int64_t features(const strand_op_linear_attention *p, int64_t d) {
    return p->feature == STRAND_FEATURE_TAYLOR2 ? 1 + d + d * d : d;
}

bool gpu_supports_linear_attention(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_linear_attention *p = node->params;
    (void)device;
    return runs(features(p, node->inputs[0].dims[2] / p->heads), why, why_bytes);
}

uint64_t gpu_linear_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_linear_attention *p = node->params;
    uint64_t chunks = gpu_linear_chunks_scratch(node), last;
    (void)device;
    last =
        node->n_outputs < 2
            ? 0
            : (uint64_t)(node->outputs[0].dims[0] * p->heads * features(p, node->inputs[0].dims[2] / p->heads)) * sizeof(float);
    return chunks > last ? chunks : last; /* a plan for chunks has room for fewer tokens, that walk */
}

/* The sums of features after the last token, in spare memory: before the main kernel, which may overwrite the old ones. */
static strand_plugin_status sums(strand_plugin_device *device, const strand_plugin_node *node,
                                 const strand_plugin_memory *scratch, int64_t width, float pair, float one) {
    const strand_op_linear_attention *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[1], *state = cpu_input(node, 3), *y = &node->outputs[0];
    int64_t each = k->dims[2] / p->heads, f = features(p, each), items = y->dims[0] * p->heads * f;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_attention_sums);
    gpu_bind(device, &d, k);
    gpu_bind_or(device, &d, state, k);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)items * sizeof(float), sizeof(float));
    d.params[0] += lead(k, y);
    if (state) d.params[1] += lead(state, y);
    const int64_t sizes[] = {items, f, p->heads, y->dims[1], k->strides[0], k->strides[1], state != NULL,
                             state ? state->strides[0] : 0, state ? state->strides[1] : 0, state ? state->strides[2] : 0,
                             state ? width * state->strides[3] : 0, each, p->feature};
    gpu_ints(&d, sizes, 13);
    gpu_float(&d, pair);
    gpu_float(&d, one);
    return gpu_over(device, &d, items);
}

static strand_plugin_status last_column(strand_plugin_device *device, const strand_plugin_node *node,
                                        const strand_plugin_memory *scratch, int64_t width) {
    const strand_op_linear_attention *p = node->params;
    const strand_plugin_tensor *after = &node->outputs[1];
    int64_t f = after->dims[2], items = after->dims[0] * p->heads * f;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_attention_last);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)items * sizeof(float), sizeof(float));
    gpu_bind(device, &d, after);
    const int64_t sizes[] = {
        items, f, p->heads, after->strides[0], after->strides[1], after->strides[2], width * after->strides[3]};
    gpu_ints(&d, sizes, 7);
    return gpu_over(device, &d, items);
}

static strand_plugin_status linear_all(strand_plugin_device *device, const strand_plugin_node *node, float pair, float one) {
    const strand_op_linear_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *state = cpu_input(node, 3),
                               *y = &node->outputs[0];
    int64_t each = q->dims[2] / p->heads, width = y->whole[2] / p->heads;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_attention);
    const strand_plugin_tensor *const all[] = {q, k, v, state};
    for (int i = 0; i < 4; i++) gpu_bind_or(device, &d, all[i], q);
    gpu_bind(device, &d, y);
    gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    for (int i = 0; i < 4; i++)
        if (all[i]) d.params[i] += lead(all[i], y);
    d.params[2] += (int32_t)cpu_lead(v, 2, y, 2);
    push_common(&d, node, features(p, each), width, p->heads, q, k, v, state, true);
    gpu_int(&d, p->normalise != 0);
    gpu_int(&d, each);
    gpu_int(&d, p->feature);
    gpu_float(&d, pair);
    gpu_float(&d, one);
    gpu_float(&d, p->eps);
    return gpu_groups(device, &d, heads_of(y, width).groups, y->dims[0], 1);
}

static strand_plugin_status linear_walk(strand_plugin_device *device, const strand_plugin_node *node,
                                        const strand_plugin_memory *scratch) {
    const strand_op_linear_attention *p = node->params;
    int64_t each = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads;
    float pair = (float)(1 / (sqrt(2.0) * sqrt((double)each))), one = (float)pow((double)each, -0.25);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (node->n_outputs > 1) status = sums(device, node, scratch, width, pair, one);
    if (!status) status = linear_all(device, node, pair, one);
    return status || node->n_outputs < 2 ? status : last_column(device, node, scratch, width);
}

GPU_RUN(linear_attention) {
    bool done;
    strand_plugin_status status = gpu_linear_in_chunks(device, node, scratch, &done);
    return done ? status : linear_walk(device, node, scratch);
}

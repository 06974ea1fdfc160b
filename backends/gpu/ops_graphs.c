/* ops_graphs.c - operators on graphs on the GPU plugins (kernels/graphs.k): adjacencies, their supports, diffusion, and sums
 * over edges. Selections are made on sums of two floats; the largest eigenvalue of a Laplacian comes from a tridiagonal
 * form. */
#include "gpu.h"

/* Working memory of `bytes` that a kernel can see and index. */
static bool scratch_fits(strand_plugin_device *device, uint64_t bytes, char *why, size_t why_bytes) {
    if (bytes > device->limits.binding_bytes - device->limits.offset_alignment || bytes / 4 >= (uint64_t)1 << 31)
        return cpu_no(why, why_bytes, "needs %.0f MiB of working memory, more than a kernel sees here",
                      (double)bytes / 1048576);
    return true;
}

/* (w + w^T) / 2 and the ones of the diagonal, over the output as it is. */
static strand_plugin_status finish(strand_plugin_device *device, const strand_plugin_tensor *y, bool symmetric, bool unit) {
    gpu_dispatch d;
    if (!symmetric && !unit) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_adjacency_finish);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_int(&d, y->dims[2]);
    gpu_int(&d, y->strides[0]);
    gpu_int(&d, y->strides[1]);
    gpu_int(&d, symmetric);
    gpu_int(&d, unit);
    return gpu_over(device, &d, gpu_count(y));
}

/* What KEEP_LARGEST is asked, see the kernel. */
typedef struct keeping {
    int64_t rows, elements, k, own;
    bool strict, clamp, above;
    uint32_t loops;
    float threshold;
} keeping;

static void push_keeping(gpu_dispatch *d, const keeping *q, const strand_plugin_tensor *y, int64_t size, int64_t graph,
                         int64_t row) {
    const int64_t numbers[] = {
        y->dims[0] * q->rows, q->rows, y->dims[2], q->elements, size,     graph,    row,     y->strides[0],
        y->strides[1],        q->k,    q->own,     q->strict,   q->clamp, q->loops, q->above};
    gpu_ints(d, numbers, 15);
    gpu_float(d, q->threshold);
}

/* ---- nearest neighbours ---- */

/* Similarities, two floats each; lengths of the nodes, two floats each. */
static uint64_t knn_pairs(const strand_plugin_node *node) {
    const strand_plugin_tensor *y = &node->outputs[0];
    return (uint64_t)y->dims[0] * (uint64_t)y->dims[1] * (uint64_t)y->dims[1] * 8;
}
static uint64_t knn_lengths(const strand_plugin_node *node) {
    return (uint64_t)node->outputs[0].dims[0] * (uint64_t)node->outputs[0].dims[1] * 8;
}

uint64_t gpu_knn_adjacency_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    (void)device;
    return knn_pairs(node) + knn_lengths(node);
}

bool gpu_supports_knn_adjacency(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    return scratch_fits(device, knn_pairs(node), why, why_bytes);
}

GPU_RUN(knn_adjacency) {
    const strand_op_knn_adjacency *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    uint64_t pairs = knn_pairs(node), lengths = knn_lengths(node);
    int64_t n = y->dims[1];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_knn_dots);
    gpu_bind(device, &d, x);
    gpu_bind_memory(device, &d, scratch, 0, pairs, 4);
    gpu_bind_memory(device, &d, scratch, pairs, lengths, 4);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0]);
    int64_t run = x->dims[x->rank - 1];
    gpu_int(&d, n);
    gpu_int(&d, x->rank == 4 ? x->dims[2] * run : run);
    gpu_int(&d, x->strides[0]);
    gpu_int(&d, x->strides[1]);
    gpu_int(&d, run > 0 ? run : 1);
    gpu_int(&d, x->rank == 4 ? x->strides[2] : run);
    strand_plugin_status status = gpu_groups(device, &d, (n + 15) / 16, (n + 15) / 16, y->dims[0]);
    if (status) return status;
    gpu_begin(&d, GPU_K_knn_similarity);
    gpu_bind_memory(device, &d, scratch, 0, pairs, 4);
    gpu_bind_memory(device, &d, scratch, pairs, lengths, 4);
    gpu_int(&d, gpu_count(y));
    gpu_int(&d, n);
    gpu_int(&d, (p->flags & STRAND_KNN_ABSOLUTE) != 0);
    status = gpu_over(device, &d, gpu_count(y));
    if (status) return status;
    const keeping q = {.rows = n,
                       .elements = n,
                       .k = cpu_min(p->k, n),
                       .own = p->flags & STRAND_KNN_NOT_SELF ? 2 : 1,
                       .clamp = p->flags & STRAND_KNN_CLAMP};
    gpu_begin(&d, GPU_K_keep_largest);
    gpu_bind_memory(device, &d, scratch, 0, pairs, 4);
    gpu_bind(device, &d, y);
    push_keeping(&d, &q, y, 2, 2 * n * n, 2 * n);
    status = gpu_rows(device, &d, y->dims[0] * n);
    return status ? status : finish(device, y, p->flags & STRAND_KNN_SYMMETRIC, p->flags & STRAND_KNN_UNIT_DIAGONAL);
}

/* ---- softmax ---- */

bool gpu_supports_softmax_adjacency(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(softmax_adjacency) {
    const strand_op_softmax_adjacency *p = node->params;
    const strand_op_matmul product = {.transpose_b = 1, .activation = STRAND_UNARY_AFFINE, .alpha = p->scale};
    const strand_plugin_tensor *y = &node->outputs[0];
    strand_plugin_node scores = *node;
    gpu_dispatch d;
    scores.op = STRAND_OP_MATMUL;
    scores.params = &product;
    strand_plugin_status status = gpu_matmul(device, &scores, scratch);
    if (status) return status;
    gpu_begin(&d, GPU_K_softmax_adjacency);
    gpu_bind(device, &d, y);
    gpu_int(&d, y->dims[0] * y->dims[1]);
    gpu_int(&d, y->dims[1]);
    gpu_int(&d, y->strides[0]);
    gpu_int(&d, y->strides[1]);
    status = gpu_rows(device, &d, y->dims[0] * y->dims[1]);
    return status ? status : finish(device, y, p->symmetric, false);
}

/* ---- pruning ---- */

bool gpu_supports_prune_adjacency(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(prune_adjacency) {
    const strand_op_prune_adjacency *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    int64_t n = y->dims[1];
    keeping q = {.rows = n, .elements = n, .loops = p->loops, .above = p->mode == STRAND_PRUNE_ABOVE, .threshold = p->value};
    gpu_dispatch d;
    (void)scratch;
    if (p->mode == STRAND_PRUNE_PER_ROW) q.k = cpu_min((int64_t)p->value, n);
    if (p->mode == STRAND_PRUNE_TOP_FRACTION) {
        q.rows = 1;
        q.elements = n * n;
        q.strict = true;
        q.k = (int64_t)((float)(n * n) * p->value);
        if (q.k > n * n) q.k = 0; /* fewer entries than that: none is kept */
    }
    gpu_begin(&d, GPU_K_keep_largest);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0]);
    push_keeping(&d, &q, y, 1, x->strides[0], x->strides[1]);
    return gpu_rows(device, &d, y->dims[0] * q.rows);
}

/* ---- supports ---- */

/* Working memory: degrees; and where the eigenvalue is sought the Laplacians, the reflections' vectors and the eigenvalues. */
typedef struct supports_room {
    uint64_t degrees, matrices, vectors, eigenvalues;
} supports_room;

static bool seeks_eigenvalue(const strand_op_graph_supports *p) {
    return p->kind == STRAND_SUPPORTS_LAPLACIAN && p->lambda_max == 0;
}

static supports_room room_of(const strand_plugin_node *node) {
    const strand_plugin_tensor *y = &node->outputs[0];
    uint64_t b = (uint64_t)y->dims[0], n = (uint64_t)y->dims[3];
    supports_room r = {.degrees = b * (uint64_t)y->dims[1] * n * 4};
    if (seeks_eigenvalue(node->params)) {
        r.matrices = b * n * n * 4;
        r.vectors = b * (4 * n + 1) * 4;
        r.eigenvalues = b * 4;
    }
    return r;
}

uint64_t gpu_graph_supports_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    supports_room r = room_of(node);
    (void)device;
    return r.degrees + r.matrices + r.vectors + r.eigenvalues;
}

bool gpu_supports_graph_supports(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    supports_room r = room_of(node);
    if (!r.matrices) return true;
    return scratch_fits(device, r.matrices, why, why_bytes);
}

/* The supports, or with `plain` the Laplacians alone as [B, n, n] of working memory. */
static strand_plugin_status supports_out(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, bool plain) {
    const strand_op_graph_supports *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *y = &node->outputs[0];
    supports_room r = room_of(node);
    int64_t n = y->dims[3];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_graph_supports);
    gpu_bind(device, &d, a);
    gpu_bind_memory(device, &d, scratch, 0, r.degrees, 4);
    if (r.matrices && !plain)
        gpu_bind_memory(device, &d, scratch, r.degrees + r.matrices + r.vectors, r.eigenvalues, 4);
    else
        gpu_bind_memory(device, &d, scratch, 0, r.degrees, 4);
    if (plain)
        gpu_bind_memory(device, &d, scratch, r.degrees, r.matrices, 4);
    else
        gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(cpu_lead(a, 0, y, 0) * a->strides[0]);
    const int64_t numbers[] = {gpu_count(y),
                               y->dims[1],
                               n,
                               a->strides[0],
                               a->strides[1],
                               plain ? n * n : y->strides[0],
                               plain ? 0 : y->strides[1],
                               plain ? n : y->strides[2],
                               p->kind};
    gpu_ints(&d, numbers, 9);
    gpu_float(&d, seeks_eigenvalue(p) ? -1.0f : p->lambda_max);
    gpu_int(&d, plain);
    return gpu_over(device, &d, gpu_count(y));
}

static strand_plugin_status eigenvalues(strand_plugin_device *device, const strand_plugin_node *node,
                                        const strand_plugin_memory *scratch) {
    supports_room r = room_of(node);
    int64_t n = node->outputs[0].dims[3], batch = node->outputs[0].dims[0];
    strand_plugin_status status = supports_out(device, node, scratch, true);
    gpu_dispatch d;
    for (int64_t last = n - 1; last >= 0 && !status; last--) {
        static const gpu_kernel steps[] = {GPU_K_householder_row, GPU_K_householder_product, GPU_K_householder_update};
        for (int i = 0; i < (last < 2 ? 1 : 3) && !status; i++) {
            gpu_begin(&d, steps[i]);
            gpu_bind_memory(device, &d, scratch, r.degrees, r.matrices, 4);
            gpu_bind_memory(device, &d, scratch, r.degrees + r.matrices, r.vectors, 4);
            gpu_int(&d, n);
            gpu_int(&d, last);
            status = i ? gpu_groups(device, &d, last, batch, 1) : gpu_groups(device, &d, batch, 1, 1);
        }
    }
    if (status) return status;
    gpu_begin(&d, GPU_K_tridiagonal_most);
    gpu_bind_memory(device, &d, scratch, r.degrees + r.matrices, r.vectors, 4);
    gpu_bind_memory(device, &d, scratch, r.degrees + r.matrices + r.vectors, r.eigenvalues, 4);
    gpu_int(&d, n);
    return gpu_groups(device, &d, batch, 1, 1);
}

GPU_RUN(graph_supports) {
    const strand_op_graph_supports *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *y = &node->outputs[0];
    supports_room r = room_of(node);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_graph_degrees);
    gpu_bind(device, &d, a);
    gpu_bind_memory(device, &d, scratch, 0, r.degrees, 4);
    d.params[0] += (int32_t)(cpu_lead(a, 0, y, 0) * a->strides[0]);
    const int64_t numbers[] = {(int64_t)(r.degrees / 4), y->dims[1], y->dims[3], a->strides[0], a->strides[1], p->kind};
    gpu_ints(&d, numbers, 6);
    strand_plugin_status status = gpu_rows(device, &d, numbers[0]);
    if (!status && seeks_eigenvalue(p)) status = eigenvalues(device, node, scratch);
    return status ? status : supports_out(device, node, scratch, false);
}

/* ---- diffusion ---- */

bool gpu_supports_diffusion(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* Every feature of x becomes the first of its columns in y. */
static strand_plugin_status first_columns(strand_plugin_device *device, const strand_plugin_tensor *x,
                                          const strand_plugin_tensor *y, int64_t all) {
    strand_plugin_tensor to = *y;
    gpu_dispatch d;
    to.dims[y->rank - 1] = x->dims[y->rank - 1];
    to.strides[y->rank - 1] = all;
    gpu_begin(&d, GPU_K_unary);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, &to);
    gpu_int(&d, gpu_count(&to));
    gpu_dims(&d, &to);
    gpu_place(&d, 1, &to, &to, false);
    gpu_place(&d, 0, &to, x, false);
    gpu_int(&d, STRAND_UNARY_IDENTITY);
    gpu_float(&d, 0);
    gpu_float(&d, 0);
    return gpu_over(device, &d, gpu_count(&to));
}

/* Column `made` of every feature from support m and the columns before. */
static strand_plugin_status diffuse(strand_plugin_device *device, const strand_plugin_node *node, int64_t m, int64_t now,
                                    int64_t before, int64_t made) {
    const strand_op_diffusion *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *s = &node->inputs[1], *y = &node->outputs[0];
    uint32_t rank = y->rank;
    int64_t n = y->dims[rank - 2], f = x->dims[rank - 1], outer = rank == 4 ? y->dims[0] : 1,
            inner = rank > 2 ? y->dims[rank - 3] : 1;
    int64_t lead = m * s->strides[s->rank - 3], support_batch = 0, steps[2] = {0, 0};
    gpu_dispatch d;
    if (rank == 3) outer = y->dims[0], inner = 1; /* the supports go with the first axis */
    if (s->rank == 4) {
        support_batch = s->strides[0];
        lead += cpu_lead(s, 0, y, 0) * s->strides[0];
    }
    if (rank > 2) steps[0] = y->strides[0];
    if (rank > 3) steps[1] = y->strides[1];
    gpu_begin(&d, GPU_K_diffusion);
    gpu_bind(device, &d, s);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)lead;
    const int64_t numbers[] = {n,
                               f,
                               support_batch,
                               s->strides[s->rank - 2],
                               steps[0],
                               steps[1],
                               y->strides[rank - 2],
                               1 + s->dims[s->rank - 3] * p->steps,
                               now,
                               before,
                               made,
                               inner};
    gpu_ints(&d, numbers, 12);
    return gpu_groups(device, &d, (n + 31) / 32, (f + 31) / 32, outer * inner);
}

GPU_RUN(diffusion) {
    const strand_op_diffusion *p = node->params;
    const strand_plugin_tensor *s = &node->inputs[1];
    int64_t count = s->dims[s->rank - 3], start = 0, made = 1;
    (void)scratch;
    strand_plugin_status status = first_columns(device, &node->inputs[0], &node->outputs[0], 1 + count * p->steps);
    for (int64_t m = 0; m < count; m++) {
        int64_t before = start, now = start;
        for (int64_t k = 1; k <= p->steps && !status; k++, made++) {
            status = diffuse(device, node, m, now, k == 1 ? -1 : before, made);
            before = now;
            now = made;
        }
        if (p->flags & STRAND_DIFFUSION_CARRY_OVER) start = before;
    }
    return status;
}

/* ---- sums over edges ---- */

/* Strides of x, [..., rows, F], through the output's axes, and its way to the output's first element; its rows are all
 * there. */
static int64_t row_strides(const strand_plugin_tensor *x, const strand_plugin_tensor *y, int64_t strides[STRAND_PLUGIN_RANK]) {
    int64_t first = 0;
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) strides[i] = 0;
    for (uint32_t i = 0; i < y->rank; i++) {
        strides[STRAND_PLUGIN_RANK - y->rank + i] = x->strides[i];
        if (i != y->rank - 2) first += cpu_lead(x, i, y, i) * x->strides[i];
    }
    return first;
}

bool gpu_supports_spmm(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(spmm) {
    const strand_plugin_tensor *rows = &node->inputs[0], *columns = &node->inputs[1], *values = cpu_input(node, 2),
                               *x = &node->inputs[3], *y = &node->outputs[0];
    int64_t strides[STRAND_PLUGIN_RANK];
    uint32_t axis = y->rank - 2;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_spmm);
    gpu_bind(device, &d, rows);
    gpu_bind_or(device, &d, columns->dims[0] ? columns : NULL, y); /* there may be no entries */
    gpu_bind_or(device, &d, columns->dims[0] ? values : NULL, y);
    gpu_bind_or(device, &d, x->dims[axis] ? x : NULL, y);
    gpu_bind(device, &d, y);
    gpu_bind_fault(device, &d);
    d.params[0] += (int32_t)((y->origin[axis] - rows->origin[0]) * rows->strides[0]);
    d.params[3] += (int32_t)row_strides(x, y, strides);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 4, y, y, false);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, strides[i]);
    const int64_t numbers[] = {
        columns->dims[0], x->dims[axis], rows->strides[0], columns->strides[0], values ? values->strides[0] : 0,
        values != NULL};
    gpu_ints(&d, numbers, 6);
    return gpu_over(device, &d, gpu_count(y));
}

bool gpu_supports_segment_reduce(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_segment_reduce *p = node->params;
    (void)device;
    if (p->n > INT32_MAX) return cpu_no(why, why_bytes, "2^31 segments or more");
    return true;
}

GPU_RUN(segment_reduce) {
    const strand_op_segment_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *index = &node->inputs[1], *y = &node->outputs[0];
    int64_t strides[STRAND_PLUGIN_RANK];
    int64_t segments = y->dims[y->rank - 2], across = (gpu_count(y) / segments + 63) / 64;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_segment_reduce);
    gpu_bind_or(device, &d, index->dims[0] ? x : NULL, y); /* there may be no entries */
    gpu_bind_or(device, &d, index->dims[0] ? index : NULL, y);
    gpu_bind(device, &d, y);
    gpu_bind_fault(device, &d);
    d.params[0] += (int32_t)row_strides(x, y, strides);
    gpu_int(&d, segments * across);
    gpu_dims(&d, y);
    gpu_place(&d, 2, y, y, false);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, strides[i]);
    const int64_t numbers[] = {
        index->dims[0], p->n, y->origin[y->rank - 2], p->kind, index->strides[0], index->dtype == STRAND_PLUGIN_I64 ? 2 : 1};
    gpu_ints(&d, numbers, 6);
    gpu_int(&d, across);
    return gpu_rows(device, &d, segments * across);
}

bool gpu_supports_gine(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(gine) {
    const strand_op_gine *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *w = &node->inputs[2], *bias = &node->inputs[3],
                               *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_gine);
    for (uint32_t i = 0; i < 4; i++) gpu_bind(device, &d, &node->inputs[i]);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0] + cpu_lead(x, 2, y, 2) * x->strides[2]);
    d.params[1] += (int32_t)(cpu_lead(a, 0, y, 0) * a->strides[0] + cpu_lead(a, 2, y, 1) * a->strides[2]);
    d.params[2] += (int32_t)(cpu_lead(w, 0, y, 2) * w->strides[0]);
    d.params[3] += (int32_t)(cpu_lead(bias, 0, y, 2) * bias->strides[0]);
    const int64_t numbers[] = {gpu_count(y),  y->dims[0],    y->dims[1],    y->dims[2],    y->strides[0], y->strides[1],
                               x->strides[0], x->strides[1], a->strides[0], a->strides[1], x->dims[1]};
    gpu_ints(&d, numbers, 11);
    gpu_float(&d, 1.0f + p->eps);
    gpu_int(&d, w->strides[0]);
    gpu_int(&d, bias->strides[0]);
    gpu_int(&d, y->origin[1]);
    return gpu_over(device, &d, gpu_count(y));
}

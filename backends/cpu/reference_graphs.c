/* reference_graphs.c - operators on graphs as their definitions say. Selections are made on double-precision values, as the
 * fast kernels make them too. */
#include "reference.h"

static strand_plugin_status no_memory(const cpu_device *device) {
    return cpu_fail(device, STRAND_PLUGIN_ERR_MEMORY, "no memory for a reference kernel");
}

static double *room(const cpu_device *device, int64_t n) {
    return device->host->alloc(device->host->context, (uint64_t)(n + 1) * sizeof(double), CPU_ALIGN);
}

static void give_back(const cpu_device *device, double *p, int64_t n) {
    device->host->free(device->host->context, p, (uint64_t)(n + 1) * sizeof(double));
}

/* Element [b, i, j] of an input of rank 3 whose first axis is the output's. */
static double at(const strand_plugin_node *node, uint32_t input, int64_t b, int64_t i, int64_t j) {
    const strand_plugin_tensor *t = &node->inputs[input];
    return get(t, (b + node->outputs[0].origin[0] - t->origin[0]) * t->strides[0] + i * t->strides[1] + j * t->strides[2]);
}

static void put3(const strand_plugin_node *node, int64_t b, int64_t i, int64_t j, double value) {
    const strand_plugin_tensor *out = &node->outputs[0];
    put(out, b * out->strides[0] + i * out->strides[1] + j * out->strides[2], value);
}

/* Keeps the k largest of row[0, n), the smaller index first of equals; the others become 0. `own` (-1: none) is kept in any
 * case: as one of the k, or with `besides` on top. */
static void keep_largest(double *row, char *kept, int64_t n, int64_t k, int64_t own, bool besides) {
    memset(kept, 0, (size_t)n);
    if (own >= 0) kept[own] = 1;
    for (int64_t round = own >= 0 && !besides; round < k && round < n; round++) {
        int64_t best = -1;
        for (int64_t j = 0; j < n; j++)
            if (!kept[j] && (best < 0 || row[j] > row[best])) best = j;
        if (best >= 0) kept[best] = 1;
    }
    for (int64_t j = 0; j < n; j++)
        if (!kept[j]) row[j] = 0;
}

/* Over the features, and over the axis before them where there is one. */
static double dot(const strand_plugin_node *node, uint32_t input, int64_t b, int64_t i, uint32_t other, int64_t j) {
    const strand_plugin_tensor *t = &node->inputs[input];
    double sum = 0;
    if (t->rank == 4) {
        int64_t from = (b + node->outputs[0].origin[0] - t->origin[0]) * t->strides[0];
        for (int64_t s = 0; s < t->dims[2]; s++)
            for (int64_t f = 0; f < t->dims[3]; f++)
                sum += get(t, from + i * t->strides[1] + s * t->strides[2] + f) *
                       get(t, from + j * t->strides[1] + s * t->strides[2] + f);
        return sum;
    }
    for (int64_t f = 0; f < node->inputs[input].dims[2]; f++) sum += at(node, input, b, i, f) * at(node, other, b, j, f);
    return sum;
}

/* w becomes (w + w^T) / 2. */
static void symmetric(double *w, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) w[i * n + j] = w[j * n + i] = (w[i * n + j] + w[j * n + i]) / 2;
}

CPU_KERNEL(cpu_reference_knn_adjacency) {
    const strand_op_knn_adjacency *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t n = out->dims[1];
    double *w = room(device, n * n + n);
    (void)scratch;
    if (!w) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                double lengths = sqrt(dot(node, 0, b, i, 0, i)) * sqrt(dot(node, 0, b, j, 0, j));
                w[i * n + j] = lengths > 0 ? dot(node, 0, b, i, 0, j) / lengths : 0;
                if (p->flags & STRAND_KNN_ABSOLUTE) w[i * n + j] = fabs(w[i * n + j]);
            }
            keep_largest(w + i * n, (char *)(w + n * n), n, p->k, i, p->flags & STRAND_KNN_NOT_SELF);
            for (int64_t j = 0; j < n && (p->flags & STRAND_KNN_CLAMP); j++) w[i * n + j] = fmax(w[i * n + j], 0);
        }
        if (p->flags & STRAND_KNN_SYMMETRIC) symmetric(w, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                put3(node, b, i, j, i == j && (p->flags & STRAND_KNN_UNIT_DIAGONAL) ? 1 : w[i * n + j]);
    }
    give_back(device, w, n * n + n);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_softmax_adjacency) {
    const strand_op_softmax_adjacency *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t n = out->dims[1];
    double *w = room(device, n * n);
    (void)scratch;
    if (!w) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++) {
        for (int64_t i = 0; i < n; i++) {
            double most = -INFINITY, sum = 0;
            for (int64_t j = 0; j < n; j++) most = fmax(most, w[i * n + j] = (double)p->scale * dot(node, 0, b, i, 1, j));
            for (int64_t j = 0; j < n; j++) sum += w[i * n + j] = exp(w[i * n + j] - most);
            for (int64_t j = 0; j < n; j++) w[i * n + j] /= sum;
        }
        if (p->symmetric) symmetric(w, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) put3(node, b, i, j, w[i * n + j]);
    }
    give_back(device, w, n * n);
    return STRAND_PLUGIN_OK;
}

/* The k-th largest of n values, k from 1: the one that fewer than k exceed and at least k reach. */
static double kth_largest(const double *v, int64_t n, int64_t k) {
    for (int64_t i = 0; i < n; i++) {
        int64_t more = 0, reach = 0;
        for (int64_t j = 0; j < n; j++) more += v[j] > v[i], reach += v[j] >= v[i];
        if (more < k && reach >= k) return v[i];
    }
    return INFINITY;
}

CPU_KERNEL(cpu_reference_prune_adjacency) {
    const strand_op_prune_adjacency *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t n = out->dims[1], k = p->mode == STRAND_PRUNE_TOP_FRACTION ? (int64_t)((float)(n * n) * p->value)
                                  : p->mode == STRAND_PRUNE_PER_ROW    ? (int64_t)p->value
                                                                       : 0;
    double *w = room(device, n * n + n);
    (void)scratch;
    if (!w) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++) {
        for (int64_t i = 0; i < n * n; i++) w[i] = at(node, 0, b, i / n, i % n);
        double above = p->mode == STRAND_PRUNE_ABOVE     ? (double)p->value
                       : p->mode == STRAND_PRUNE_PER_ROW ? -INFINITY
                       : k < 1                           ? INFINITY
                                                         : kth_largest(w, n * n, k);
        for (int64_t i = 0; i < n && p->mode == STRAND_PRUNE_PER_ROW; i++)
            keep_largest(w + i * n, (char *)(w + n * n), n, k, -1, false);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double value = w[i * n + j] > above ? w[i * n + j] : 0;
                if (i == j && p->loops != STRAND_LOOPS_KEEP) value = p->loops == STRAND_LOOPS_UNIT;
                put3(node, b, i, j, value);
            }
    }
    give_back(device, w, n * n + n);
    return STRAND_PLUGIN_OK;
}

/* ---- supports ---- */

/* The largest eigenvalue of the symmetric matrix a, which is used up, by Jacobi's rotations. */
static double largest_eigenvalue(double *a, int64_t n) {
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                double x = a[p * n + q];
                off += x * x;
                if (x == 0) continue;
                double theta = (a[q * n + q] - a[p * n + p]) / (2 * x),
                       t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int64_t i = 0; i < n; i++) {
                    double u = a[i * n + p], v = a[i * n + q];
                    a[i * n + p] = c * u - s * v;
                    a[i * n + q] = s * u + c * v;
                }
                for (int64_t i = 0; i < n; i++) {
                    double u = a[p * n + i], v = a[q * n + i];
                    a[p * n + i] = c * u - s * v;
                    a[q * n + i] = s * u + c * v;
                }
            }
        if (off < 1e-28) break;
    }
    double most = n ? a[0] : 0;
    for (int64_t i = 1; i < n; i++) most = fmax(most, a[i * n + i]);
    return most;
}

static double inverse(double x) {
    return x == 0 ? 0 : 1 / x;
}

static void laplacian(const strand_plugin_node *node, int64_t b, double *l, double *work, int64_t n) {
    const strand_op_graph_supports *p = node->params;
    double *root = work + n * n;
    for (int64_t i = 0; i < n; i++) {
        double degree = 0;
        for (int64_t j = 0; j < n; j++) degree += l[i * n + j] = fmax(at(node, 0, b, i, j), at(node, 0, b, j, i));
        root[i] = degree > 0 ? 1 / sqrt(degree) : 0;
    }
    for (int64_t i = 0; i < n * n; i++) work[i] = l[i] = (i / n == i % n) - root[i / n] * l[i] * root[i % n];
    double scale = 2 * inverse(p->lambda_max > 0 ? (double)p->lambda_max : largest_eigenvalue(work, n));
    for (int64_t i = 0; i < n * n; i++) l[i] = scale * l[i] - (i / n == i % n);
}

CPU_KERNEL(cpu_reference_graph_supports) {
    const strand_op_graph_supports *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t n = out->dims[2], size = 2 * n * n + n;
    double *l = room(device, size);
    (void)scratch;
    if (!l) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++) {
        if (p->kind == STRAND_SUPPORTS_LAPLACIAN) laplacian(node, b, l, l + n * n, n);
        for (int64_t m = 0; m < out->dims[1]; m++)
            for (int64_t j = 0; j < n; j++) { /* row j of A, or of its transpose, becomes column j */
                double degree = 0;
                for (int64_t i = 0; i < n; i++) degree += m ? at(node, 0, b, i, j) : at(node, 0, b, j, i);
                for (int64_t i = 0; i < n; i++) {
                    double value = inverse(degree) * (m ? at(node, 0, b, i, j) : at(node, 0, b, j, i));
                    if (p->kind == STRAND_SUPPORTS_LAPLACIAN) value = l[i * n + j];
                    put(out, b * out->strides[0] + m * out->strides[1] + i * out->strides[2] + j * out->strides[3], value);
                }
            }
    }
    give_back(device, l, size);
    return STRAND_PLUGIN_OK;
}

/* ---- diffusion ---- */

/* One feature of one graph: x_0 .. in `x`, each n long; s points at the first support. */
static void diffuse(const strand_op_diffusion *p, const strand_plugin_tensor *s, int64_t first, int64_t count, double *x,
                    int64_t n) {
    uint32_t r = s->rank;
    int64_t start = 0, made = 1;
    for (int64_t m = 0; m < count; m++) {
        int64_t before = start, now = start;
        for (int64_t k = 1; k <= p->steps; k++, made++) {
            for (int64_t i = 0; i < n; i++) {
                double sum = 0;
                for (int64_t j = 0; j < n; j++)
                    sum +=
                        get(s, first + m * s->strides[r - 3] + i * s->strides[r - 2] + j * s->strides[r - 1]) * x[now * n + j];
                x[made * n + i] = k == 1 ? sum : 2 * sum - x[before * n + i];
            }
            before = now;
            now = made;
        }
        if (p->flags & STRAND_DIFFUSION_CARRY_OVER) start = before;
    }
}

CPU_KERNEL(cpu_reference_diffusion) {
    const strand_op_diffusion *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *s = &node->inputs[1], *out = &node->outputs[0];
    uint32_t rank = out->rank;
    int64_t n = out->dims[rank - 2], count = s->dims[s->rank - 3], all = 1 + count * p->steps;
    double *values = room(device, all * n);
    (void)scratch;
    if (!values) return no_memory(device);
    strand_plugin_tensor columns = *x; /* walked over its graphs and features */
    memcpy(columns.dims, out->dims, sizeof columns.dims);
    columns.dims[rank - 2] = 1;
    columns.dims[rank - 1] = x->dims[rank - 1];
    for (walk w = walk_over(&columns); w.left > 0; step(&w)) {
        int64_t from = w.index[rank - 1], to = w.index[rank - 1] * all, supports = 0;
        for (uint32_t i = 0; i + 2 < rank; i++) {
            from += (w.index[i] + out->origin[i] - x->origin[i]) * x->strides[i];
            to += w.index[i] * out->strides[i];
        }
        if (s->rank == 4) supports = (w.index[0] + out->origin[0] - s->origin[0]) * s->strides[0];
        for (int64_t i = 0; i < n; i++) values[i] = get(x, from + i * x->strides[rank - 2]);
        diffuse(p, s, supports, count, values, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t m = 0; m < all; m++) put(out, to + i * out->strides[rank - 2] + m, values[m * n + i]);
    }
    give_back(device, values, all * n);
    return STRAND_PLUGIN_OK;
}

/* ---- sparse sums ---- */

/* Where row `row` of x stands under the output's element at w (all other axes alike). */
static int64_t row_of(const walk *w, const strand_plugin_tensor *x, int64_t row) {
    int64_t place = 0;
    for (uint32_t i = 0; i < x->rank; i++)
        place += (i == x->rank - 2 ? row : w->index[i] + w->out->origin[i] - x->origin[i]) * x->strides[i];
    return place;
}

CPU_KERNEL(cpu_reference_spmm) {
    const strand_plugin_tensor *rows = &node->inputs[0], *col = &node->inputs[1], *values = cpu_input(node, 2),
                               *x = &node->inputs[3], *out = &node->outputs[0];
    uint32_t axis = out->rank - 2;
    (void)scratch;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t i = w.index[axis] + out->origin[axis] - rows->origin[0], from = get_id(rows, i * rows->strides[0]),
                to = get_id(rows, (i + 1) * rows->strides[0]);
        if (from < 0 || to < from || to > col->dims[0])
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "row pointers %lld, %lld of %lld entries", (long long)from,
                            (long long)to, (long long)col->dims[0]);
        double sum = 0;
        for (int64_t e = from; e < to; e++) {
            int64_t c = get_id(col, e * col->strides[0]);
            if (c < 0 || c >= x->dims[axis])
                return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "column %lld of %lld nodes", (long long)c,
                                (long long)x->dims[axis]);
            sum += (values ? get(values, e * values->strides[0]) : 1) * get(x, row_of(&w, x, c));
        }
        put(out, here(&w), sum);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_segment_reduce) {
    const strand_op_segment_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *index = &node->inputs[1], *out = &node->outputs[0];
    uint32_t axis = out->rank - 2;
    (void)scratch;
    for (int64_t e = 0; e < index->dims[0]; e++) {
        int64_t id = get_id(index, e * index->strides[0]);
        if (id < 0 || id >= p->n)
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "entry %lld belongs to segment %lld of %lld", (long long)e,
                            (long long)id, (long long)p->n);
    }
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        double value = 0;
        int64_t count = 0;
        for (int64_t e = 0; e < index->dims[0]; e++) {
            if (get_id(index, e * index->strides[0]) != w.index[axis] + out->origin[axis]) continue;
            double v = get(x, row_of(&w, x, e));
            value = p->kind != STRAND_SEGMENT_MAX ? value + v : !count || v > value ? v : value;
            count++;
        }
        put(out, here(&w), p->kind == STRAND_SEGMENT_MEAN && count ? value / (double)count : value);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_gine) {
    const strand_op_gine *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *out = &node->outputs[0];
    (void)device, (void)scratch;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        double weight = vector_at(&w, &node->inputs[2], 2, 0), bias = vector_at(&w, &node->inputs[3], 2, 0);
        double sum = (1 + (double)p->eps) * get(x, row_of(&w, x, w.index[1] + out->origin[1]));
        for (int64_t j = 0; j < x->dims[1]; j++) {
            double edge = at(node, 1, w.index[0], j, w.index[1] + out->origin[1] - a->origin[2]);
            if (edge != 0) sum += fmax(get(x, row_of(&w, x, j)) + weight * edge + bias, 0);
        }
        put(out, here(&w), sum);
    }
    return STRAND_PLUGIN_OK;
}

/* graphs_supports.c - GRAPH_SUPPORTS: the matrices of a diffusion, one graph a piece of work. Sums of degrees and everything
 * of the Laplacian are in double precision; its largest eigenvalue, where it is not given, comes from a tridiagonal form by
 * Householder's reflections and bisection with Sturm's count, which always ends and whose steps do not depend on the
 * numbers. */
#include "matrix_state.h"

#include <math.h>

typedef struct job {
    const strand_op_graph_supports *p;
    const float *a;
    float *out;
    int64_t batch, row, out_batch, out_support, out_row, n, each;
    double *work;
} job;

static int64_t room_doubles(int64_t n) {
    return 2 * n * n + 4 * n;
}

static const float *row_of(const job *j, int64_t b, int64_t i) {
    return j->a + b * j->batch + i * j->row;
}

/* ---- random walks ---- */

static float inverse(double x) {
    return x == 0 ? 0.0f : (float)(1 / x);
}

/* (D^-1 A)^T: row i of A over its sum becomes column i. */
static void walk_out(const job *j, int64_t b, float *out) {
    for (int64_t i = 0; i < j->n; i++) {
        const float *row = row_of(j, b, i);
        double degree = 0;
        for (int64_t k = 0; k < j->n; k++) degree += (double)row[k];
        float scale = inverse(degree);
        for (int64_t k = 0; k < j->n; k++) out[k * j->out_row + i] = row[k] * scale;
    }
}

/* (D_in^-1 A^T)^T: columns of A over their sums. */
static void walk_in(const job *j, int64_t b, float *out, double *degree) {
    for (int64_t k = 0; k < j->n; k++) degree[k] = 0;
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = 0; k < j->n; k++) degree[k] += (double)row_of(j, b, i)[k];
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = 0; k < j->n; k++) out[i * j->out_row + k] = row_of(j, b, i)[k] * inverse(degree[k]);
}

/* ---- the Laplacian ---- */

/* One reflection: row `last` of a gets zeros left of its last but one element. d and e: diagonal, and what stands left of
 * it. */
static void reflect(double *a, int64_t n, int64_t last, double *e, double *p) {
    double *u = a + last * n, norm = 0, scale = 0, along = 0;
    for (int64_t k = 0; k < last; k++) scale = fmax(scale, fabs(u[k]));
    e[last] = last ? u[last - 1] : 0;
    if (last < 2 || scale == 0) return;
    for (int64_t k = 0; k < last; k++) norm += (u[k] / scale) * (u[k] / scale);
    norm = scale * sqrt(norm);
    e[last] = u[last - 1] > 0 ? -norm : norm;
    double half = norm * norm - u[last - 1] * e[last]; /* u.u / 2 after the next line */
    u[last - 1] -= e[last];
    if (half == 0) return;
    for (int64_t i = 0; i < last; i++) {
        double sum = 0;
        for (int64_t k = 0; k < last; k++) sum += a[i * n + k] * u[k];
        p[i] = sum / half;
        along += p[i] * u[i];
    }
    for (int64_t i = 0; i < last; i++) p[i] -= along / (2 * half) * u[i];
    for (int64_t i = 0; i < last; i++)
        for (int64_t k = 0; k < last; k++) a[i * n + k] -= u[i] * p[k] + p[i] * u[k];
}

/* How many eigenvalues of the tridiagonal matrix are below x. */
static int64_t below(const double *d, const double *e, int64_t n, double x) {
    int64_t count = 0;
    double q = 1;
    for (int64_t i = 0; i < n; i++) {
        q = d[i] - x - (i ? e[i] * e[i] / q : 0);
        if (fabs(q) < 1e-290) q = -1e-290;
        count += q < 0;
    }
    return count;
}

/* Of the symmetric a, which is used up; work holds 3 n. */
static double largest_eigenvalue(double *a, int64_t n, double *work) {
    double *d = work, *e = work + n, *p = work + 2 * n, low = INFINITY, high = -INFINITY;
    for (int64_t i = n - 1; i >= 0; i--) {
        reflect(a, n, i, e, p);
        d[i] = a[i * n + i];
    }
    for (int64_t i = 0; i < n; i++) { /* Gershgorin's circles */
        double radius = fabs(e[i]) + (i + 1 < n ? fabs(e[i + 1]) : 0);
        low = fmin(low, d[i] - radius);
        high = fmax(high, d[i] + radius);
    }
    if (!(low <= high)) return 0;
    for (int step = 0; step < 64; step++) {
        double middle = low + (high - low) / 2;
        if (below(d, e, n, middle) < n)
            low = middle;
        else
            high = middle;
    }
    return low + (high - low) / 2;
}

/* a: room for L, for the copy of it that the eigenvalue uses up, and for 4 n more. */
static void laplacian(const job *j, int64_t b, float *out, double *a) {
    int64_t n = j->n;
    double *copy = a + n * n, *root = copy + n * n, most = (double)j->p->lambda_max;
    for (int64_t i = 0; i < n; i++) {
        double degree = 0;
        for (int64_t k = 0; k < n; k++) {
            double x = (double)row_of(j, b, i)[k], y = (double)row_of(j, b, k)[i];
            a[i * n + k] = x > y ? x : y;
            degree += a[i * n + k];
        }
        root[i] = degree > 0 ? 1 / sqrt(degree) : 0;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) copy[i * n + k] = a[i * n + k] = (double)(i == k) - root[i] * a[i * n + k] * root[k];
    if (most == 0) most = largest_eigenvalue(copy, n, root + n);
    double scale = most == 0 ? 0 : 2 / most;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) out[i * j->out_row + k] = (float)(scale * a[i * n + k] - (double)(i == k));
}

static void graph(void *arg, int64_t b, int32_t worker) {
    const job *j = arg;
    float *out = j->out + b * j->out_batch;
    double *work = j->work + worker * j->each;
    if (j->p->kind == STRAND_SUPPORTS_LAPLACIAN)
        laplacian(j, b, out, work);
    else
        walk_out(j, b, out);
    if (j->p->kind == STRAND_SUPPORTS_DUAL_RANDOM_WALK) walk_in(j, b, out + j->out_support, work);
}

uint64_t cpu_graph_supports_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)room_doubles(node->outputs[0].dims[3]) * sizeof(double);
}

CPU_KERNEL(cpu_graph_supports) {
    const strand_plugin_tensor *a = &node->inputs[0], *out = &node->outputs[0];
    job j = {.p = node->params, .a = cpu_f32(a) + (out->origin[0] - a->origin[0]) * a->strides[0], .out = cpu_f32(out),
             .batch = a->strides[0], .row = a->strides[1]};
    j.out_batch = out->strides[0], j.out_support = out->strides[1], j.out_row = out->strides[2];
    j.n = out->dims[3];
    j.each = room_doubles(j.n);
    j.work = scratch;
    cpu_parallel(device, out->dims[0], graph, &j);
    return STRAND_PLUGIN_OK;
}

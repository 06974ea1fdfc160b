/* ssm_dense.c - S4 whose matrix is diagonal less a part of rank 2 and more (HiPPO's fout, legt and lagt in state-spaces/s4):
 * the system in real numbers as a full matrix, which DENSE_SCAN steps. Gu, Goel, Re, arXiv 2111.00396, appendix C.
 *
 * A state z of n complex numbers, each with its conjugate, is the vector x of 2 n real ones: re and im in turn. A z = L z -
 * sum_k P_k (2 Re P_k^* z) then is x -> (D - 2 W W^T) x with D of 2 x 2 blocks and W [2 n, rank]. The bilinear step needs M
 * = (I - dt/2 A)^-1, which is by Woodbury E - E W (I / dt + W^T E W)^-1 W^T E with E = (I - dt/2 D)^-1: a system of rank x
 * rank. The step is 2 M - I, the drive dt M B, and C = C~ (I - step^length)^-1. All in double precision, once a model is
 * loaded; what is kept is F32. */
#include "ssm.h"

#include <math.h>
#include <string.h>

#define MOST_REAL 512 /* 2 n */
#define MOST_RANK 16

/* ---- small matrices in double precision, row after row ---- */

static void multiply(double *to, const double *a, const double *b, int64_t n) {
    memset(to, 0, (size_t)(n * n) * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) {
            double f = a[i * n + k];
            for (int64_t j = 0; j < n; j++) to[i * n + j] += f * b[k * n + j];
        }
}

/* x [n, columns] becomes a^-1 x, a is used up; false where a has no inverse. */
static bool solve(double *a, double *x, int64_t n, int64_t columns) {
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k])) best = i;
        if (!(fabs(a[best * n + k]) > 0)) return false;
        for (int64_t j = 0; j < n + columns && best != k; j++) {
            double *one = j < n ? &a[k * n + j] : &x[k * columns + j - n],
                   *other = j < n ? &a[best * n + j] : &x[best * columns + j - n], swap = *one;
            *one = *other;
            *other = swap;
        }
        for (int64_t i = 0; i < n; i++) {
            double f = i == k ? 0 : a[i * n + k] / a[k * n + k];
            if (f == 0) continue;
            for (int64_t j = k; j < n; j++) a[i * n + j] -= f * a[k * n + j];
            for (int64_t j = 0; j < columns; j++) x[i * columns + j] -= f * x[k * columns + j];
        }
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < columns; j++) x[k * columns + j] /= a[k * n + k];
    return true;
}

/* ---- one system ---- */

static double value_of(int kind, double floor, double x) {
    switch (kind) {
    case SSM_EXP: return exp(x);
    case SSM_RELU: return fmax(x, 0) + floor;
    case SSM_SIGMOID: return 1 / (1 + exp(-x));
    case SSM_SOFTPLUS: return x > 20 ? x : log1p(exp(x));
    default: return x;
    }
}

/* Working memory for systems of e = 2 n real states. */
typedef struct room {
    double *step, *power, *other;  /* [e, e] */
    double *w, *ew, *wte;          /* [e, rank], [e, rank], [rank, e] */
    double *drive, *read;          /* [e] */
} room;

/* E x for a vector with `apart` between its elements: 2 x 2 blocks 1 / (1 - dt/2 pole). */
static void by_diagonal(const double *inverse, const double *x, double *to, int64_t e, int64_t apart, bool turned) {
    for (int64_t i = 0; i < e; i += 2) {
        double re = inverse[i], im = turned ? -inverse[i + 1] : inverse[i + 1], a = x[i * apart], b = x[(i + 1) * apart];
        to[i * apart] = re * a - im * b;
        to[(i + 1) * apart] = im * a + re * b;
    }
}

/* M into r->step: E - E W (I / dt + W^T E W)^-1 W^T E. `inverse` [e] holds 1 / (1 - dt/2 pole) in pairs. */
static bool woodbury(const room *r, const double *inverse, double dt, int64_t e, int64_t rank) {
    double small[MOST_RANK * MOST_RANK];
    for (int64_t k = 0; k < rank; k++) {
        double column[MOST_REAL], turned[MOST_REAL];
        for (int64_t i = 0; i < e; i++) column[i] = r->w[i * rank + k];
        by_diagonal(inverse, r->w + k, r->ew + k, e, rank, false);
        by_diagonal(inverse, column, turned, e, 1, true); /* W^T E = (E^T W)^T */
        memcpy(r->wte + k * e, turned, (size_t)e * sizeof *turned);
    }
    for (int64_t k = 0; k < rank; k++)
        for (int64_t l = 0; l < rank; l++) {
            double sum = k == l ? 1 / dt : 0;
            for (int64_t i = 0; i < e; i++) sum += r->w[i * rank + k] * r->ew[i * rank + l];
            small[k * rank + l] = sum;
        }
    if (!solve(small, r->wte, rank, e)) return false;
    for (int64_t i = 0; i < e; i++)
        for (int64_t j = 0; j < e; j++) {
            double sum = 0;
            for (int64_t k = 0; k < rank; k++) sum += r->ew[i * rank + k] * r->wte[k * e + j];
            r->step[i * e + j] = -sum;
        }
    for (int64_t i = 0; i < e; i += 2) {
        r->step[i * e + i] += inverse[i];
        r->step[i * e + i + 1] -= inverse[i + 1];
        r->step[(i + 1) * e + i] += inverse[i + 1];
        r->step[(i + 1) * e + i + 1] += inverse[i];
    }
    return true;
}

/* r->read with r->read (I - step^length) = what it was. */
static bool recover(const room *r, int64_t length, int64_t e) {
    double *power = r->power, *other = r->other, *swap;
    int bit = 62;
    while (!(length >> bit & 1)) bit--;
    memcpy(power, r->step, (size_t)(e * e) * sizeof *power);
    while (bit-- > 0) {
        multiply(other, power, power, e);
        swap = power, power = other, other = swap;
        if (!(length >> bit & 1)) continue;
        multiply(other, power, r->step, e);
        swap = power, power = other, other = swap;
    }
    for (int64_t i = 0; i < e; i++)
        for (int64_t j = 0; j < e; j++) other[i * e + j] = (i == j) - power[j * e + i];
    return solve(other, r->read, e, 1);
}

/* System `at` of k, into step, drive and read of r. */
static bool make_system(const ssm_nplr *g, const ssm_system *k, const room *r, int64_t at) {
    double inverse[MOST_REAL], dt = value_of(g->dt_kind, 1e-4, arrange_value(g->dt, at % k->h)), b[MOST_REAL];
    int64_t n = k->states, e = 2 * n, t = at % g->trained;
    for (int64_t i = 0; i < n; i++) {
        double re = 1 + dt / 2 * value_of(g->re_kind, g->re_floor, arrange_value(g->re, t * n + i));
        double im = -dt / 2 * g->im_sign * value_of(g->im_kind, 1e-4, arrange_value(g->im, t * n + i)),
               size = re * re + im * im;
        inverse[2 * i] = re / size;
        inverse[2 * i + 1] = -im / size;
    }
    for (int64_t i = 0; i < e; i++) {
        for (int64_t l = 0; l < g->rank; l++) r->w[i * g->rank + l] = arrange_value(g->p, (l * g->trained + t) * e + i);
        b[i] = arrange_value(g->b, t * e + i);
        r->read[i] = (i % 2 ? -2 : 2) * arrange_value(g->c, at * e + i);
    }
    if (!woodbury(r, inverse, dt, e, g->rank)) return false;
    for (int64_t i = 0; i < e; i++) {
        r->drive[i] = 0;
        for (int64_t j = 0; j < e; j++) r->drive[i] += dt * r->step[i * e + j] * b[j];
    }
    for (int64_t i = 0; i < e * e; i++) r->step[i] = 2 * r->step[i] - (i % (e + 1) == 0);
    return k->length < 1 || recover(r, k->length, e);
}

static room room_of(ssm *s, int64_t e, int64_t rank) {
    room r = {0};
    double *all = ARENA_ARRAY(s->b.g->arena, double, (size_t)(3 * e * e + 3 * e * rank + 2 * e));
    if (!all) return r;
    r.step = all, r.power = all + e * e, r.other = all + 2 * e * e, r.w = all + 3 * e * e;
    r.ew = r.w + e * rank, r.wte = r.ew + e * rank, r.drive = r.wte + e * rank, r.read = r.drive + e;
    return r;
}

/* F32 values; false where one is not finite. */
static bool keep(float *to, const double *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        to[i] = (float)from[i];
        if (!isfinite(to[i])) return false;
    }
    return true;
}

void ssm_dense(ssm *s, const ssm_nplr *g, ssm_system *k) {
    builder *b = &s->b;
    int64_t systems = k->channels * k->h * (k->bidirectional ? 2 : 1), e = 2 * k->states;
    if (build_failed(b)) return;
    if (g->rank < 1 || g->rank > MOST_RANK || e > MOST_REAL || systems > ((int64_t)1 << 28) / (e * e))
        build_refuse(
            b, "'%s': a low-rank part of rank 2 and more is run with up to rank %d, %d states and 2^28 numbers in all matrices",
            ssm_key(s, "P"), MOST_RANK, MOST_REAL / 2);
    if (build_failed(b)) return;
    room r = room_of(s, e, g->rank);
    float *matrix = ARENA_ARRAY(b->g->arena, float, (size_t)(systems * e * e)),
          *drive = ARENA_ARRAY(b->g->arena, float, (size_t)(2 * systems * e));
    if (!r.step || !matrix || !drive) {
        error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
        return;
    }
    for (int64_t i = 0; i < systems; i++)
        if (!make_system(g, k, &r, i) || !keep(matrix + i * e * e, r.step, e * e) || !keep(drive + i * e, r.drive, e) ||
            !keep(drive + (systems + i) * e, r.read, e)) {
            build_refuse(b, "the tensors of '%s' are quantised, not finite, or make a system that has no discrete form",
                         ssm_key(s, "kernel"));
            return;
        }
    op_dim all = DIM(systems);
    k->matrix = graph_weight(b->g, build_name(b, ssm_key(s, "matrix")), STRAND_F32, 3, (op_dim[]){all, DIM(e), DIM(e)}, matrix);
    k->drive = graph_weight(b->g, build_name(b, ssm_key(s, "drive")), STRAND_F32, 2, (op_dim[]){all, DIM(e)}, drive);
    k->read = graph_weight(b->g, build_name(b, ssm_key(s, "read")), STRAND_F32, 3, (op_dim[]){all, DIM(1), DIM(e)},
                           drive + systems * e);
}

/* ---- in the graph ---- */

/* The outputs of states [.., systems 2n]. */
static tensor_id read_out(ssm *s, tensor_id states, tensor_id read) {
    strand_op_block_diagonal p = {0};
    return build_failed(&s->b) ? 0
                               : graph_op(s->b.g, build_name(&s->b, ssm_key(s, "read")), STRAND_OP_BLOCK_DIAGONAL, &p,
                                          (tensor_id[]){states, read}, 2, NULL);
}

tensor_id ssm_dense_filters(ssm *s, const ssm_system *k) {
    builder *b = &s->b;
    int64_t systems = k->channels * k->h * (k->bidirectional ? 2 : 1), e = 2 * k->states;
    op_shape shape = {STRAND_F32, 3, {DIM(1), s->length, DIM(systems * e)}};
    tensor_id start = arrange_reshape(b, ssm_key(s, "drive"), k->drive, 3, (op_dim[]){DIM(1), DIM(systems), DIM(e)});
    if (build_failed(b)) return 0;
    tensor_id states = graph_op(b->g, build_name(b, ssm_key(s, "filter")), STRAND_OP_DENSE_SCAN, NULL,
                                (tensor_id[]){k->matrix, 0, 0, start}, 4, &shape);
    tensor_id filter = arrange_turn(b, ssm_key(s, "filter"), read_out(s, states, k->read));
    return arrange_reshape(b, ssm_key(s, "filter"), filter, 2, (op_dim[]){DIM(systems), s->length});
}

tensor_id ssm_dense_scan(ssm *s, tensor_id u, tensor_id matrix, tensor_id drive, tensor_id read, tensor_id skip,
                         tensor_id state, tensor_id *after) {
    builder *b = &s->b;
    tensor_id y = read_out(
        s, ssm_with_state(s, "scan", STRAND_OP_DENSE_SCAN, NULL, (tensor_id[]){matrix, drive, u, state}, 4, after), read);
    if (!skip || build_failed(b)) return y;
    tensor_id through =
        build_mul(b, ssm_key(s, "skip"), u, ssm_per_channel(s, "skip", skip, b->g->tensors[u].shape.dims[2].size));
    return build_add(b, ssm_key(s, "scan"), y, through);
}

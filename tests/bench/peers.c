/* peers.c - OpenBLAS and FFTW, by the few functions that are called, declared here. See peers.h. */
#define _GNU_SOURCE
#include "peers.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *bench_library(const char *variable, const char *const *names) {
    const char *path = getenv(variable);
    if (path) return *path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL; /* empty: do without */
    void *library = NULL;
    for (; *names && !library; names++) library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
    return library;
}

bool bench_symbol(void *library, const char *name, void *pointer) {
    void *symbol = library ? dlsym(library, name) : NULL;
    memcpy(pointer, &symbol, sizeof symbol);
    return symbol;
}

static bool none(const bench_case *c, uint32_t input) {
    return input >= c->node.n_inputs || c->inputs[input].dtype == STRAND_PLUGIN_NONE;
}

static bool all_f32(const bench_case *c) {
    for (uint32_t i = 0; i < c->node.n_inputs; i++)
        if (!none(c, i) && c->inputs[i].dtype != STRAND_PLUGIN_F32) return false;
    return c->outputs[0].dtype == STRAND_PLUGIN_F32;
}

/* ---- OpenBLAS ---- */

enum { ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112 };

static struct blas {
    bool tried, there;
    char name[64];
    void (*gemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc);
    void (*gemv)(int order, int transpose, int m, int n, float alpha, const float *a, int lda, const float *x, int step_x,
                 float beta, float *y, int step_y);
    void (*threads)(int n);
    char *(*core)(void);
} blas;

typedef struct blas_job {
    const float *a, *b;
    float *y;
    int m, n, k;
    bool transpose_b;
} blas_job;

static void run_blas(void *arg) {
    const blas_job *j = arg;
    if (j->m == 1)
        blas.gemv(ROW_MAJOR, j->transpose_b ? AS_IT_IS : TRANSPOSED, j->transpose_b ? j->n : j->k, j->transpose_b ? j->k : j->n,
                  1, j->b, j->transpose_b ? j->k : j->n, j->a, 1, 0, j->y, 1);
    else
        blas.gemm(ROW_MAJOR, AS_IT_IS, j->transpose_b ? TRANSPOSED : AS_IT_IS, j->m, j->n, j->k, 1, j->a, j->k, j->b,
                  j->transpose_b ? j->k : j->n, 0, j->y, j->n);
}

static bool open_blas(int threads) {
    static const char *const names[] = {"libopenblas.so.0", NULL};
    if (blas.tried) return blas.there;
    blas.tried = true;
    void *library = bench_library("STRAND_BENCH_OPENBLAS", names);
    blas.there = bench_symbol(library, "cblas_sgemm", &blas.gemm) && bench_symbol(library, "cblas_sgemv", &blas.gemv) &&
                 bench_symbol(library, "openblas_set_num_threads", &blas.threads) &&
                 bench_symbol(library, "openblas_get_corename", &blas.core);
    if (!blas.there) return false;
    blas.threads(threads);
    snprintf(blas.name, sizeof blas.name, "OpenBLAS (%s)", blas.core());
    return true;
}

/* Products of matrices without what is fused into ours. */
static void add_blas(bench *b, bench_case *c) {
    const strand_op_matmul *p = c->node.params;
    const strand_plugin_tensor *x = &c->inputs[0], *w = &c->inputs[1];
    if (c->node.op != STRAND_OP_MATMUL || p->transpose_a || p->activation || !none(c, 2) || w->rank != 2 || !all_f32(c)) return;
    if (!open_blas(b->threads)) return;
    blas_job *j = bench_memory(b, sizeof *j);
    int64_t k = x->dims[x->rank - 1], n = w->dims[p->transpose_b ? 0 : 1], m = bench_count(x) / k;
    *j = (blas_job){x->memory.data, w->memory.data, bench_memory(b, bench_bytes(&c->outputs[0])), (int)m, (int)n, (int)k, p->transpose_b};
    bench_peer(c, blas.name, run_blas, j);
    bench_peer_result(c, j->y);
}

/* ---- FFTW ---- */

static struct fftw {
    bool tried, there;
    void *(*forward)(int n, float *in, float *out, unsigned flags);
    void *(*backward)(int n, float *in, float *out, unsigned flags);
    void (*execute)(void *plan);
    void (*destroy)(void *plan);
    void (*limit)(double seconds);
} fftw;

enum { FFTW_MEASURE_ = 0 }; /* the flag */

/* One channel in a buffer that stays in the cache; plans are made for it. */
typedef struct fftw_job {
    void *forward, *backward;
    float *time, *frequency, *spectra, *y;
    const float *u;
    int64_t length, n, channels; /* n: of the transforms */
} fftw_job;

/* The first length from `least` on that has small factors: what FFTW is good at. */
static int64_t good_length(int64_t least) {
    for (int64_t n = least;; n++) {
        int64_t rest = n;
        for (int f = 2; f < 8; f++)
            while (rest % f == 0) rest /= f;
        if (rest == 1 && n % 2 == 0) return n;
    }
}

static void run_fftw(void *arg) {
    const fftw_job *j = arg;
    int64_t n = j->n;
    for (int64_t c = 0; c < j->channels; c++) {
        const float *k = j->spectra + c * (n + 2);
        memcpy(j->time, j->u + c * j->length, (size_t)j->length * sizeof(float));
        memset(j->time + j->length, 0, (size_t)(n - j->length) * sizeof(float));
        fftw.execute(j->forward);
        for (int64_t i = 0; i <= n / 2; i++) {
            float re = j->frequency[2 * i], im = j->frequency[2 * i + 1];
            j->frequency[2 * i] = re * k[2 * i] - im * k[2 * i + 1];
            j->frequency[2 * i + 1] = re * k[2 * i + 1] + im * k[2 * i];
        }
        fftw.execute(j->backward);
        memcpy(j->y + c * j->length, j->time, (size_t)j->length * sizeof(float));
    }
}

static bool open_fftw(void) {
    static const char *const names[] = {"libfftw3f.so.3", NULL};
    if (fftw.tried) return fftw.there;
    fftw.tried = true;
    void *library = bench_library("STRAND_BENCH_FFTW", names);
    fftw.there = bench_symbol(library, "fftwf_plan_dft_r2c_1d", &fftw.forward) &&
                 bench_symbol(library, "fftwf_plan_dft_c2r_1d", &fftw.backward) &&
                 bench_symbol(library, "fftwf_execute", &fftw.execute) &&
                 bench_symbol(library, "fftwf_destroy_plan", &fftw.destroy) &&
                 bench_symbol(library, "fftwf_set_timelimit", &fftw.limit);
    const char *seconds = getenv("STRAND_BENCH_FFTW_SECONDS");
    if (fftw.there) fftw.limit(seconds ? atof(seconds) : 4); /* of measuring a plan; then the best so far */
    return fftw.there;
}

static void make_spectra(const fftw_job *j, const float *filter, int64_t taps) {
    int64_t n = j->n;
    for (int64_t c = 0; c < j->channels; c++) {
        memset(j->time, 0, (size_t)n * sizeof(float));
        memcpy(j->time, filter + c * taps, (size_t)(taps < j->length ? taps : j->length) * sizeof(float));
        fftw.execute(j->forward);
        for (int64_t i = 0; i < n + 2; i++) j->spectra[c * (n + 2) + i] = j->frequency[i] / (float)n;
    }
}

/* Causal convolutions without what is fused into ours, one thread. */
static void add_fftw(bench *b, bench_case *c) {
    const strand_plugin_tensor *u = &c->inputs[0], *filter = &c->inputs[1];
    if (c->node.op != STRAND_OP_LONG_CONV || b->threads != 1 || !all_f32(c) || filter->rank != 2 || u->rank < 2) return;
    for (uint32_t i = 2; i < c->node.n_inputs; i++)
        if (!none(c, i)) return;
    int64_t length = u->dims[u->rank - 1], channels = bench_count(u) / length;
    if (channels != filter->dims[0] || length > 1 << 24 || !open_fftw()) return;
    fftw_job *j = bench_memory(b, sizeof *j);
    int64_t n = good_length(2 * length - 1);
    *j = (fftw_job){.u = u->memory.data, .length = length, .n = n, .channels = channels};
    j->time = bench_memory(b, (uint64_t)n * 4);
    j->frequency = bench_memory(b, (uint64_t)(n + 2) * 4);
    j->spectra = bench_memory(b, (uint64_t)(channels * (n + 2)) * 4);
    j->y = bench_memory(b, (uint64_t)(length * channels) * 4);
    j->forward = fftw.forward((int)n, j->time, j->frequency, FFTW_MEASURE_);
    j->backward = fftw.backward((int)n, j->frequency, j->time, FFTW_MEASURE_);
    if (j->forward) bench_later(b, fftw.destroy, j->forward);
    if (j->backward) bench_later(b, fftw.destroy, j->backward);
    if (!j->forward || !j->backward) return;
    make_spectra(j, filter->memory.data, filter->dims[1]);
    bench_peer(c, "FFTW", run_fftw, j);
    bench_peer_result(c, j->y);
}

/* Rows to their half spectra, one thread. */
typedef struct rows_job {
    void *plan;
    float *in, *out, *y;
    const float *x;
    int64_t rows, n;
} rows_job;

static void run_rows(void *arg) {
    const rows_job *j = arg;
    int64_t bins = 2 * (j->n / 2 + 1);
    for (int64_t r = 0; r < j->rows; r++) {
        memcpy(j->in, j->x + r * j->n, (size_t)j->n * sizeof(float));
        fftw.execute(j->plan);
        memcpy(j->y + r * bins, j->out, (size_t)bins * sizeof(float));
    }
}

static void add_fft(bench *b, bench_case *c) {
    const strand_op_fft *p = c->node.params;
    const strand_plugin_tensor *x = &c->inputs[0];
    if (c->node.op != STRAND_OP_FFT || p->kind != STRAND_FFT_R2C || p->form != STRAND_FFT_COMPLEX || p->n || p->bins ||
        p->scale != 1)
        return;
    if (b->threads != 1 || !all_f32(c) || !open_fftw()) return;
    rows_job *j = bench_memory(b, sizeof *j);
    int64_t n = x->dims[x->rank - 1], bins = 2 * (n / 2 + 1);
    *j = (rows_job){.x = x->memory.data, .n = n, .rows = bench_count(x) / n};
    j->in = bench_memory(b, (uint64_t)n * 4), j->out = bench_memory(b, (uint64_t)bins * 4),
    j->y = bench_memory(b, (uint64_t)(bins * j->rows) * 4);
    j->plan = fftw.forward((int)n, j->in, j->out, FFTW_MEASURE_);
    if (!j->plan) return;
    bench_later(b, fftw.destroy, j->plan);
    bench_peer(c, "FFTW", run_rows, j);
    bench_peer_result(c, j->y);
}

void bench_peers_add(bench *b, bench_case *c) {
    add_blas(b, c);
    add_fftw(b, c);
    add_fft(b, c);
    bench_peers_ggml(b, c);
}

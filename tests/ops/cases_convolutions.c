/* cases_convolutions.c - cases of the transforms. */
#include "ops_cases.h"

#include <stdio.h>
#include <string.h>

/* A strong first number lifts every amplitude off zero, where a logarithm would have no digits. */
static void lift(ops_program *g, int tensor, int64_t rows, int64_t width) {
    ops_tensor *t = &g->tensors[tensor];
    float strong = 8 * (float)(width + 1);
    for (int64_t row = 0; row < rows; row++) memcpy(t->start + ops_place(t, &t->view, row * width), &strong, sizeof strong);
}

static void make_fft(ops_program *g, int index) {
    static const int64_t lengths[] = {1,  2,  3,   4,   5,   6,   7,   8,    9,    16,   17,   100,  200,  61,   97,   128,
                                      11, 13, 121, 169, 375, 512, 514, 1000, 1024, 1026, 1103, 1183, 1200, 1215, 1331, 1372};
    int count = (int)(sizeof lengths / sizeof *lengths);
    int64_t dims[4], x_dims[4], out_dims[4], n = index < count ? lengths[index] : ops_between(g, 1, index % 4 ? 300 : 1500);
    strand_op_fft p = {
        .kind = (uint32_t)ops_between(g, 0, 3), .scale = ops_between(g, 0, 1) ? 1 : 1 / (float)n, .floor = 1e-8f};
    int axes = ops_batch_axes(g, dims, 2);
    if (axes && n < 200 && ops_between(g, 0, 1)) dims[axes - 1] = ops_between(g, 10, 40);
    while (axes && ops_product(axes, dims) * n * n > 2000000) axes--;
    int64_t rows = ops_product(axes, dims), width = n, bins = n;
    if (p.kind == STRAND_FFT_R2C) {
        p.form = (uint32_t)ops_between(g, 0, 3);
        p.n = ops_between(g, 0, 1) ? n : 0;
        if (p.n && ops_between(g, 0, 1)) width = ops_between(g, 1, 2 * n);
        p.bins = ops_between(g, 0, 1) ? ops_between(g, 1, n / 2 + 1) : 0;
        bins = p.bins ? p.bins : n / 2 + 1;
    }
    if (p.kind == STRAND_FFT_C2R) p.n = n, width = n / 2 + 1;
    bool in_pairs = p.kind != STRAND_FFT_R2C, out_pairs = p.kind != STRAND_FFT_C2R && p.form == STRAND_FFT_COMPLEX;
    memcpy(x_dims, dims, sizeof dims);
    memcpy(out_dims, dims, sizeof dims);
    x_dims[axes] = width, x_dims[axes + 1] = 2;
    out_dims[axes] = bins, out_dims[axes + 1] = 2;
    int x = ops_add(g, F32, axes + 1 + in_pairs, x_dims, OPS_NORMAL);
    if (p.form == STRAND_FFT_LOG_AMPLITUDE) lift(g, x, rows, width);
    ops_add_node(g, STRAND_OP_FFT, &p, sizeof p, 1, &x, ops_add(g, F32, axes + 1 + out_pairs, out_dims, OPS_OUTPUT));
    SAY("kind %u, form %u, %lld rows of %lld, %lld points, %lld bins", p.kind, p.form, (long long)rows, (long long)width,
        (long long)n, (long long)bins);
}

/* Real rows that backends take one by one: all bins, all but one, few of them; both ways, dense and with gaps. */
static void make_fft_rows(ops_program *g, int index) {
    static const int64_t lengths[] = {2050, 1026, 2054, 2048, 1114, 2062, 2058, 4096, 2049};
    const int64_t n = lengths[index % 9], rows = n > 3000 ? 1 : ops_between(g, 1, 3);
    strand_op_fft p = {.kind = index % 7 == 6 ? STRAND_FFT_C2R : STRAND_FFT_R2C, .scale = 1, .floor = 1e-8f, .n = n};
    int64_t bins = n / 2 + 1, width = index % 4 == 3 ? ops_between(g, 1, n) : n;
    if (p.kind == STRAND_FFT_C2R) {
        width = bins, bins = n;
    } else {
        p.form = (uint32_t)(index % 2 ? index / 2 % 4 : STRAND_FFT_COMPLEX);
        if (index % 3) p.bins = bins = index % 3 == 1 ? bins - 1 : ops_between(g, 1, n / 2);
    }
    bool in_pairs = p.kind == STRAND_FFT_C2R, out_pairs = !in_pairs && p.form == STRAND_FFT_COMPLEX;
    const int64_t x_dims[3] = {rows, width, 2}, out_dims[3] = {rows, bins, 2};
    int x = ops_add(g, F32, 2 + in_pairs, x_dims, OPS_NORMAL);
    if (p.form == STRAND_FFT_LOG_AMPLITUDE) lift(g, x, rows, width);
    ops_add_node(g, STRAND_OP_FFT, &p, sizeof p, 1, &x, ops_add(g, F32, 2 + out_pairs, out_dims, OPS_OUTPUT));
    SAY("kind %u, form %u, %lld rows of %lld, %lld points, %lld bins", p.kind, p.form, (long long)rows, (long long)width,
        (long long)n, (long long)bins);
}

OPS_CASES(convolutions, {"fft", make_fft, false}, {"fft_rows", make_fft_rows, false});

/* test_reference_convolutions.c - the reference transforms against closed forms. */
#include "reference_support.h"

#define TURN 6.28318530717958647693

static strand_plugin_tensor pairs(float *data, int64_t n) {
    int64_t dims[2] = {n, 2};
    return tensor(STRAND_PLUGIN_F32, data, 2, dims);
}

/* An impulse at j turns j times as the bins go once around. */
static void impulse_turns(void **state) {
    static const int sizes[] = {1, 2, 5, 8, 13};
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < sizes[i]; j++)
            for (uint32_t kind = STRAND_FFT_R2C; kind <= STRAND_FFT_INVERSE; kind++) {
                int n = sizes[i], width = kind == STRAND_FFT_R2C ? n / 2 + 1 : n;
                float x[26] = {0}, y[26];
                strand_op_fft p = {.kind = kind, .scale = 0.5f};
                if (kind == STRAND_FFT_C2R) continue;
                x[kind == STRAND_FFT_R2C ? j : 2 * j] = 3;
                strand_plugin_tensor in = kind == STRAND_FFT_R2C ? vector(x, n) : pairs(x, n), out = pairs(y, width);
                run(STRAND_OP_FFT, &p, &in, 1, &out);
                for (int k = 0; k < width; k++) {
                    double angle = (kind == STRAND_FFT_INVERSE ? 1 : -1) * TURN * j * k / n;
                    near((double)y[2 * k], 1.5 * cos(angle), 1e-6);
                    near((double)y[2 * k + 1], 1.5 * sin(angle), 1e-6);
                }
            }
}

/* 2 cos(2 pi 3 t/20 + 0.5) has 20 e^(0.5 i) in bin 3 and nothing else; a row cut short or padded is the row that it becomes. */
static void cosine_is_one_bin(void **state) {
    float x[32], y[32], spectrum[22];
    (void)state;
    for (int t = 0; t < 32; t++) x[t] = (float)(2 * cos(TURN * 3 * t / 20 + 0.5));
    for (int form = 0; form < 4; form++) {
        strand_op_fft p = {.kind = STRAND_FFT_R2C, .form = (uint32_t)form, .n = 20, .scale = 1, .floor = 1e-3f};
        strand_plugin_tensor in = vector(x, 32), out = form ? vector(spectrum, 11) : pairs(spectrum, 11);
        run(STRAND_OP_FFT, &p, &in, 1, &out);
        const double good[4] = {20 * cos(0.5), 20, 400, log(20.0)};
        near((double)spectrum[form ? 3 : 6], good[form], form == 2 ? 1e-3 : 2e-5);
        if (!form) near((double)spectrum[7], 20 * sin(0.5), 2e-5);
        if (form == 1 || form == 2) near((double)spectrum[7], 0, 2e-5);
    }
    strand_op_fft p = {.kind = STRAND_FFT_R2C, .n = 32, .bins = 9, .scale = 1};
    strand_plugin_tensor in = vector(x, 20), out = pairs(y, 9);
    run(STRAND_OP_FFT, &p, &in, 1, &out);
    for (int k = 0; k < 9; k++) {
        double re = 0, im = 0;
        for (int t = 0; t < 20; t++) re += (double)x[t] * cos(TURN * k * t / 32), im -= (double)x[t] * sin(TURN * k * t / 32);
        near((double)y[2 * k], re, 1e-5);
        near((double)y[2 * k + 1], im, 1e-5);
    }
}

static void silence_has_the_floor(void **state) {
    float x[6] = {0}, y[4];
    (void)state;
    strand_op_fft p = {.kind = STRAND_FFT_R2C, .form = STRAND_FFT_LOG_AMPLITUDE, .scale = 1, .floor = 1e-8f};
    strand_plugin_tensor in = vector(x, 6), out = vector(y, 4);
    run(STRAND_OP_FFT, &p, &in, 1, &out);
    for (int k = 0; k < 4; k++) near((double)y[k], log(1e-8), 1e-5);
}

/* There and back, for even and odd lengths; the imaginary parts that symmetry forbids are not read. */
static void there_and_back(void **state) {
    (void)state;
    for (int64_t n = 1; n < 18; n++) {
        float x[18], spectrum[20], y[18];
        for (int i = 0; i < n; i++) x[i] = wave(i);
        strand_op_fft there = {.kind = STRAND_FFT_R2C, .scale = 1},
                      back = {.kind = STRAND_FFT_C2R, .n = n, .scale = 1 / (float)n};
        strand_plugin_tensor a = vector(x, n), b = pairs(spectrum, n / 2 + 1), c = vector(y, n);
        run(STRAND_OP_FFT, &there, &a, 1, &b);
        spectrum[1] = NAN;
        if (n % 2 == 0) spectrum[n + 1] = NAN;
        run(STRAND_OP_FFT, &back, &b, 1, &c);
        for (int i = 0; i < n; i++) near((double)y[i], (double)x[i], 1e-6);
    }
}

REFERENCE_MAIN("reference_convolutions", cmocka_unit_test(impulse_turns), cmocka_unit_test(cosine_is_one_bin),
               cmocka_unit_test(silence_has_the_floor), cmocka_unit_test(there_and_back))

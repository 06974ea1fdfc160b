/* reference_support.h - what the tests of the reference kernels share: dense tensors over arrays, running one operator,
 * comparing. Included once by each test_reference*.c. */
#ifndef STRAND_TESTS_REFERENCE_SUPPORT_H
#define STRAND_TESTS_REFERENCE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops_host.h"

static ops_plugin reference;

/* A dense tensor over an array. */
static inline strand_plugin_tensor tensor(uint32_t dtype, void *data, int rank, const int64_t *dims) {
    strand_plugin_tensor t = {.dtype = dtype, .rank = (uint32_t)rank};
    int64_t stride = 1;
    for (int i = rank; i-- > 0; stride *= dims[i]) {
        t.dims[i] = t.whole[i] = dims[i];
        t.strides[i] = stride;
    }
    t.memory.data = data;
    return t;
}

static inline strand_plugin_tensor vector(float *data, int64_t n) {
    return tensor(STRAND_PLUGIN_F32, data, 1, &n);
}

static inline strand_plugin_tensor matrix(float *data, int64_t rows, int64_t columns) {
    int64_t dims[2] = {rows, columns};
    return tensor(STRAND_PLUGIN_F32, data, 2, dims);
}

/* out: one tensor, or two in a row. */
static inline void run_outputs(uint32_t op, const void *params, const strand_plugin_tensor *inputs, uint32_t n,
                               const strand_plugin_tensor *out, uint32_t n_out) {
    strand_plugin_node node = {.op = op,
                               .version = 1,
                               .n_inputs = n,
                               .n_outputs = n_out,
                               .inputs = inputs,
                               .outputs = out,
                               .params = params,
                               .name = "case"};
    char why[200] = "";
    if (reference.api->supports(reference.device, &node, why, sizeof why)) fail_msg("not supported: %s", why);
    /* the reference needs none */
    strand_plugin_memory scratch = {.bytes = reference.api->scratch_size(reference.device, &node, 1)};
    scratch.data = scratch.bytes ? malloc(scratch.bytes) : NULL;
    assert_int_equal(reference.api->launch(reference.device, &node, 1, &scratch), STRAND_PLUGIN_OK);
    free(scratch.data);
}

static inline void run(uint32_t op, const void *params, const strand_plugin_tensor *inputs, uint32_t n,
                       const strand_plugin_tensor *out) {
    run_outputs(op, params, inputs, n, out, 1);
}

static inline void near(double a, double b, double error) {
    if (!(fabs(a - b) <= error)) fail_msg("%.9g is not %.9g", a, b);
}

static inline float wave(int i) {
    return (float)sin(i * 1.7 + 0.3 * i * i);
}

/* main() of a test of the reference kernels: argument 1 is the plugin. */
#define REFERENCE_MAIN(name, ...)                                                                             \
    int main(int argc, char **argv) {                                                                         \
        char why[300] = "";                                                                                   \
        int code = argc < 2 ? 2 : ops_open(&reference, argv[1], why, sizeof why);                             \
        if (code) {                                                                                           \
            fprintf(stderr, "usage: %s strand-cpu-reference.so; %s\n", argc ? argv[0] : "test", why);         \
            return code; /* 77: the plugin cannot run here */                                                 \
        }                                                                                                     \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                                      \
        int failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);                                    \
        return failed || ops_close(&reference) ? 1 : 0;                                                       \
    }

#endif

/* bench_conv1d.c - times convolutions: whole ones against the rate of multiply-adds, depthwise ones against memory.
 *
 *   bench_conv1d --plugin strand-cpu-x86-64-v4.so */
#include "bench.h"

typedef struct shape {
    int64_t groups, ins, outs, length, taps, stride, dilation; /* ins, outs: channels of a group */
} shape;

int main(int argc, char **argv) {
    static const shape shapes[] = {{1, 64, 64, 4096, 3, 1, 1},   {1, 256, 256, 1024, 3, 1, 4}, {1, 1, 512, 16000, 10, 5, 1},
                                   {1, 128, 128, 4096, 1, 1, 1}, {1, 64, 64, 4096, 4, 2, 1},   {256, 1, 1, 4096, 4, 1, 1},
                                   {256, 1, 1, 4096, 31, 1, 1},  {32, 8, 8, 4096, 3, 1, 1},    {1, 512, 512, 8, 3, 1, 1}};
    bench b;
    int code = bench_open(&b, argc, argv, "conv1d");
    if (code) return code;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && bench_wants(&b, "conv1d"); i++) {
        const shape *s = &shapes[i];
        int64_t reach = (s->taps - 1) * s->dilation, x[3] = {1, s->groups * s->ins, s->length},
                w[3] = {s->groups * s->outs, s->ins, s->taps};
        int64_t y[3] = {1, w[0], (s->length - 1) / s->stride + 1};
        strand_op_conv1d p = {.stride = s->stride, .dilation = s->dilation, .groups = s->groups, .pad_left = reach};
        bench_case c;
        bench_begin(&b, &c, "conv1d", STRAND_OP_CONV1D, &p, sizeof p,
                    "%lld x %lld to %lld, L=%lld K=%lld stride %lld dilation %lld", (long long)s->groups, (long long)s->ins,
                    (long long)s->outs, (long long)s->length, (long long)s->taps, (long long)s->stride, (long long)s->dilation);
        bench_input(&c, bench_random(&b, STRAND_PLUGIN_F32, 3, x, -1, 1));
        bench_input(&c, bench_random(&b, STRAND_PLUGIN_F32, 3, w, -1, 1));
        bench_output(&c, bench_zeros(&b, STRAND_PLUGIN_F32, 3, y));
        c.flops = 2.0 * (double)s->ins * (double)s->taps * (double)(y[1] * y[2]);
        bench_run(&b, &c);
    }
    return bench_close(&b);
}

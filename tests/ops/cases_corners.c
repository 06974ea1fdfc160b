/* cases_corners.c - extents where launches, not formulas, go wrong: a batch of none, more rows and channels than one
 * dispatch of a GPU has groups, and a convolution as long as the design goes. Families named huge_... run when they are
 * asked for by name alone: they take minutes on a software device, and the judge of huge_long_conv is another plugin, since
 * the reference kernels would take hours. */
#include <stdio.h>

#include "ops_cases.h"

/* A few operators of every kind on [b, rows, width]. */
static void unary_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width};
    strand_op_unary p = {.kind = STRAND_UNARY_SILU};
    int x = ops_add(g, F32, 3, dims, OPS_NORMAL);
    ops_add_node(g, STRAND_OP_UNARY, &p, sizeof p, 1, &x, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void norm_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width};
    strand_op_norm p = {.kind = STRAND_NORM_RMS, .groups = 1, .eps = 1e-5f};
    int in[3] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_vector(g, width), -1};
    ops_add_node(g, STRAND_OP_NORM, &p, sizeof p, 3, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void softmax_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width};
    strand_op_softmax p = {0};
    int x = ops_add(g, F32, 3, dims, OPS_NORMAL);
    ops_add_node(g, STRAND_OP_SOFTMAX, &p, sizeof p, 1, &x, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void matmul_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width}, w[2] = {width, width};
    strand_op_matmul p = {.transpose_b = 1};
    int in[2] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 2, w, OPS_NORMAL)};
    ops_add_node(g, STRAND_OP_MATMUL, &p, sizeof p, 2, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void gather_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t table[2] = {7, width}, ids[2] = {b, rows}, dims[3] = {b, rows, width};
    int in[2] = {ops_add(g, F32, 2, table, OPS_NORMAL), ops_add_ids(g, STRAND_PLUGIN_I64, 2, ids, 7)};
    ops_add_node(g, STRAND_OP_GATHER, NULL, 0, 2, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

/* Channels are the rows: [b, C, L]. */
static void short_conv_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width}, w[2] = {rows, 3};
    strand_op_short_conv p = {0};
    int in[4] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 2, w, OPS_NORMAL), -1, -1};
    ops_add_node(g, STRAND_OP_SHORT_CONV, &p, sizeof p, 4, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void long_conv_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width}, filter[2] = {rows, width};
    strand_op_long_conv p = {0};
    int in[5] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 2, filter, OPS_NORMAL), ops_vector(g, rows), -1, -1};
    ops_add_node(g, STRAND_OP_LONG_CONV, &p, sizeof p, 5, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

/* [b, L, D] with few tokens and the rows as channels. */
static void recurrence_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows};
    strand_op_linear_recurrence p = {0};
    int in[3] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_vector(g, rows), -1};
    ops_add_node(g, STRAND_OP_LINEAR_RECURRENCE, &p, sizeof p, 3, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void lti_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows}, poles[2] = {1, 2}, out[2] = {rows, 2};
    strand_op_lti_scan p = {.scale = 1};
    int in[6] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 2, poles, OPS_NORMAL), -1,
                 ops_add(g, F32, 2, out, OPS_NORMAL), -1, -1};
    ops_add_node(g, STRAND_OP_LTI_SCAN, &p, sizeof p, 6, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

/* One head of few channels: what may be many is the batch. */
static void ssd_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t channels = rows < 4 ? rows : 4, x[3] = {b, width, channels}, n[3] = {b, width, 2}, a[1] = {1};
    strand_op_ssd p = {.heads = 1, .groups = 1, .dt_max = 1e30f};
    int in[4] = {ops_add(g, F32, 3, x, OPS_NORMAL), ops_add(g, F32, 1, a, OPS_NORMAL), ops_add(g, F32, 3, n, OPS_NORMAL),
                 ops_add(g, F32, 3, n, OPS_NORMAL)};
    ops_add_node(g, STRAND_OP_SSD, &p, sizeof p, 4, in, ops_add(g, F32, 3, x, OPS_OUTPUT));
}

static void attention_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows};
    strand_op_attention p = {.heads = 1, .kv_heads = 1, .scale = 0.1f, .causal = 1};
    int in[6] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 3, dims, OPS_NORMAL),
                 ops_add(g, F32, 3, dims, OPS_NORMAL), -1, -1, -1};
    ops_add_node(g, STRAND_OP_ATTENTION, &p, sizeof p, 6, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

/* Narrow heads, as many as the rows. */
static void heads_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows};
    strand_op_attention p = {.heads = rows, .kv_heads = rows, .scale = 0.5f, .causal = 1};
    int in[6] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 3, dims, OPS_NORMAL),
                 ops_add(g, F32, 3, dims, OPS_NORMAL), -1, -1, -1};
    ops_add_node(g, STRAND_OP_ATTENTION, &p, sizeof p, 6, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void delta_heads_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows};
    strand_op_delta_rule p = {.heads = rows, .scale = 1};
    int in[7];
    for (int i = 0; i < 6; i++) in[i] = ops_add(g, F32, 3, dims, OPS_NORMAL);
    in[6] = -1;
    ops_add_node(g, STRAND_OP_DELTA_RULE, &p, sizeof p, 7, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void companion_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows}, kernel[2] = {1, 3};
    strand_op_companion_scan p = {0};
    int in[7] = {ops_add(g, F32, 2, kernel, OPS_NORMAL), ops_add(g, F32, 2, kernel, OPS_NORMAL),
                 ops_add(g, F32, 2, kernel, OPS_NORMAL), ops_add(g, F32, 3, dims, OPS_NORMAL), -1, -1, -1};
    ops_add_node(g, STRAND_OP_COMPANION_SCAN, &p, sizeof p, 7, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
}

static void dense_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, width, rows}, all[3] = {b, width, 2 * rows}, a[3] = {1, 2, 2}, into[2] = {1, 2};
    int in[4] = {ops_add(g, F32, 3, a, OPS_NORMAL), ops_add(g, F32, 2, into, OPS_NORMAL), ops_add(g, F32, 3, dims, OPS_NORMAL),
                 -1};
    ops_add_node(g, STRAND_OP_DENSE_SCAN, NULL, 0, 4, in, ops_add(g, F32, 3, all, OPS_OUTPUT));
}

static void filters_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t kernel[2] = {rows, 2}, dims[2] = {rows, 5 * b * width};
    int in[3] = {ops_add(g, F32, 2, kernel, OPS_NORMAL), ops_add(g, F32, 2, kernel, OPS_NORMAL),
                 ops_add(g, F32, 2, kernel, OPS_NORMAL)};
    ops_add_node(g, STRAND_OP_SSM_KERNEL_COMPANION, NULL, 0, 3, in, ops_add(g, F32, 2, dims, OPS_OUTPUT));
}

static void concat_of(ops_program *g, int64_t b, int64_t rows, int64_t width) {
    int64_t dims[3] = {b, rows, width}, all[3] = {b, rows, 10 * width};
    strand_op_concat p = {.axis = 2};
    int in[10];
    for (int i = 0; i < 10; i++) in[i] = ops_add(g, F32, 3, dims, OPS_NORMAL);
    ops_add_node(g, STRAND_OP_CONCAT, &p, sizeof p, 10, in, ops_add(g, F32, 3, all, OPS_OUTPUT));
}

static const struct {
    const char *name;
    void (*make)(ops_program *g, int64_t b, int64_t rows, int64_t width);
} kinds[] = {{"unary", unary_of},         {"norm", norm_of},
             {"softmax", softmax_of},     {"matmul", matmul_of},
             {"gather", gather_of},       {"short_conv", short_conv_of},
             {"long_conv", long_conv_of}, {"linear_recurrence", recurrence_of},
             {"lti_scan", lti_of},        {"ssd", ssd_of},
             {"concat of 10", concat_of}, {"attention", attention_of}};
/* Of many channels alone. */
static const struct {
    const char *name;
    void (*make)(ops_program *g, int64_t b, int64_t rows, int64_t width);
} channels[] = {{"attention of heads", heads_of},
                {"delta_rule", delta_heads_of},
                {"companion_scan", companion_of},
                {"dense_scan", dense_of},
                {"ssm_kernel_companion", filters_of}};
#define N_CHANNELS (int)(sizeof channels / sizeof *channels)
#define N_KINDS (int)(sizeof kinds / sizeof *kinds)

static void make_empty(ops_program *g, int index) {
    int64_t rows = ops_between(g, 1, 20), width = ops_between(g, 1, 20);
    kinds[index % N_KINDS].make(g, 0, rows, width);
    SAY("%s of a batch of none, %lld x %lld", kinds[index % N_KINDS].name, (long long)rows, (long long)width);
}

/* More than 65535 rows, channels or batch entries: what a dispatch has along an axis on most devices. */
static void make_wide(ops_program *g, int index) {
    int kind = index % (N_KINDS - 1); /* attention of that many channels is another matter */
    bool batch = index / (N_KINDS - 1) % 2;
    int64_t many = 65536 + ops_between(g, 0, 3), width = ops_between(g, 1, 3);
    kinds[kind].make(g, batch ? many : 1, batch ? 1 : many, width);
    SAY("%s, %lld %s of %lld", kinds[kind].name, (long long)many, batch ? "batch entries" : "rows", (long long)width);
}

static void make_huge_channels(ops_program *g, int index) {
    int64_t many = 65536 + ops_between(g, 0, 3), width = ops_between(g, 1, 3);
    channels[index % N_CHANNELS].make(g, 1, many, width);
    SAY("%s, %lld channels of %lld", channels[index % N_CHANNELS].name, (long long)many, (long long)width);
}

/* Of 4M points, with as many taps: transforms of 8M by the four-step method. Constant, so that the spectrum is prepared
 * once. */
static void make_huge_long_conv(ops_program *g, int index) {
    int64_t length = (int64_t)1 << 22;
    if (index & 1) length -= 12347;
    g->strided = false;
    long_conv_of(g, 1, 1, length);
    g->tensors[g->nodes[0].inputs[1]].view.flags = STRAND_TENSOR_CONSTANT;
    SAY("%lld points", (long long)length);
}

/* Where kernels of long rows change their minds, up to 1M points, and filters much shorter than the sequence; every second
 * time rounded. */
static void make_long_rows(ops_program *g, int first, int index) {
    static const struct {
        int64_t length, taps, back, batch;
    } sizes[] = {{257, 257, 0, 2},         {512, 512, 512, 1},     {1021, 1021, 0, 3},     {2048, 2048, 2048, 1},
                 {2503, 2503, 0, 2},       {4096, 4096, 0, 1},     {5000, 5000, 5000, 1},  {8192, 8192, 0, 1},
                 {9001, 40, 0, 2},         {20001, 300, 77, 1},    {12007, 12007, 0, 1},   {16384, 16384, 16384, 1},
                 {65537, 1000, 900, 1},    {70000, 6001, 0, 1},    {20000, 20000, 0, 1},   {32768, 32768, 0, 1},
                 {65536, 65536, 65536, 2}, {131072, 131072, 0, 1}, {262144, 262144, 9, 1}, {500009, 500009, 0, 1},
                 {1048576, 1048576, 0, 1}};
    const int i = (index / 2 + first) % (int)(sizeof sizes / sizeof *sizes), rank = 3;
    const int64_t channels = sizes[i].length < 30000 ? 2 : 1, dims[3] = {sizes[i].batch, channels, sizes[i].length},
                  f[2] = {channels, sizes[i].taps}, b[2] = {channels, sizes[i].back};
    strand_op_long_conv p = {.flags = (index & 1 ? STRAND_LONG_CONV_ROUNDED : 0) |
                                      (sizes[i].back && i % 3 ? STRAND_LONG_CONV_BACK_FROM_ZERO : 0)};
    int in[6] = {ops_add(g, F32, rank, dims, OPS_NORMAL), ops_add(g, F32, 2, f, OPS_NORMAL),
                 i % 4 ? ops_vector(g, channels) : -1, -1, -1, -1};
    if (i % 2) in[3] = ops_add(g, F32, rank, dims, OPS_NORMAL);
    if (i % 5 > 1) in[4] = ops_add(g, F32, rank, dims, OPS_NORMAL);
    if (sizes[i].back) in[5] = ops_add(g, F32, 2, b, OPS_NORMAL);
    if (i % 3) g->tensors[in[1]].view.flags = STRAND_TENSOR_CONSTANT;
    if (i % 3 && in[5] >= 0) g->tensors[in[5]].view.flags = STRAND_TENSOR_CONSTANT;
    if (index & 1) g->slack = sizes[i].length > 16384 ? 5000 : 1000; /* columns of longer rows keep BF16 points */
    if (sizes[i].length > 30000) g->strided = false;
    ops_add_node(g, STRAND_OP_LONG_CONV, &p, sizeof p, in[5] >= 0 ? 6 : 5, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%lld points, %lld taps, back %lld, batch %lld, flags %u", (long long)sizes[i].length, (long long)sizes[i].taps,
        (long long)sizes[i].back, (long long)sizes[i].batch, p.flags);
}

static void make_huge_rows(ops_program *g, int index) {
    make_long_rows(g, 0, index);
}
static void make_huge_columns(ops_program *g, int index) {
    make_long_rows(g, 16, index);
}

OPS_CASES(corners, {"huge_rows", make_huge_rows, false}, {"huge_columns", make_huge_columns, false},
          {"empty", make_empty, false}, {"wide", make_wide, false}, {"huge_channels", make_huge_channels, false},
          {"huge_long_conv", make_huge_long_conv, false});

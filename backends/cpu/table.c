/* table.c - the one table of operators. Adding an operator touches this table, its predicate and its kernels, nothing else.
 * With -DCPU_REFERENCE every row runs its reference kernel: that module judges the others in the tests. */
#include "kernels.h"

#if defined(CPU_REFERENCE)
const char cpu_isa[] = "reference";
#elif defined(__AVX512F__)
const char cpu_isa[] = "x86-64-v4, AVX-512";
#elif defined(__AVX2__)
const char cpu_isa[] = "x86-64-v3, AVX2";
#elif defined(__x86_64__)
const char cpu_isa[] = "x86-64, SSE2";
#elif defined(__aarch64__)
const char cpu_isa[] = "aarch64, NEON";
#else
const char cpu_isa[] = "plain C";
#endif

/*  ROW(id, name, scratch, prepare_size, prepare) */
#ifdef CPU_REFERENCE
#define ROW(id, name, scratch, size, make) {id, 1, cpu_supports_##name, NULL, NULL, NULL, cpu_reference_##name},
#else
#define ROW(id, name, scratch, size, make) {id, 1, cpu_supports_##name, scratch, size, make, cpu_##name},
#endif
#define TABLE(X)                                                                                                               \
    X(STRAND_OP_GATHER, gather, NULL, NULL, NULL)                                                                              \
    X(STRAND_OP_MATMUL, matmul, cpu_matmul_scratch, NULL, NULL)                                                                \
    X(STRAND_OP_LAYER_NORM, layer_norm, NULL, NULL, NULL)                                                                      \
    X(STRAND_OP_UNARY, unary, NULL, NULL, NULL)                                                                                \
    X(STRAND_OP_BINARY, binary, NULL, NULL, NULL)                                                                              \
    X(STRAND_OP_SHORT_CONV, short_conv, NULL, NULL, NULL)                                                                      \
    X(STRAND_OP_LONG_CONV, long_conv, cpu_long_conv_scratch, cpu_long_conv_prepare_size, cpu_long_conv_prepare)                \
    X(STRAND_OP_REDUCE, reduce, NULL, NULL, NULL)                                                                              \
    X(STRAND_OP_POSITIONS, positions, NULL, NULL, NULL)                                                                        \
    X(STRAND_OP_DECAY_WINDOW, decay_window, NULL, NULL, NULL)                                                                  \
    X(STRAND_OP_CAST, cast, NULL, NULL, NULL)

const cpu_op cpu_table[] = {TABLE(ROW)};
const uint32_t cpu_table_size = sizeof cpu_table / sizeof cpu_table[0];

#define PAIR(id, name, scratch, size, make) {id, 1},
const strand_plugin_op cpu_ops[] = {TABLE(PAIR)};

#ifdef CPU_REFERENCE
const cpu_groups *const cpu_grouping = NULL;
#endif

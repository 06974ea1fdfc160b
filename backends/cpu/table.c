/* table.c - the table of operators (its lines stand in kernels.h) as the plugin's function table reads it.
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

#ifdef CPU_REFERENCE
#define ROW(id, name, scratch, size, make) {id, 1, cpu_supports_##name, NULL, NULL, NULL, cpu_reference_##name},
#else
#define ROW(id, name, scratch, size, make) {id, 1, cpu_supports_##name, scratch, size, make, cpu_##name},
#endif

const cpu_op cpu_table[] = {CPU_TABLE(ROW)};
const uint32_t cpu_table_size = sizeof cpu_table / sizeof cpu_table[0];

#define PAIR(id, name, scratch, size, make) {id, 1},
const strand_plugin_op cpu_ops[] = {CPU_TABLE(PAIR)};

#ifdef CPU_REFERENCE
const cpu_groups *const cpu_grouping = NULL;
#endif

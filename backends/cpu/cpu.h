/* cpu.h - what the files of the CPU plugin share: the device, the operator table and the reading of views.
 *
 * One set of sources is compiled once per instruction set (CPU_VARIANT); only entry.c is always compiled for the plainest
 * processor. Global symbols begin with cpu_ because a static build puts them beside the application's.
 *
 * Invariants: no globals that change, no allocation while running, no printing. A kernel's bytes depend on the operator's
 * inputs and whole extents alone, so every vector loop runs its last elements through the same instructions as the others. */
#ifndef STRAND_CPU_H
#define STRAND_CPU_H

#include "strand_plugin.h"

#include <stdbool.h>

#define CPU_ALIGN 64u

typedef struct cpu_device cpu_device;

/* One operator: everything that the plugin knows of it. NULL slots: needs none. `supports` writes one line to why. */
typedef struct cpu_op {
    uint32_t op, version;
    bool (*supports)(const strand_plugin_node *node, char *why, size_t why_bytes);
    uint64_t (*scratch)(const cpu_device *device, const strand_plugin_node *node);
    uint64_t (*prepare_size)(const strand_plugin_node *node);
    strand_plugin_status (*prepare)(const cpu_device *device, const strand_plugin_node *node, void *scratch);
    strand_plugin_status (*run)(const cpu_device *device, const strand_plugin_node *node, void *scratch);
} cpu_op;

extern const cpu_op cpu_table[];
extern const uint32_t cpu_table_size;
extern const strand_plugin_op cpu_ops[]; /* the (id, version) column of the table */
extern const char cpu_isa[];             /* "x86-64-v4, AVX-512" */
extern const strand_plugin_api cpu_api;

struct cpu_device {
    const strand_host *host;
    uint32_t features; /* CPU_AVX512_... */
};

/* Instructions beyond the module's level (features.c), and the attributes of functions that use them: such a function is called
 * only where device->features says so. Its intrinsics and those of the module's own level may be mixed freely inside it. */
#define CPU_AVX512_VNNI      1u /* VPDPBUSD, VPDPWSSD */
#define CPU_AVX512_BF16      2u /* VDPBF16PS, VCVTNE2PS2BF16 */
#define CPU_HIDES_EXTENSIONS 4u /* of host->cpu_mask */
#define CPU_TARGET_VNNI      __attribute__((target("avx512vnni")))
#define CPU_TARGET_BF16      __attribute__((target("avx512bf16")))
uint32_t cpu_features(const strand_host *host);

/* ---- services ---- */

static inline uint64_t cpu_round(uint64_t bytes) {
    return (bytes + CPU_ALIGN - 1) & ~(uint64_t)(CPU_ALIGN - 1);
}
static inline int64_t cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t cpu_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* How many workers run bodies at once, at least 1. */
int32_t cpu_workers(const cpu_device *device);

/* Runs body(arg, i, worker) for i in [0, n) through the host. */
void cpu_parallel(const cpu_device *device, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg);

/* Leaves a line with the host and returns `status`. */
strand_plugin_status cpu_fail(const cpu_device *device, strand_plugin_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes one line to `why` and returns false: `return cpu_no(why, n, "...")`. */
bool cpu_no(char *why, size_t why_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- views ---- */

static inline bool cpu_is_float(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_F32 || dtype == STRAND_PLUGIN_F16 || dtype == STRAND_PLUGIN_BF16;
}

static inline int64_t cpu_element_bytes(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_F32 || dtype == STRAND_PLUGIN_I32 ? 4 : dtype == STRAND_PLUGIN_I64 ? 8 : 2;
}

/* Input i, or NULL where the optional input is absent. */
static inline const strand_plugin_tensor *cpu_input(const strand_plugin_node *node, uint32_t i) {
    return i < node->n_inputs && node->inputs[i].dtype != STRAND_PLUGIN_NONE ? &node->inputs[i] : NULL;
}

/* A tensor seen through the output's four axes (axes that it lacks have extent 1): base stands at the output's first
 * element. */
typedef struct cpu_operand {
    char *base;
    int64_t strides[STRAND_PLUGIN_RANK]; /* elements; 0 along broadcast axes */
    int64_t bytes;                       /* of an element */
} cpu_operand;

/* The output's own extents, right-aligned to four axes. */
void cpu_extents(const strand_plugin_tensor *out, int64_t dims[STRAND_PLUGIN_RANK]);

/* Places `in` under `out`, axis by axis from the last; the input's view may begin before the output's tile and end after it.
 * With broadcast, an axis of extent 1 serves every index. False when the view does not cover the tile. */
bool cpu_place(const strand_plugin_tensor *out, const strand_plugin_tensor *in, bool broadcast, cpu_operand *operand);

/* Merges axes into the last one where every operand is dense across them (broadcast axes merge with broadcast axes). */
void cpu_collapse(int64_t dims[STRAND_PLUGIN_RANK], cpu_operand *const operands[], int n);

/* Rows of a tensor cut into pieces of about 16384 elements: piece i covers rows [row, row + height) and columns
 * [column, column + width), both clipped. */
typedef struct cpu_pieces {
    int64_t rows, columns, height, width, across, count;
} cpu_pieces;

cpu_pieces cpu_cut(const int64_t dims[STRAND_PLUGIN_RANK]);

static inline void cpu_piece(const cpu_pieces *p, int64_t i, int64_t *row, int64_t *end_row, int64_t *column, int64_t *width) {
    *row = i / p->across * p->height;
    *end_row = cpu_min(*row + p->height, p->rows);
    *column = i % p->across * p->width;
    *width = cpu_min(p->width, p->columns - *column);
}

/* How far axis `ia` of `in` begins before axis `oa` of `out`, or -1 when it does not cover [origin, origin + dims) of it. */
static inline int64_t cpu_lead(const strand_plugin_tensor *in, uint32_t ia, const strand_plugin_tensor *out, uint32_t oa) {
    int64_t lead = out->origin[oa] - in->origin[ia];
    return lead >= 0 && lead + out->dims[oa] <= in->dims[ia] ? lead : -1;
}

/* Address of the first element of row `row`, rows being counted over the first three of the four axes. */
static inline char *cpu_row(const cpu_operand *o, const int64_t dims[STRAND_PLUGIN_RANK], int64_t row) {
    int64_t i2 = row % dims[2], i1 = row / dims[2] % dims[1], i0 = row / dims[2] / dims[1];
    return o->base + (i0 * o->strides[0] + i1 * o->strides[1] + i2 * o->strides[2]) * o->bytes;
}

static inline int64_t cpu_rows(const int64_t dims[STRAND_PLUGIN_RANK]) {
    return dims[0] * dims[1] * dims[2];
}

static inline float *cpu_f32(const strand_plugin_tensor *t) {
    return t ? (float *)t->memory.data : NULL;
}

/* ---- groups (group.c); the reference module has none ---- */

typedef struct cpu_groups {
    uint32_t (*claim)(const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed);
    uint64_t (*scratch)(const cpu_device *device, const strand_plugin_node *nodes, uint32_t n);
    strand_plugin_status (*run)(const cpu_device *device, const strand_plugin_node *nodes, uint32_t n, void *scratch);
} cpu_groups;
extern const cpu_groups *const cpu_grouping; /* NULL: none */

#endif

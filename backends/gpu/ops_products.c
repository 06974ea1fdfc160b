/* ops_products.c - look-ups and matrix products on the GPU plugins (kernels/products.k). */
#include "gpu.h"

#define FEW_ROWS     16

bool gpu_supports_gather(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(gather) {
    const strand_plugin_tensor *table = &node->inputs[0], *ids = &node->inputs[1], *y = &node->outputs[0];
    strand_plugin_tensor wide = *ids; /* the ids under the output's axes: all but the last */
    gpu_dispatch d;
    int64_t strides[STRAND_PLUGIN_RANK] = {0}, first = 0;
    (void)scratch;
    for (uint32_t i = 0; i < ids->rank; i++) {
        strides[STRAND_PLUGIN_RANK - 1 - ids->rank + i] = ids->strides[i];
        first += cpu_lead(ids, i, y, i) * ids->strides[i];
    }
    gpu_begin(&d, GPU_K_gather);
    gpu_bind(device, &d, table);
    gpu_bind(device, &d, &wide);
    gpu_bind(device, &d, y);
    gpu_bind_fault(device, &d);
    d.params[1] += (int32_t)first;
    gpu_int(&d, gpu_count(y));
    gpu_int(&d, cpu_lead(table, 1, y, y->rank - 1));
    gpu_int(&d, ids->dtype == STRAND_PLUGIN_I64 ? 2 : 1);
    gpu_int(&d, table->dims[0]);
    gpu_int(&d, table->strides[0]);
    gpu_int(&d, table->dtype);
    gpu_dims(&d, y);
    gpu_place(&d, 2, y, y, false);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, strides[i]);
    return gpu_over(device, &d, gpu_count(y));
}

bool gpu_supports_matmul(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* Strides of the two batch axes of a factor (0 where it is shared), and the way to its first matrix. */
static int64_t batch_strides(const strand_plugin_tensor *t, const strand_plugin_tensor *out, int64_t strides[2]) {
    int64_t first = 0;
    strides[0] = strides[1] = 0;
    for (uint32_t i = 0; t->rank == out->rank && i + 2 < out->rank; i++) {
        strides[2 - (out->rank - 2) + i] = t->strides[i];
        first += cpu_lead(t, i, out, i) * t->strides[i];
    }
    return first;
}

/* How a product's factors lie: may kernels read them four elements at a time, a along k, b along k or along n? Nothing that
 * a kernel makes depends on it: a view, or a tile of a product, may lie otherwise than the whole. */
typedef enum layout { LAYOUT_ANY, LAYOUT_DENSE, LAYOUT_ACROSS } layout;

static bool by_four(const int64_t *numbers, int n) {
    int64_t rest = 0;
    for (int i = 0; i < n; i++) rest |= numbers[i] & 3;
    return !rest;
}

/* d: with all parameters. */
static layout layout_of(const strand_plugin_device *device, const gpu_dispatch *d) {
    const int32_t *p = d->params;
    const int64_t common[] = {
        p[0], p[1], p[6], p[7], p[20], p[21], p[22], p[23], (int64_t)(device->limits.offset_alignment / 4)};
    if (p[8] != 1 || !by_four(common, 9)) return LAYOUT_ANY;
    if (p[9] == 1 && p[10] % 4 == 0) return LAYOUT_DENSE;
    return p[10] == 1 && p[9] % 4 == 0 && p[5] % 4 == 0 ? LAYOUT_ACROSS : LAYOUT_ANY;
}

/* How many halves stand for a number of a factor in matmul_half: one where rounding to them is allowed or loses nothing. */
static int halves_of(const strand_op_matmul *p, const strand_plugin_tensor *t) {
    return t->dtype == STRAND_PLUGIN_F32 && p->precision == STRAND_PRECISION_F32 ? 2 : 1;
}

/* Not of F32 by F32 unless the device multiplies halves and both may be rounded to them; nor of quantised weights. */
static bool by_halves(const strand_plugin_device *device, const strand_op_matmul *p, const strand_plugin_tensor *a,
                      const strand_plugin_tensor *b) {
    if (cpu_is_quantised(a->dtype) || cpu_is_quantised(b->dtype)) return false;
    if (a->dtype != STRAND_PLUGIN_F32 || b->dtype != STRAND_PLUGIN_F32) return true;
    return device->limits.matrices && p->precision == STRAND_PRECISION_BF16;
}

/* By the types, by how they lie, and by the rows of the whole result: few are not worth a tile. *rows: of a group then, else 0;
 * *columns: of a group of few rows. */
static gpu_kernel product_of(const strand_plugin_device *device, const gpu_dispatch *d, const strand_op_matmul *p,
                             const strand_plugin_tensor *a, const strand_plugin_tensor *b, const strand_plugin_tensor *y,
                             int *rows, int *columns) {
    bool plain = a->dtype == STRAND_PLUGIN_F32 && b->dtype == STRAND_PLUGIN_F32,
         half = b->dtype == STRAND_PLUGIN_F16 || b->dtype == STRAND_PLUGIN_BF16;
    int64_t m = y->whole[y->rank - 2];
    layout lies = layout_of(device, d);
    *rows = m > FEW_ROWS ? 0 : m > 1 ? 4 : 1;
    *columns = 16;
    if (!*rows) {
        if (by_halves(device, p, a, b)) return GPU_K_matmul_half;
        if (plain && device->limits.software && lies != LAYOUT_ANY)
            return lies == LAYOUT_DENSE ? GPU_K_matmul_direct : GPU_K_matmul_direct_across;
        return plain ? GPU_K_matmul_f32 : GPU_K_matmul;
    }
    if (plain && lies == LAYOUT_DENSE) return *rows == 1 ? GPU_K_matvec1_dense : GPU_K_matvec4_dense;
    if (plain && lies == LAYOUT_ACROSS) return *rows == 1 ? GPU_K_matvec1_across : GPU_K_matvec4_across;
    if (half && a->dtype == STRAND_PLUGIN_F32 && lies == LAYOUT_DENSE)
        return *rows == 1 ? GPU_K_matvec1_half : GPU_K_matvec4_half;
    *columns = 4;
    if (plain) return *rows == 1 ? GPU_K_matvec1_f32 : GPU_K_matvec4_f32;
    return *rows == 1 ? GPU_K_matvec1 : GPU_K_matvec4;
}

GPU_RUN(matmul) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0];
    const strand_plugin_tensor *bias = p->bias ? cpu_input(node, 2) : NULL;
    uint32_t mo = y->rank - 2, no = y->rank - 1;
    uint32_t am = a->rank - (p->transpose_a ? 1 : 2), ak = a->rank - (p->transpose_a ? 2 : 1);
    uint32_t bn = b->rank - (p->transpose_b ? 2 : 1), bk = b->rank - (p->transpose_b ? 1 : 2);
    int64_t sa[2], sb[2], sy[2], inner = y->rank > 2 ? y->dims[y->rank - 3] : 1, batch = 1;
    gpu_dispatch d;
    int rows, columns;
    (void)scratch;
    for (uint32_t i = 0; i + 2 < y->rank; i++) batch *= y->dims[i];
    gpu_begin(&d, GPU_K_matmul);
    gpu_bind(device, &d, a);
    gpu_bind(device, &d, b);
    gpu_bind_or(device, &d, bias, y);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(batch_strides(a, y, sa) + cpu_lead(a, am, y, mo) * a->strides[am]);
    d.params[1] += (int32_t)gpu_steps(b, batch_strides(b, y, sb) + cpu_lead(b, bn, y, no) * b->strides[bn]);
    batch_strides(y, y, sy);
    if (bias) d.params[2] += (int32_t)(cpu_lead(bias, 0, y, p->bias == STRAND_BIAS_ROWS ? mo : no) * bias->strides[0]);
    const int64_t numbers[] = {y->dims[mo],    y->dims[no],    a->dims[ak],    a->strides[am],
                               a->strides[ak], b->strides[bk], b->strides[bn], y->strides[mo]};
    gpu_ints(&d, numbers, 8);
    gpu_int(&d, bias ? p->bias : STRAND_BIAS_NONE);
    gpu_int(&d, bias ? bias->strides[0] : 0);
    gpu_int(&d, p->activation);
    gpu_float(&d, p->alpha);
    gpu_float(&d, p->beta);
    gpu_int(&d, a->dtype);
    gpu_int(&d, b->dtype);
    gpu_int(&d, inner);
    const int64_t steps[] = {sa[0], sa[1], sb[0], sb[1], sy[0], sy[1]};
    gpu_ints(&d, steps, 6);
    gpu_int(&d, halves_of(p, a));
    gpu_int(&d, halves_of(p, b));
    d.kernel = product_of(device, &d, p, a, b, y, &rows, &columns);
    int64_t x = rows ? (y->dims[no] + columns - 1) / columns : (y->dims[mo] + 63) / 64,
            down = rows ? (y->dims[mo] + rows - 1) / rows : (y->dims[no] + 63) / 64;
    return gpu_groups(device, &d, x, down, batch);
}

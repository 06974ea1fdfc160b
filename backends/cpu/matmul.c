/* matmul.c - MATMUL: blocks of A and B are packed into panels (converted to F32, zeros past the end) and multiplied register
 * block by register block. Sums over k that do not fit one block wait in the result itself, exactly.
 *
 * Sizes: a panel of A for BLOCK_K stays in L1, the packed block of B in L2. */
#include "matmul.h"
#include "kernels.h"
#include "matmul_kernel.h"
#include "matmul_quant.h"
#include "rows.h"

#define BLOCK_K 256
#define BLOCK_M (PANEL_ROWS * (144 / PANEL_ROWS))
#define BLOCK_N (PANEL_COLUMNS * (512 / PANEL_COLUMNS))

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}
static int64_t packed_a(int64_t m, int64_t k) {
    return round_up(cpu_min(round_up(m, PANEL_ROWS), BLOCK_M) * cpu_min(k, BLOCK_K) + CPU_LANES, 16);
}
static int64_t packed_b(int64_t n, int64_t k) {
    return round_up(cpu_min(round_up(n, PANEL_COLUMNS), BLOCK_N) * cpu_min(k, BLOCK_K), 16);
}

int64_t cpu_product_scratch(int64_t m, int64_t n, int64_t k) {
    return packed_a(m, k) + packed_b(n, k);
}

/* One register block at the edge or inside: what stands over the edge of c is computed too, and thrown away. */
static void one_block(const float *a, const float *b, int64_t depth, float *c, int64_t c_stride, int64_t rows, int64_t columns,
                      bool fresh) {
    int64_t vectors = (cpu_min(columns, PANEL_COLUMNS) + CPU_LANES - 1) / CPU_LANES;
    block_fn *run = blocks[cpu_min(rows, PANEL_ROWS) - 1][vectors - 1];
    if (columns >= vectors * CPU_LANES) {
        run(a, b, depth, c, c_stride, fresh);
        return;
    }
    float tile[PANEL_ROWS * PANEL_COLUMNS];
    rows = cpu_min(rows, PANEL_ROWS);
    size_t bytes = (size_t)columns * sizeof *c;
    for (int64_t r = 0; r < rows && !fresh; r++) {
        memset(tile + r * PANEL_COLUMNS, 0, PANEL_COLUMNS * sizeof *tile);
        memcpy(tile + r * PANEL_COLUMNS, c + r * c_stride, bytes);
    }
    run(a, b, depth, tile, PANEL_COLUMNS, fresh);
    for (int64_t r = 0; r < rows; r++) memcpy(c + r * c_stride, tile + r * PANEL_COLUMNS, bytes);
}

/* A packed block of A times a packed block of B. */
static void inner(const float *a, const float *b, int64_t depth, float *c, int64_t c_stride, int64_t m, int64_t n, bool fresh) {
    for (int64_t i = 0; i < m; i += PANEL_ROWS)
        for (int64_t j = 0; j < n; j += PANEL_COLUMNS) {
            one_block(a + i * depth, b + j * depth, depth, c + i * c_stride + j, c_stride, m - i, n - j, fresh);
        }
}

static void finish(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride) {
    for (int64_t i = 0; i < m; i++, c += c_stride) {
        if (p->bias_kind == STRAND_BIAS_ROWS)
            cpu_binary_row(STRAND_BINARY_ADD, c, c, p->bias + (row + i) * p->bias_stride, 0, n);
        if (p->bias_kind == STRAND_BIAS_COLUMNS)
            cpu_binary_row(STRAND_BINARY_ADD, c, c, p->bias + column * p->bias_stride, 1, n);
        cpu_unary_row(p->activation, p->alpha, p->beta, c, c, n);
    }
}

void cpu_product_block(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                       float *scratch) {
    float *pa = scratch, *pb = scratch + packed_a(m, p->k);
    for (int64_t j = 0; j < n; j += BLOCK_N) {
        int64_t nj = cpu_min(BLOCK_N, n - j);
        for (int64_t k = 0; k < p->k; k += BLOCK_K) {
            int64_t depth = cpu_min(BLOCK_K, p->k - k);
            pack(pb, PANEL_COLUMNS, &p->b, column + j, nj, k, depth);
            for (int64_t i = 0; i < m; i += BLOCK_M) {
                int64_t mi = cpu_min(BLOCK_M, m - i);
                pack(pa, PANEL_ROWS, &p->a, row + i, mi, k, depth);
                inner(pa, pb, depth, c + i * c_stride + j, c_stride, mi, nj, k == 0);
            }
        }
        for (int64_t i = 0; i < m && p->k == 0; i++) memset(c + i * c_stride + j, 0, (size_t)nj * sizeof *c);
        finish(p, row, m, column + j, nj, c + j, c_stride);
    }
}

cpu_product_cut cpu_product_pieces(int64_t batch, int64_t m, int64_t n, int64_t most_height, int32_t workers) {
    cpu_product_cut cut = {.height = most_height, .width = BLOCK_N};
    if (batch < 1 || m < 1 || n < 1) return cut;
    for (;;) {
        cut.down = (m + cut.height - 1) / cut.height;
        cut.across = (n + cut.width - 1) / cut.width;
        cut.count = batch * cut.down * cut.across;
        if (workers < 2 || cut.count >= 4 * (int64_t)workers) return cut;
        if (cut.height >= 2 * BLOCK_M && m > BLOCK_M)
            cut.height = round_up(cut.height / 2, BLOCK_M);
        else if (cut.width > 4 * PANEL_COLUMNS && n > PANEL_COLUMNS * 4)
            cut.width = round_up(cut.width / 2, PANEL_COLUMNS);
        else
            return cut;
    }
}

/* ---- the operator ---- */

void cpu_product_of(const strand_plugin_node *node, cpu_product *p) {
    const strand_op_matmul *o = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *out = &node->outputs[0];
    const strand_plugin_tensor *bias = o->bias ? &node->inputs[2] : NULL;
    uint32_t m_axis = a->rank - (o->transpose_a ? 1 : 2), ka = a->rank - (o->transpose_a ? 2 : 1);
    uint32_t n_axis = b->rank - (o->transpose_b ? 2 : 1), kb = b->rank - (o->transpose_b ? 1 : 2);
    *p = (cpu_product){.a = {.dtype = a->dtype, .outer = a->strides[m_axis], .inner = a->strides[ka]},
                       .b = {.dtype = b->dtype, .outer = b->strides[n_axis], .inner = b->strides[kb]},
                       .m = out->dims[out->rank - 2],
                       .n = out->dims[out->rank - 1],
                       .k = a->dims[ka],
                       .bias_kind = o->bias,
                       .activation = o->activation,
                       .alpha = o->alpha,
                       .beta = o->beta};
    if (o->transpose_a) p->a.outer = 1; /* an extent of 1 may come with any stride */
    if (!o->transpose_a) p->a.inner = 1;
    if (o->transpose_b) p->b.inner = 1;
    if (!o->transpose_b) p->b.outer = 1;
    if (bias) {
        uint32_t axis = out->rank - (o->bias == STRAND_BIAS_ROWS ? 2 : 1);
        p->bias_stride = bias->dims[0] > 1 ? bias->strides[0] : 1;
        p->bias = bias->memory.data ? cpu_f32(bias) + cpu_lead(bias, 0, out, axis) * p->bias_stride : NULL;
    }
}

/* Where batch entry `entry` of matrix input i begins, at the output's first row or column (axis oa). */
static const char *entry_at(const strand_plugin_node *node, uint32_t i, int64_t entry, uint32_t ia, uint32_t oa) {
    const strand_plugin_tensor *in = &node->inputs[i], *out = &node->outputs[0];
    int64_t at = cpu_lead(in, ia, out, oa) * in->strides[ia];
    for (uint32_t axis = out->rank - 2; axis-- > 0 && in->rank > 2;) {
        at += (entry % out->dims[axis] + cpu_lead(in, axis, out, axis)) * in->strides[axis];
        entry /= out->dims[axis];
    }
    return (const char *)in->memory.data + at * cpu_element_bytes(in->dtype);
}

void cpu_product_batch(const strand_plugin_node *node, int64_t entry, cpu_product *p) {
    const strand_op_matmul *o = node->params;
    uint32_t rank = node->outputs[0].rank;
    p->a.data = entry_at(node, 0, entry, node->inputs[0].rank - (o->transpose_a ? 1 : 2), rank - 2);
    p->b.data = entry_at(node, 1, entry, node->inputs[1].rank - (o->transpose_b ? 2 : 1), rank - 1);
}

const char *cpu_product_shared(const strand_plugin_node *node) {
    const strand_op_matmul *o = node->params;
    return entry_at(node, 1, 0, node->inputs[1].rank - (o->transpose_b ? 2 : 1), node->outputs[0].rank - 1);
}

typedef struct job {
    const strand_plugin_node *node;
    cpu_product product;
    cpu_product_cut cut;
    cpu_operand out;
    int64_t dims[STRAND_PLUGIN_RANK];
    float *scratch;
    int64_t each;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    cpu_product p = j->product;
    int64_t per_entry = j->cut.down * j->cut.across, entry = i / per_entry;
    int64_t column = i % per_entry / j->cut.down * j->cut.width, row = i % j->cut.down * j->cut.height;
    cpu_product_batch(j->node, entry, &p);
    float *c = (float *)(void *)cpu_row(&j->out, j->dims, entry * p.m + row) + column;
    cpu_product_block(&p, row, cpu_min(j->cut.height, p.m - row), column, cpu_min(j->cut.width, p.n - column), c,
                      j->out.strides[STRAND_PLUGIN_RANK - 2], j->scratch + worker * j->each);
}

static int64_t worker_floats(const cpu_product *p) {
    return cpu_product_scratch(p->m, p->n, p->k);
}

uint64_t cpu_matmul_scratch(const cpu_device *device, const strand_plugin_node *node) {
    if (cpu_is_quantised(node->inputs[1].dtype)) return cpu_matmul_quant_scratch(device, node);
    cpu_product p;
    cpu_product_of(node, &p);
    return (uint64_t)worker_floats(&p) * sizeof(float) * (uint64_t)cpu_workers(device);
}

CPU_KERNEL(cpu_matmul) {
    if (cpu_is_quantised(node->inputs[1].dtype)) return cpu_matmul_quant(device, node, scratch);
    const strand_plugin_tensor *out = &node->outputs[0];
    job j = {.node = node, .scratch = scratch};
    cpu_product_of(node, &j.product);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    j.each = worker_floats(&j.product);
    j.cut = cpu_product_pieces(j.dims[0] * j.dims[1], j.product.m, j.product.n, 8 * BLOCK_M, cpu_workers(device));
    cpu_parallel(device, j.cut.count, body, &j);
    return STRAND_PLUGIN_OK;
}

/* matmul.c - MATMUL: what is around the sums (matmul_kernel.h): views, biases, activations, pieces of work. */
#include "matmul.h"
#include "kernels.h"
#include "matmul_quant.h"
#include "rows.h"

static void finish(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride) {
    if (!p->bias_kind && p->activation == STRAND_UNARY_IDENTITY) return;
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
    if (p->bf16)
        cpu_product_bf16(p, row, m, column, n, c, c_stride, scratch);
    else
        cpu_product_f32(p, row, m, column, n, c, c_stride, scratch);
    finish(p, row, m, column, n, c, c_stride);
}

#define MOST_PACKED (8 << 20) /* floats */

int64_t cpu_product_pack_pieces(const cpu_product *p) {
    int64_t across = (p->n + CPU_PRODUCT_ALIGN - 1) / CPU_PRODUCT_ALIGN;
    return p->k > 0 && cpu_product_pack_floats(p) <= MOST_PACKED ? across : 0;
}

/* Places of the longest panels, which are those of F32 with chains: 264 for each 256. */
int64_t cpu_product_pack_floats(const cpu_product *p) {
    int64_t columns = (p->n + CPU_PRODUCT_ALIGN - 1) / CPU_PRODUCT_ALIGN * CPU_PRODUCT_ALIGN;
    return columns * (p->k + 7 + (p->k + 255) / 256 * 8);
}

void cpu_product_pack(const cpu_product *p, int64_t piece, float *packed) {
    if (p->bf16)
        cpu_product_pack_bf16(p, piece, packed);
    else
        cpu_product_pack_f32(p, piece, packed);
}

/* Whole register blocks of every variant. */
#define CUT_ROWS    144
#define CUT_COLUMNS CPU_PRODUCT_ALIGN
#define LEAST_WORK  (1 << 20) /* products of a piece: about 20 us */

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* Few rows read B once, row after row of it: in pieces that are narrower they would come to every page several times. */
static bool reads_along_n(const cpu_product *p) {
    return p->b.inner != 1 && p->m <= 16;
}

/* Reading a number of B takes as long as eight multiply-adds. */
static double piece_work(const cpu_product *p, const cpu_product_cut *cut) {
    return ((double)cpu_min(cut->height, p->m) + 8) * (double)cpu_min(cut->width, p->n) * (double)cpu_max(1, p->k);
}

static cpu_product_cut pieces(const cpu_product *p, int64_t most_height, int64_t most_width, int32_t workers) {
    int64_t m = p->m, n = p->n;
    cpu_product_cut cut = {.height = most_height, .width = most_width};
    if (p->entries < 1 || m < 1 || n < 1) return cut;
    for (;;) {
        cut.down = (m + cut.height - 1) / cut.height;
        cut.across = (n + cut.width - 1) / cut.width;
        cut.count = p->entries * cut.down * cut.across;
        bool small = piece_work(p, &cut) < 2.0 * LEAST_WORK;
        if (workers < 2 || cut.count >= 4 * (int64_t)workers || small) return cut;
        if (cut.height >= 2 * CUT_ROWS && m > CUT_ROWS)
            cut.height = round_up(cut.height / 2, CUT_ROWS);
        else if (cut.width > CUT_COLUMNS && n > CUT_COLUMNS)
            cut.width = round_up(cut.width / 2, CUT_COLUMNS);
        else
            return cut;
    }
}

cpu_product_cut cpu_product_pieces(const cpu_product *p, int64_t most_height, int32_t workers) {
    return pieces(p, most_height, CPU_PRODUCT_WIDTH, workers);
}

/* ---- the operator ---- */

/* Are both factors BF16, or may they become it, and is there an instruction for that? */
static bool in_bf16(const cpu_device *device, const strand_plugin_node *node) {
    const strand_op_matmul *o = node->params;
    bool are = node->inputs[0].dtype == STRAND_PLUGIN_BF16 && node->inputs[1].dtype == STRAND_PLUGIN_BF16;
    return (device->features & CPU_AVX512_BF16) && (are || o->precision == STRAND_PRECISION_BF16);
}

void cpu_product_of(const cpu_device *device, const strand_plugin_node *node, cpu_product *p) {
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
                       .beta = o->beta,
                       .bf16 = in_bf16(device, node)};
    if (o->transpose_a) p->a.outer = 1; /* an extent of 1 may come with any stride */
    if (!o->transpose_a) p->a.inner = 1;
    if (o->transpose_b) p->b.inner = 1;
    if (!o->transpose_b) p->b.outer = 1;
    if (bias) {
        uint32_t axis = out->rank - (o->bias == STRAND_BIAS_ROWS ? 2 : 1);
        p->bias_stride = bias->dims[0] > 1 ? bias->strides[0] : 1;
        p->bias = bias->memory.data ? cpu_f32(bias) + cpu_lead(bias, 0, out, axis) * p->bias_stride : NULL;
    }
    p->c_stride = out->strides[out->rank - 2];
    p->entries = 1;
    for (uint32_t axis = 0; axis + 2 < out->rank; axis++) p->entries *= out->dims[axis];
}

bool cpu_product_join(const strand_plugin_node *node, cpu_product *p) {
    const strand_op_matmul *o = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *out = &node->outputs[0];
    int64_t rows = p->m, step = p->a.outer, out_step = p->c_stride;
    if (p->entries < 2) return true;
    if (node->inputs[1].rank != 2 || a->rank != out->rank || o->transpose_a || o->bias == STRAND_BIAS_ROWS) return false;
    for (uint32_t axis = out->rank - 2; axis-- > 0;) {
        if (out->dims[axis] == 1) continue;
        if (rows == 1) step = a->strides[axis], out_step = out->strides[axis];
        if (a->strides[axis] != rows * step || out->strides[axis] != rows * out_step) return false;
        rows *= out->dims[axis];
    }
    p->m = rows;
    p->a.outer = step;
    p->c_stride = out_step;
    p->entries = 1;
    return true;
}

/* Where batch entry `entry` of matrix input i begins, at the output's first row or column (axis oa). */
static const char *entry_at(const strand_plugin_node *node, uint32_t i, int64_t entry, uint32_t ia, uint32_t oa) {
    const strand_plugin_tensor *in = &node->inputs[i], *out = &node->outputs[0];
    if (!in->memory.data) return NULL; /* prepared */
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
    const float *kept;      /* what was prepared of B, from the result's first column on */
    int64_t each, together; /* floats of a worker; pieces that are too small alone */
} job;

/* ---- small weights that are packed once for all runs ---- */

/* Too many rows to read B as it lies at full speed, and so few that packing B takes a good part of the product. Weights that
 * are stored the other way round, and large ones, are read as they lie, lest they take twice their memory. */
#define KEPT_ROWS_ABOVE 16
#define KEPT_ROWS_BELOW (3 * CUT_ROWS)
#define KEPT_FLOATS     (1 << 16)

/* B itself, for tiles of columns, and the panels of all of it. */
static int64_t kept_floats(const strand_plugin_tensor *b) {
    cpu_product whole = {.n = b->whole[1], .k = b->whole[0]};
    return round_up(whole.n * whole.k, 16) + cpu_product_pack_floats(&whole);
}

uint64_t cpu_matmul_prepare_size(const strand_plugin_node *node) {
    const strand_op_matmul *o = node->params;
    const strand_plugin_tensor *b = &node->inputs[1], *out = &node->outputs[0];
    int64_t rows = 1;
    for (uint32_t axis = 0; axis + 1 < out->rank; axis++) rows *= out->whole[axis];
    if (o->transpose_b || b->rank != 2 || b->dtype != STRAND_PLUGIN_F32 || !(b->flags & STRAND_TENSOR_CONSTANT)) return 0;
    if (b->whole[0] < 1 || b->whole[1] < 1) return 0;
    /* The rows of the longest run decide, when the plan is made: what it gave memory to is made and used by runs of any
     * length. */
    if (!node->prepared.data && (rows <= KEPT_ROWS_ABOVE || rows >= KEPT_ROWS_BELOW)) return 0;
    return b->whole[0] <= KEPT_FLOATS / b->whole[1] ? (uint64_t)kept_floats(b) * sizeof(float) : 0;
}

CPU_KERNEL(cpu_matmul_prepare) {
    const strand_plugin_tensor *b = &node->inputs[1];
    cpu_product p;
    (void)scratch;
    if (!b->memory.data)
        return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: the weight has no memory", node->name ? node->name : "matmul");
    cpu_product_of(device, node, &p);
    float *copy = node->prepared.data, *panels = copy + round_up(p.n * p.k, 16);
    p.b.data = b->memory.data;
    for (int64_t k = 0; k < p.k; k++) memcpy(copy + k * p.n, cpu_f32(b) + k * b->strides[0], (size_t)p.n * sizeof *copy);
    for (int64_t i = 0; i < cpu_product_pack_pieces(&p); i++) cpu_product_pack(&p, i, panels);
    return STRAND_PLUGIN_OK;
}

/* Makes the product read what was prepared, if that is here: the panels where the result has all columns, else B's copy. */
static const float *find_kept(const strand_plugin_node *node, cpu_product *p) {
    const strand_plugin_tensor *b = &node->inputs[1], *out = &node->outputs[0];
    const float *copy = node->prepared.data;
    if (!copy || node->prepared.bytes < (uint64_t)kept_floats(b) * sizeof(float)) return NULL;
    if (out->dims[out->rank - 1] == b->whole[1]) p->packed = copy + round_up(b->whole[0] * b->whole[1], 16);
    p->b.inner = b->whole[1];
    return copy + out->origin[out->rank - 1];
}

static void piece(const job *j, int64_t i, int32_t worker) {
    cpu_product p = j->product;
    int64_t per_entry = j->cut.down * j->cut.across, entry = i / per_entry;
    int64_t column = i % per_entry / j->cut.down * j->cut.width, row = i % j->cut.down * j->cut.height;
    cpu_product_batch(j->node, entry, &p);
    if (j->kept) p.b.data = (const char *)j->kept;
    float *c = (float *)(void *)cpu_row(&j->out, j->dims, entry * p.m + row) + column;
    cpu_product_block(&p, row, cpu_min(j->cut.height, p.m - row), column, cpu_min(j->cut.width, p.n - column), c,
                      p.c_stride, j->scratch + worker * j->each);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    for (int64_t at = i * j->together; at < cpu_min(j->cut.count, (i + 1) * j->together); at++) piece(j, at, worker);
}

int64_t cpu_product_rows(const cpu_product *p) {
    return p->m * cpu_max(1, p->entries);
}

static int64_t worker_floats(const cpu_product *p) {
    return cpu_product_scratch(cpu_product_rows(p), p->n, p->k);
}

uint64_t cpu_matmul_scratch(const cpu_device *device, const strand_plugin_node *node) {
    if (cpu_is_quantised(node->inputs[1].dtype)) return cpu_matmul_quant_scratch(device, node);
    cpu_product p;
    cpu_product_of(device, node, &p);
    cpu_product_join(node, &p);
    return (uint64_t)worker_floats(&p) * sizeof(float) * (uint64_t)cpu_workers(device);
}

CPU_KERNEL(cpu_matmul) {
    if (cpu_is_quantised(node->inputs[1].dtype)) return cpu_matmul_quant(device, node, scratch);
    const strand_plugin_tensor *out = &node->outputs[0];
    job j = {.node = node, .scratch = scratch};
    cpu_product_of(device, node, &j.product);
    cpu_product_join(node, &j.product);
    if (node->prepared.data) j.kept = find_kept(node, &j.product);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    j.each = worker_floats(&j.product);
    int64_t width = reads_along_n(&j.product) ? round_up(cpu_max(j.product.n, 1), CUT_COLUMNS) : CPU_PRODUCT_WIDTH;
    j.cut = pieces(&j.product, 8 * CUT_ROWS, width, cpu_workers(device));
    double work = piece_work(&j.product, &j.cut);
    j.together = work < LEAST_WORK && work > 0 ? (int64_t)(LEAST_WORK / work) : 1;
    cpu_parallel(device, (j.cut.count + j.together - 1) / j.together, body, &j);
    return STRAND_PLUGIN_OK;
}

/* matmul_quant.c - MATMUL with quantised weights: rounds the rows of a, shares columns among the workers, and finishes with
 * bias and activation. Rows of all batch entries that share one b are one matrix, so that each weight is read once for a few
 * hundred rows. The kernels themselves stand in matmul_quant_kernel.h. */
#include "matmul_quant.h"

#include "kernels.h"
#include "rows.h"

#define CHUNK 512 /* rows rounded and multiplied at once */

const cpu_quant_kernel *cpu_quant_kernels(const cpu_device *device, uint32_t dtype) {
    if (dtype >= STRAND_PLUGIN_Q4_1) return &cpu_quant_expand;
#if defined(__AVX512F__)
    if (device->features & CPU_AVX512_VNNI) return &cpu_quant_vnni;
#endif
    (void)device;
    return &cpu_quant_plain;
}

int64_t cpu_quant_row_bytes(const cpu_quant_kernel *kernel, int64_t k) {
    return (int64_t)cpu_round((uint64_t)(k / 32 * kernel->round_bytes));
}

void cpu_quant_round(const cpu_quant_kernel *kernel, uint32_t dtype, const void *x, uint32_t x_dtype, int64_t k,
                     char *rounded) {
    const uint16_t *h = x;
    if (x_dtype == STRAND_PLUGIN_F32) {
        kernel->round(dtype, x, k, rounded);
        return;
    }
    for (int64_t at = 0; at < k; at += 256) {
        float some[256];
        int64_t n = cpu_min(256, k - at);
        if (x_dtype == STRAND_PLUGIN_F16)
            for (int64_t i = 0; i < n; i++) some[i] = cpu_f16_to_f32(h[at + i]);
        else
            for (int64_t i = 0; i < n; i++) some[i] = cpu_bf16_to_f32(h[at + i]);
        kernel->round(dtype, some, n, rounded + at / 32 * kernel->round_bytes);
    }
}

int64_t cpu_quant_width(const cpu_quant_weights *w, int64_t rows) {
    int64_t column = cpu_max(1, cpu_max(cpu_span(w->dtype, w->k), rows * w->k / 32)); /* of some 50 ps each */
    return cpu_max(1, 400000 / column / 32) * 32;
}

/* ---- the operator ---- */

typedef struct job {
    const strand_plugin_node *node;
    const cpu_quant_kernel *kernel;
    cpu_quant_weights w;
    cpu_operand a, out;
    int64_t dims[STRAND_PLUGIN_RANK];
    int64_t first, rows; /* of this round */
    int64_t row_bytes, width, height;
    char *rounded, *panels;
    const char **starts;
    float **results;
    const float *bias;
    int64_t bias_stride;
} job;

/* a seen through the output's axes, without its last one. */
static void place_a(const strand_plugin_tensor *out, const strand_plugin_tensor *a, cpu_operand *o) {
    int64_t first = 0;
    *o = (cpu_operand){.bytes = cpu_element_bytes(a->dtype)};
    for (uint32_t axis = 0; axis + 1 < a->rank; axis++) {
        uint32_t oa = axis + out->rank - a->rank;
        o->strides[STRAND_PLUGIN_RANK - out->rank + oa] = a->strides[axis];
        first += cpu_lead(a, axis, out, oa) * a->strides[axis];
    }
    o->base = a->memory.data ? (char *)a->memory.data + first * o->bytes : NULL;
}

/* The weights of batch entry `entry`, at the output's first column. */
static const uint8_t *weights_of(const strand_plugin_node *node, int64_t entry) {
    const strand_plugin_tensor *b = &node->inputs[1], *out = &node->outputs[0];
    int64_t at = cpu_lead(b, b->rank - 2, out, out->rank - 1) * b->strides[b->rank - 2];
    for (uint32_t axis = out->rank - 2; axis-- > 0 && b->rank > 2;) {
        at += (entry % out->dims[axis] + cpu_lead(b, axis, out, axis)) * b->strides[axis];
        entry /= out->dims[axis];
    }
    return (const uint8_t *)b->memory.data + cpu_span(b->dtype, at);
}

static void round_rows(void *arg, int64_t i, int32_t worker) {
    job *j = arg;
    int64_t end = cpu_min((i + 1) * j->height, j->rows);
    (void)worker;
    for (int64_t r = i * j->height; r < end; r++) {
        char *to = j->rounded + r * j->row_bytes;
        cpu_quant_round(j->kernel, j->w.dtype, cpu_row(&j->a, j->dims, j->first + r), j->node->inputs[0].dtype, j->w.k, to);
        j->starts[r] = to;
        j->results[r] = (float *)(void *)cpu_row(&j->out, j->dims, j->first + r);
    }
}

static void finish(const job *j, int64_t row, int64_t column, int64_t n) {
    const strand_op_matmul *p = j->node->params;
    float *c = j->results[row] + column;
    int64_t m = (j->first + row) % j->dims[STRAND_PLUGIN_RANK - 2];
    if (p->bias == STRAND_BIAS_ROWS) cpu_binary_row(STRAND_BINARY_ADD, c, c, j->bias + m * j->bias_stride, 0, n);
    if (p->bias == STRAND_BIAS_COLUMNS) cpu_binary_row(STRAND_BINARY_ADD, c, c, j->bias + column * j->bias_stride, 1, n);
    if (p->activation) cpu_unary_row(p->activation, p->alpha, p->beta, c, c, n);
}

static void multiply(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t column = i * j->width, n = cpu_min(j->width, j->w.n - column);
    float *c[CHUNK];
    for (int64_t r = 0; r < j->rows; r++) c[r] = j->results[r] + column;
    j->kernel->columns(&j->w, column, n, j->starts, c, j->rows,
                       j->panels + worker * (int64_t)cpu_round((uint64_t)j->kernel->panel_bytes));
    for (int64_t r = 0; r < j->rows; r++) finish(j, r, column, n);
}

/* Rows [first, last) of the output, all with the same weights. */
static void run_rows(const cpu_device *device, job *j, int64_t first, int64_t last) {
    j->height = cpu_max(1, 32768 / cpu_max(1, j->w.k));
    for (j->first = first; j->first < last; j->first += CHUNK) {
        j->rows = cpu_min(CHUNK, last - j->first);
        int64_t pieces = (j->rows + j->height - 1) / j->height;
        if (pieces == 1)
            round_rows(j, 0, 0);
        else
            cpu_parallel(device, pieces, round_rows, j);
        j->width = cpu_quant_width(&j->w, j->rows);
        cpu_parallel(device, (j->w.n + j->width - 1) / j->width, multiply, j);
    }
}

/* The rows that one chunk has at most. */
static int64_t most_rows(const strand_plugin_node *node) {
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_extents(&node->outputs[0], dims);
    return cpu_min(CHUNK, cpu_rows(dims));
}

uint64_t cpu_matmul_quant_scratch(const cpu_device *device, const strand_plugin_node *node) {
    const cpu_quant_kernel *kernel = cpu_quant_kernels(device, node->inputs[1].dtype);
    int64_t k = node->inputs[0].dims[node->inputs[0].rank - 1], rows = most_rows(node);
    uint64_t each = (uint64_t)cpu_quant_row_bytes(kernel, k) + sizeof(char *) + sizeof(float *);
    return (uint64_t)rows * each + cpu_round((uint64_t)kernel->panel_bytes) * (uint64_t)cpu_workers(device) + CPU_ALIGN;
}

strand_plugin_status cpu_matmul_quant(const cpu_device *device, const strand_plugin_node *node, void *scratch) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *out = &node->outputs[0];
    job j = {.node = node, .kernel = cpu_quant_kernels(device, b->dtype)};
    int64_t rows = most_rows(node), k = a->dims[a->rank - 1];
    j.w = (cpu_quant_weights){b->dtype, NULL, cpu_span(b->dtype, b->strides[b->rank - 2]), out->dims[out->rank - 1], k};
    j.row_bytes = cpu_quant_row_bytes(j.kernel, k);
    j.panels = scratch;
    j.rounded = j.panels + cpu_round((uint64_t)j.kernel->panel_bytes) * (uint64_t)cpu_workers(device);
    j.starts = (const char **)(void *)(j.rounded + rows * j.row_bytes);
    j.results = (float **)(void *)(j.starts + rows);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    place_a(out, a, &j.a);
    if (p->bias) {
        const strand_plugin_tensor *bias = &node->inputs[2];
        j.bias_stride = bias->dims[0] > 1 ? bias->strides[0] : 1;
        j.bias = cpu_f32(bias) + cpu_lead(bias, 0, out, out->rank - (p->bias == STRAND_BIAS_ROWS ? 2 : 1)) * j.bias_stride;
    }
    int64_t m = j.dims[STRAND_PLUGIN_RANK - 2], all = cpu_rows(j.dims);
    if (all < 1 || j.w.n < 1) return STRAND_PLUGIN_OK;
    int64_t together = b->rank == 2 ? all : m; /* rows that share their weights */
    for (int64_t first = 0; first < all; first += together) {
        j.w.data = weights_of(node, first / m);
        run_rows(device, &j, first, first + together);
    }
    return STRAND_PLUGIN_OK;
}

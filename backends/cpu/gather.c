/* gather.c - GATHER: rows of a table by their ids. All ids are checked before the first row is written, so a failed call
 * leaves the output as it was. */
#include "half.h"
#include "kernels.h"
#include "quant.h"

typedef struct job {
    const strand_plugin_node *node;
    cpu_operand out, ids;
    int64_t dims[STRAND_PLUGIN_RANK], height, rows, column;
} job;

/* The ids seen through the output's axes; its last axis has no part in them. */
static void place_ids(const strand_plugin_tensor *out, const strand_plugin_tensor *ids, cpu_operand *o) {
    int64_t first = 0;
    *o = (cpu_operand){.bytes = cpu_element_bytes(ids->dtype)};
    for (uint32_t axis = 0; axis < ids->rank; axis++) {
        first += cpu_lead(ids, axis, out, axis) * ids->strides[axis];
        o->strides[STRAND_PLUGIN_RANK - out->rank + axis] = ids->strides[axis];
    }
    o->base = (char *)ids->memory.data + first * o->bytes;
}

static int64_t id_at(const job *j, int64_t row) {
    const void *at = cpu_row(&j->ids, j->dims, row);
    return j->ids.bytes == 8 ? *(const int64_t *)at : *(const int32_t *)at;
}

static void copy_row(float *y, const strand_plugin_tensor *table, int64_t first, int64_t n) {
    const uint16_t *h =
        (const uint16_t *)table->memory.data + (cpu_is_float(table->dtype) && table->dtype != STRAND_PLUGIN_F32 ? first : 0);
    if (cpu_is_quantised(table->dtype)) cpu_dequantise(table->dtype, table->memory.data, first, n, y);
    if (table->dtype == STRAND_PLUGIN_F32) memcpy(y, (const float *)table->memory.data + first, (size_t)n * sizeof *y);
    if (table->dtype == STRAND_PLUGIN_F16)
        for (int64_t i = 0; i < n; i++) y[i] = cpu_f16_to_f32(h[i]);
    if (table->dtype == STRAND_PLUGIN_BF16)
        for (int64_t i = 0; i < n; i++) y[i] = cpu_bf16_to_f32(h[i]);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const strand_plugin_tensor *table = &j->node->inputs[0];
    int64_t end = cpu_min((i + 1) * j->height, j->rows);
    (void)worker;
    for (int64_t row = i * j->height; row < end; row++) {
        int64_t first = id_at(j, row) * table->strides[0] + j->column;
        copy_row((float *)(void *)cpu_row(&j->out, j->dims, row), table, first, j->dims[STRAND_PLUGIN_RANK - 1]);
    }
}

CPU_KERNEL(cpu_gather) {
    const strand_plugin_tensor *table = &node->inputs[0], *out = &node->outputs[0];
    job j = {.node = node, .column = cpu_lead(table, 1, out, out->rank - 1)};
    (void)scratch;
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    place_ids(out, &node->inputs[1], &j.ids);
    j.rows = cpu_rows(j.dims);
    j.height = cpu_max(1, 16384 / cpu_max(1, j.dims[STRAND_PLUGIN_RANK - 1]));
    for (int64_t row = 0; row < j.rows; row++) {
        int64_t id = id_at(&j, row);
        if (id < 0 || id >= table->dims[0]) {
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: id %lld is outside the table of %lld rows",
                            node->name ? node->name : "gather", (long long)id, (long long)table->dims[0]);
        }
    }
    cpu_parallel(device, (j.rows + j.height - 1) / j.height, body, &j);
    return STRAND_PLUGIN_OK;
}

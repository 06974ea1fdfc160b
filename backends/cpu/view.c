/* view.c - how kernels see tensors: every operand through the output's axes, rows along the last one, and the cutting of rows
 * into pieces of work. The cuts follow from the shape alone, never from the number of workers. */
#include "cpu.h"

void cpu_extents(const strand_plugin_tensor *out, int64_t dims[STRAND_PLUGIN_RANK]) {
    for (uint32_t i = 0; i < STRAND_PLUGIN_RANK; i++) {
        uint32_t absent = STRAND_PLUGIN_RANK - out->rank;
        dims[i] = i < absent ? 1 : out->dims[i - absent];
    }
}

bool cpu_place(const strand_plugin_tensor *out, const strand_plugin_tensor *in, bool broadcast, cpu_operand *operand) {
    int64_t first = 0;
    if (in->rank > out->rank) return false;
    operand->bytes = cpu_element_bytes(in->dtype);
    for (uint32_t i = 0; i < STRAND_PLUGIN_RANK; i++) {
        uint32_t absent_out = STRAND_PLUGIN_RANK - out->rank, absent_in = STRAND_PLUGIN_RANK - in->rank;
        operand->strides[i] = 0;
        if (i < absent_out) continue;
        uint32_t oa = i - absent_out;
        if (i < absent_in) {
            if (!broadcast && out->dims[oa] != 1) return false;
            continue;
        }
        uint32_t ia = i - absent_in;
        if (broadcast && in->dims[ia] == 1) continue;
        int64_t lead = cpu_lead(in, ia, out, oa);
        if (lead < 0) return false;
        operand->strides[i] = in->strides[ia];
        first += lead * in->strides[ia];
    }
    operand->base = in->memory.data ? (char *)in->memory.data + first * operand->bytes : NULL;
    return true;
}

void cpu_collapse(int64_t dims[STRAND_PLUGIN_RANK], cpu_operand *const operands[], int n) {
    int last = STRAND_PLUGIN_RANK - 1, axis = last - 1;
    for (; axis >= 0; axis--) {
        bool dense = true;
        for (int i = 0; i < n; i++) {
            const int64_t *s = operands[i]->strides;
            dense = dense && (dims[axis] == 1 || s[axis] == s[last] * dims[last]);
        }
        if (!dense) break;
        dims[last] *= dims[axis];
        dims[axis] = 1;
    }
}

cpu_pieces cpu_cut(const int64_t dims[STRAND_PLUGIN_RANK]) {
    const int64_t piece = 16384;
    cpu_pieces p = {.rows = cpu_rows(dims), .columns = dims[STRAND_PLUGIN_RANK - 1]};
    if (p.columns < 1 || p.rows < 1) return p;
    p.width = cpu_min(p.columns, piece);
    p.height = cpu_max(1, piece / p.columns);
    p.across = (p.columns + p.width - 1) / p.width;
    p.count = p.across * ((p.rows + p.height - 1) / p.height);
    return p;
}

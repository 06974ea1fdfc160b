/* attention.c - ATTENTION: the node unpacked, the range of keys of each query, and the choice between the kernel for many
 * rows and the one for a step (attention.h says how they share the work). */
#include "attention.h"

void cpu_attention_of(const strand_plugin_node *node, cpu_heads *a) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *out = &node->outputs[0];
    *a = (cpu_heads){.node = node, .p = p, .bias = cpu_input(node, 4), .mask = cpu_input(node, 5)};
    a->batch = out->dims[0];
    a->tokens = out->dims[1];
    a->first = out->origin[1];
    a->length = out->whole[1];
    a->keys = k->dims[1];
    a->heads = p->heads;
    a->kv_heads = p->kv_heads;
    a->group = p->heads / p->kv_heads;
    a->d = q->dims[2] / p->heads;
    a->dv = v->dims[2] / p->kv_heads;
    a->factor = p->softcap > 0 ? p->scale : p->scale * LOG2_E;
    a->sees_all = !p->window && !a->mask;
}

int64_t cpu_attention_valid(const cpu_heads *a, int64_t b) {
    const strand_plugin_tensor *t = cpu_input(a->node, 3);
    if (!t) return a->keys;
    int64_t i = t->whole[0] == 1 ? 0 : (cpu_lead(t, 0, &a->node->outputs[0], 0) + b) * t->strides[0];
    return t->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)t->memory.data)[i] : ((const int32_t *)t->memory.data)[i];
}

cpu_attention_row cpu_attention_row_at(const cpu_heads *a, int64_t b, int64_t kv_head, int64_t row) {
    const strand_op_attention *p = a->p;
    cpu_attention_row r = {.token = row / a->group, .head = kv_head * a->group + row % a->group};
    int64_t valid = cpu_attention_valid(a, b), t = a->first + r.token, position = valid - a->length + t;
    r.high = p->causal ? cpu_min(valid, position + 1) : valid;
    if (p->window > 0) {
        int64_t window = cpu_min(p->window, (int64_t)1 << 60);
        r.low = cpu_max(0, position - window + 1);
        if (!p->causal && position < valid - window) r.high = cpu_max(position + window, cpu_min(valid, p->sinks));
    }
    r.high = cpu_max(0, r.high);
    if (a->bias)
        r.bias = cpu_f32(a->bias) + (a->bias->dims[0] == 1 ? 0 : r.head) * a->bias->strides[0] +
                 (t - a->bias->origin[1]) * a->bias->strides[1];
    if (a->mask)
        r.mask = (const int32_t *)a->mask->memory.data + (a->mask->dims[0] == 1 ? 0 : r.head) * a->mask->strides[0] +
                 t / p->block * a->mask->strides[1];
    return r;
}

uint64_t cpu_attention_scratch(const cpu_device *device, const strand_plugin_node *node) {
    cpu_heads a;
    cpu_attention_of(node, &a);
    uint64_t rows = cpu_attention_rows_scratch(device, &a), step = cpu_attention_step_scratch(device, &a);
    return rows > step ? rows : step;
}

CPU_KERNEL(cpu_attention) {
    cpu_heads a;
    cpu_attention_of(node, &a);
    for (int64_t b = 0; b < a.batch; b++) {
        int64_t valid = cpu_attention_valid(&a, b);
        if (valid < 0 || valid > a.keys)
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: kv_length %lld is outside [0, %lld]",
                            node->name ? node->name : "attention", (long long)valid, (long long)a.keys);
    }
    if (a.group * cpu_min(a.length, STEP_ROWS + 1) <= STEP_ROWS)
        cpu_attention_step(device, &a, scratch);
    else
        cpu_attention_rows(device, &a, scratch);
    return STRAND_PLUGIN_OK;
}

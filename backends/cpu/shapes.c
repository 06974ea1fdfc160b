/* shapes.c - RESHAPE, CONCAT, SLICE, PERMUTE, PAD and REPEAT: which elements go where. Moving them is the work of copies.c. */
#include "copies.h"
#include "kernels.h"
#include "shapes.h"

#include <string.h>

/* A copy of elements of `out`'s type to all of `out`, whose axes are the last loops; the source is still to be told. */
static cpu_copy copy_to(const strand_plugin_tensor *out) {
    cpu_copy c = {.to = out->memory.data, .bytes = cpu_element_bytes(out->dtype)};
    for (int i = 0; i < CPU_COPY_LOOPS; i++) {
        int axis = i - (CPU_COPY_LOOPS - (int)out->rank);
        c.n[i] = axis < 0 ? 1 : out->dims[axis];
        c.to_step[i] = axis < 0 ? 0 : out->strides[axis];
    }
    if (c.n[CPU_COPY_LOOPS - 1] == 1) c.to_step[CPU_COPY_LOOPS - 1] = 1; /* an extent of 1 may come with any stride */
    return c;
}

static int loop_of(const strand_plugin_tensor *out, uint32_t axis) {
    return CPU_COPY_LOOPS - (int)out->rank + (int)axis;
}

/* Tells the copy that its source is `in`, axis by axis the same place; axis `but` begins at index `first` and goes by
 * `step`. */
static void copy_from(cpu_copy *c, const strand_plugin_tensor *out, const strand_plugin_tensor *in, int but, int64_t first,
                      int64_t step) {
    int64_t at = 0;
    for (uint32_t axis = 0; axis < in->rank; axis++) {
        int loop = loop_of(out, axis);
        int64_t stride = axis + 1 == in->rank ? 1 : in->strides[axis];
        c->from_step[loop] = (int)axis == but ? step * stride : stride;
        at += ((int)axis == but ? first : cpu_lead(in, axis, out, axis)) * stride;
    }
    c->from = (const char *)in->memory.data + at * c->bytes;
}

CPU_KERNEL(cpu_concat) {
    const strand_op_concat *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    uint32_t axis = cpu_axis(p->axis, out->rank);
    cpu_copy copies[STRAND_PLUGIN_MAX_INPUTS];
    int64_t before = 0;
    (void)scratch;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const strand_plugin_tensor *in = &node->inputs[i];
        copies[i] = copy_to(out);
        copies[i].to += before * (axis + 1 == out->rank ? 1 : out->strides[axis]) * copies[i].bytes;
        copies[i].n[loop_of(out, axis)] = in->dims[axis];
        copy_from(&copies[i], out, in, (int)axis, 0, 1);
        before += in->dims[axis];
    }
    cpu_copies(device, copies, (int)node->n_inputs);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_slice) {
    const strand_op_slice *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t axis = cpu_axis(p->axis, x->rank);
    cpu_copy c = copy_to(out);
    (void)scratch;
    if (cpu_slice_is_all(p))
        copy_from(&c, out, x, -1, 0, 0);
    else
        copy_from(&c, out, x, (int)axis, p->begin < 0 ? p->begin + x->dims[axis] : p->begin, p->step);
    cpu_copies(device, &c, 1);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_permute) {
    const strand_op_permute *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    cpu_copy c = copy_to(out);
    int64_t at = 0;
    (void)scratch;
    for (uint32_t i = 0; i < out->rank; i++) {
        uint32_t axis = p->axes[i];
        int64_t stride = axis + 1 == x->rank ? 1 : x->strides[axis];
        c.from_step[loop_of(out, i)] = stride;
        at += cpu_lead(x, axis, out, i) * stride;
    }
    c.from = (const char *)x->memory.data + at * c.bytes;
    cpu_copies(device, &c, 1);
    return STRAND_PLUGIN_OK;
}

/* Bits of `value` in elements of the output's type. */
static void make_value(const strand_plugin_tensor *out, float value, char bits[8]) {
    uint16_t half = out->dtype == STRAND_PLUGIN_F16 ? cpu_f32_to_f16(value) : cpu_f32_to_bf16(value);
    memset(bits, 0, 8);
    if (out->dtype == STRAND_PLUGIN_F32) memcpy(bits, &value, 4);
    if (out->dtype == STRAND_PLUGIN_F16 || out->dtype == STRAND_PLUGIN_BF16) memcpy(bits, &half, 2);
}

CPU_KERNEL(cpu_pad) {
    const strand_op_pad *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int axis = (int)cpu_axis(p->axis, x->rank), loop = loop_of(out, (uint32_t)axis);
    int64_t n = x->dims[axis], starts[3] = {0, p->before, p->before + n}, counts[3] = {p->before, n, p->after};
    int64_t firsts[3] = {p->before, 0, n - 2}; /* REFLECT: in[before], in[before - 1], ... and in[n - 2], in[n - 3], ... */
    char value[8];
    cpu_copy copies[3];
    (void)scratch;
    make_value(out, p->value, value);
    for (int i = 0; i < 3; i++) {
        cpu_copy *c = &copies[i];
        *c = copy_to(out);
        c->to += starts[i] * c->to_step[loop] * c->bytes;
        c->n[loop] = counts[i];
        if (i != 1 && p->mode == STRAND_PAD_VALUE)
            c->from = value;
        else if (i == 1)
            copy_from(c, out, x, axis, 0, 1);
        else if (p->mode == STRAND_PAD_EDGE)
            copy_from(c, out, x, axis, i ? n - 1 : 0, 0);
        else
            copy_from(c, out, x, axis, firsts[i], -1);
    }
    cpu_copies(device, copies, 3);
    return STRAND_PLUGIN_OK;
}

/* The axis becomes two loops: the times, and its indices. */
CPU_KERNEL(cpu_repeat) {
    const strand_op_repeat *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int axis = (int)cpu_axis(p->axis, x->rank), loop = loop_of(out, (uint32_t)axis);
    int64_t n = x->dims[axis];
    cpu_copy c = copy_to(out);
    (void)scratch;
    copy_from(&c, out, x, axis, 0, 1);
    for (int i = 0; i < loop; i++) { /* loop 0 is free: tensors have four axes */
        c.n[i] = c.n[i + 1], c.to_step[i] = c.to_step[i + 1], c.from_step[i] = c.from_step[i + 1];
    }
    int outer = loop - 1;
    int64_t to = c.to_step[loop], from = c.from_step[loop];
    if (p->interleave) {
        c.n[outer] = n, c.to_step[outer] = to * p->times, c.from_step[outer] = from;
        c.n[loop] = p->times, c.to_step[loop] = to, c.from_step[loop] = 0;
    } else {
        c.n[outer] = p->times, c.to_step[outer] = to * n, c.from_step[outer] = 0;
        c.n[loop] = n, c.to_step[loop] = to, c.from_step[loop] = from;
    }
    cpu_copies(device, &c, 1);
    return STRAND_PLUGIN_OK;
}

/* ---- RESHAPE: both sides in row-major order, by what is dense in both ---- */

typedef struct order {
    char *data;
    int64_t n[STRAND_PLUGIN_RANK], step[STRAND_PLUGIN_RANK], dense; /* dense: elements in a row without gaps */
} order;

typedef struct reshape_job {
    order to, from;
    int64_t bytes, count, piece;
} reshape_job;

static order order_of(const strand_plugin_tensor *t, const int64_t *first, const int64_t *n) {
    order o = {.data = t->memory.data, .dense = 1};
    bool dense = true;
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) o.n[i] = 1, o.step[i] = 0;
    for (int i = (int)t->rank - 1; i >= 0; i--) {
        int k = STRAND_PLUGIN_RANK - (int)t->rank + i;
        o.n[k] = n[i];
        o.step[k] = i + 1 == (int)t->rank ? 1 : t->strides[i];
        o.data += first[i] * o.step[k] * cpu_element_bytes(t->dtype);
        dense = dense && (n[i] == 1 || o.step[k] == o.dense);
        if (dense) o.dense *= n[i];
    }
    return o;
}

static char *element_at(const order *o, int64_t at, int64_t bytes) {
    int64_t place = 0;
    for (int i = STRAND_PLUGIN_RANK - 1; i >= 0; at /= o->n[i], i--) place += at % o->n[i] * o->step[i];
    return o->data + place * bytes;
}

static void reshape_body(void *arg, int64_t i, int32_t worker) {
    const reshape_job *j = arg;
    int64_t end = cpu_min((i + 1) * j->piece, j->count);
    (void)worker;
    for (int64_t at = i * j->piece; at < end;) {
        int64_t to_left = j->to.dense - at % j->to.dense, from_left = j->from.dense - at % j->from.dense;
        int64_t n = cpu_min(end - at, cpu_min(to_left, from_left));
        memcpy(element_at(&j->to, at, j->bytes), element_at(&j->from, at, j->bytes), (size_t)(n * j->bytes));
        at += n;
    }
}

CPU_KERNEL(cpu_reshape) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int64_t first[STRAND_PLUGIN_RANK] = {0}, n[STRAND_PLUGIN_RANK], none[STRAND_PLUGIN_RANK] = {0};
    reshape_job j = {.bytes = cpu_element_bytes(out->dtype), .count = 1, .piece = 65536};
    (void)scratch;
    for (uint32_t i = 0; i < out->rank; i++) j.count *= out->dims[i];
    if (j.count < 1) return STRAND_PLUGIN_OK;
    cpu_reshape_source(x, out, first, n);
    j.to = order_of(out, none, out->dims);
    j.from = order_of(x, first, n);
    if (j.to.data != j.from.data) cpu_parallel(device, (j.count + j.piece - 1) / j.piece, reshape_body, &j);
    return STRAND_PLUGIN_OK;
}

/* ops_shapes.c - operators that move elements on the GPU plugins (kernels/shapes.k). Each is one or a few copies, in which
 * the items are counted in row-major order on both sides, and each side has axes of its own: where neighbouring axes lie
 * without a gap they are one, whatever the other side does.
 *
 * Invariants: at most six axes a side (four of the tensor, one more of REPEAT, one more of elements of two words); a copy of no
 * items is left out, so an empty input is never bound. */
#include "gpu.h"
#include "shapes.h"

#define AXES 6

/* Axes outermost first, and the element that the first item stands at. */
typedef struct side {
    int64_t n[AXES], step[AXES], at;
    int axes;
} side;

typedef struct copy {
    const strand_plugin_tensor *x; /* NULL: every element becomes `bits` */
    uint32_t bits;
    side to, from;
} copy;

/* One more axis, inside the others. */
static void push(side *s, int64_t n, int64_t step) {
    if (n == 1) return;
    if (s->axes && s->step[s->axes - 1] == step * n) {
        s->n[s->axes - 1] *= n;
        s->step[s->axes - 1] = step;
        return;
    }
    s->n[s->axes] = n;
    s->step[s->axes++] = step;
}

static void push_row(side *s) {
    s->n[s->axes] = 1;
    s->step[s->axes++] = 1;
}

/* All of `out`, or its indices [first, first + n) of `axis`. */
static side side_of(const strand_plugin_tensor *out, int axis, int64_t first, int64_t n) {
    side s = {.axes = 0};
    for (int i = 0; i < (int)out->rank; i++) push(&s, i == axis ? n : out->dims[i], out->strides[i]);
    if (axis >= 0) s.at = first * out->strides[axis];
    return s;
}

/* Axis by axis what stands under `out` in x; of `axis` n indices from `first` on, by `step`. */
static side source_of(const strand_plugin_tensor *out, const strand_plugin_tensor *x, int axis, int64_t first, int64_t n,
                      int64_t step) {
    side s = {.axes = 0};
    for (int i = 0; i < (int)x->rank; i++) {
        push(&s, i == axis ? n : out->dims[i], i == axis ? step * x->strides[i] : x->strides[i]);
        s.at += (i == axis ? first : cpu_lead(x, (uint32_t)i, out, (uint32_t)i)) * x->strides[i];
    }
    return s;
}

static int64_t items_of(const side *s) {
    int64_t n = 1;
    for (int i = 0; i < s->axes; i++) n *= s->n[i];
    return n;
}

/* Elements of 8 bytes as words. */
static void in_words(side *s) {
    for (int i = 0; i < s->axes; i++) s->step[i] *= 2;
    s->at *= 2;
    push(s, 2, 1);
}

static void push_side(gpu_dispatch *d, const side *s) {
    gpu_int(d, s->axes);
    for (int i = 0; i < AXES; i++) gpu_int(d, i < s->axes ? s->n[i] : 1);
    for (int i = 0; i < AXES; i++) gpu_int(d, i < s->axes ? s->step[i] : 0);
}

static strand_plugin_status run_copy(strand_plugin_device *device, const strand_plugin_tensor *out, copy c) {
    int64_t bytes = cpu_element_bytes(out->dtype), items = items_of(&c.to), row = 0;
    gpu_dispatch d;
    if (items < 1) return STRAND_PLUGIN_OK;
    gpu_begin(&d, bytes == 2 ? GPU_K_copy_halves : GPU_K_copy_words);
    gpu_bind_or(device, &d, c.x, out);
    gpu_bind(device, &d, out);
    if (bytes == 8) {
        in_words(&c.to), in_words(&c.from);
        items *= 2;
        d.params[0] *= 2, d.params[1] *= 2;
    }
    if (!c.to.axes || (bytes == 2 && c.to.step[c.to.axes - 1] != 1)) push_row(&c.to);
    if (!c.from.axes) push_row(&c.from);
    if (bytes == 2) {
        int64_t *last = &c.to.n[c.to.axes - 1];
        row = *last;
        *last = row / 2 + 1; /* words that it may touch */
        items = items / row * *last;
    }
    d.params[0] += (int32_t)c.from.at;
    d.params[1] += (int32_t)c.to.at;
    gpu_int(&d, items);
    gpu_int(&d, c.x == NULL);
    gpu_int(&d, c.bits);
    push_side(&d, &c.to);
    push_side(&d, &c.from);
    gpu_int(&d, row);
    return gpu_over(device, &d, items);
}

/* Items are numbered by 31 bits, and an element is up to two of them. */
static bool countable(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const int64_t most = (int64_t)1 << 29;
    for (uint32_t i = 0; i < node->n_inputs + node->n_outputs; i++) {
        const strand_plugin_tensor *t = i < node->n_inputs ? &node->inputs[i] : &node->outputs[i - node->n_inputs];
        int64_t last = 1;
        for (uint32_t axis = 0; axis < t->rank; axis++) last += t->dims[axis] > 0 ? (t->dims[axis] - 1) * t->strides[axis] : 0;
        if (last > (cpu_element_bytes(t->dtype) == 8 ? most : 2 * most))
            return cpu_no(why, why_bytes, "more elements than are numbered here");
    }
    return true;
}

#define SUPPORTS(name)                                                                                                   \
    bool gpu_supports_##name(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) { \
        (void)device;                                                                                                    \
        return countable(node, why, why_bytes);                                                                          \
    }
SUPPORTS(reshape)
SUPPORTS(concat)
SUPPORTS(slice)
SUPPORTS(permute)
SUPPORTS(pad)
SUPPORTS(repeat)

static bool same_place(const strand_plugin_tensor *a, const strand_plugin_tensor *b, const side *to, const side *from) {
    int64_t bytes = cpu_element_bytes(a->dtype);
    if (a->memory.buffer != b->memory.buffer || to->axes != from->axes) return false;
    if ((int64_t)a->memory.offset + from->at * bytes != (int64_t)b->memory.offset + to->at * bytes) return false;
    for (int i = 0; i < to->axes; i++)
        if (to->n[i] != from->n[i] || to->step[i] != from->step[i]) return false;
    return true;
}

GPU_RUN(reshape) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int64_t first[STRAND_PLUGIN_RANK] = {0}, n[STRAND_PLUGIN_RANK];
    copy c = {.x = x, .to = side_of(out, -1, 0, 0)};
    (void)scratch;
    cpu_reshape_source(x, out, first, n);
    for (uint32_t i = 0; i < x->rank; i++) {
        push(&c.from, n[i], x->strides[i]);
        c.from.at += first[i] * x->strides[i];
    }
    if (same_place(x, out, &c.to, &c.from)) return STRAND_PLUGIN_OK; /* in place: the elements are where they should be */
    return run_copy(device, out, c);
}

GPU_RUN(concat) {
    const strand_op_concat *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int axis = (int)cpu_axis(p->axis, out->rank);
    int64_t before = 0;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    (void)scratch;
    for (uint32_t i = 0; i < node->n_inputs && !status; i++) {
        const strand_plugin_tensor *in = &node->inputs[i];
        int64_t n = in->dims[axis];
        copy c = {.x = in, .to = side_of(out, axis, before, n), .from = source_of(out, in, axis, 0, n, 1)};
        status = run_copy(device, out, c);
        before += n;
    }
    return status;
}

GPU_RUN(slice) {
    const strand_op_slice *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int axis = (int)cpu_axis(p->axis, out->rank);
    copy c = {.x = x, .to = side_of(out, -1, 0, 0)};
    (void)scratch;
    c.from = cpu_slice_is_all(p)
                 ? source_of(out, x, -1, 0, 0, 0)
                 : source_of(out, x, axis, p->begin < 0 ? p->begin + x->dims[axis] : p->begin, out->dims[axis], p->step);
    if (same_place(x, out, &c.to, &c.from)) return STRAND_PLUGIN_OK;
    return run_copy(device, out, c);
}

/* The last axis of y is not that of x, and both are long enough for tiles. Axes of y: j is its last one, k the last one of
 * x. */
static bool transposes(const strand_op_permute *p, const strand_plugin_tensor *out, uint32_t *k) {
    uint32_t j = out->rank - 1;
    for (uint32_t i = 0; i < out->rank; i++)
        if (p->axes[i] == j) *k = i;
    return cpu_element_bytes(out->dtype) == 4 && *k != j && out->dims[j] >= 8 && out->dims[*k] >= 8;
}

static strand_plugin_status transpose(strand_plugin_device *device, const strand_op_permute *p, const strand_plugin_tensor *x,
                                      const strand_plugin_tensor *out, uint32_t k) {
    const int64_t edge = 32;
    uint32_t j = out->rank - 1;
    int64_t n[4] = {out->dims[j], out->dims[k], 1, 1}, to[4] = {out->strides[j], out->strides[k]}; /* j, k, b, a */
    int64_t from[4] = {x->strides[p->axes[j]], x->strides[p->axes[k]]}, first = 0;
    gpu_dispatch d;
    int other = 2;
    for (uint32_t i = 0; i < out->rank; i++) {
        first += cpu_lead(x, p->axes[i], out, i) * x->strides[p->axes[i]];
        if (i == j || i == k) continue;
        n[other] = out->dims[i], to[other] = out->strides[i], from[other++] = x->strides[p->axes[i]];
    }
    int64_t along_j = (n[0] + edge - 1) / edge, along_k = (n[1] + edge - 1) / edge, tiles = along_j * along_k * n[2] * n[3];
    gpu_begin(&d, GPU_K_copy_transposed);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, out);
    d.params[0] += (int32_t)first;
    gpu_int(&d, tiles);
    gpu_int(&d, along_j);
    gpu_int(&d, along_k);
    gpu_ints(&d, n, 3);
    gpu_ints(&d, to, 4);
    gpu_ints(&d, from, 4);
    return gpu_rows(device, &d, tiles);
}

GPU_RUN(permute) {
    const strand_op_permute *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    copy c = {.x = x, .to = side_of(out, -1, 0, 0)};
    uint32_t k = 0;
    (void)scratch;
    if (transposes(p, out, &k)) return transpose(device, p, x, out, k);
    for (uint32_t i = 0; i < out->rank; i++) {
        push(&c.from, out->dims[i], x->strides[p->axes[i]]);
        c.from.at += cpu_lead(x, p->axes[i], out, i) * x->strides[p->axes[i]];
    }
    if (same_place(x, out, &c.to, &c.from)) return STRAND_PLUGIN_OK;
    return run_copy(device, out, c);
}

/* Bits of `value` as an element of the output's type, or as each of its words. */
static uint32_t bits_of(const strand_plugin_tensor *out, float value) {
    uint32_t bits = 0;
    if (out->dtype == STRAND_PLUGIN_F32) memcpy(&bits, &value, sizeof bits);
    if (out->dtype == STRAND_PLUGIN_F16) bits = cpu_f32_to_f16(value);
    if (out->dtype == STRAND_PLUGIN_BF16) bits = cpu_f32_to_bf16(value);
    return bits;
}

/* What stands before x, x, and what stands behind it. */
GPU_RUN(pad) {
    const strand_op_pad *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int axis = (int)cpu_axis(p->axis, out->rank);
    int64_t n = x->dims[axis], starts[3] = {0, p->before, p->before + n}, counts[3] = {p->before, n, p->after};
    int64_t reflected[3] = {p->before, 0, n - 2}, edges[3] = {0, 0, n - 1};
    strand_plugin_status status = STRAND_PLUGIN_OK;
    (void)scratch;
    for (int i = 0; i < 3 && !status; i++) {
        copy c = {.x = x, .bits = bits_of(out, p->value), .to = side_of(out, axis, starts[i], counts[i])};
        if (i == 1)
            c.from = source_of(out, x, axis, 0, n, 1);
        else if (p->mode == STRAND_PAD_VALUE)
            c.x = NULL;
        else if (p->mode == STRAND_PAD_EDGE)
            c.from = source_of(out, x, axis, edges[i], counts[i], 0);
        else
            c.from = source_of(out, x, axis, reflected[i], counts[i], -1);
        status = run_copy(device, out, c);
    }
    return status;
}

/* The axis becomes two: the times, and its indices. */
GPU_RUN(repeat) {
    const strand_op_repeat *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int axis = (int)cpu_axis(p->axis, out->rank);
    copy c = {.x = x, .to = side_of(out, -1, 0, 0)};
    (void)scratch;
    for (int i = 0; i < (int)out->rank; i++) {
        int64_t stride = x->strides[i];
        if (i != axis) {
            push(&c.from, out->dims[i], stride);
            c.from.at += cpu_lead(x, (uint32_t)i, out, (uint32_t)i) * stride;
            continue;
        }
        if (!p->interleave) push(&c.from, p->times, 0);
        push(&c.from, x->dims[i], stride);
        if (p->interleave) push(&c.from, p->times, 0);
    }
    return run_copy(device, out, c);
}

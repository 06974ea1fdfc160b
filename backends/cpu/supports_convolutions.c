/* supports_convolutions.c - predicates of the transforms. */
#include "check.h"

bool cpu_supports_fft(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_fft *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    if (p->kind > STRAND_FFT_INVERSE || p->form > STRAND_FFT_LOG_AMPLITUDE) NO("unknown kind or form");
    if (p->kind != STRAND_FFT_R2C && (p->form || p->bins)) NO("only R2C has a form and bins");
    uint32_t in_pairs = p->kind != STRAND_FFT_R2C, out_pairs = p->kind != STRAND_FFT_C2R && p->form == STRAND_FFT_COMPLEX;
    if (x->rank < 1 + in_pairs || out->rank < 1 + out_pairs || x->rank - in_pairs != out->rank - out_pairs)
        NO("ranks do not agree");
    if (in_pairs && !whole_axis(x, x->rank - 1, 2)) NO("x does not hold pairs");
    if (out_pairs && !whole_axis(out, out->rank - 1, 2)) NO("the output does not hold pairs");
    uint32_t axis = out->rank - out_pairs - 1;
    if (!whole_axis(x, axis, -1) || !whole_axis(out, axis, -1)) NO("a tile of the transformed axis cannot be transformed");
    const int64_t longest = (int64_t)1 << 22;
    int64_t width = x->dims[axis], bins = out->dims[axis];
    int64_t n = p->n ? p->n : p->kind == STRAND_FFT_C2R ? bins : width;
    if (n < 1 || n > longest || width < 1 || width > longest) NO("not 1 to 2^22 points");
    if (p->kind == STRAND_FFT_R2C && bins != (p->bins ? p->bins : n / 2 + 1)) NO("other bins are wanted than the output has");
    if (p->kind == STRAND_FFT_R2C && (bins < 1 || bins > n / 2 + 1)) NO("there are n/2 + 1 bins");
    if (p->kind == STRAND_FFT_C2R && (width != n / 2 + 1 || bins != n)) NO("C2R takes n/2 + 1 bins to n numbers");
    if (p->kind >= STRAND_FFT_FORWARD && (width != n || bins != n)) NO("x and the output have not n numbers");
    for (uint32_t i = 0; i < axis; i++)
        if (!covers(node, 0, i, i)) NO("x does not cover the output");
    return true;
}

/* hyena_filter.c - see hyena.h. Linears stand at even places of implicit_filter, sines at odd ones; the last linear is the one
 * without a bias. Filters are made of weights alone, once, so they are never rounded. */
#include "hyena.h"

#include <stdio.h>

static const char *place(char text[96], int i, const char *part) {
    snprintf(text, 96, HYENA_FILTER "implicit_filter.%d.%s", i, part);
    return text;
}

static int last_linear(const builder *b) {
    char text[96];
    int i = 0;
    while (build_has(b, place(text, i, "bias"))) i += 2;
    return i;
}

static tensor_id product(builder *b, const char *name, tensor_id x, tensor_id w, tensor_id bias) {
    const uint32_t precision = b->precision;
    const bool halves = b->halves;
    b->precision = STRAND_PRECISION_F32;
    b->halves = false;
    tensor_id y = build_product(b, name, x, w, bias, STRAND_UNARY_IDENTITY);
    b->precision = precision;
    b->halves = halves;
    return y;
}

void hyena_filter_sizes(const builder *b, hyena_filter *f) {
    const weights_tensor *w = build_find(b, HYENA_FILTER "implicit_filter.0.weight");
    const bool usable = w && w->rank == 2 && w->dims[0] >= 1 && w->dims[1] >= 3 && w->dims[1] % 2 == 1 && w->dims[1] <= 1025;
    f->order = usable ? w->dims[0] : 0;
    f->features = usable ? w->dims[1] : 0;
}

/* The trained frequency of the sines, one for all of them, under up to three names. [1, order] */
static tensor_id frequency(builder *b, const hyena_filter *f) {
    char text[96];
    for (int i = 1; i < 5; i += 2)
        if (build_has(b, place(text, i, "freq"))) return build_f32(b, text, 2, (int64_t[]){1, f->order}, false);
    return build_f32(b, place(text, 5, "freq"), 2, (int64_t[]){1, f->order}, false);
}

tensor_id hyena_filter_trunk(builder *b, const hyena_filter *f, tensor_id positions) {
    char weight[96], bias[96];
    const tensor_id freq = frequency(b, f);
    const int last = last_linear(b);
    tensor_id x = positions;
    for (int i = 0; i < last && !build_failed(b); i += 2) {
        place(weight, i, "weight");
        x = product(b, weight, x, build_dense_rows(b, weight, f->order, 0, f->order, i ? f->order : f->features),
                    build_vector(b, place(bias, i, "bias"), f->order));
        x = build_unary(b, weight, STRAND_UNARY_SIN, build_mul(b, weight, x, freq), 0, 0);
    }
    return x;
}

tensor_id hyena_filter_taps(builder *b, const hyena_filter *f, tensor_id trunk, tensor_id rates) {
    char weight[96];
    const int last = last_linear(b);
    place(weight, last, "weight");
    tensor_id k = product(b, weight, build_dense_rows(b, weight, f->d, 0, f->d, last ? f->order : f->features), trunk, 0);
    if (!f->modulate || build_failed(b)) return k;
    strand_op_decay_window window = {.n = f->n, .shift = f->shift};
    return graph_op(b->g, build_name(b, HYENA_FILTER "window"), STRAND_OP_DECAY_WINDOW, &window, (tensor_id[]){k, rates}, 2,
                    NULL);
}

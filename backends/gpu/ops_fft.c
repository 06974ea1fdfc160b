/* ops_fft.c - transforms on the GPU plugins (kernels/fft.k): the engine of 2^k points (fft.h), and FFT: few points as their
 * sum, 2^k by the engine, any other number as a convolution with a chirp (Bluestein 1970). */
#include "fft.h"

#define LEAF    2048 /* points that a work group holds, and of a block at most */
#define COLUMN  512  /* points of a column at most: four columns, 32 bytes, side by side */
#define DIRECT  256  /* transforms up to here, if not of 2^k points, are sums */

/* ---- the engine ---- */

enum { FORWARD = 1, PRODUCT = 2, INVERSE = 4, FROM_INPUTS = 8, TO_RESULTS = 16, SPECTRA = 32 };

static int log2_of(int64_t n) {
    int bits = 0;
    while ((int64_t)2 << bits <= n) bits++;
    return bits;
}

typedef struct rows {
    const strand_plugin_memory *memory;
    uint64_t at;
    int64_t n, total; /* points of a row, of all */
    const gpu_fft_spectra *h;
    const gpu_fft_ends *ends;
} rows;

/* Strides of a tensor under the results: two batch axes and the channels; moves the offset to their first element. */
static void push_place(gpu_dispatch *d, uint32_t binding, const strand_plugin_tensor *out, const strand_plugin_tensor *t,
                       int64_t channel) {
    cpu_operand o = {0};
    int64_t first = 0;
    if (t) {
        cpu_place(out, t, false, &o);
        for (uint32_t i = 0; i < out->rank; i++) first += (out->origin[i] - t->origin[i]) * t->strides[i];
        d->params[binding] += (int32_t)(first + channel * o.strides[2]);
    }
    gpu_ints(d, o.strides, 3);
}

static void bind_or_points(strand_plugin_device *device, gpu_dispatch *d, const rows *r, const strand_plugin_tensor *t) {
    if (t)
        gpu_bind(device, d, t);
    else
        gpu_bind_memory(device, d, r->memory, r->at, (uint64_t)r->total * 8, 4);
}

/* The kernel for blocks or columns (8, 64 or 512) of `whole` points. Blocks have inputs and results, or neither. */
static gpu_kernel kernel_of(int64_t whole, bool columns, int what) {
    static const gpu_kernel forward[] = {GPU_K_fft_forward0, GPU_K_fft_forward1, GPU_K_fft_forward2,  GPU_K_fft_forward3,
                                         GPU_K_fft_forward4, GPU_K_fft_forward5, GPU_K_fft_forward6,  GPU_K_fft_forward7,
                                         GPU_K_fft_forward8, GPU_K_fft_forward9, GPU_K_fft_forward10, GPU_K_fft_forward11};
    static const gpu_kernel convolve[] = {GPU_K_fft_convolve9, GPU_K_fft_convolve10, GPU_K_fft_convolve11};
    static const gpu_kernel rows[] = {GPU_K_fft_rows7, GPU_K_fft_rows8, GPU_K_fft_rows9, GPU_K_fft_rows10, GPU_K_fft_rows11};
    static const gpu_kernel across[] = {GPU_K_fft_columns3, GPU_K_fft_columns6, GPU_K_fft_columns9},
                            take[] = {GPU_K_fft_take3, GPU_K_fft_take6, GPU_K_fft_take9};
    static const gpu_kernel back[] = {GPU_K_fft_inverse3, GPU_K_fft_inverse6, GPU_K_fft_inverse9},
                            give[] = {GPU_K_fft_give3, GPU_K_fft_give6, GPU_K_fft_give9};
    int bits = log2_of(whole);
    if (columns && (what & FORWARD)) return (what & FROM_INPUTS ? take : across)[bits / 3 - 1];
    if (columns) return (what & TO_RESULTS ? give : back)[bits / 3 - 1];
    if (!(what & INVERSE)) return forward[bits];
    return what & FROM_INPUTS ? rows[bits - 7] : convolve[bits - 9]; /* nothing shorter comes without ends */
}

/* One step: blocks of `whole` points, or `whole` rows of columns of blocks of m points. */
static strand_plugin_status step(strand_plugin_device *device, const rows *r, int64_t whole, int64_t m, int what) {
    const gpu_fft_spectra *h = what & PRODUCT ? r->h : NULL;
    const gpu_fft_ends none = {.channels = 1, .inner = 1}, *e = what & (FROM_INPUTS | TO_RESULTS) ? r->ends : &none;
    const strand_plugin_tensor *skip = h ? h->skip : NULL;
    gpu_dispatch d;
    gpu_begin(&d, kernel_of(whole, m != 0, what));
    gpu_bind_memory(device, &d, r->memory, r->at, (uint64_t)r->total * 8, 4);
    if (h)
        gpu_bind_memory(device, &d, h->memory, h->at, (uint64_t)(h->rows * r->n) * 8, 4);
    else
        bind_or_points(device, &d, r, NULL);
    bind_or_points(device, &d, r, skip);
    bind_or_points(device, &d, r, e->u);
    bind_or_points(device, &d, r, e->pre);
    bind_or_points(device, &d, r, e->post);
    bind_or_points(device, &d, r, e->y);
    if (skip) d.params[2] += (int32_t)(h->skip_first * skip->strides[0]);
    gpu_int(&d, r->total);
    gpu_int(&d, m ? log2_of(m) : 0);
    gpu_int(&d, (what & SPECTRA) != 0);
    gpu_int(&d, log2_of(r->n));
    gpu_int(&d, h ? h->rows : 1);
    gpu_int(&d, skip != NULL);
    gpu_int(&d, skip ? skip->strides[0] : 0);
    gpu_int(&d, e->length);
    gpu_int(&d, e->pre != NULL);
    gpu_int(&d, e->post != NULL);
    gpu_int(&d, e->channels);
    gpu_int(&d, e->entry);
    gpu_int(&d, e->inner);
    push_place(&d, 3, e->y, e->u, e->channel);
    push_place(&d, 4, e->y, e->pre, e->channel);
    push_place(&d, 5, e->y, e->post, e->channel);
    push_place(&d, 6, e->y, e->y, e->channel);
    return gpu_rows(device, &d, (r->total + LEAF - 1) / LEAF);
}

static strand_plugin_status transform(strand_plugin_device *device, const rows *r, int what) {
    int64_t blocks[2] = {r->n, 0}, columns[2] = {1, 1}, leaf = r->n;
    int first = r->ends ? FROM_INPUTS : 0, last = r->ends ? TO_RESULTS : 0, count = 0;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (; leaf > LEAF; leaf /= columns[count++]) {
        blocks[count] = leaf;
        columns[count] = leaf <= 8 * LEAF                                                           ? 8
                         : leaf <= 64 * LEAF || (leaf > COLUMN * LEAF && leaf <= 64 * COLUMN * 512) ? 64
                                                                                                    : COLUMN;
    }
    for (int i = 0; i < count && !status; i++) status = step(device, r, columns[i], blocks[i], FORWARD | (i ? 0 : first));
    if (!status) status = step(device, r, leaf, 0, what | (count ? 0 : first | last));
    for (int i = count - 1; i >= 0 && (what & INVERSE) && !status; i--)
        status = step(device, r, columns[i], blocks[i], INVERSE | (i ? 0 : last));
    return status;
}

strand_plugin_status gpu_fft_forward(strand_plugin_device *device, const strand_plugin_memory *m, uint64_t at, int64_t count,
                                     int64_t n, bool spectra) {
    rows r = {.memory = m, .at = at, .n = n, .total = count * n};
    return transform(device, &r, FORWARD | (spectra ? SPECTRA : 0));
}

strand_plugin_status gpu_fft_convolve(strand_plugin_device *device, const strand_plugin_memory *m, uint64_t at, int64_t count,
                                      int64_t n, const gpu_fft_spectra *h, const gpu_fft_ends *ends) {
    rows r = {.memory = m, .at = at, .n = n, .total = count * n, .h = h, .ends = ends};
    return transform(device, &r, FORWARD | PRODUCT | INVERSE);
}

/* ---- the operator ---- */

typedef struct job {
    const strand_op_fft *p;
    const strand_plugin_tensor *x, *out;
    uint32_t axis;
    int64_t rows, n, width, bins, points; /* points: of the engine, 0 for a sum, n without a chirp */
    int64_t inner[2], x_strides[3], out_strides[3], x_first;
} job;

static job job_of(const strand_plugin_node *node) {
    job j = {.p = node->params, .x = &node->inputs[0], .out = &node->outputs[0], .rows = 1, .inner = {1, 1}};
    bool pairs = j.p->kind != STRAND_FFT_C2R && j.p->form == STRAND_FFT_COMPLEX;
    j.axis = j.out->rank - (pairs ? 2 : 1);
    j.width = j.x->dims[j.axis];
    j.bins = j.out->dims[j.axis];
    j.n = j.p->kind == STRAND_FFT_C2R ? j.bins : j.p->kind == STRAND_FFT_R2C && j.p->n ? j.p->n : j.width;
    for (uint32_t i = 0; i < j.axis; i++) {
        uint32_t to = 3 - j.axis + i;
        j.rows *= j.out->dims[i];
        if (to > 0) j.inner[to - 1] = cpu_max(1, j.out->dims[i]);
        j.x_strides[to] = j.x->strides[i];
        j.out_strides[to] = j.out->strides[i];
        j.x_first += (j.out->origin[i] - j.x->origin[i]) * j.x->strides[i];
    }
    bool power = !(j.n & (j.n - 1));
    if (power) j.points = j.n;
    if (!power && j.n > DIRECT)
        for (j.points = 1; j.points < 2 * j.n - 1;) j.points *= 2;
    return j;
}

bool gpu_supports_fft(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    job j = job_of(node);
    if ((uint64_t)j.points * 8 > device->limits.binding_bytes - device->limits.offset_alignment)
        NO("a row's points do not fit the memory that a kernel sees");
    return true;
}

uint64_t gpu_fft_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    job j = job_of(node);
    (void)device;
    if (!j.points) return 0;
    return (uint64_t)((j.points == j.n ? 0 : 8 * j.points) + gpu_fft_bytes(cpu_max(1, j.rows), j.points));
}

static void push_rows(gpu_dispatch *d, const job *j, const int64_t strides[3]) {
    gpu_ints(d, j->inner, 2);
    gpu_ints(d, strides, 3);
}

static strand_plugin_status sums(strand_plugin_device *device, const job *j) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_fft_direct);
    gpu_bind(device, &d, j->x);
    gpu_bind(device, &d, j->out);
    d.params[0] += (int32_t)j->x_first;
    gpu_int(&d, j->rows * j->bins);
    gpu_int(&d, j->bins);
    gpu_int(&d, j->n);
    gpu_int(&d, j->width);
    gpu_int(&d, j->p->kind);
    gpu_int(&d, j->p->form);
    gpu_float(&d, j->p->scale);
    gpu_float(&d, j->p->floor);
    gpu_int(&d, j->x->strides[j->axis]);
    gpu_int(&d, j->out->strides[j->axis]);
    gpu_int(&d, 0);
    push_rows(&d, j, j->x_strides);
    push_rows(&d, j, j->out_strides);
    return gpu_over(device, &d, j->rows * j->bins);
}

static strand_plugin_status load(strand_plugin_device *device, const job *j, const strand_plugin_memory *m, uint64_t at,
                                 int64_t first, int64_t rows) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_fft_load);
    gpu_bind(device, &d, j->x);
    gpu_bind_memory(device, &d, m, at, (uint64_t)(rows * j->points) * 8, 4);
    d.params[0] += (int32_t)j->x_first;
    gpu_int(&d, rows * j->points);
    gpu_int(&d, j->points);
    gpu_int(&d, j->n);
    gpu_int(&d, j->width);
    gpu_int(&d, j->p->kind);
    for (int i = 0; i < 3; i++) gpu_int(&d, 0);
    gpu_int(&d, j->x->strides[j->axis]);
    gpu_int(&d, 0);
    gpu_int(&d, first);
    push_rows(&d, j, j->x_strides);
    return gpu_over(device, &d, rows * j->points);
}

static strand_plugin_status chirp(strand_plugin_device *device, const job *j, const strand_plugin_memory *m) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_fft_chirp);
    gpu_bind_memory(device, &d, m, 0, (uint64_t)j->points * 8, 4);
    gpu_int(&d, j->points);
    gpu_int(&d, j->n);
    strand_plugin_status status = gpu_over(device, &d, j->points);
    return status ? status : gpu_fft_forward(device, m, 0, 1, j->points, true);
}

static strand_plugin_status store(strand_plugin_device *device, const job *j, const strand_plugin_memory *m, uint64_t at,
                                  int64_t first, int64_t rows) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_fft_store);
    gpu_bind_memory(device, &d, m, at, (uint64_t)(rows * j->points) * 8, 4);
    gpu_bind(device, &d, j->out);
    gpu_int(&d, rows * j->bins);
    gpu_int(&d, j->bins);
    gpu_int(&d, j->n);
    gpu_int(&d, j->points);
    gpu_int(&d, j->p->kind);
    gpu_int(&d, j->p->form);
    gpu_float(&d, j->p->scale);
    gpu_float(&d, j->p->floor);
    gpu_int(&d, log2_of(j->points));
    gpu_int(&d, j->out->strides[j->axis]);
    gpu_int(&d, first);
    push_rows(&d, j, j->out_strides);
    return gpu_over(device, &d, rows * j->bins);
}

GPU_RUN(fft) {
    job j = job_of(node);
    bool chirped = j.points != j.n;
    if (!j.points) return sums(device, &j);
    uint64_t at = chirped ? (uint64_t)j.points * 8 : 0;
    int64_t most = cpu_max(1, GPU_FFT_BUDGET / (8 * j.points));
    gpu_fft_spectra h = {.memory = scratch, .rows = 1};
    strand_plugin_status status = chirped ? chirp(device, &j, scratch) : STRAND_PLUGIN_OK;
    for (int64_t first = 0; first < j.rows && !status; first += most) {
        int64_t rows = cpu_min(most, j.rows - first);
        status = load(device, &j, scratch, at, first, rows);
        if (!status)
            status = chirped ? gpu_fft_convolve(device, scratch, at, rows, j.points, &h, NULL)
                             : gpu_fft_forward(device, scratch, at, rows, j.points, false);
        if (!status) status = store(device, &j, scratch, at, first, rows);
    }
    return status;
}

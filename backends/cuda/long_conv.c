/* long_conv.c - LONG_CONV on tensor cores (kernels/long_conv_mma.cu), from compute capability 8.0 on, for more than 256
 * positions: rows that fit shared memory by one kernel, filters much shorter than the sequence by the same one on
 * overlapping segments, longer rows as columns around it. What it does not take the common kernels do.
 *
 * Which of them it is, and the form of the prepared spectra, depends on parameters, whole extents and the device alone. */
#include "driver_cuda.h"
#include "fft.h"
#include "kernels/numbers.h"
#include "long_conv.h"

#define LEAST    256  /* up to so many positions the common kernel needs no more than this one */
#define SEGMENT  4096 /* the fewest points of a segment */
#define OVERLAP  8    /* a segment has so many times the points that it shares with its neighbours, if it can */
#define COLUMNS  256  /* of a longer row at most */

typedef struct form {
    gpu_long_conv_shape s; /* s.n: all points of one row or segment */
    int terms, log_r, log_outer;
    int64_t segments, valid, lead;
} form;

static int log2_of(int64_t n) {
    int bits = 0;
    while ((int64_t)2 << bits <= n) bits++;
    return bits;
}

static int64_t power_from(int64_t n) {
    int64_t p = 1;
    while (p < n) p *= 2;
    return p;
}

/* Bytes of shared memory (memory_of and OUTER_START in the kernels' file). */
static uint32_t group_bytes(int r, int terms) {
    return (uint32_t)((r < 16 ? 16 : r) * 2 * terms * 512 + r * 33 * 8 + 4 * r * 4 + 256 * 4 + 64 * 4 + 16 * 4);
}
static uint32_t outer_bytes(int columns, int planes) {
    int width = columns > 128 ? 32 : 4096 / columns;
    return (uint32_t)(16 * columns + 64 + planes * columns * (width + 8) * 2);
}

void cuda_long_conv_open(cuda_device *d) {
    int bytes = 0;
    uint32_t image;
    const char *name;
    const void *code = cuda_own_image_of(CUDA_OWN_long_conv_spectra_f16, &image, &name);
    if (!d->tensor_cores ||
        cuDeviceGetAttribute(&bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, d->id) != CUDA_SUCCESS)
        return;
    d->long_conv = cuModuleLoadData(&d->own_modules[image], code) == CUDA_SUCCESS; /* else there is no code for this device */
    if (!d->long_conv) d->own_modules[image] = NULL;
    d->shared_bytes = (uint32_t)bytes;
}

/* By precision and log2 R, from R = 4 on: what is inside of columns. */
static const cuda_own_kernel inner[2][5] = {
    {CUDA_N_OWN, CUDA_OWN_long_conv_inner_8_f16, CUDA_OWN_long_conv_inner_16_f16, CUDA_N_OWN, CUDA_OWN_long_conv_inner_64_f16},
    {CUDA_OWN_long_conv_inner_4_f16x2, CUDA_OWN_long_conv_inner_8_f16x2, CUDA_OWN_long_conv_inner_16_f16x2, CUDA_N_OWN,
     CUDA_OWN_long_conv_inner_64_f16x2}};

/* Can rows of n points be done, and how? A group holds up to 256 R points. */
static bool rows_of(const cuda_device *d, form *f, int64_t n) {
    int most = f->terms == 1 ? 128 : 64;
    while (most >= 16 && group_bytes(most, f->terms) > d->shared_bytes) most /= 2;
    f->s.n = n;
    f->log_outer = 0;
    f->log_r = log2_of(n) - 8;
    if (n <= 256 * most) return true;
    /* The fewest products, R + C of a row, with at least 16 columns. */
    int log_n = log2_of(n);
    f->log_r = log_n >= 20 && most >= 64 ? 6 : log_n < 16 ? log_n - 12 : 4;
    f->log_outer = log_n - 8 - f->log_r;
    return f->log_r >= 2 && most >= 16 && inner[f->terms - 1][f->log_r - 2] != CUDA_N_OWN && 1 << f->log_outer <= COLUMNS &&
           outer_bytes(1 << f->log_outer, 2 * f->terms) <= d->shared_bytes;
}

static bool form_of(const cuda_device *d, const strand_plugin_node *node, form *f) {
    if (node->op != STRAND_OP_LONG_CONV || !d->long_conv) return false;
    *f = (form){.s = gpu_long_conv_of(node), .segments = 1};
    f->terms = ((const strand_op_long_conv *)node->params)->flags & STRAND_LONG_CONV_ROUNDED ? 1 : 2;
    if (f->s.length <= LEAST) return false;
    int64_t whole = power_from(f->s.length), back = cpu_max(0, f->s.ahead + f->s.from - 1),
            before = (f->s.taps - 1 + 3) / 4 * 4, after = (back + 3) / 4 * 4;
    int64_t segment = cpu_max(SEGMENT, power_from(OVERLAP * (before + after)));
    f->valid = f->s.length;
    bool good = rows_of(d, f, whole);
    const bool one = good && !f->log_outer;
    while (!one && segment > SEGMENT && segment > 2 * (before + after) && (!rows_of(d, f, segment) || f->log_outer))
        segment /= 2;
    if (2 * segment <= whole && 2 * (before + after) <= segment && rows_of(d, f, segment) && !f->log_outer) {
        f->lead = before;
        f->valid = segment - before - after;
        f->segments = (f->s.length + f->valid - 1) / f->valid;
        return true;
    }
    return rows_of(d, f, whole);
}

/* ---- memory ---- */

/* Spectra of some channels: points, then each row's scale, then which parts of it are there. */
static int64_t points_bytes(const form *f, int64_t channels) {
    return channels * f->s.n * (f->terms == 1 ? 4 : 8);
}
static int64_t spectra_bytes(const form *f, int64_t channels) {
    return points_bytes(f, channels) + (channels << f->log_outer) * 4 * (1 + (1 << f->log_r));
}
static int64_t channels_at_a_time(const form *f) {
    return cpu_max(1, cpu_min(f->s.channels, GPU_FFT_BUDGET / (8 * f->s.n)));
}
static int64_t rows_at_a_time(const form *f) {
    return cpu_max(1, cpu_min(GPU_FFT_BUDGET / points_bytes(f, 1), CUDA_GROUPS_YZ));
}
/* F32 spectra while they are made, later points of longer rows; behind it the spectra, where nothing is prepared. */
static int64_t working_bytes(const form *f) {
    int64_t raw = channels_at_a_time(f) * f->s.n * 8;
    return f->log_outer ? cpu_max(raw, points_bytes(f, cpu_min(rows_at_a_time(f), cpu_max(1, f->s.batch * f->s.channels))))
                        : raw;
}

/* As much for a sequence as for any shorter one, whose form may be another: rows of all lengths have at most 4 (1 + R) bytes
 * of scale and parts, which 6 bytes for each 256 points cover, and points and channels at a time grow with the length until
 * the budget is reached. */
uint64_t cuda_long_conv_scratch(const cuda_device *d, const strand_plugin_node *node) {
    form f;
    if (node->op != STRAND_OP_LONG_CONV || !d->long_conv) return 0;
    bool good = form_of(d, node, &f);
    if (f.s.length <= LEAST) return 0;
    if (!good) f.log_outer = 0, f.s.n = power_from(f.s.length); /* shorter ones may have a form */
    int64_t channels = channels_at_a_time(&f);
    return (uint64_t)(working_bytes(&f) + points_bytes(&f, channels) + channels * (f.s.n / 256) * 6);
}

uint64_t cuda_long_conv_prepare_size(const cuda_device *d, const strand_plugin_node *node) {
    form f;
    return gpu_long_conv_prepares(node) && form_of(d, node, &f) ? (uint64_t)spectra_bytes(&f, f.s.channels) : 0;
}

/* ---- launches ---- */

static strand_plugin_status launch(cuda_device *d, cuda_own_kernel kernel, int64_t x, int64_t y, uint32_t items,
                                   uint32_t shared, void **arguments) {
    const uint32_t groups[3] = {(uint32_t)x, (uint32_t)y, 1};
    CUfunction function;
    strand_plugin_status status = cuda_own_find(d, kernel, shared > 0, &function);
    if (!status && !function)
        status = gpu_fail(d->base.host, STRAND_PLUGIN_ERR_DEVICE, "the device has no code for a long convolution");
    return status ? status : cuda_launch(d, d->base.segment, function, groups, items, shared, arguments, "long convolution");
}

/* Where the spectra of channel `c` of `channels` stand in memory that begins at `at`. */
typedef struct spectra {
    CUdeviceptr points, scale, live;
} spectra;
static spectra spectra_at(const form *f, CUdeviceptr at, int64_t channels, int64_t c) {
    CUdeviceptr scale = at + (uint64_t)points_bytes(f, channels), live = scale + (uint64_t)(channels << f->log_outer) * 4;
    return (spectra){at + (uint64_t)points_bytes(f, c), scale + (uint64_t)(c << f->log_outer) * 4,
                     live + (uint64_t)(c << (f->log_outer + f->log_r)) * 4};
}

/* Spectra of some channels, from `first` on; F32 ones are in scratch meanwhile. */
static strand_plugin_status make_spectra(cuda_device *d, const strand_plugin_node *node, const form *f,
                                         const strand_plugin_memory *scratch, spectra to, int64_t first, int64_t channels) {
    const spectra_numbers x = {.log_r = f->log_r, .log_outer = f->log_outer};
    CUdeviceptr raw = scratch->buffer->memory + scratch->offset;
    void *arguments[] = {&raw, &to.points, &to.scale, &to.live, (void *)(uintptr_t)&x};
    strand_plugin_status status = gpu_long_conv_spectra(&d->base, node, &f->s, scratch, 0, first, channels, false);
    return status ? status
                  : launch(d, f->terms == 1 ? CUDA_OWN_long_conv_spectra_f16 : CUDA_OWN_long_conv_spectra_f16x2,
                           channels << f->log_outer, 1, 256, 0, arguments);
}

strand_plugin_status cuda_long_conv_prepare(cuda_device *d, const strand_plugin_node *node,
                                            const strand_plugin_memory *scratch) {
    form f;
    strand_plugin_status status = cuda_current(d);
    if (status) return status;
    for (uint32_t i = 1; i < 6; i += 4)
        if (cpu_input(node, i) && !node->inputs[i].memory.buffer)
            return gpu_fail(d->base.host, STRAND_PLUGIN_ERR_ARGUMENT, "the filter has no memory");
    if (!form_of(d, node, &f) || !scratch || !scratch->buffer || scratch->bytes < (uint64_t)working_bytes(&f))
        return gpu_fail(d->base.host, STRAND_PLUGIN_ERR_ARGUMENT, "too little working memory given to prepare");
    CUdeviceptr at = node->prepared.buffer->memory + node->prepared.offset;
    int64_t each = channels_at_a_time(&f);
    for (int64_t c = 0; c < f.s.channels && !status; c += each)
        status = make_spectra(d, node, &f, scratch, spectra_at(&f, at, f.s.channels, c), c, cpu_min(each, f.s.channels - c));
    return status;
}

/* A tensor's address under channel `c` of the output (absent: any), and its strides: two batch axes and the channels. */
static CUdeviceptr place(const strand_plugin_tensor *out, const strand_plugin_tensor *t, int64_t c, int strides[3],
                         CUdeviceptr any) {
    cpu_operand o = {0};
    int64_t first = 0;
    if (!t) return any;
    cpu_place(out, t, false, &o);
    for (uint32_t i = 0; i < out->rank; i++) first += (out->origin[i] - t->origin[i]) * t->strides[i];
    for (int i = 0; i < 3; i++) strides[i] = (int)o.strides[i];
    return cuda_address(t, first + c * o.strides[2]);
}

static bool aligned(CUdeviceptr at, const int strides[3], int numbers) {
    return at % (uint64_t)(4 * numbers) == 0 && strides[0] % numbers == 0 && strides[1] % numbers == 0 &&
           strides[2] % numbers == 0;
}

/* Of `channels` channels from c on, `entries` batch entries from `entry` on. */
static strand_plugin_status convolve(cuda_device *d, const strand_plugin_node *node, const form *f, CUdeviceptr points,
                                     spectra h, int64_t c, int64_t channels, int64_t entry, int64_t entries) {
    static const cuda_own_kernel one[2][7] = {
        {CUDA_OWN_long_conv_2_f16, CUDA_OWN_long_conv_4_f16, CUDA_OWN_long_conv_8_f16, CUDA_OWN_long_conv_16_f16,
         CUDA_OWN_long_conv_32_f16, CUDA_OWN_long_conv_64_f16, CUDA_OWN_long_conv_128_f16},
        {CUDA_OWN_long_conv_2_f16x2, CUDA_OWN_long_conv_4_f16x2, CUDA_OWN_long_conv_8_f16x2, CUDA_OWN_long_conv_16_f16x2,
         CUDA_OWN_long_conv_32_f16x2, CUDA_OWN_long_conv_64_f16x2, CUDA_N_OWN}};
    static const cuda_own_kernel outer[2] = {CUDA_OWN_long_conv_outer_f16, CUDA_OWN_long_conv_outer_f16x2},
                                 back[2] = {CUDA_OWN_long_conv_back_f16, CUDA_OWN_long_conv_back_f16x2};
    const strand_plugin_tensor *u = &node->inputs[0], *skip = cpu_input(node, 2), *pre = cpu_input(node, 3),
                               *post = cpu_input(node, 4), *y = &node->outputs[0];
    const int terms = f->terms - 1, r = 1 << f->log_r, columns = 1 << f->log_outer;
    const int64_t rows = channels * entries;
    long_conv_numbers x = {.rows = (int)rows, .batch = (int)entries, .entry = (int)entry, .inner = (int)f->s.inner,
                           .length = (int)f->s.length, .segments = (int)f->segments, .valid = (int)f->valid,
                           .lead = (int)f->lead, .log_outer = f->log_outer, .log_inner = f->log_r + 8, .has_pre = pre != NULL,
                           .has_post = post != NULL, .has_skip = skip != NULL, .skip_stride = skip ? (int)skip->strides[0] : 0};
    CUdeviceptr to = place(y, y, c, x.y, 0), from = place(y, u, c, x.u, 0), gate = place(y, pre, c, x.pre, to),
                last = place(y, post, c, x.post, to);
    CUdeviceptr constant = skip ? cuda_address(skip, gpu_long_conv_lead(node, skip, c) * skip->strides[0]) : to;
    x.fast = aligned(from, x.u, 4) && (!pre || aligned(gate, x.pre, 4)) && aligned(to, x.y, 2) &&
             (!post || aligned(last, x.post, 2));
    void *arguments[] = {&from, &gate, &last, &to, &points, &h.points, &h.scale, &h.live, &constant, &x};
    const uint32_t items = r < 64 ? 256 : 512;
    const int64_t of_group = r < 16 ? 16 / r : 1, groups = (rows * f->segments * columns + of_group - 1) / of_group;
    if (!f->log_outer) return launch(d, one[terms][f->log_r - 1], groups, 1, items, group_bytes(r, f->terms), arguments);
    void *forward[] = {&from, &gate, &points, &x}, *backward[] = {&points, &last, &to, &x};
    const int64_t tiles = ((int64_t)1 << x.log_inner) / (columns > 128 ? 32 : 4096 / columns);
    strand_plugin_status status = launch(d, outer[terms], tiles, rows, 256, outer_bytes(columns, f->terms), forward);
    if (!status) status = launch(d, inner[terms][f->log_r - 2], groups, 1, items, group_bytes(r, f->terms), arguments);
    return status ? status : launch(d, back[terms], tiles, rows, 256, outer_bytes(columns, 2 * f->terms), backward);
}

strand_plugin_status cuda_long_conv_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                        bool *done) {
    form f;
    if (!form_of(d, node, &f)) return STRAND_PLUGIN_OK;
    strand_plugin_status status = cuda_current(d);
    bool ready = gpu_long_conv_prepares(node) && node->prepared.buffer;
    if (status) return status;
    *done = true;
    if (ready && node->prepared.bytes < (uint64_t)spectra_bytes(&f, f.s.channels))
        return gpu_fail(d->base.host, STRAND_PLUGIN_ERR_ARGUMENT, "the filter was not prepared for this length");
    const CUdeviceptr points = scratch->buffer->memory + scratch->offset, own = points + (uint64_t)working_bytes(&f);
    const int64_t most = rows_at_a_time(&f);
    int64_t each = ready && !f.log_outer ? f.s.channels : channels_at_a_time(&f);
    /* whole channels, or some entries of one */
    if (f.log_outer) each = f.s.batch >= most ? 1 : cpu_min(each, most / f.s.batch);
    for (int64_t c = 0; c < f.s.channels && !status; c += each) {
        int64_t channels = cpu_min(each, f.s.channels - c);
        spectra h = ready ? spectra_at(&f, node->prepared.buffer->memory + node->prepared.offset, f.s.channels, c)
                          : spectra_at(&f, own, channels, 0);
        if (!ready) status = make_spectra(d, node, &f, scratch, h, c, channels);
        int64_t entries = f.log_outer ? cpu_min(f.s.batch, most / channels) : f.s.batch;
        for (int64_t e = 0; e < f.s.batch && !status; e += entries)
            status = convolve(d, node, &f, points, h, c, channels, e, cpu_min(entries, f.s.batch - e));
    }
    return status;
}

/* long_conv.c - LONG_CONV: y = post * (filter * (pre u) + skip pre u), a channel at a time, the gates inside the first and last
 * pass of the transform.
 *
 * The transform's size is a function of the run's length alone, so a channel's bytes depend on its own data and length. The
 * spectra of filters that depend on weights alone are a prepared constant: a head (which length it was made for), the
 * transform's tables, 2 n floats a channel (for a short length: the taps themselves). Other filters, and constant ones whose
 * spectra the host did not keep, are transformed in working memory, once for all batch entries; both ways give the same
 * bytes. Up to DIRECT positions the sum is taken as it stands. A backward filter is the imaginary half of the forward one
 * (ring.h). */
#include "ring.h"
#include "kernels.h"
#include "simd.h"

#define DIRECT 64
#define SOON   16384 /* positions: rows up to here are fetched while the row before is worked at */
#define LAGS   (2 * DIRECT + 16) /* taps of a short filter from -DIRECT on, and room for a vector */

typedef struct head {
    int64_t length, channels, taps, ahead;
    char fill[CPU_ALIGN - 4 * sizeof(int64_t)];
} head;

typedef struct shape {
    int64_t batch, channels, length, n, table; /* table: floats */
    int64_t taps, ahead, from; /* taps that are used, forward and backward; the first backward one looks `from` positions
                                  ahead */
} shape;

static shape shape_of(const strand_plugin_node *node) {
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_extents(out, dims);
    shape s = {.batch = dims[0] * dims[1], .channels = dims[2], .length = dims[3]};
    s.taps = cpu_min(node->inputs[1].dims[1], s.length);
    s.from = ((const strand_op_long_conv *)node->params)->flags & STRAND_LONG_CONV_BACK_FROM_ZERO ? 0 : 1;
    if (cpu_input(node, 5)) s.ahead = cpu_max(0, cpu_min(node->inputs[5].dims[1], s.length - s.from));
    if (s.length > DIRECT) {
        s.n = cpu_ring_size(s.length);
        s.table = (cpu_ring_table_floats(s.n) + 15) / 16 * 16;
    }
    return s;
}

static bool prepares(const strand_plugin_node *node) {
    const strand_plugin_tensor *back = cpu_input(node, 5);
    return (node->inputs[1].flags & STRAND_TENSOR_CONSTANT) && (!back || (back->flags & STRAND_TENSOR_CONSTANT));
}

uint64_t cpu_long_conv_scratch(const cpu_device *device, const strand_plugin_node *node) {
    shape s = shape_of(node);
    uint64_t each = (uint64_t)s.n * 2 * sizeof(float), workers = (uint64_t)cpu_workers(device);
    return workers * 2 * each + (uint64_t)s.table * sizeof(float); /* the host may choose not to keep a prepared constant */
}

uint64_t cpu_long_conv_prepare_size(const strand_plugin_node *node) {
    if (!prepares(node)) return 0;
    shape s = shape_of(node);
    return sizeof(head) + (uint64_t)(s.table + s.channels * cpu_max(2 * s.n, LAGS)) * sizeof(float);
}

typedef struct job {
    shape s;
    cpu_ring ring;
    cpu_operand out, u, pre, post;
    int64_t dims[STRAND_PLUGIN_RANK];
    bool has_pre, has_post;
    const float *filter, *back, *skip;
    int64_t filter_stride, back_stride, skip_stride;
    float *spectra, *work; /* short: rows of LAGS; else 2 n floats a channel. work: of the workers */
} job;

static void collect(const strand_plugin_node *node, job *j) {
    const strand_plugin_tensor *out = &node->outputs[0], *filter = &node->inputs[1], *skip = cpu_input(node, 2);
    const strand_plugin_tensor *pre = cpu_input(node, 3), *post = cpu_input(node, 4), *back = cpu_input(node, 5);
    uint32_t channels = out->rank - 2;
    *j = (job){.s = shape_of(node), .has_pre = pre != NULL, .has_post = post != NULL, .filter_stride = filter->strides[0]};
    cpu_extents(out, j->dims);
    if (filter->memory.data) j->filter = cpu_f32(filter) + cpu_lead(filter, 0, out, channels) * filter->strides[0];
    if (back && back->memory.data) {
        j->back_stride = back->strides[0];
        j->back = cpu_f32(back) + cpu_lead(back, 0, out, channels) * back->strides[0];
    }
    if (skip && skip->memory.data) {
        j->skip_stride = skip->strides[0];
        j->skip = cpu_f32(skip) + cpu_lead(skip, 0, out, channels) * skip->strides[0];
    }
    cpu_place(out, out, false, &j->out);
    cpu_place(out, &node->inputs[0], false, &j->u);
    if (pre) cpu_place(out, pre, false, &j->pre);
    if (post) cpu_place(out, post, false, &j->post);
}

static const float *row_of(const job *j, const cpu_operand *o, int64_t entry, int64_t channel) {
    return (const float *)(const void *)cpu_row(o, j->dims, entry * j->s.channels + channel);
}

/* The spectrum of a channel's filters; work: 2 n floats. */
static void make_spectrum(const job *j, int64_t channel, float *spectrum, float *work) {
    int64_t n = j->s.n;
    cpu_ring_source from = {.u = j->filter + channel * j->filter_stride, .length = j->s.taps};
    if (j->s.ahead) {
        const float *back = j->back + channel * j->back_stride;
        memset(work, 0, (size_t)n * 2 * sizeof *work);
        memcpy(work, from.u, (size_t)j->s.taps * sizeof *work);
        for (int64_t i = j->s.from ? 0 : 1; i < j->s.ahead; i++) work[2 * n - i - j->s.from] = -back[i];
        if (!j->s.from) work[0] += back[0];
        from = (cpu_ring_source){.u = work, .imaginary = work + n, .length = n};
    }
    cpu_ring_spectrum(&j->ring, &from, spectrum);
}

/* The taps of a short channel's filters by lag, from -DIRECT on. */
static void make_lags(const job *j, int64_t channel, float *lags) {
    float *now = lags + DIRECT;
    memset(lags, 0, LAGS * sizeof *lags);
    memcpy(now, j->filter + channel * j->filter_stride, (size_t)j->s.taps * sizeof *now);
    for (int64_t i = 0; i < j->s.ahead; i++) now[-i - j->s.from] += j->back[channel * j->back_stride + i];
}

static void prepare_body(void *arg, int64_t channel, int32_t worker) {
    const job *j = arg;
    if (j->s.length <= DIRECT)
        make_lags(j, channel, j->spectra + channel * LAGS);
    else
        make_spectrum(j, channel, j->spectra + channel * 2 * j->s.n, j->work + worker * 2 * j->s.n);
}

CPU_KERNEL(cpu_long_conv_prepare) {
    job j;
    head *h = node->prepared.data;
    float *table = (float *)(void *)(h + 1);
    collect(node, &j);
    if (!j.filter || (j.s.ahead && !j.back))
        return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: the filter has no memory",
                        node->name ? node->name : "long_conv");
    *h = (head){.length = j.s.length, .channels = j.s.channels, .taps = j.s.taps, .ahead = j.s.ahead};
    if (j.s.length > DIRECT) cpu_ring_plan(&j.ring, j.s.n, table, true);
    j.spectra = table + j.s.table;
    j.work = scratch;
    cpu_parallel(device, j.s.channels, prepare_body, &j);
    return STRAND_PLUGIN_OK;
}

/* The rows of the piece of work after this one, as far as there is one and they are short: long ones would push out what is at
 * work, and are read in order anyway. */
static void find_soon(const job *j, int64_t entry, int64_t channel, cpu_ring_source *from) {
    int n = 0;
    if (j->s.length > SOON || channel >= j->s.channels) return;
    from->soon[n++] = row_of(j, &j->u, entry, channel);
    from->soon[n++] = row_of(j, &j->out, entry, channel);
    if (j->has_pre) from->soon[n++] = row_of(j, &j->pre, entry, channel);
    if (j->has_post) from->soon[n++] = row_of(j, &j->post, entry, channel);
}

static void convolve(const job *j, int64_t entry, int64_t channel, const float *spectrum, float *work) {
    cpu_ring_source from = {.u = row_of(j, &j->u, entry, channel), .length = j->s.length};
    bool last = entry + 1 == j->s.batch;
    find_soon(j, last ? 0 : entry + 1, last ? channel + 1 : channel, &from);
    if (j->has_pre) from.gate = row_of(j, &j->pre, entry, channel);
    const float *post = j->has_post ? row_of(j, &j->post, entry, channel) : NULL;
    float *y = (float *)(void *)cpu_row(&j->out, j->dims, entry * j->s.channels + channel);
    cpu_ring_convolve(&j->ring, &from, spectrum, j->skip ? j->skip[channel * j->skip_stride] : 0, y, post, j->s.length, work);
}

/* Prepared: one piece of work an entry and channel; entries of a channel follow one another and share its spectrum in cache. */
static void ready_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t channel = i / j->s.batch;
    convolve(j, i % j->s.batch, channel, j->spectra + channel * 2 * j->s.n, j->work + worker * 2 * j->s.n);
}

static void fresh_body(void *arg, int64_t channel, int32_t worker) {
    const job *j = arg;
    float *spectrum = j->work + worker * 4 * j->s.n, *work = spectrum + 2 * j->s.n;
    make_spectrum(j, channel, spectrum, work);
    for (int64_t entry = 0; entry < j->s.batch; entry++) convolve(j, entry, channel, spectrum, work);
}

/* The sum as it stands, for a short sequence: lanes are positions, sums go over the inputs in order. */
static void direct_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t entry = i / j->s.channels, channel = i % j->s.channels, length = j->s.length;
    float made[LAGS], w[DIRECT + CPU_LANES] = {0}, y[DIRECT + CPU_LANES];
    const float *u = row_of(j, &j->u, entry, channel), *pre = j->has_pre ? row_of(j, &j->pre, entry, channel) : NULL;
    const float *post = j->has_post ? row_of(j, &j->post, entry, channel) : NULL;
    const float *h = (j->spectra ? j->spectra + channel * LAGS : made) + DIRECT;
    vf skip = vf_set(j->skip ? j->skip[channel * j->skip_stride] : 0);
    (void)worker;
    if (!j->spectra) make_lags(j, channel, made);
    for (int64_t t = 0; t < length; t++) w[t] = pre ? u[t] * pre[t] : u[t];
    for (int64_t t = 0; t < length; t += CPU_LANES) {
        vf sum = vf_zero();
        int64_t end = j->s.ahead ? length : cpu_min(t + CPU_LANES, length);
        for (int64_t s = 0; s < end; s++) sum = vf_fma(vf_set(w[s]), vf_load(h + t - s), sum);
        vf_store(y + t, vf_fma(skip, vf_load(w + t), sum));
    }
    float *out = (float *)(void *)cpu_row(&j->out, j->dims, i);
    for (int64_t t = 0; t < length; t++) out[t] = post ? y[t] * post[t] : y[t];
}

/* Points the job at what `prepare` made, if that is here and was made for this very shape. */
static bool find_prepared(const strand_plugin_node *node, job *j) {
    const head *h = node->prepared.data;
    if (node->prepared.bytes < cpu_long_conv_prepare_size(node)) return false;
    if (h->length != j->s.length || h->channels != j->s.channels || h->taps != j->s.taps || h->ahead != j->s.ahead)
        return false;
    float *table = (float *)(void *)((char *)node->prepared.data + sizeof(head));
    j->spectra = table + j->s.table;
    if (j->s.length > DIRECT) cpu_ring_plan(&j->ring, j->s.n, table, false);
    return true;
}

CPU_KERNEL(cpu_long_conv) {
    const char *name = node->name ? node->name : "long_conv";
    bool ready = prepares(node) && node->prepared.data;
    job j;
    collect(node, &j);
    j.work = scratch;
    if (ready && !find_prepared(node, &j)) {
        return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: the filter was not prepared for this length", name);
    }
    if (j.s.length <= DIRECT) {
        cpu_parallel(device, j.s.batch * j.s.channels, direct_body, &j);
    } else if (ready) {
        cpu_parallel(device, j.s.batch * j.s.channels, ready_body, &j);
    } else {
        cpu_ring_plan(&j.ring, j.s.n, scratch, true);
        j.work = (float *)scratch + j.s.table;
        cpu_parallel(device, j.s.channels, fresh_body, &j);
    }
    return STRAND_PLUGIN_OK;
}

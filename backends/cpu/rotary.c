/* rotary.c - ROTARY: pairs of a head's elements turned by an angle that grows with the token's position.
 *
 * Floor: a token's angles serve all of its heads, so this is a copy (8 bytes an element) beside rotary / 2 sines and cosines a
 * token. Angles are products in double, brought to [-pi/4, pi/4] in double, so that a position of a million is as exact as one
 * of ten. Each token is computed by itself. */
#include "half.h"
#include "kernels.h"
#include "simd.h"

#include <math.h>

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_rotary *p;
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK], rows, height, width, half, floats; /* floats: a worker's tables */
    double *frequencies;
    float *tables;
} job;

/* pi/2 in three parts; the first two have 23 bits at most, so that their products with |k| < 2^30 are exact. */
#define HALF_PI_1 0x1.921fb4p+0
#define HALF_PI_2 0x1.4442dp-24
#define HALF_PI_3 0x1.8469898cc517p-48
#define FARTHEST  0x1p30

/* Sine and cosine of one angle; no branches, so that the compiler makes vectors of a loop over it. */
static inline void turn(double angle, float *sine, float *cosine) {
    double shifted = angle * 0.63661977236758134308 + 0x1.8p52, k = shifted - 0x1.8p52;
    double rest = ((angle - k * HALF_PI_1) - k * HALF_PI_2) - k * HALF_PI_3;
    uint64_t bits;
    memcpy(&bits, &shifted, 8);
    uint32_t quarter = (uint32_t)bits;
    float r = (float)rest, y = r * r;
    float s = r + r * y * (-0.1666666664f + y * (0.008333329386f + y * (-0.0001983933484f + y * 2.718311495e-6f)));
    float c = 1.0f + y * (-0.4999999973f + y * (0.04166662332f + y * (-0.001388676377f + y * 2.439044879e-5f)));
    float a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
    *sine = cpu_from_bits(cpu_to_bits(a) ^ (quarter & 2) << 30);
    *cosine = cpu_from_bits(cpu_to_bits(b) ^ ((quarter + 1) & 2) << 30);
}

/* The tables of one token: cosines, then sines, of the angles of its pairs. */
static void angles(const job *j, double position, float *cosine, float *sine) {
    double scaled = position * (double)j->p->position_scale, most = 0;
    float magnitude = j->p->magnitude;
    for (int64_t i = 0; i < j->half; i++) {
        double a = fabs(scaled * j->frequencies[i]);
        most = a > most ? a : most;
    }
    if (most < FARTHEST)
        for (int64_t i = 0; i < j->half; i++) turn(scaled * j->frequencies[i], &sine[i], &cosine[i]);
    else
        for (int64_t i = 0; i < j->half; i++) {
            sine[i] = (float)sin(scaled * j->frequencies[i]);
            cosine[i] = (float)cos(scaled * j->frequencies[i]);
        }
    if (magnitude == 1) return;
    for (int64_t i = 0; i < j->half; i++) {
        sine[i] *= magnitude;
        cosine[i] *= magnitude;
    }
}

/* Interleaved pairs want each cosine twice, and the sine with both signs. */
static void interleave(int64_t half, const float *cosine, const float *sine, float *cosines, float *sines) {
    for (int64_t i = 0; i < half; i++) {
        cosines[2 * i] = cosines[2 * i + 1] = cosine[i];
        sines[2 * i] = -sine[i];
        sines[2 * i + 1] = sine[i];
    }
}

CPU_INLINE vf load(const float *p, int64_t n) {
    return n == CPU_LANES ? vf_load(p) : vf_load_part(p, n);
}
CPU_INLINE void store(float *p, vf x, int64_t n) {
    if (n == CPU_LANES)
        vf_store(p, x);
    else
        vf_store_part(p, x, n);
}

CPU_INLINE void halves_some(float *y, const float *x, const float *cosine, const float *sine, int64_t half, int64_t i,
                            int64_t n) {
    vf a = load(x + i, n), b = load(x + half + i, n), c = load(cosine + i, n), s = load(sine + i, n);
    store(y + i, vf_fnma(b, s, a * c), n);
    store(y + half + i, vf_fma(a, s, b * c), n);
}

static void halves(float *y, const float *x, const float *cosine, const float *sine, int64_t half) {
    int64_t i = 0;
    for (; i + CPU_LANES <= half; i += CPU_LANES) halves_some(y, x, cosine, sine, half, i, CPU_LANES);
    if (i < half) halves_some(y, x, cosine, sine, half, i, half - i);
}

CPU_INLINE vf swap_pairs(vf x) {
#if CPU_LANES == 16
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif CPU_LANES == 8
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
#else
    return __builtin_shufflevector(x, x, 1, 0, 3, 2);
#endif
}

static void pairs(float *y, const float *x, const float *cosines, const float *sines, int64_t n) {
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        int64_t some = cpu_min(CPU_LANES, n - i);
        vf a = load(x + i, some);
        store(y + i, vf_fma(swap_pairs(a), load(sines + i, some), a * load(cosines + i, some)), some);
    }
}

static void token(const job *j, const float *tables, float *y, const float *x) {
    int64_t rotary = 2 * j->half;
    for (int64_t h = 0; h < j->p->heads; h++, x += j->width, y += j->width) {
        if (j->p->interleaved)
            pairs(y, x, tables, tables + rotary, rotary);
        else
            halves(y, x, tables, tables + j->half, j->half);
        if (y != x) memcpy(y + rotary, x + rotary, (size_t)(j->width - rotary) * sizeof *y);
    }
}

static int64_t position_of(const job *j, int64_t b, int64_t t) {
    const strand_plugin_tensor *at = cpu_input(j->node, 1), *out = &j->node->outputs[0];
    if (!at) return j->p->offset + out->origin[1] + t;
    uint32_t last = at->rank - 1;
    int64_t i = cpu_lead(at, last, out, 1) + t, place = at->rank == 2 ? (cpu_lead(at, 0, out, 0) + b) * at->strides[0] : 0;
    place += i * (at->dims[last] > 1 ? at->strides[last] : 1);
    return at->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)at->memory.data)[place]
                                          : ((const int32_t *)at->memory.data)[place];
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->height, j->rows), half = j->half;
    float *tables = j->tables + worker * j->floats, *plain = tables + 4 * half;
    for (int64_t row = i * j->height; row < end; row++) {
        double position = (double)position_of(j, row / j->dims[2], row % j->dims[2]);
        if (j->p->interleaved) {
            angles(j, position, plain, plain + half);
            interleave(half, plain, plain + half, tables, tables + 2 * half);
        } else {
            angles(j, position, tables, tables + half);
        }
        token(j, tables, (float *)(void *)cpu_row(&j->out, j->dims, row),
              (const float *)(const void *)cpu_row(&j->x, j->dims, row));
    }
}

static int64_t worker_floats(int64_t half) {
    return (int64_t)cpu_round((uint64_t)(6 * half) * sizeof(float)) / (int64_t)sizeof(float);
}

uint64_t cpu_rotary_scratch(const cpu_device *device, const strand_plugin_node *node) {
    const strand_op_rotary *p = node->params;
    int64_t half = p->rotary / 2;
    return cpu_round((uint64_t)half * sizeof(double)) +
           (uint64_t)worker_floats(half) * sizeof(float) * (uint64_t)cpu_workers(device);
}

CPU_KERNEL(cpu_rotary) {
    const strand_op_rotary *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *given = cpu_input(node, 2);
    job j = {.node = node, .p = p, .width = out->dims[2] / p->heads, .half = p->rotary / 2, .frequencies = scratch};
    j.floats = worker_floats(j.half);
    j.tables = (float *)(void *)((char *)scratch + cpu_round((uint64_t)j.half * sizeof(double)));
    for (int64_t i = 0; i < j.half; i++)
        j.frequencies[i] = given ? (double)cpu_f32(given)[i] : pow((double)p->base, -2.0 * (double)i / (double)p->rotary);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    cpu_place(out, &node->inputs[0], false, &j.x);
    j.rows = cpu_rows(j.dims);
    j.height = cpu_max(1, 16384 / cpu_max(1, j.dims[3]));
    cpu_parallel(device, (j.rows + j.height - 1) / j.height, body, &j);
    return STRAND_PLUGIN_OK;
}

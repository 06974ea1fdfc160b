/* ops_nplr.c - SSM_DISCRETIZE_NPLR on the GPU plugins (kernels/nplr.k): some channels at a time, dispatch after dispatch:
 * the steps, the matrix, its power by squaring, the linear system, elimination column after column. */
#include "gpu.h"

#define MOST_PAIRS 128                     /* of states */
#define ROUND      ((int64_t)2 << 20)      /* numbers of the matrices of the channels in work at a time */

typedef struct nplr_room {
    int64_t states, n, channels;           /* channels at a time */
    uint64_t vectors, matrix, side, best;  /* bytes: poles, p and q; one matrix of all channels; the right sides; the pivots'
                                              rows */
    uint64_t bytes;
} nplr_room;

static uint64_t rounded(int64_t floats) {
    return ((uint64_t)floats * sizeof(float) + 255) / 256 * 256;
}

static nplr_room room_of(const strand_plugin_node *node) {
    nplr_room r = {.states = node->inputs[3].dims[1], .channels = node->outputs[0].dims[1]};
    r.n = 2 * r.states;
    if (r.n && r.channels > ROUND / (r.n * r.n)) r.channels = ROUND / (r.n * r.n);
    r.vectors = rounded(r.channels * 12 * r.states);
    r.side = rounded(r.channels * 2 * r.n);
    r.matrix = rounded(r.channels * r.n * r.n * 2);
    r.best = rounded(r.channels);
    r.bytes = r.vectors + r.side + 3 * r.matrix + r.best;
    return r;
}

bool gpu_supports_ssm_discretize_nplr(strand_plugin_device *device, const strand_plugin_node *node, char *why,
                                      size_t why_bytes) {
    (void)device;
    if (node->inputs[3].dims[1] > MOST_PAIRS) return cpu_no(why, why_bytes, "more than %d pairs of states", MOST_PAIRS);
    return true;
}

uint64_t gpu_ssm_discretize_nplr_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    (void)device;
    return room_of(node).bytes;
}

/* The rounds' state: matrices change places while the power is made. */
typedef struct nplr_round {
    strand_plugin_device *device;
    const strand_plugin_node *node;
    const strand_plugin_memory *scratch;
    nplr_room room;
    int64_t first, count; /* channels */
    uint64_t base, power, other; /* offsets of matrices */
} nplr_round;

static void bind_matrix(const nplr_round *r, gpu_dispatch *d, uint64_t at) {
    gpu_bind_memory(r->device, d, r->scratch, at, r->room.matrix, sizeof(float));
}
static void bind_side(const nplr_round *r, gpu_dispatch *d) {
    gpu_bind_memory(r->device, d, r->scratch, r->room.vectors, r->room.side, sizeof(float));
}
static void bind_best(const nplr_round *r, gpu_dispatch *d) {
    gpu_bind_memory(r->device, d, r->scratch, r->room.bytes - r->room.best, r->room.best, sizeof(float));
}

static strand_plugin_status run_two(const nplr_round *r, gpu_dispatch *d, int64_t items, int64_t n) {
    gpu_int(d, items);
    gpu_int(d, n);
    return gpu_over(r->device, d, items);
}

static strand_plugin_status steps(const nplr_round *r) {
    const strand_op_ssm_discretize_nplr *p = r->node->params;
    const strand_plugin_tensor *in = r->node->inputs, *y = &r->node->outputs[0];
    int64_t strides[4];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_nplr_steps);
    for (uint32_t i = 0; i < 5; i++) gpu_bind(r->device, &d, &in[i]);
    gpu_bind(r->device, &d, y);
    gpu_bind_memory(r->device, &d, r->scratch, 0, r->room.vectors + r->room.side, sizeof(float));
    for (uint32_t i = 0; i < 4; i++) { /* one channel may stand for all */
        strides[i] = in[i].whole[0] != 1 ? in[i].strides[0] : 0;
        if (strides[i]) d.params[i] += (int32_t)((cpu_lead(&in[i], 0, y, 1) + r->first) * strides[i]);
    }
    d.params[4] += (int32_t)((cpu_lead(&in[4], 0, y, 1) + r->first) * in[4].strides[0]);
    d.params[5] += (int32_t)(r->first * y->strides[1]);
    gpu_int(&d, r->count);
    gpu_int(&d, r->room.states);
    gpu_int(&d, in[4].strides[0]);
    gpu_int(&d, (int64_t)(r->room.vectors / sizeof(float)));
    for (uint32_t i = 0; i < 4; i++) {
        gpu_int(&d, strides[i]);
        gpu_int(&d, in[i].strides[1]);
    }
    for (uint32_t i = 0; i < 3; i++) gpu_int(&d, y->strides[i]);
    gpu_int(&d, p->length == 0);
    return gpu_over(r->device, &d, r->count);
}

static strand_plugin_status product(nplr_round *r, uint64_t x, uint64_t y, uint64_t z) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_nplr_product);
    bind_matrix(r, &d, x);
    bind_matrix(r, &d, y);
    bind_matrix(r, &d, z);
    return run_two(r, &d, r->count * r->room.n * r->room.n, r->room.n);
}

/* power = base^length, from the highest bit down; the base's memory stays as it is. */
static strand_plugin_status power_of(nplr_round *r, int64_t length) {
    int bit = 62;
    uint64_t now = r->base, spare[2] = {r->power, r->other};
    strand_plugin_status status = STRAND_PLUGIN_OK;
    while (!(length >> bit & 1)) bit--;
    for (bit--; bit >= 0 && !status; bit--)
        for (int twice = 0; twice < 2 && !status; twice++) { /* squared, and once more by the base where the bit is set */
            if (twice && !(length >> bit & 1)) continue;
            uint64_t to = now == spare[0] ? spare[1] : spare[0];
            status = product(r, now, twice ? r->base : now, to);
            now = to;
        }
    r->power = now;
    r->other = now == spare[0] ? spare[1] : spare[0];
    return status;
}

/* Elimination with the largest pivot, every column out of all rows but its own; `a` is the system's matrix. */
static strand_plugin_status solve(nplr_round *r, uint64_t a) {
    const strand_plugin_tensor *y = &r->node->outputs[0];
    int64_t n = r->room.n;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    gpu_dispatch d;
    for (int64_t k = 0; k < n && !status; k++) {
        gpu_begin(&d, GPU_K_nplr_pivot);
        bind_matrix(r, &d, a);
        bind_best(r, &d);
        gpu_int(&d, r->count);
        gpu_int(&d, n);
        gpu_int(&d, k);
        status = gpu_over(r->device, &d, r->count);
        if (status) break;
        gpu_begin(&d, GPU_K_nplr_swap);
        bind_best(r, &d);
        bind_matrix(r, &d, a);
        bind_side(r, &d);
        gpu_int(&d, r->count * (n + 1));
        gpu_int(&d, n);
        gpu_int(&d, k);
        status = gpu_over(r->device, &d, r->count * (n + 1));
        if (status) break;
        gpu_begin(&d, GPU_K_nplr_eliminate);
        bind_matrix(r, &d, a);
        bind_side(r, &d);
        gpu_int(&d, r->count * n * (n - k));
        gpu_int(&d, n);
        gpu_int(&d, k);
        status = gpu_over(r->device, &d, r->count * n * (n - k));
    }
    if (status) return status;
    gpu_begin(&d, GPU_K_nplr_result);
    bind_matrix(r, &d, a);
    bind_side(r, &d);
    gpu_bind(r->device, &d, y);
    d.params[2] += (int32_t)(4 * y->strides[0] + r->first * y->strides[1]);
    gpu_int(&d, r->count * r->room.states);
    gpu_int(&d, r->room.states);
    gpu_int(&d, y->strides[1]);
    gpu_int(&d, y->strides[2]);
    return gpu_over(r->device, &d, r->count * r->room.states);
}

static strand_plugin_status one_round(nplr_round *r) {
    const strand_op_ssm_discretize_nplr *p = r->node->params;
    int64_t items = r->count * r->room.n * r->room.n;
    gpu_dispatch d;
    strand_plugin_status status = steps(r);
    if (status || p->length == 0) return status;
    gpu_begin(&d, GPU_K_nplr_matrix);
    gpu_bind_memory(r->device, &d, r->scratch, 0, r->room.vectors, sizeof(float));
    bind_matrix(r, &d, r->base);
    status = run_two(r, &d, items, r->room.states);
    if (!status) status = power_of(r, p->length);
    if (status) return status;
    gpu_begin(&d, GPU_K_nplr_system);
    bind_matrix(r, &d, r->power);
    bind_matrix(r, &d, r->other);
    status = run_two(r, &d, items, r->room.n);
    return status ? status : solve(r, r->other);
}

GPU_RUN(ssm_discretize_nplr) {
    nplr_round r = {.device = device, .node = node, .scratch = scratch, .room = room_of(node)};
    int64_t channels = node->outputs[0].dims[1];
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!r.room.states) return STRAND_PLUGIN_OK;
    for (r.first = 0; r.first < channels && !status; r.first += r.room.channels) {
        r.count = channels - r.first < r.room.channels ? channels - r.first : r.room.channels;
        r.base = r.room.vectors + r.room.side;
        r.power = r.base + r.room.matrix;
        r.other = r.power + r.room.matrix;
        status = one_round(&r);
    }
    return status;
}

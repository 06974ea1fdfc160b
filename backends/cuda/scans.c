/* scans.c - selective scans in one pass, and few tokens of scans and of recurrences with a matrix state
 * (kernels/scans_own.cu), from compute capability 8.0 on. What they do not take, the common kernels do: by lengths and whole
 * extents alone. */
#include "steps.h"

#define STEP_TOKENS    16  /* fewer are steps */
#define STEP_ROWS      128 /* of a matrix state, at most */
#define SCAN_STATES    64
#define SCAN_CHANNELS  512 /* fewer do not fill a device without parts of the sequence */
#define PROCESSORS     132 /* of a large device */

/* Of a sequence that is cut with y's channels, too; channels: of what stands under them (B, C and the like: none). */
static CUdeviceptr channels_of(const strand_plugin_tensor *t, const strand_plugin_tensor *y, CUdeviceptr none) {
    return t ? cuda_entry(t, y, 0, none) + (CUdeviceptr)(cpu_lead(t, 2, y, 2) * t->strides[2] * 4) : none;
}

static CUdeviceptr first_of(const strand_plugin_tensor *t, int64_t element, CUdeviceptr none) {
    return t ? cuda_address(t, element * t->strides[0]) : none;
}

/* ---- selective scan ---- */

static bool takes_scan(const strand_plugin_node *node) {
    const strand_plugin_tensor *y = &node->outputs[0];
    if (node->inputs[2].dims[1] > SCAN_STATES || y->whole[0] > CUDA_GROUPS_YZ) return false;
    return y->dims[1] < STEP_TOKENS || y->whole[2] >= SCAN_CHANNELS;
}

/* Channels of a group: so that all processors have as many, then the most. */
static int group_of(int64_t channels, int64_t batch) {
    int best = 16;
    int64_t least = INT64_MAX;
    for (int g = 16; g >= 4; g -= 4) {
        int64_t turns = ((channels + g - 1) / g * batch + PROCESSORS - 1) / PROCESSORS * g;
        if (turns < least) least = turns, best = g;
    }
    return best;
}

bool cuda_scan_takes(const strand_plugin_node *node) {
    return node->outputs[0].dims[1] < STEP_TOKENS && takes_scan(node);
}

void cuda_scan_of(const strand_plugin_node *node, bool few, cuda_scan *s) {
    const strand_op_selective_scan *p = node->params;
    const strand_plugin_tensor *u = &node->inputs[0], *dt = &node->inputs[1], *A = &node->inputs[2], *B = &node->inputs[3],
                               *C = &node->inputs[4], *D = cpu_input(node, 5), *z = cpu_input(node, 6),
                               *bias = cpu_input(node, 7), *state = cpu_input(node, 8), *y = &node->outputs[0],
                               *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    scan_numbers x = {.tokens = (int)y->dims[1], .channels = (int)y->dims[2], .states = (int)A->dims[1],
                      .group = few ? 8 : group_of(y->dims[2], y->dims[0]), .a_stride = (int)A->strides[0], .has_d = D != NULL,
                      .d_stride = D ? (int)D->strides[0] : 0, .has_z = z != NULL, .has_bias = bias != NULL,
                      .bias_stride = bias ? (int)bias->strides[0] : 0, .has_state = state != NULL, .has_after = after != NULL,
                      .softplus = p->softplus != 0};
    cuda_strides(x.u, u, 2);
    cuda_strides(x.dt, dt, 2);
    cuda_strides(x.b, B, 2);
    cuda_strides(x.c, C, 2);
    cuda_strides(x.z, z, 2);
    cuda_strides(x.y, y, 2);
    cuda_strides(x.state, state, 3);
    cuda_strides(x.after, after, 3);
    const CUdeviceptr none = cuda_address(y, 0);
    *s = (cuda_scan){.x = x,
                     .u = channels_of(u, y, none),
                     .dt = channels_of(dt, y, none),
                     .a = first_of(A, cpu_lead(A, 0, y, 2), none),
                     .b = cuda_entry(B, y, 0, none),
                     .c = cuda_entry(C, y, 0, none),
                     .d = D ? first_of(D, cpu_lead(D, 0, y, 2), none) : none,
                     .z = channels_of(z, y, none),
                     .bias = bias ? first_of(bias, cpu_lead(bias, 0, y, 2), none) : none,
                     .y = none,
                     .after = after ? cuda_address(after, 0) : none};
    s->state = state ? cuda_entry(state, y, 0, none) + (CUdeviceptr)(cpu_lead(state, 1, y, 2) * state->strides[1] * 4) : none;
}

static strand_plugin_status scan(cuda_device *d, const strand_plugin_node *node, bool *done) {
    const strand_plugin_tensor *y = &node->outputs[0];
    const bool few = y->dims[1] < STEP_TOKENS;
    CUfunction function;
    strand_plugin_status status = cuda_own_find(d, few ? CUDA_OWN_selective_step : CUDA_OWN_selective_chunks, !few, &function);
    if (status || !function) return status;
    cuda_scan s;
    cuda_scan_of(node, few, &s);
    const scan_numbers *x = &s.x;
    void *arguments[] = {&s.u, &s.dt, &s.a, &s.b, &s.c, &s.d, &s.z, &s.bias, &s.state, &s.y, &s.after, &s.x};
    const uint32_t groups[3] = {(uint32_t)((x->channels + x->group - 1) / x->group), (uint32_t)y->dims[0], 1};
    const uint32_t shared = few ? 0 : (uint32_t)SCAN_SHARED(x->group, x->states);
    *done = true;
    return cuda_launch(d, d->base.segment, function, groups, few ? 128 : (uint32_t)x->group * 32, shared, arguments,
                       "selective scan");
}

/* ---- steps of matrix states ---- */

typedef struct step_form {
    int64_t heads, n;                        /* of the whole node; rows: N, K */
    const strand_plugin_tensor *in[6];       /* as the kernel counts them */
    const strand_plugin_tensor *D, *bias, *state;
    cuda_own_kernel kernel;
    step_numbers x;
} step_form;

static bool step_of(const strand_plugin_node *node, step_form *f) {
    const strand_plugin_tensor *in = node->inputs;
    *f = (step_form){0};
    if (node->op == STRAND_OP_SSD) {
        const strand_op_ssd *p = node->params;
        const strand_plugin_tensor *dt = cpu_input(node, 4);
        *f = (step_form){p->heads,
                         in[2].dims[2] / p->groups,
                         {&in[3], &in[2], &in[0], &in[1], dt},
                         cpu_input(node, 5),
                         dt ? cpu_input(node, 6) : NULL,
                         cpu_input(node, 7),
                         CUDA_OWN_ssd_step,
                         {.heads_a_group = (int)(p->heads / p->groups), .has_dt = dt != NULL, .softplus = p->softplus != 0,
                          .dt_min = p->dt_min, .dt_max = p->dt_max}};
    } else if (node->op == STRAND_OP_GATED_LINEAR_ATTENTION) {
        const strand_op_gated_linear_attention *p = node->params;
        *f = (step_form){p->heads, in[0].dims[2] / p->heads, {&in[0], &in[1], &in[2], &in[3]}, NULL, cpu_input(node, 4), cpu_input(node, 5), CUDA_OWN_gated_step,
                         {.log_w = p->log_w != 0, .scale = p->scale}};
    } else if (node->op == STRAND_OP_DELTA_RULE) {
        const strand_op_delta_rule *p = node->params;
        *f = (step_form){p->heads, in[0].dims[2] / p->heads, {&in[0], &in[2], &in[3], &in[1], &in[4], &in[5]}, NULL, NULL, cpu_input(node, 6), CUDA_OWN_delta_step,
                         {.log_w = p->log_w != 0, .scale = p->scale}};
    } else {
        return false;
    }
    return node->outputs[0].dims[1] < STEP_TOKENS && f->n <= STEP_ROWS && f->heads <= CUDA_GROUPS_YZ &&
           node->outputs[0].whole[0] <= CUDA_GROUPS_YZ;
}

static bool fast(CUdeviceptr at, const int *strides, int n) {
    bool good = at % 16 == 0;
    for (int i = 0; i < n; i++) good = good && strides[i] % 4 == 0;
    return good;
}

static strand_plugin_status step(cuda_device *d, const strand_plugin_node *node, step_form *f, bool *done) {
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL, *a = f->in[3];
    const bool gated = f->kernel == CUDA_OWN_gated_step;
    const int64_t width = y->whole[2] / f->heads, first = y->origin[2] / width,
                  heads = (y->origin[2] + y->dims[2] - 1) / width + 1 - first;
    CUfunction function;
    strand_plugin_status status = cuda_own_find(d, f->kernel, false, &function);
    if (status || !function) return status;
    step_numbers *x = &f->x;
    CUdeviceptr none = cuda_address(y, 0), at[6], at_y = none, at_state = cuda_entry(f->state, y, 0, none),
                at_after = after ? cuda_address(after, 0) : none;
    x->tokens = (int)y->dims[1];
    x->n = (int)f->n;
    x->width = (int)width;
    x->first_head = (int)first;
    x->origin = (int)y->origin[2];
    x->channels = (int)y->dims[2];
    x->a_moves = a->rank == 3;
    x->has_d = f->D != NULL;
    x->d_stride = f->D ? (int)f->D->strides[0] : 0;
    x->has_bias = f->bias != NULL;
    x->bias_stride = f->bias ? (int)f->bias->strides[0] : 0;
    x->has_state = f->state != NULL;
    x->has_after = after != NULL;
    x->fast_in = x->n % 4 == 0 && width % 4 == 0 && y->origin[2] % 4 == 0;
    for (int i = 0; i < 6; i++) {
        const strand_plugin_tensor *t = f->in[i];
        const bool moves = t && t->rank == 3;
        at[i] = !t ? none : !moves ? cuda_address(t, 0) : i == 2 ? channels_of(t, y, none) : cuda_entry(t, y, 0, none);
        cuda_strides(x->in[i], t, moves ? 2 : 1);
        const bool vector = f->kernel == CUDA_OWN_ssd_step ? i < 2 : gated ? i == 2 : i != 2; /* read by four */
        if (t && vector) x->fast_in = x->fast_in && fast(at[i], x->in[i], 2);
    }
    cuda_strides(x->y, y, 2);
    cuda_strides(x->state, f->state, 4);
    cuda_strides(x->after, after, 4);
    x->fast_y = fast(at_y, x->y, 2) && width % 4 == 0 && y->origin[2] % 4 == 0;
    x->fast_state = x->state[3] == 1 && fast(at_state, x->state, 3);
    x->fast_after = x->after[3] == 1 && fast(at_after, x->after, 3);
    CUdeviceptr at_d = first_of(f->D, 0, none), at_bias = first_of(f->bias, 0, none);
    void *arguments[] = {&at[0], &at[1], &at[2], &at[3], &at[4], &at[5], &at_d, &at_bias, &at_state, &at_y, &at_after, x};
    const int64_t each = gated ? 32 : 16; /* columns of a group */
    const uint32_t groups[3] = {(uint32_t)((width + each - 1) / each), (uint32_t)heads, (uint32_t)y->dims[0]};
    *done = true;
    return cuda_launch(d, d->base.segment, function, groups, 128, 0, arguments, "a step");
}

strand_plugin_status cuda_scans_run(cuda_device *d, const strand_plugin_node *node, bool *done) {
    const strand_plugin_tensor *y = &node->outputs[0];
    step_form f;
    if (!d->tensor_cores || !y->dims[0] || !y->dims[1] || !y->dims[2]) return STRAND_PLUGIN_OK;
    if (node->op == STRAND_OP_SELECTIVE_SCAN ? !takes_scan(node) : !step_of(node, &f)) return STRAND_PLUGIN_OK;
    strand_plugin_status status = cuda_current(d);
    if (status) return status;
    return node->op == STRAND_OP_SELECTIVE_SCAN ? scan(d, node, done) : step(d, node, &f, done);
}

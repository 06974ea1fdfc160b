/* tensor.c - attention and matrix products on tensor cores (kernels/attention_*.cu, products_mma.cu), from compute capability
 * 8.0 on. What they do not take, the common kernels do: which of them it is depends on types, parameters, whole extents and
 * alignment alone. */
#include "driver_cuda.h"
#include "kernels/numbers.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define SPLIT_QUERIES 64  /* up to so many queries of more than SPLIT_KEYS keys: they are cut in ranges */
#define SPLIT_KEYS    512
#define STEP_KEYS     128 /* the least that a range of keys has */
#define MOST_RANGES   64
#define MOST_KEYS     (1 << 30) /* a window of more is none */

bool cuda_tensor_wanted(CUdevice id) {
    const char *setting = getenv("STRAND_CUDA_TENSOR_CORES");
    int major = 0;
    cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, id);
    return major >= 8 && !(setting && !strcmp(setting, "0"));
}

bool cuda_wgmma_wanted(CUdevice id) {
    const char *setting = getenv("STRAND_CUDA_TENSOR_CORES");
    int major = 0, minor = 0;
    uint32_t image;
    const char *name;
    cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, id);
    cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, id);
    return cuda_tensor_wanted(id) && major == 9 && minor == 0 && !(setting && !strcmp(setting, "mma")) &&
           cuda_own_image_of(CUDA_OWN_attention_wgmma_bf16_64, &image, &name);
}

/* Tensor maps are younger than the driver that the plugin is linked against may be. */
void cuda_tensor_open(cuda_device *d) {
    void *library, *symbol = NULL;
    d->tensor_cores = cuda_tensor_wanted(d->id);
    if (!cuda_wgmma_wanted(d->id) || !(library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD))) return;
    symbol = dlsym(library, "cuTensorMapEncodeTiled");
    memcpy(&d->encode, &symbol, sizeof symbol);
    dlclose(library); /* it stays: the plugin is linked against it */
}

strand_plugin_status cuda_own_find(cuda_device *d, cuda_own_kernel kernel, bool shared, CUfunction *function) {
    uint32_t image;
    const char *name;
    const void *code = cuda_own_image_of(kernel, &image, &name);
    *function = d->own_kernels[kernel];
    if (*function || d->own_missing || !code) return STRAND_PLUGIN_OK;
    if (!d->own_modules[image]) {
        CUresult e = cuModuleLoadData(&d->own_modules[image], code);
        d->own_missing = e == CUDA_ERROR_NO_BINARY_FOR_GPU;
        if (d->own_missing) return STRAND_PLUGIN_OK;
        strand_plugin_status status = cuda_check(d->base.host, e, "loading kernels");
        if (status) return status;
    }
    strand_plugin_status status = cuda_check(d->base.host, cuModuleGetFunction(function, d->own_modules[image], name), name);
    if (!status && shared)
        status = cuda_check(
            d->base.host, cuFuncSetAttribute(*function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)d->shared_bytes),
            name);
    if (!status) d->own_kernels[kernel] = *function;
    return status;
}

void cuda_tensor_close(cuda_device *d) {
    for (int i = 0; i < CUDA_OWN_IMAGES; i++)
        if (d->own_modules[i]) cuModuleUnload(d->own_modules[i]);
}

static bool half(uint32_t type) {
    return type == STRAND_PLUGIN_F16 || type == STRAND_PLUGIN_BF16;
}

/* ---- attention ---- */

/* Few queries, or not many of more keys: their rows share tiles, and the keys are cut in ranges. */
static bool steps(const strand_plugin_node *node) {
    const int64_t queries = node->outputs[0].whole[1];
    return queries < CUDA_TENSOR_ROWS || (queries <= SPLIT_QUERIES && node->inputs[1].dims[1] > SPLIT_KEYS);
}

static int64_t widest(const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    return cpu_max(node->inputs[0].dims[2] / p->heads, node->outputs[0].dims[2] / p->heads);
}

static bool takes_attention(const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[1], *v = &node->inputs[2], *y = &node->outputs[0];
    /* groups of one launch */
    if (!half(k->dtype) || k->dtype != v->dtype || p->heads > CUDA_GROUPS_YZ || y->whole[0] > CUDA_GROUPS_YZ) return false;
    return k->dims[1] > 0 && node->inputs[0].dims[2] >= p->heads && y->dims[2] >= p->heads && widest(node) <= 256;
}

/* By the whole shape alone, so that a result does not depend on tiles or the batch. */
static int64_t ranges(const strand_plugin_node *node) {
    return steps(node) ? cpu_min((node->inputs[1].dims[1] + STEP_KEYS - 1) / STEP_KEYS, MOST_RANGES) : 1;
}

/* Of fewer queries than the node has, too: those may be steps. */
static uint64_t attention_scratch(const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t n = cpu_min((node->inputs[1].dims[1] + STEP_KEYS - 1) / STEP_KEYS, MOST_RANGES);
    return n < 2 ? 0
                 : (uint64_t)(y->dims[0] * p->heads * cpu_min(y->dims[1], SPLIT_QUERIES) * n * (y->dims[2] / p->heads + 2)) *
                       sizeof(float);
}

static cuda_own_kernel attention_kernel(const strand_plugin_node *node, bool few, bool parts) {
#define KERNELS(kind, width) {CUDA_OWN_attention_##kind##bf16_##width, CUDA_OWN_attention_##kind##bf16x3_##width, CUDA_OWN_attention_##kind##f16x2_##width}
    static const cuda_own_kernel step[3][3] = {KERNELS(step_, 64), KERNELS(step_, 128), KERNELS(step_, 256)},
                                 plain[2][3] = {KERNELS(, 64), KERNELS(, 128)},
                                 wide[4][3] = {KERNELS(wide_, 64), KERNELS(wide_, 128), KERNELS(wide_, 192),
                                               KERNELS(wide_, 256)};
#undef KERNELS
    const strand_op_attention *p = node->params;
    const int64_t width = widest(node);
    const int terms = node->inputs[1].dtype == STRAND_PLUGIN_F16 ? 2 : p->precision == STRAND_PRECISION_BF16 ? 0 : 1;
    if (few) return step[width > 128 ? 2 : width > 64][terms];
    return parts ? wide[(width - 1) / 64][terms] : plain[width > 64][terms];
}

static attention_numbers numbers_of(const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *n = cpu_input(node, 3),
                               *bias = cpu_input(node, 4), *mask = cpu_input(node, 5), *y = &node->outputs[0];
    attention_numbers x = {.queries = (int)y->dims[1], .first = (int)y->origin[1], .all_queries = (int)y->whole[1],
                           .keys = (int)k->dims[1], .d = (int)(q->dims[2] / p->heads), .dv = (int)(y->dims[2] / p->heads),
                           .heads = (int)p->heads, .kv_heads = (int)p->kv_heads, .causal = p->causal != 0,
                           .window = (int)cpu_min(p->window, MOST_KEYS), .sinks = (int)cpu_min(p->sinks, MOST_KEYS),
                           .length_words = !n ? 0 : n->dtype == STRAND_PLUGIN_I64 ? 2 : 1,
                           .length_stride = n && n->whole[0] != 1 ? (int)n->strides[0] : 0, .scale = p->scale,
                           .softcap = p->softcap, .splits = (int)ranges(node), .least = STEP_KEYS, .biased = bias != NULL,
                           .masked = mask != NULL, .block = mask ? (int)p->block : 1};
    for (int i = 0; i < 2; i++) {
        x.q[i] = (int)q->strides[i];
        x.k[i] = (int)k->strides[i];
        x.v[i] = (int)v->strides[i];
        x.y[i] = (int)y->strides[i];
        if (bias && (i || bias->dims[0] > 1)) x.bias[i] = (int)bias->strides[i];
        if (mask && (i || mask->dims[0] > 1)) x.mask[i] = (int)mask->strides[i];
    }
    return x;
}

/* ---- by warp groups, on 9.0 ---- */

/* May there be a tensor map of it, beside what numbers_of calls fast? Rows and entries must follow one another, within 2^40
 * bytes. */
static bool may_be_mapped(const strand_plugin_tensor *t, int64_t batch) {
    const int64_t most = (int64_t)1 << 39;
    return t->strides[1] > 0 && t->strides[1] < most && (batch == 1 || (t->strides[0] > 0 && t->strides[0] < most));
}

/* Where queries and weights may be rounded to the keys' type, and there are enough queries for the groups of that kernel. */
static bool takes_wgmma(const cuda_device *d, const strand_plugin_node *node) {
    const strand_op_attention *p = node->params;
    const int64_t batch = node->outputs[0].whole[0];
    return d->encode && may_be_mapped(&node->inputs[1], batch) && may_be_mapped(&node->inputs[2], batch) &&
           p->precision == STRAND_PRECISION_BF16 && p->scale > 0 &&
           node->outputs[0].whole[1] > ATTENTION_GROUP_ROWS / 2 &&
           d->shared_bytes >= (uint32_t)ATTENTION_SHARED(widest(node) > 64 ? 128 : 64);
}

/* Keys or values as (column, head, key, batch), of which boxes of 64 columns and a tile of keys are copied. */
static bool map_of(const cuda_device *d, CUtensorMap *map, const strand_plugin_tensor *t, CUdeviceptr at, int64_t width,
                   int64_t heads, int64_t batch) {
    const uint64_t row = (uint64_t)t->strides[1] * 2;
    const cuuint64_t dims[4] = {(cuuint64_t)width, (cuuint64_t)heads, (cuuint64_t)t->dims[1], (cuuint64_t)batch},
                     strides[3] = {heads > 1 ? (cuuint64_t)width * 2 : row, row,
                                   batch > 1 ? (cuuint64_t)t->strides[0] * 2 : row};
    const cuuint32_t box[4] = {64, 1, 128, 1}, steps[4] = {1, 1, 1, 1};
    union {
        CUdeviceptr number;
        void *pointer;
    } base = {at};
    return d->encode(map, t->dtype == STRAND_PLUGIN_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
                     base.pointer, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* The results are those of the other kernels then, which are rounded elsewhere: that is said, once. */
static void tell_refusal(cuda_device *d) {
    const strand_host *host = d->base.host;
    if (host->log && !d->refusal_told)
        host->log(host->context, 1, "the CUDA driver makes no tensor map: attention is not done by warp groups");
    d->refusal_told = true;
}

/* *done stays false where there is no code for it, or the driver makes no map. */
static strand_plugin_status attention_wgmma(cuda_device *d, const strand_plugin_node *node, CUdeviceptr at_q, CUdeviceptr at_k,
                                            CUdeviceptr at_v, CUdeviceptr at_n, CUdeviceptr at_y, attention_numbers *x,
                                            bool *done) {
    static const cuda_own_kernel kernels[2][2] = {{CUDA_OWN_attention_wgmma_bf16_64, CUDA_OWN_attention_wgmma_bf16_128},
                                                  {CUDA_OWN_attention_wgmma_f16_64, CUDA_OWN_attention_wgmma_f16_128}};
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[1], *v = &node->inputs[2], *y = &node->outputs[0];
    const bool wide = widest(node) > 64;
    CUfunction function;
    CUtensorMap maps[2];
    strand_plugin_status status = cuda_own_find(d, kernels[k->dtype == STRAND_PLUGIN_F16][wide], true, &function);
    if (status || !function) return status;
    if (!map_of(d, &maps[0], k, at_k, x->d, p->kv_heads, y->dims[0]) ||
        !map_of(d, &maps[1], v, at_v, x->dv, p->kv_heads, y->dims[0])) {
        tell_refusal(d);
        return status;
    }
    x->fast_rows =
        (x->d | x->q[0] | x->q[1]) % 4 == 0 && at_q % 16 == 0 && (x->dv | x->y[0] | x->y[1]) % 2 == 0 && at_y % 8 == 0;
    const uint32_t groups[3] = {(uint32_t)((y->dims[1] + ATTENTION_GROUP_ROWS - 1) / ATTENTION_GROUP_ROWS), (uint32_t)p->heads,
                                (uint32_t)y->dims[0]};
    void *arguments[] = {&at_q, &maps[0], &maps[1], &at_n, &at_y, x};
    *done = true;
    return cuda_launch(d, d->base.segment, function, groups, 384, ATTENTION_SHARED(wide ? 128 : 64), arguments, "attention");
}

static strand_plugin_status attention(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                      bool *done) {
    const strand_op_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *n = cpu_input(node, 3),
                               *bias = cpu_input(node, 4), *mask = cpu_input(node, 5), *y = &node->outputs[0];
    const bool few = steps(node), parts = few || bias || mask || widest(node) > 128;
    CUfunction function;
    strand_plugin_status status = cuda_own_find(d, attention_kernel(node, few, parts), false, &function);
    if (status || !function) return status;
    const CUdeviceptr out = cuda_address(y, 0);
    CUdeviceptr at_q = cuda_address(q, cpu_lead(q, 0, y, 0) * q->strides[0] + cpu_lead(q, 1, y, 1) * q->strides[1]),
                at_k = cuda_address(k, cpu_lead(k, 0, y, 0) * k->strides[0]),
                at_v = cuda_address(v, cpu_lead(v, 0, y, 0) * v->strides[0]),
                at_n = n ? cuda_address(n, n->whole[0] != 1 ? cpu_lead(n, 0, y, 0) * n->strides[0] : 0) : out,
                at_bias = bias ? cuda_address(bias, cpu_lead(bias, 1, y, 1) * bias->strides[1]) : out,
                at_mask = mask ? cuda_address(mask, 0) : out, at_y = out, at_part = out;
    attention_numbers x = numbers_of(node);
    x.fast = (x.d | x.dv | x.k[0] | x.k[1] | x.v[0] | x.v[1]) % 8 == 0 && (at_k | at_v) % 16 == 0;
    if (x.splits > 1) at_part = scratch->buffer->memory + scratch->offset;
    if (n) status = gpu_check_counts(&d->base, n, k->dims[1]);
    if (!status && !parts && x.fast && takes_wgmma(d, node))
        status = attention_wgmma(d, node, at_q, at_k, at_v, at_n, at_y, &x, done);
    if (status || *done) return status;
    *done = true;
    if (!parts) {
        const uint32_t groups[3] = {(uint32_t)((y->dims[1] + 63) / 64), (uint32_t)p->heads, (uint32_t)y->dims[0]};
        void *arguments[] = {&at_q, &at_k, &at_v, &at_n, &at_y, &x};
        return cuda_launch(d, d->base.segment, function, groups, 128, 0, arguments, "attention");
    }
    const int64_t rows = y->dims[1] * (p->heads / p->kv_heads), each = few ? 16 : 64;
    const uint32_t groups[3] = {(uint32_t)((rows + each - 1) / each * x.splits), (uint32_t)p->kv_heads, (uint32_t)y->dims[0]};
    void *arguments[] = {&at_q, &at_k, &at_v, &at_n, &at_bias, &at_mask, &at_y, &at_part, &x};
    status = cuda_launch(d, d->base.segment, function, groups, few ? 128 : 256, 0, arguments, "attention");
    return status || x.splits < 2 ? status : gpu_attention_merge(&d->base, node, scratch, x.splits);
}

/* ---- products ---- */

/* With enough rows. */
static bool of_halves(const strand_plugin_node *node) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0];
    int64_t batch = 1;
    for (uint32_t i = 0; i + 2 < y->rank; i++) batch *= y->whole[i];
    if (batch > CUDA_GROUPS_YZ || y->whole[y->rank - 1] > CUDA_GROUPS_YZ * 128) return false; /* groups of one launch */
    bool floats = (half(a->dtype) || a->dtype == STRAND_PLUGIN_F32) && (half(b->dtype) || b->dtype == STRAND_PLUGIN_F32);
    return floats && (half(b->dtype) || p->precision == STRAND_PRECISION_BF16);
}

static bool takes_product(const strand_plugin_node *node) {
    const strand_plugin_tensor *y = &node->outputs[0];
    return of_halves(node) && y->whole[y->rank - 2] >= CUDA_TENSOR_ROWS;
}

bool cuda_tensor_products(const cuda_device *d, const strand_plugin_node *node) {
    return d->tensor_cores && of_halves(node);
}

/* Blocks that kernels/row.h reads, where they stand as it reads them. */
static bool row_blocks(const strand_plugin_tensor *b) {
    const uint64_t even = b->dtype == STRAND_PLUGIN_Q4_K ? 4 : 2;
    return (b->dtype == STRAND_PLUGIN_Q8_0 || b->dtype == STRAND_PLUGIN_Q4_0 || b->dtype == STRAND_PLUGIN_Q4_K || b->dtype == STRAND_PLUGIN_Q6_K) &&
           b->memory.offset % even == 0;
}

/* One row by weights [N, K]: a decoding step. */
bool cuda_tensor_takes_row(const strand_plugin_node *node) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0];
    int64_t batch = 1;
    for (uint32_t i = 0; i + 2 < y->rank; i++) batch *= y->whole[i];
    if (batch > CUDA_GROUPS_YZ || (y->whole[y->rank - 1] + 7) / 8 * batch > INT32_MAX) return false; /* groups of one launch */
    return y->whole[y->rank - 2] == 1 && a->dtype == STRAND_PLUGIN_F32 &&
           (half(b->dtype) || b->dtype == STRAND_PLUGIN_F32 || row_blocks(b)) && p->transpose_b &&
           !p->transpose_a;
}

/* May it be read 16 bytes at a time along its dense axis? Strides of the other axis and of the batch axes. */
static bool fast(const strand_plugin_tensor *t, CUdeviceptr at, int64_t other, const int batch[2]) {
    int64_t each = t->dtype == STRAND_PLUGIN_F32 ? 4 : 8;
    return at % 16 == 0 && other % each == 0 && batch[0] % each == 0 && batch[1] % each == 0;
}

static strand_plugin_status product(cuda_device *d, const strand_plugin_node *node, bool *done) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0],
                               *bias = p->bias ? cpu_input(node, 2) : NULL;
    const uint32_t mo = y->rank - 2, no = y->rank - 1, am = a->rank - (p->transpose_a ? 1 : 2),
                   ak = a->rank - (p->transpose_a ? 2 : 1), bn = b->rank - (p->transpose_b ? 2 : 1),
                   bk = b->rank - (p->transpose_b ? 1 : 2);
    const bool one =
        p->precision == STRAND_PRECISION_BF16 || (a->dtype == STRAND_PLUGIN_BF16 && b->dtype == STRAND_PLUGIN_BF16);
    const bool row = cuda_tensor_takes_row(node);
    CUfunction function;
    strand_plugin_status status = cuda_own_find(d,
                                                row                              ? CUDA_OWN_product_row
                                                : one                            ? CUDA_OWN_product_bf16
                                                : b->dtype == STRAND_PLUGIN_BF16 ? CUDA_OWN_product_bf16x3
                                                                                 : CUDA_OWN_product_f16,
                                                false, &function);
    if (status || !function) return status;
    product_numbers x = {.m = (int)y->dims[mo], .n = (int)y->dims[no], .k = (int)a->dims[ak], .a_m = (int)a->strides[am],
                         .a_k = (int)a->strides[ak], .b_k = (int)b->strides[bk], .b_n = (int)gpu_steps(b, b->strides[bn]),
                         .y_m = (int)y->strides[mo], .inner = y->rank > 2 ? (int)y->dims[y->rank - 3] : 1,
                         .bias = bias ? (int)p->bias : STRAND_BIAS_NONE, .bias_stride = bias ? (int)bias->strides[0] : 0,
                         .activation = (int)p->activation, .type_a = (int)a->dtype, .type_b = (int)b->dtype, .alpha = p->alpha,
                         .beta = p->beta};
    int64_t first_a = cpu_lead(a, am, y, mo) * a->strides[am], first_b = cpu_lead(b, bn, y, no) * b->strides[bn], batch = 1;
    for (uint32_t i = 0; i + 2 < y->rank; i++) {
        uint32_t slot = 2 - (y->rank - 2) + i;
        batch *= y->dims[i];
        x.y_batch[slot] = (int)y->strides[i];
        if (a->rank == y->rank) x.a_batch[slot] = (int)a->strides[i], first_a += cpu_lead(a, i, y, i) * a->strides[i];
        if (b->rank == y->rank) x.b_batch[slot] = (int)gpu_steps(b, b->strides[i]), first_b += cpu_lead(b, i, y, i) * b->strides[i];
    }
    /* The last axis is dense, also where its extent is 1 and its stride anything. */
    if (p->transpose_a) x.a_m = 1;
    else
        x.a_k = 1;
    if (p->transpose_b) x.b_k = 1;
    else
        x.b_n = 1;
    CUdeviceptr at[4] = {cuda_address(a, first_a), cuda_weights(b, first_b), cuda_address(y, 0), cuda_address(y, 0)};
    if (bias) at[2] = cuda_address(bias, cpu_lead(bias, 0, y, p->bias == STRAND_BIAS_ROWS ? mo : no) * bias->strides[0]);
    x.fast_a = fast(a, at[0], p->transpose_a ? x.a_k : x.a_m, x.a_batch);
    x.fast_b = fast(b, at[1], p->transpose_b ? x.b_n : x.b_k, x.b_batch);
    uint32_t groups[3] = {(uint32_t)((y->dims[mo] + 63) / 64), (uint32_t)((y->dims[no] + 127) / 128), (uint32_t)batch};
    void *arguments[] = {&at[0], &at[1], &at[2], &at[3], &x};
    *done = true;
    if (row) {
        groups[0] = (uint32_t)((y->dims[no] + 7) / 8 * batch);
        groups[1] = groups[2] = 1;
        x.batch = (int)batch;
        x.fast_a = at[0] % 16 == 0 && x.a_k == 1 && (x.a_batch[0] | x.a_batch[1]) % 4 == 0;
        x.fast_b = x.b_k == 1 && fast(b, at[1], x.b_n, x.b_batch);
        return cuda_launch(d, d->base.segment, function, groups, 128, 0, arguments, "a product of one row");
    }
    return cuda_launch(d, d->base.segment, function, groups, 256, 0, arguments, "product");
}

bool cuda_tensor_takes(const cuda_device *d, const strand_plugin_node *node) {
    if (!d->tensor_cores) return false;
    return node->op == STRAND_OP_ATTENTION ? takes_attention(node)
                                           : node->op == STRAND_OP_MATMUL && (takes_product(node) || cuda_tensor_takes_row(node));
}

uint64_t cuda_tensor_scratch(const cuda_device *d, const strand_plugin_node *node) {
    return node->op == STRAND_OP_ATTENTION && d->tensor_cores && takes_attention(node) ? attention_scratch(node) : 0;
}

strand_plugin_status cuda_tensor_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                     bool *done) {
    if (!cuda_tensor_takes(d, node)) return STRAND_PLUGIN_OK;
    strand_plugin_status status = cuda_current(d);
    if (status) return status;
    return node->op == STRAND_OP_ATTENTION ? attention(d, node, scratch, done) : product(d, node, done);
}

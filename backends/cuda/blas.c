/* blas.c - large matrix products by cuBLASLt, which is opened when the device is, if it is there: without it, or where it
 * has no algorithm, the common kernel does the product.
 *
 * Row-major Y = A B is column-major Y' = B' A', so cuBLASLt's first factor is our second one. Sums are in F32. Operands of
 * unequal types are made equal in working memory: both F32, or both BF16 where the node allows that. The algorithm is the
 * heuristic's first without a split sum, chosen for one matrix of the whole extents and kept, so that tiles and batch
 * neighbours change nothing. */
#include "driver_cuda.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#ifndef HAVE_CUBLASLT
void cuda_blas_open(cuda_device *d) {
    (void)d;
}
void cuda_blas_close(cuda_device *d) {
    (void)d;
}
bool cuda_blas_takes(const cuda_device *d, const strand_plugin_node *node) {
    (void)d, (void)node;
    return false;
}
uint64_t cuda_blas_scratch(cuda_device *d, const strand_plugin_node *node) {
    (void)d, (void)node;
    return 0;
}
strand_plugin_status cuda_blas_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                   bool *done) {
    (void)d, (void)node, (void)scratch, (void)done;
    return STRAND_PLUGIN_OK;
}
#else
#include <cublasLt.h>

#define LEAST      ((int64_t)1 << 27) /* multiply-adds of one matrix from which the library is asked */
#define WORKSPACE  ((uint64_t)4 << 20)
#define BOUNCE     ((uint64_t)2 << 20) /* bytes of a copy that is made for alignment alone */
#define LONGEST    100000              /* K: a few rows of it are a bounce */
#define LONGEST_HALVES 512 /* of halves that are not rounded: of a sum of so many of one sign a tensor core loses 1.2e-5 */
#define CHOICES    64
#define NEXT256(x) (((x) + 255) / 256 * 256)

#define FUNCTIONS(X)                                                                                                        \
    X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy) X(cublasLtMatmulDescSetAttribute) \
    X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) X(cublasLtMatrixLayoutSetAttribute)                          \
    X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute)              \
    X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmul)

/* What a product is to the library. Compared as bytes: no padding. */
typedef struct product {
    int64_t m, n, k, lda, ldb, ldy; /* of our A, B, Y; leading extents as they would be if the whole tensors were dense */
    uint32_t transpose_a, transpose_b, type, bias;
} product;

typedef struct choice {
    product of;
    bool found;
    cublasLtMatmulAlgo_t algorithm;
} choice;

struct cuda_blas {
    void *library;
    cublasLtHandle_t handle;
    int64_t least;
    choice choices[CHOICES];
    uint32_t n_choices, next; /* next: the one that is replaced when there are more */
#define POINTER(name) __typeof__(&name) name;
    FUNCTIONS(POINTER)
};

/* ---- opening ---- */

static bool find_functions(cuda_blas *b) {
    bool all = true;
#define FIND(name) all = all && (*(void **)&b->name = dlsym(b->library, #name)) != NULL;
    FUNCTIONS(FIND)
    return all;
}

/* STRAND_CUDA_CUBLASLT: 0 is never; a larger number is the least number of multiply-adds of a product that is given to it. */
void cuda_blas_open(cuda_device *d) {
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    const char *setting = getenv("STRAND_CUDA_CUBLASLT");
    int64_t least = setting && *setting ? strtoll(setting, NULL, 10) : LEAST;
    if (least < 1) return;
    cuda_blas *b = d->base.host->alloc(d->base.host->context, sizeof *b, 64);
    if (!b) return;
    memset(b, 0, sizeof *b);
    b->least = least;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !b->library; i++)
        b->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    d->blas = b;
    if (b->library && find_functions(b) && b->cublasLtCreate(&b->handle) == CUBLAS_STATUS_SUCCESS) return;
    b->handle = NULL;
    cuda_blas_close(d);
}

void cuda_blas_close(cuda_device *d) {
    cuda_blas *b = d->blas;
    if (!b) return;
    if (b->handle) b->cublasLtDestroy(b->handle);
    if (b->library) dlclose(b->library);
    d->base.host->free(d->base.host->context, b, sizeof *b);
    d->blas = NULL;
}

/* ---- which products, and in which type ---- */

typedef struct operands {
    const strand_plugin_tensor *a, *b, *y;
    const strand_op_matmul *p;
    uint32_t am, bn; /* axes of M in a and N in b */
    uint32_t type;   /* both factors are given in it */
    product whole;
} operands;

static bool floating(uint32_t type) {
    return type == STRAND_PLUGIN_F32 || type == STRAND_PLUGIN_F16 || type == STRAND_PLUGIN_BF16;
}

/* False where the product is not for the library. */
static bool read_operands(const cuda_blas *blas, const strand_plugin_node *node, operands *o) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0];
    if (!blas || !floating(a->dtype) || !floating(b->dtype)) return false;
    *o = (operands){.a = a, .b = b, .y = y, .p = p, .am = a->rank - (p->transpose_a ? 1 : 2), .bn = b->rank - (p->transpose_b ? 2 : 1)};
    o->type = p->precision == STRAND_PRECISION_BF16 ? STRAND_PLUGIN_BF16 : a->dtype == b->dtype ? a->dtype : STRAND_PLUGIN_F32;
    product w = {.m = y->whole[y->rank - 2], .n = y->whole[y->rank - 1], .k = a->whole[a->rank - (p->transpose_a ? 2 : 1)],
                 .transpose_a = p->transpose_a != 0, .transpose_b = p->transpose_b != 0, .type = o->type};
    w.lda = w.transpose_a ? w.m : w.k;
    w.ldb = w.transpose_b ? w.k : w.n;
    w.ldy = w.n;
    w.bias = p->bias == STRAND_BIAS_COLUMNS && cpu_input(node, 2) && node->inputs[2].strides[0] == 1;
    o->whole = w;
    const bool any = o->type == STRAND_PLUGIN_F32 || p->precision == STRAND_PRECISION_BF16;
    return w.k > 0 && w.k <= (any ? LONGEST : LONGEST_HALVES) && w.m <= INT32_MAX && w.n <= INT32_MAX &&
           (double)w.m * (double)w.n * (double)w.k >= (double)blas->least;
}

/* The largest power of two up to 16 that divides both the extent's bytes and 16. */
static uint32_t alignment(int64_t leading, uint32_t type) {
    int64_t bytes = leading * cpu_element_bytes(type);
    uint32_t a = 16;
    while (bytes % a) a /= 2;
    return a;
}

/* Does it stand as the algorithm is promised? Rows of a tile or of a view may begin anywhere; a copy's do as they should, so
 * that every tile has the bytes of the whole. */
static bool fits(const strand_plugin_tensor *t, uint32_t type, int64_t whole_leading) {
    uint64_t a = alignment(whole_leading, type);
    bool good = t->dtype == type && t->dims[t->rank - 1] == t->whole[t->rank - 1] && cuda_address(t, 0) % a == 0;
    for (uint32_t i = 0; i + 1 < t->rank; i++)
        good = good && (t->dims[i] == 1 || (uint64_t)(t->strides[i] * cpu_element_bytes(type)) % a == 0);
    return good;
}

/* Elements from row to row of the copy. */
static int64_t copy_leading(const strand_plugin_tensor *t, uint32_t type) {
    int64_t each = 16 / cpu_element_bytes(type);
    return (t->dims[t->rank - 1] + each - 1) / each * each;
}

static uint64_t copy_bytes(const strand_plugin_tensor *t, uint32_t type) {
    int64_t rows = 1;
    for (uint32_t i = 0; i + 1 < t->rank; i++) rows *= t->dims[i];
    return NEXT256((uint64_t)(rows * copy_leading(t, type) * cpu_element_bytes(type)));
}

/* What any tile of the matrix may need: a copy in another type is as large as the tile, one for alignment is worked through
 * in parts. */
static uint64_t room(const strand_plugin_tensor *t, uint32_t type) {
    uint64_t bytes = copy_bytes(t, type);
    return t->dtype == type && bytes > BOUNCE ? BOUNCE : bytes;
}

bool cuda_blas_takes(const cuda_device *d, const strand_plugin_node *node) {
    operands o;
    return read_operands(d->blas, node, &o);
}

uint64_t cuda_blas_scratch(cuda_device *d, const strand_plugin_node *node) {
    operands o;
    if (!read_operands(d->blas, node, &o)) return 0;
    return WORKSPACE + room(o.a, o.type) + room(o.b, o.type) + room(o.y, STRAND_PLUGIN_F32);
}

/* ---- the library's descriptions ---- */

typedef struct description {
    const cuda_blas *with;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t first, second, result;
    bool good;
} description;

static void forget(description *x) {
    if (x->product) x->with->cublasLtMatmulDescDestroy(x->product);
    if (x->first) x->with->cublasLtMatrixLayoutDestroy(x->first);
    if (x->second) x->with->cublasLtMatrixLayoutDestroy(x->second);
    if (x->result) x->with->cublasLtMatrixLayoutDestroy(x->result);
}

static void tell(description *x, cublasLtMatmulDescAttributes_t what, const void *value, size_t bytes) {
    x->good = x->good && x->with->cublasLtMatmulDescSetAttribute(x->product, what, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static cublasLtMatrixLayout_t layout(description *x, cudaDataType_t type, int64_t rows, int64_t columns, int64_t leading) {
    cublasLtMatrixLayout_t l = NULL;
    x->good = x->good && x->with->cublasLtMatrixLayoutCreate(&l, type, (uint64_t)rows, (uint64_t)columns, leading) ==
                             CUBLAS_STATUS_SUCCESS;
    return l;
}

static void tell_batch(description *x, cublasLtMatrixLayout_t l, int32_t count, int64_t stride) {
    x->good = x->good &&
              x->with->cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count) ==
                  CUBLAS_STATUS_SUCCESS &&
              x->with->cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                        sizeof stride) == CUBLAS_STATUS_SUCCESS;
}

/* bias: its address, used where the product has one. */
static description describe(const cuda_blas *with, const product *w, CUdeviceptr bias) {
    description x = {.with = with, .good = true};
    cudaDataType_t type = w->type == STRAND_PLUGIN_F32 ? CUDA_R_32F : w->type == STRAND_PLUGIN_F16 ? CUDA_R_16F : CUDA_R_16BF;
    cublasOperation_t first = w->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = w->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = w->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    x.good = with->cublasLtMatmulDescCreate(&x.product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    tell(&x, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    tell(&x, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    tell(&x, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (w->bias) tell(&x, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    x.first = layout(&x, type, w->transpose_b ? w->k : w->n, w->transpose_b ? w->n : w->k, w->ldb);
    x.second = layout(&x, type, w->transpose_a ? w->m : w->k, w->transpose_a ? w->k : w->m, w->lda);
    x.result = layout(&x, CUDA_R_32F, w->n, w->m, w->ldy);
    return x;
}

/* ---- the choice of an algorithm ---- */

static bool prefer(const cuda_blas *b, cublasLtMatmulPreference_t p, const product *w) {
    const uint64_t workspace = WORKSPACE;
    const uint32_t no_split = CUBLASLT_REDUCTION_SCHEME_NONE, first = alignment(w->ldb, w->type),
                   second = alignment(w->lda, w->type), result = alignment(w->ldy, STRAND_PLUGIN_F32);
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t bytes;
    } all[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, 8},
               {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_split, 4},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &first, 4},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &second, 4},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &result, 4},
               {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &result, 4}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (b->cublasLtMatmulPreferenceSetAttribute(p, all[i].what, all[i].value, all[i].bytes) != CUBLAS_STATUS_SUCCESS)
            return false;
    return true;
}

static choice *choose(cuda_blas *b, const product *w) {
    for (uint32_t i = 0; i < b->n_choices; i++)
        if (!memcmp(&b->choices[i].of, w, sizeof *w)) return &b->choices[i];
    choice *c = &b->choices[b->next];
    b->next = (b->next + 1) % CHOICES;
    if (b->n_choices < CHOICES) b->n_choices++;
    *c = (choice){.of = *w};
    cublasLtMatmulPreference_t p = NULL;
    description x = describe(b, w, 256); /* any bias will do for the choice */
    if (x.good && b->cublasLtMatmulPreferenceCreate(&p) == CUBLAS_STATUS_SUCCESS && prefer(b, p, w)) {
        cublasLtMatmulHeuristicResult_t r;
        int n = 0;
        c->found = b->cublasLtMatmulAlgoGetHeuristic(b->handle, x.product, x.first, x.second, x.result, x.result, p, 1, &r,
                                                     &n) == CUBLAS_STATUS_SUCCESS &&
                   n == 1 && r.state == CUBLAS_STATUS_SUCCESS;
        if (c->found) c->algorithm = r.algo;
    }
    if (p) b->cublasLtMatmulPreferenceDestroy(p);
    forget(&x);
    return c;
}

/* ---- a product ---- */

/* Where a factor stands: its first matrix under the output, leading extent and the strides of two batch axes, all in
 * elements. */
typedef struct factor {
    CUdeviceptr at;
    int64_t leading, batch[2];
} factor;

/* `t` is the tensor itself, or its dense copy; axis and out_axis: the ones of M or N. */
static factor place(const strand_plugin_tensor *t, const strand_plugin_tensor *y, uint32_t axis, uint32_t out_axis) {
    /* of one row alone the stride may be anything */
    factor f = {.leading = cpu_max(t->strides[t->rank - 2], t->dims[t->rank - 1])};
    int64_t first = cpu_lead(t, axis, y, out_axis) * t->strides[axis];
    for (uint32_t i = 0; t->rank == y->rank && i + 2 < y->rank; i++) {
        f.batch[2 - (y->rank - 2) + i] = t->strides[i];
        first += cpu_lead(t, i, y, i) * t->strides[i];
    }
    f.at = cuda_address(t, first);
    return f;
}

/* The place of a copy, *at bytes into the working memory; *at goes on to the next. */
static strand_plugin_tensor copy_of(const strand_plugin_tensor *t, uint32_t type, const strand_plugin_memory *scratch,
                                    uint64_t *at) {
    strand_plugin_tensor copy = *t;
    int64_t step = copy_leading(t, type);
    copy.dtype = type;
    copy.memory =
        (strand_plugin_memory){.buffer = scratch->buffer, .offset = scratch->offset + *at, .bytes = copy_bytes(t, type)};
    copy.strides[t->rank - 1] = 1;
    for (uint32_t i = t->rank - 1; i-- > 0; step *= t->dims[i]) copy.strides[i] = step;
    *at += copy.memory.bytes;
    return copy;
}

static strand_plugin_status convert(cuda_device *d, const strand_plugin_tensor *from, const strand_plugin_tensor *to) {
    strand_plugin_node cast = {
        .op = STRAND_OP_CAST, .version = 1, .n_inputs = 1, .n_outputs = 1, .inputs = from, .outputs = to, .name = "cast"};
    return gpu_cast(&d->base, &cast, NULL);
}

static strand_plugin_status multiply(cuda_device *d, const choice *c, const product *w, const factor f[3], CUdeviceptr bias,
                                     int64_t outer, int64_t inner, CUdeviceptr workspace, bool *refused) {
    cuda_blas *b = d->blas;
    const float one = 1, zero = 0;
    const int64_t size = cpu_element_bytes(w->type);
    description x = describe(b, w, bias);
    if (inner > 1) {
        tell_batch(&x, x.first, (int32_t)inner, f[1].batch[1]);
        tell_batch(&x, x.second, (int32_t)inner, f[0].batch[1]);
        tell_batch(&x, x.result, (int32_t)inner, f[2].batch[1]);
    }
    strand_plugin_segment *segment = d->base.segment;
    strand_plugin_status status = segment ? cuda_capture_begin(d) : STRAND_PLUGIN_OK;
    if (status) {
        forget(&x);
        return status;
    }
    cudaStream_t stream = (cudaStream_t)(segment ? d->side : d->stream);
    cublasStatus_t e = x.good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
    for (int64_t i = 0; i < outer && e == CUBLAS_STATUS_SUCCESS; i++) {
        const CUdeviceptr at[3] = {f[0].at + (uint64_t)(i * f[0].batch[0] * size),
                                   f[1].at + (uint64_t)(i * f[1].batch[0] * size), f[2].at + (uint64_t)(i * f[2].batch[0] * 4)};
        e = b->cublasLtMatmul(b->handle, x.product, &one, (const void *)at[1], x.first, (const void *)at[0], x.second, &zero,
                              (const void *)at[2], x.result, (void *)at[2], x.result, &c->algorithm, (void *)workspace,
                              WORKSPACE, stream);
    }
    forget(&x);
    /* What the library will not do, the common kernel does; what broke on the device stays broken. */
    *refused = e != CUBLAS_STATUS_SUCCESS && e != CUBLAS_STATUS_EXECUTION_FAILED && e != CUBLAS_STATUS_INTERNAL_ERROR;
    if (segment) status = cuda_capture_end(d, segment, e == CUBLAS_STATUS_SUCCESS);
    if (status || e == CUBLAS_STATUS_SUCCESS || *refused) return status;
    return gpu_fail(d->base.host, STRAND_PLUGIN_ERR_DEVICE, "cuBLASLt: error %d of a product", (int)e);
}

/* What the library's epilogue has not done: a bias of rows or with strides, and the activation, in place. */
static strand_plugin_status finish(cuda_device *d, const strand_plugin_node *node, bool bias_done) {
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *bias = p->bias ? cpu_input(node, 2) : NULL;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (bias && !bias_done) {
        bool rows = p->bias == STRAND_BIAS_ROWS;
        strand_plugin_tensor two[2] = {*y, *bias};
        if (rows) {
            two[1].rank = 2;
            two[1].dims[1] = two[1].whole[1] = two[1].strides[1] = 1;
            two[1].origin[1] = 0;
        }
        const strand_op_binary add = {.kind = STRAND_BINARY_ADD, .activation = STRAND_UNARY_IDENTITY};
        const strand_plugin_node sum = {.op = STRAND_OP_BINARY, .version = 1, .n_inputs = 2, .n_outputs = 1, .inputs = two,
                                        .outputs = y, .params = &add, .name = "bias"};
        status = gpu_binary(&d->base, &sum, NULL);
    }
    if (status || p->activation == STRAND_UNARY_IDENTITY) return status;
    const strand_op_unary f = {.kind = p->activation, .alpha = p->alpha, .beta = p->beta};
    const strand_plugin_node map = {.op = STRAND_OP_UNARY, .version = 1, .n_inputs = 1, .n_outputs = 1, .inputs = y,
                                    .outputs = y, .params = &f, .name = "activation"};
    return gpu_unary(&d->base, &map, NULL);
}

/* The part [begin, begin + n) of an axis. */
static void narrow(strand_plugin_tensor *t, uint32_t axis, int64_t begin, int64_t n) {
    t->memory.offset += (uint64_t)(begin * t->strides[axis] * cpu_element_bytes(t->dtype));
    t->origin[axis] += begin;
    t->dims[axis] = n;
}

/* What of a factor stands under the output. */
static strand_plugin_tensor under(const strand_plugin_tensor *t, const strand_plugin_tensor *y, uint32_t axis,
                                  uint32_t out_axis) {
    strand_plugin_tensor part = *t;
    narrow(&part, axis, cpu_lead(t, axis, y, out_axis), y->dims[out_axis]);
    for (uint32_t i = 0; t->rank == y->rank && i + 2 < y->rank; i++) narrow(&part, i, cpu_lead(t, i, y, i), y->dims[i]);
    return part;
}

static bool too_large(const strand_plugin_tensor *t, uint32_t type, int64_t whole_leading) {
    return t->dtype == type && !fits(t, type, whole_leading) && copy_bytes(t, type) > BOUNCE;
}

/* One tile whose copies find room. *refused: nothing of it was done. */
static strand_plugin_status tile(cuda_device *d, choice *c, const operands *o, CUdeviceptr bias,
                                 const strand_plugin_memory *scratch, bool *refused) {
    uint64_t at = WORKSPACE, workspace = scratch->buffer->memory + scratch->offset;
    const bool ca = !fits(o->a, o->type, o->whole.lda), cb = !fits(o->b, o->type, o->whole.ldb),
               cy = !fits(o->y, STRAND_PLUGIN_F32, o->whole.ldy);
    const strand_plugin_tensor a = ca ? copy_of(o->a, o->type, scratch, &at) : *o->a,
                               b = cb ? copy_of(o->b, o->type, scratch, &at) : *o->b;
    const strand_plugin_tensor y = cy ? copy_of(o->y, STRAND_PLUGIN_F32, scratch, &at) : *o->y;
    uint32_t mo = y.rank - 2, no = y.rank - 1;
    const factor f[3] = {place(&a, &y, o->am, mo), place(&b, &y, o->bn, no), place(&y, &y, mo, mo)};
    strand_plugin_status status = ca ? convert(d, o->a, &a) : STRAND_PLUGIN_OK;
    if (!status && cb) status = convert(d, o->b, &b);
    if (status) return status;
    product here = o->whole;
    here.m = y.dims[mo];
    here.n = y.dims[no];
    here.lda = f[0].leading;
    here.ldb = f[1].leading;
    here.ldy = f[2].leading;
    status =
        multiply(d, c, &here, f, bias, y.rank > 3 ? y.dims[0] : 1, y.rank > 2 ? y.dims[y.rank - 3] : 1, workspace, refused);
    if (*refused) c->found = false;
    return !status && !*refused && cy ? convert(d, &y, o->y) : status;
}

/* Halves the tile until its copies find room: batch axes first, then the longer side. A refusal leaves all of it to the
 * common kernel. */
static strand_plugin_status tiles(cuda_device *d, choice *c, const operands *o, const strand_plugin_node *node,
                                  const strand_plugin_memory *scratch, bool *refused) {
    uint32_t mo = o->y->rank - 2, no = o->y->rank - 1, axis = 0;
    const strand_plugin_tensor a = under(o->a, o->y, o->am, mo), b = under(o->b, o->y, o->bn, no);
    operands part = *o;
    part.a = &a;
    part.b = &b;
    if (!too_large(&a, o->type, o->whole.lda) && !too_large(&b, o->type, o->whole.ldb) &&
        !too_large(o->y, STRAND_PLUGIN_F32, o->whole.ldy)) {
        CUdeviceptr bias = o->whole.bias ? cuda_address(&node->inputs[2], cpu_lead(&node->inputs[2], 0, o->y, no)) : 0;
        return tile(d, c, &part, bias, scratch, refused);
    }
    while (axis < mo && o->y->dims[axis] == 1) axis++;
    if (axis == mo && o->y->dims[no] > o->y->dims[mo]) axis = no;
    int64_t n = o->y->dims[axis], half = n / 2;
    strand_plugin_tensor y = *o->y;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    part = *o;
    part.y = &y;
    narrow(&y, axis, 0, half);
    if (half) status = tiles(d, c, &part, node, scratch, refused);
    if (status || *refused) return status;
    y = *o->y;
    narrow(&y, axis, half, n - half);
    return tiles(d, c, &part, node, scratch, refused);
}

strand_plugin_status cuda_blas_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                   bool *done) {
    operands o;
    if (!read_operands(d->blas, node, &o)) return STRAND_PLUGIN_OK;
    choice *c = choose(d->blas, &o.whole);
    if (!c->found) return STRAND_PLUGIN_OK;
    bool refused = false;
    strand_plugin_status status = tiles(d, c, &o, node, scratch, &refused);
    *done = !refused;
    return status || refused ? status : finish(d, node, o.whole.bias != 0);
}
#endif

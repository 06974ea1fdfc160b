/* cublaslt.cpp - a libcublasLt.so.13 for tests: the part that the CUDA plugin calls, on the memory of the emulated driver.
 * Products of F32 are chains of multiply-adds in order of k, those of halves sums of the emulated driver's tensor cores.
 *
 * It notes what a real one would stumble over: descriptions that do not fit together, memory outside of allocations,
 * addresses less aligned than was promised when the algorithm was chosen (emulated_cuda_fault), and counts its handles
 * (emulated_cublaslt_live). A test can make the n-th call of any function fail. */
#include <cublasLt.h>
#include <cuda.h>
#include <dlfcn.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <vector>

namespace {
std::recursive_mutex lock;
long live, products, calls, fail_at;
cublasStatus_t fail_with;
constexpr uint64_t magic = 0x656d756c61746564;

struct product {
    uint32_t transpose[2], epilogue;
    const float *bias;
};
struct layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading, stride;
    int32_t batch;
};
struct preference {
    uint64_t workspace;
    uint32_t reduction, align[4];
};

template <class T> T *symbol(const char *name) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* the one that is loaded */
    return reinterpret_cast<T *>(driver ? dlsym(driver, name) : nullptr);
}

void fault(const char *what) {
    static auto *report = symbol<void(const char *)>("emulated_cuda_fault");
    if (report) report(what);
}

bool inside(const void *p, size_t bytes) {
    static auto *is = symbol<int(unsigned long long, size_t)>("emulated_cuda_inside");
    if (!is) abort(); /* another libcuda.so.1 */
    return is(reinterpret_cast<unsigned long long>(p), bytes);
}

/* True when the stream is being captured: the work is kept for later. */
bool captured(cudaStream_t stream, std::function<CUresult()> work) {
    static auto *capture = symbol<int(cudaStream_t, std::function<CUresult()> *)>("emulated_cuda_capture");
    return capture && capture(stream, &work);
}

cublasStatus_t enter() { return ++calls == fail_at ? fail_with : CUBLAS_STATUS_SUCCESS; }

size_t size_of(cudaDataType_t t) { return t == CUDA_R_32F ? 4 : 2; }

float value(const layout &l, const void *p, uint64_t i) {
    float f;
    uint32_t bits;
    if (l.type == CUDA_R_32F) return static_cast<const float *>(p)[i];
    uint32_t h = static_cast<const uint16_t *>(p)[i];
    if (l.type == CUDA_R_16BF) {
        bits = h << 16;
        memcpy(&f, &bits, 4);
        return f;
    }
    int e = static_cast<int>(h >> 10 & 31);
    float m = static_cast<float>(h & 1023);
    f = e == 31 ? (m != 0 ? NAN : INFINITY) : e ? ldexpf(1024 + m, e - 25) : ldexpf(m, -24);
    return h & 0x8000 ? -f : f;
}

/* Bytes from a batch's first matrix to its last one's end. */
size_t span(const layout &l) {
    return (static_cast<size_t>(llabs(l.stride)) * static_cast<size_t>(l.batch - 1) + static_cast<size_t>(l.leading) * (l.columns - 1) + l.rows) * size_of(l.type);
}

template <class H, class T> cublasStatus_t make(H *out, const T &x) {
    cublasStatus_t e = enter();
    if (e != CUBLAS_STATUS_SUCCESS) return e;
    live++;
    *out = reinterpret_cast<H>(new T(x));
    return e;
}
template <class T, class H> cublasStatus_t end(H h) {
    live--;
    delete reinterpret_cast<T *>(h);
    return CUBLAS_STATUS_SUCCESS;
}
template <class T> cublasStatus_t set(T &field, const void *from, size_t bytes) {
    if (bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&field, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* Do the three fit together? */
bool fit(const product &p, const layout &a, const layout &b, const layout &d) {
    uint64_t m = p.transpose[0] ? a.columns : a.rows, k = p.transpose[0] ? a.rows : a.columns;
    uint64_t k2 = p.transpose[1] ? b.columns : b.rows, n = p.transpose[1] ? b.rows : b.columns;
    bool leading = a.leading >= static_cast<int64_t>(a.rows) && b.leading >= static_cast<int64_t>(b.rows) && d.leading >= static_cast<int64_t>(d.rows);
    return leading && m == d.rows && n == d.columns && k == k2 && a.type == b.type && d.type == CUDA_R_32F && a.batch == b.batch && a.batch == d.batch;
}

void multiply(const product &p, const layout &la, const layout &lb, const layout &ly, const void *a, const void *b, void *y) {
    static auto *sum_of_halves = symbol<float(float, int, unsigned long, const float *, const float *)>("emulated_cuda_sum");
    if (!sum_of_halves) abort(); /* another libcuda.so.1 */
    const bool halves = la.type != CUDA_R_32F;
    uint64_t k = p.transpose[0] ? la.rows : la.columns;
    std::vector<float> left(k), right(k);
    for (int64_t i = 0; i < ly.batch; i++)
        for (uint64_t col = 0; col < ly.columns; col++)
            for (uint64_t row = 0; row < ly.rows; row++) {
                uint64_t a0 = static_cast<uint64_t>(i * la.stride), b0 = static_cast<uint64_t>(i * lb.stride), lda = static_cast<uint64_t>(la.leading),
                         ldb = static_cast<uint64_t>(lb.leading);
                float sum = 0;
                for (uint64_t j = 0; j < k; j++) {
                    left[j] = value(la, a, a0 + (p.transpose[0] ? j + row * lda : row + j * lda));
                    right[j] = value(lb, b, b0 + (p.transpose[1] ? col + j * ldb : j + col * ldb));
                    if (!halves) sum = fmaf(left[j], right[j], sum);
                }
                if (halves) sum = sum_of_halves(0, la.type == CUDA_R_16F, k, left.data(), right.data());
                if (p.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += p.bias[row];
                static_cast<float *>(y)[static_cast<uint64_t>(i * ly.stride) + col * static_cast<uint64_t>(ly.leading) + row] = sum;
            }
}
} // namespace

#define API extern "C" __attribute__((visibility("default")))
#define ENTER                                                   \
    std::lock_guard<std::recursive_mutex> guard_(lock);         \
    {                                                           \
        cublasStatus_t entered_ = enter();                      \
        if (entered_ != CUBLAS_STATUS_SUCCESS) return entered_; \
    }

API long emulated_cublaslt_live(void) { return live; }
API long emulated_cublaslt_products(void) { return products; }
API long emulated_cublaslt_calls(void) { return calls; }
API void emulated_cublaslt_fail(long nth, int code) {
    calls = 0;
    fail_at = nth;
    fail_with = static_cast<cublasStatus_t>(code);
}

API cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return make(h, 0L);
}
API cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { return end<long>(h); }
API cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale) {
    std::lock_guard<std::recursive_mutex> g(lock);
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    return make(d, product{});
}
API cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return end<product>(d); }
API cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what, const void *from, size_t bytes) {
    ENTER
    product &p = *reinterpret_cast<product *>(d);
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(p.transpose[0], from, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(p.transpose[1], from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(p.epilogue, from, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(p.bias, from, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}
API cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t columns, int64_t leading) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return make(l, layout{type, rows, columns, leading, 0, 1});
}
API cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) { return end<layout>(l); }
API cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t what, const void *from, size_t bytes) {
    ENTER
    layout &x = *reinterpret_cast<layout *>(l);
    if (what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return set(x.batch, from, bytes);
    if (what == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET) return set(x.stride, from, bytes);
    return CUBLAS_STATUS_INVALID_VALUE;
}
API cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return make(p, preference{0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}});
}
API cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { return end<preference>(p); }
API cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t what, const void *from, size_t bytes) {
    ENTER
    preference &x = *reinterpret_cast<preference *>(p);
    switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(x.workspace, from, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(x.reduction, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(x.align[0], from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(x.align[1], from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(x.align[2], from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(x.align[3], from, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}
API cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                                  cublasLtMatrixLayout_t y, cublasLtMatmulPreference_t p, int most, cublasLtMatmulHeuristicResult_t r[], int *n) {
    ENTER
    const preference &x = *reinterpret_cast<preference *>(p);
    const layout &la = *reinterpret_cast<layout *>(a), &lb = *reinterpret_cast<layout *>(b), &ly = *reinterpret_cast<layout *>(y);
    *n = 0;
    if (most < 1 || c != y || !fit(*reinterpret_cast<product *>(d), la, lb, ly)) return CUBLAS_STATUS_INVALID_VALUE;
    if (x.reduction != CUBLASLT_REDUCTION_SCHEME_NONE) fault("a product whose sums may be split");
    /* Now and then there is none, as for odd shapes on a real device. */
    if (ly.rows % 17 == 3) return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(r, 0, sizeof *r);
    r->algo.data[0] = magic;
    r->algo.data[1] = x.align[0] | x.align[1] << 8 | x.align[3] << 16;
    r->algo.data[2] = x.workspace;
    r->algo.data[3] = reinterpret_cast<product *>(d)->epilogue;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}
API cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a, cublasLtMatrixLayout_t al, const void *b,
                                  cublasLtMatrixLayout_t bl, const void *beta, const void *c, cublasLtMatrixLayout_t cl, void *y, cublasLtMatrixLayout_t yl,
                                  const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes, cudaStream_t stream) {
    ENTER
    const product &p = *reinterpret_cast<product *>(desc);
    const layout &la = *reinterpret_cast<layout *>(al), &lb = *reinterpret_cast<layout *>(bl), &ly = *reinterpret_cast<layout *>(yl);
    if (cl != yl || c != y || !fit(p, la, lb, ly) || !algorithm || algorithm->data[0] != magic) return CUBLAS_STATUS_INVALID_VALUE;
    if (*static_cast<const float *>(alpha) != 1 || *static_cast<const float *>(beta) != 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (p.epilogue != algorithm->data[3] || (p.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.epilogue != CUBLASLT_EPILOGUE_BIAS)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const void *const at[3] = {a, b, y};
    const layout *const ls[3] = {&la, &lb, &ly};
    for (int i = 0; i < 3; i++) {
        uint64_t need = algorithm->data[1] >> (8 * i) & 255, size = size_of(ls[i]->type);
        if (reinterpret_cast<uintptr_t>(at[i]) % need || static_cast<uint64_t>(ls[i]->leading) * size % need || static_cast<uint64_t>(ls[i]->stride) * size % need)
            fault("a matrix less aligned than was promised");
        if (!inside(at[i], span(*ls[i]))) {
            fault("a matrix outside an allocation");
            return CUBLAS_STATUS_INVALID_VALUE;
        }
    }
    if (!stream || bytes > algorithm->data[2] || (bytes && !inside(workspace, bytes)) || reinterpret_cast<uintptr_t>(workspace) % 256) fault("a wrong stream or workspace");
    if (p.epilogue == CUBLASLT_EPILOGUE_BIAS && !inside(p.bias, ly.rows * 4)) fault("a bias outside an allocation");
    products++;
    const auto work = [p, la, lb, ly, a, b, y]() {
        multiply(p, la, lb, ly, a, b, y);
        return CUDA_SUCCESS;
    };
    if (!captured(stream, work)) work();
    return CUBLAS_STATUS_SUCCESS;
}

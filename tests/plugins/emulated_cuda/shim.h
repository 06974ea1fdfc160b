/* shim.h - the words of CUDA C++ that the kernels use (backends/gpu/dialect_cuda.h), for an ordinary C++ compiler: one work
 * item runs at a time (run.cpp), so shared memory is static memory and atomics are plain. */
#ifndef STRAND_EMULATED_CUDA_SHIM_H
#define STRAND_EMULATED_CUDA_SHIM_H

#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#define EMULATED_CUDA 1
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __noinline__
#define __align__(n) __attribute__((aligned(n)))

struct __align__(16) float4 {
    float x, y, z, w;
};
struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
    return float2{x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

struct emulated_index {
    unsigned x, y, z;
};
extern emulated_index threadIdx, blockIdx, gridDim;
void emulated_barrier();
#define __syncthreads() emulated_barrier()

static inline float __int_as_float(int v) {
    float f;
    std::memcpy(&f, &v, sizeof f);
    return f;
}
static inline float __uint_as_float(unsigned v) {
    float f;
    std::memcpy(&f, &v, sizeof f);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned v;
    std::memcpy(&v, &f, sizeof v);
    return v;
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned atomicAdd(unsigned *p, unsigned v) { unsigned before = *p; *p = before + v; return before; }
static inline unsigned atomicAnd(unsigned *p, unsigned v) { unsigned before = *p; *p = before & v; return before; }
static inline unsigned atomicOr(unsigned *p, unsigned v) { unsigned before = *p; *p = before | v; return before; }
#define fabsf(x) __builtin_fabsf(x)
#define fminf(a, b) __builtin_fminf(a, b)
#define fmaxf(a, b) __builtin_fmaxf(a, b)
#define floorf(x) __builtin_floorf(x)
#define sqrtf(x) __builtin_sqrtf(x)
#define __fmaf_rn(a, b, c) __builtin_fmaf(a, b, c)

/* ex2.approx.ftz as far off as the PTX ISA lets it be, up or down by the bits of x; exact for 0. */
static inline float fast_exp2(float x) {
    float y = std::exp2(x), off = (__float_as_uint(x) * 2654435761u) >> 31 ? 2.384185791015625e-07f : -2.384185791015625e-07f;
    return x == 0 || std::isinf(y) ? y : y < 1.17549435e-38f ? 0 : y + y * off;
}

/* A kernel by name, called with pointers to its arguments as cuLaunchKernel gets them. */
typedef void (*emulated_entry)(void **arguments);
struct emulated_kernel {
    const char *name;
    emulated_entry entry;
    const size_t *sizes; /* of its arguments; ends with 0 */
    emulated_kernel *next;
    emulated_kernel(const char *name, emulated_entry entry, const size_t *sizes);
};
extern emulated_kernel *emulated_kernels;

template <auto F> struct emulated_call;
template <class... A, void (*F)(A...)> struct emulated_call<F> {
    template <size_t... I> static void unpack(void **a, std::index_sequence<I...>) { F(*static_cast<A *>(a[I])...); }
    static constexpr size_t sizes[] = {sizeof(A)..., 0};
    static void entry(void **a) { unpack(a, std::index_sequence_for<A...>{}); }
};
#define EMULATED_KERNEL(name) static emulated_kernel emulated_##name(#name, &emulated_call<&name>::entry, emulated_call<&name>::sizes);

#endif

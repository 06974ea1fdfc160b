// dialect_cuda.h - the kernel dialect as CUDA C++. See dialect.md for the language.
#define DIALECT_CUDA 1

typedef unsigned int uint;
struct params { int v[64]; };

#define IN(i, name)     const float *__restrict__ name
#define IN_U32(i, name) const uint *__restrict__ name
#define IN4(i, name)    IN(i, name)
#define LOAD4(name, i)  reinterpret_cast<const float4 *>(name)[i]
#define IN2_U32(i, name) const uint *__restrict__ name
#define LOAD_U2(name, i) (*(const uint2 *)(name + (i)))
#define IN4_U32(i, name) const uint *__restrict__ name
#define LOAD_U4(name, i) reinterpret_cast<const uint4 *>(name)[i]
#define IN_ANY(i, name)  IN_U32(i, name)
#define IN2_HALF(i, name) IN2_U32(i, name)
#define OUT(i, name)    float *name
#define OUT4(i, name)   OUT(i, name)
#define STORE4(name, i, value) reinterpret_cast<float4 *>(name)[i] = value
#define OUT_U32(i, name) uint *name
#define PARAMS(i)       const __grid_constant__ struct params P
#define P_INT(i)        P.v[i]
#define P_FLOAT(i)      __int_as_float(P.v[i])

#define HEAD(name, wg)  extern "C" __global__ void __launch_bounds__(wg) name
#define KERNEL2(name, wg, a, b)                   HEAD(name, wg)(a, b) {
#define KERNEL3(name, wg, a, b, c)                HEAD(name, wg)(a, b, c) {
#define KERNEL4(name, wg, a, b, c, d)             HEAD(name, wg)(a, b, c, d) {
#define KERNEL5(name, wg, a, b, c, d, e)          HEAD(name, wg)(a, b, c, d, e) {
#define KERNEL6(name, wg, a, b, c, d, e, f)       HEAD(name, wg)(a, b, c, d, e, f) {
#define KERNEL7(name, wg, a, b, c, d, e, f, g)    HEAD(name, wg)(a, b, c, d, e, f, g) {
#define KERNEL8(name, wg, a, b, c, d, e, f, g, h) HEAD(name, wg)(a, b, c, d, e, f, g, h) {
#define KERNEL9(name, wg, a, b, c, d, e, f, g, h, i) HEAD(name, wg)(a, b, c, d, e, f, g, h, i) {
#define KERNEL10(name, wg, a, b, c, d, e, f, g, h, i, j) HEAD(name, wg)(a, b, c, d, e, f, g, h, i, j) {
#define KERNEL11(name, wg, a, b, c, d, e, f, g, h, i, j, k) HEAD(name, wg)(a, b, c, d, e, f, g, h, i, j, k) {
#define KERNEL12(name, wg, a, b, c, d, e, f, g, h, i, j, k, l) HEAD(name, wg)(a, b, c, d, e, f, g, h, i, j, k, l) {
#define KERNEL8_LANES(name, wg, a, b, c, d, e, f, g, h) KERNEL8(name, wg, a, b, c, d, e, f, g, h)
#define SHARED(type, name, n) __shared__ type name[n];
#define BEGIN
#define END }
#define PRECISE
#define FN static __device__ __forceinline__

#define LOCAL     (int)threadIdx.x
#define INDEX     int
#define LANE8     (LOCAL & 7)
#define LINE8(z)  (LOCAL >> 3)
#define LOCAL8(z) LOCAL
#define GROUP_X   ((int)blockIdx.x + P.v[61])
#define GROUP_Y   ((int)blockIdx.y + P.v[62])
#define GROUP_Z   ((int)blockIdx.z + P.v[63])
#define GROUPS_X  (int)gridDim.x
#define BARRIER   __syncthreads();
#define SUBGROUP  1
#define FROM_ITEM(x, mask) (x)

#define FLOAT4     float4
#define MAKE4(a, b, c, d) make_float4(a, b, c, d)
#define U2         uint2
#define U4         uint4
#define INT(x)     ((int)(x))
#define UINT(x)    ((uint)(x))
#define FLOAT(x)   ((float)(x))
#define BITS_OF(x) __float_as_uint(x)
#define FROM_BITS(x) __uint_as_float(x)
#define FABS(x)    fabsf(x)
#define FMIN(a, b) fminf(a, b)
#define FMAX(a, b) fmaxf(a, b)
#define IMIN(a, b) min(a, b)
#define IMAX(a, b) max(a, b)
#define FMA(a, b, c) __fmaf_rn(a, b, c)
#define ALL4(x) make_float4(x, x, x, x)
#define FMA4(a, b, c) fma_four(a, b, c)
#define FLOOR(x)   floorf(x)
#define SQRT(x)    sqrtf(x)
#define IS_NAN(x)  ((__float_as_uint(x) & 0x7fffffffu) > 0x7f800000u)
#define READ_IF(yes, x, at, last) ((yes) ? x[IMIN(at, last)] : 0.0f)
#define SELECT(yes, a, b) ((yes) ? (a) : (b))
#define EXP_SCALE 1.44269504f
#define EXP_SCALED(x) fast_exp2(x)
#define ADD_U32(place, x) atomicAdd(&(place), x)
#define AND_U32(place, x) atomicAnd(&(place), x)
#define OR_U32(place, x) atomicOr(&(place), x)

// 2^x by the special unit, within 2^-22 of it. The emulated driver has its own form.
#ifndef EMULATED_CUDA
FN float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

FN float4 fma_four(float4 a, float4 b, float4 c) {
    return make_float4(__fmaf_rn(a.x, b.x, c.x), __fmaf_rn(a.y, b.y, c.y), __fmaf_rn(a.z, b.z, c.z), __fmaf_rn(a.w, b.w, c.w));
}

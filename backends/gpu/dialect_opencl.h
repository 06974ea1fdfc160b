// dialect_opencl.h - the kernel dialect as OpenCL C 1.2. See dialect.md for the language.
#define DIALECT_OPENCL 1
#pragma OPENCL FP_CONTRACT OFF

struct params { int v[64]; };

#define IN(i, name)     __global const float *restrict name
#define IN_U32(i, name) __global const uint *restrict name
#define IN4(i, name)    IN(i, name)
#define LOAD4(name, i)  vload4(i, name)
#define IN2_U32(i, name) __global const uint *restrict name
#define LOAD_U2(name, i) (*(__global const uint2 *)(name + (i)))
#define IN4_U32(i, name) __global const uint *restrict name
#define LOAD_U4(name, i) vload4(i, name)
#define IN_ANY(i, name)  IN_U32(i, name)
#define IN2_HALF(i, name) IN2_U32(i, name)
#define OUT(i, name)    __global float *name
#define OUT4(i, name)   OUT(i, name)
#define STORE4(name, i, value) vstore4(value, i, name)
#define OUT_U32(i, name) __global uint *name
#define PARAMS(i)       struct params P
#define P_INT(i)        P.v[i]
#define P_FLOAT(i)      as_float(P.v[i])

#define HEAD(name, wg)  __kernel __attribute__((reqd_work_group_size(wg, 1, 1))) void name
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
#ifdef LINES_OF_ONE /* a device whose groups have one dimension */
#define KERNEL8_LANES KERNEL8
#else
#define KERNEL8_LANES(name, wg, a, b, c, d, e, f, g, h) \
    __kernel __attribute__((reqd_work_group_size(8, wg / 8, 1))) void name(a, b, c, d, e, f, g, h) {
#endif
#define SHARED(type, name, n) __local type name[n];
#define BEGIN
#define END }
#define PRECISE
#define FN static

#define LOCAL     (int)get_local_id(0)
#define INDEX     long
#ifdef LINES_OF_ONE
#define LANE8     ((long)get_local_id(0) & 7)
#define LINE8(z)  ((long)get_local_id(0) >> 3)
#else
#define LANE8     ((long)get_local_id(0))
#define LINE8(z)  ((long)get_local_id(1) + P.v[53 + (z)])
#endif
#define LOCAL8(z) (8 * LINE8(z) + LANE8)
#define GROUP_X   ((int)get_group_id(0) + P.v[61])
#define GROUP_Y   ((int)get_group_id(1) + P.v[62])
#define GROUP_Z   ((int)get_group_id(2) + P.v[63])
#define GROUPS_X  (int)get_num_groups(0)
#define BARRIER   barrier(CLK_LOCAL_MEM_FENCE);
#define SUBGROUP  1
#define FROM_ITEM(x, mask) (x)

#define FLOAT4     float4
#define MAKE4(a, b, c, d) ((float4)(a, b, c, d))
#define U2         uint2
#define U4         uint4
#define INT(x)     ((int)(x))
#define UINT(x)    ((uint)(x))
#define FLOAT(x)   ((float)(x))
#define BITS_OF(x) as_uint(x)
#define FROM_BITS(x) as_float(x)
#define FABS(x)    fabs(x)
#define FMIN(a, b) fmin(a, b)
#define FMAX(a, b) fmax(a, b)
#define IMIN(a, b) min(a, b)
#define IMAX(a, b) max(a, b)
#define FMA(a, b, c) fma(a, b, c)
#define ALL4(x) ((float4)(x))
#define FMA4(a, b, c) fma(a, b, c)
#define FLOOR(x)   floor(x)
#define SQRT(x)    sqrt(x)
#define IS_NAN(x)  ((as_uint(x) & 0x7fffffffu) > 0x7f800000u)
#define READ_IF(yes, x, at, last) ((yes) ? x[at] : 0.0f)
#define SELECT(yes, a, b) ((yes) ? (a) : (b))
#define EXP_SCALE 1.0f
#define EXP_SCALED(x) f_exp(x)
#define ADD_U32(place, x) atomic_add(&(place), x)
#define AND_U32(place, x) atomic_and(&(place), x)
#define OR_U32(place, x) atomic_or(&(place), x)

// dialect_glsl.h - the kernel dialect as GLSL 4.50 compute shaders for Vulkan 1.1. See dialect.md for the language.

#define DIALECT_GLSL 1

// Forms for what a device may have (backends/vulkan/variants.list).
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_basic : enable
#extension GL_KHR_shader_subgroup_shuffle : enable
#endif
#ifdef HALVES16
#extension GL_EXT_shader_16bit_storage : enable
#endif
#ifdef BYTES8
#extension GL_EXT_shader_8bit_storage : enable
#endif
#ifdef FLOAT16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : enable
#endif
#ifdef COOPERATIVE
#extension GL_KHR_memory_scope_semantics : enable
#extension GL_KHR_shader_subgroup_basic : enable
#extension GL_NV_cooperative_matrix : enable
#endif

// ---- kernels ----
#define IN(i, name)     layout(std430, set = 0, binding = i) readonly buffer B##i { float name[]; }
#define IN_U32(i, name) layout(std430, set = 0, binding = i) readonly buffer B##i { uint name[]; }
#define IN4(i, name)    IN(i, name); layout(std430, set = 0, binding = i) readonly buffer V##i { vec4 name##_4[]; }
#define LOAD4(name, i)  name##_4[i]
#define IN2_U32(i, name) \
    layout(std430, set = 0, binding = i) readonly buffer B##i { uint name[]; }; \
    layout(std430, set = 0, binding = i) readonly buffer B2##i { uvec2 name##_2[]; }
#define LOAD_U2(name, i) name##_2[(i) >> 1]
#define IN4_U32(i, name) \
    layout(std430, set = 0, binding = i) readonly buffer B##i { uint name[]; }; \
    layout(std430, set = 0, binding = i) readonly buffer B4##i { uvec4 name##_4[]; }
#define LOAD_U4(name, i) name##_4[i]
#ifdef HALVES16
#define AS_HALVES(i, name)                                                       \
    layout(std430, set = 0, binding = i) readonly buffer H##i { float16_t name##_h[]; }; \
    layout(std430, set = 0, binding = i) readonly buffer S##i { uint16_t name##_s[]; };
#define AS_HALVES4(i, name) layout(std430, set = 0, binding = i) readonly buffer H4##i { f16vec4 name##_h4[]; };
#define LOAD_H(name, i)  float(name##_h[i])
#define LOAD_S(name, i)  uint(name##_s[i])
#define LOAD_H4(name, i) vec4(name##_h4[i])
#else
#define AS_HALVES(i, name)
#define AS_HALVES4(i, name)
#endif
#ifdef BYTES8
#define AS_BYTES(i, name) layout(std430, set = 0, binding = i) readonly buffer Y##i { uint8_t name##_b[]; };
#define LOAD_BYTE(name, i) uint(name##_b[i])
#else
#define AS_BYTES(i, name)
#endif
#define IN_ANY(i, name)  AS_HALVES(i, name) AS_BYTES(i, name) IN_U32(i, name)
#define IN2_HALF(i, name) AS_HALVES4(i, name) IN2_U32(i, name)
#define OUT(i, name)    layout(std430, set = 0, binding = i) buffer B##i { float name[]; }
#define OUT4(i, name)   OUT(i, name); layout(std430, set = 0, binding = i) buffer V##i { vec4 name##_4[]; }
#define STORE4(name, i, value) name##_4[i] = value
#define OUT_U32(i, name) layout(std430, set = 0, binding = i) buffer B##i { uint name[]; }
#define PARAMS(i)       layout(std140, set = 0, binding = i) uniform B##i { ivec4 v[16]; } P
#define P_INT(i)        P.v[(i) >> 2][(i) & 3]
#define P_FLOAT(i)      intBitsToFloat(P_INT(i))

#ifndef COOPERATIVE
#define HEAD(wg)        layout(local_size_x = wg, local_size_y = 1, local_size_z = 1) in;
#else
// A matrix of MATRIX_M x MATRIX_N of a result, MATRIX_K of k at a time, is a subgroup's; groups are four subgroups of the
// device's. Written with NV's extension, which older compilers know; backends/vulkan/matrices.c makes KHR's of it, and tells what
// a matrix is used for by the constants of its extents: these three stand in no other way. Tiles in shared memory: `line` from
// one row of a, or column of b, to the next.
#define HEAD(wg)        layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(constant_id = 1) const int MATRIX_M = 16;
layout(constant_id = 2) const int MATRIX_N = 16;
layout(constant_id = 3) const int MATRIX_K = 16;
#define ITEMS           int(gl_WorkGroupSize.x)
#define HALF            float16_t
#define HALF_OF(bits)   unpackFloat2x16(bits).x
#define MATRIX_A        fcoopmatNV<16, gl_ScopeSubgroup, MATRIX_M, MATRIX_K>
#define MATRIX_B        fcoopmatNV<16, gl_ScopeSubgroup, MATRIX_K, MATRIX_N>
#define MATRIX_SUM      fcoopmatNV<32, gl_ScopeSubgroup, MATRIX_M, MATRIX_N>
#define MATRIX_LOAD_A(result, tile, at, line) coopMatLoadNV(result, tile, uint(at), uint(line), false);
#define MATRIX_LOAD_B(result, tile, at, line) coopMatLoadNV(result, tile, uint(at), uint(line), true);
#define MATRIX_STORE(value, tile, at, line) coopMatStoreNV(value, tile, uint(at), uint(line), false);
#define MATRIX_ADD(a, b, sum) coopMatMulAddNV(a, b, sum)
#define SUBGROUP_HERE   int(gl_SubgroupID)
#define SUBGROUPS_HERE  int(gl_NumSubgroups)
#endif
#define KERNEL2(name, wg, a, b)                   a; b; HEAD(wg)
#define KERNEL3(name, wg, a, b, c)                a; b; c; HEAD(wg)
#define KERNEL4(name, wg, a, b, c, d)             a; b; c; d; HEAD(wg)
#define KERNEL5(name, wg, a, b, c, d, e)          a; b; c; d; e; HEAD(wg)
#define KERNEL6(name, wg, a, b, c, d, e, f)       a; b; c; d; e; f; HEAD(wg)
#define KERNEL7(name, wg, a, b, c, d, e, f, g)    a; b; c; d; e; f; g; HEAD(wg)
#define KERNEL8(name, wg, a, b, c, d, e, f, g, h) a; b; c; d; e; f; g; h; HEAD(wg)
#define KERNEL9(name, wg, a, b, c, d, e, f, g, h, i) a; b; c; d; e; f; g; h; i; HEAD(wg)
#define KERNEL10(name, wg, a, b, c, d, e, f, g, h, i, j) a; b; c; d; e; f; g; h; i; j; HEAD(wg)
#define KERNEL11(name, wg, a, b, c, d, e, f, g, h, i, j, k) a; b; c; d; e; f; g; h; i; j; k; HEAD(wg)
#define KERNEL12(name, wg, a, b, c, d, e, f, g, h, i, j, k, l) a; b; c; d; e; f; g; h; i; j; k; l; HEAD(wg)
#define KERNEL8_LANES(name, wg, a, b, c, d, e, f, g, h) KERNEL8(name, wg, a, b, c, d, e, f, g, h)
#define SHARED(type, name, n) shared type name[n];
#define BEGIN void main() {
#define END }
#define PRECISE precise
#define FN

// ---- where a work item stands ----
#ifdef SUBGROUPS
// Items of a subgroup follow one another in LOCAL, whatever the device's order is. Where the group is not whole subgroups of
// the size that the device reports (it may run smaller ones), each item counts as one by itself.
#define SUBGROUPS_WHOLE (gl_NumSubgroups * gl_SubgroupSize == gl_WorkGroupSize.x)
#define LOCAL     int(SUBGROUPS_WHOLE ? gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID : gl_LocalInvocationID.x)
#define SUBGROUP  (SUBGROUPS_WHOLE ? int(gl_SubgroupSize) : 1)
#define FROM_ITEM(x, mask) subgroupShuffleXor(x, uint(mask))
#else
#define LOCAL     int(gl_LocalInvocationID.x)
#define SUBGROUP  1
#define FROM_ITEM(x, mask) (x)
#endif
#define INDEX     int
#define LANE8     (LOCAL & 7)
#define LINE8(z)  (LOCAL >> 3)
#define LOCAL8(z) LOCAL
#define GROUP_X   (int(gl_WorkGroupID.x) + P_INT(61))
#define GROUP_Y   (int(gl_WorkGroupID.y) + P_INT(62))
#define GROUP_Z   (int(gl_WorkGroupID.z) + P_INT(63))
#define GROUPS_X  int(gl_NumWorkGroups.x)
#define BARRIER   { memoryBarrierShared(); barrier(); }

// ---- numbers ----
#define FLOAT4     vec4
#define MAKE4(a, b, c, d) vec4(a, b, c, d)
#define U2         uvec2
#define U4         uvec4
#define INT(x)     int(x)
#define UINT(x)    uint(x)
#define FLOAT(x)   float(x)
#define BITS_OF(x) floatBitsToUint(x)
#define FROM_BITS(x) uintBitsToFloat(x)
#define FABS(x)    abs(x)
#define FMIN(a, b) min(a, b)
#define FMAX(a, b) max(a, b)
#define IMIN(a, b) min(a, b)
#define IMAX(a, b) max(a, b)
#define FMA(a, b, c) fma(a, b, c)
#define ALL4(x) vec4(x)
#define FMA4(a, b, c) fma(a, b, c)
#define FLOOR(x)   floor(x)
#define SQRT(x)    sqrt(x)
#define IS_NAN(x)  ((floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u)
#define READ_IF(yes, x, at, last) mix(0.0, x[IMIN(at, last)], yes)
#define SELECT(yes, a, b) ((yes) ? (a) : (b))
#define EXP_SCALE 1.0f
#define EXP_SCALED(x) f_exp(x)
#define ADD_U32(place, x) atomicAdd(place, x)
#define AND_U32(place, x) atomicAnd(place, x)
#define OR_U32(place, x) atomicOr(place, x)

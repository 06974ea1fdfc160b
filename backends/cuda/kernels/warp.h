// warp.h - what the kernels of this folder use beyond the dialect: products of the tensor cores, and what the lanes of a warp
// do together. Compute capability 8.0 and later. The emulated driver has its own forms of these words
// (tests/plugins/emulated_cuda/warp_emulated.h), by the layouts of the PTX ISA's "Warp-level matrix instructions". These
// kernels are launched whole, and have no dispatch's parameters: the groups' numbers are CUDA's own.
#undef GROUP_X
#undef GROUP_Y
#undef GROUP_Z
#define GROUP_X ((int)blockIdx.x)
#define GROUP_Y ((int)blockIdx.y)
#define GROUP_Z ((int)blockIdx.z)

#define WARP_LANE ((int)threadIdx.x & 31)
#define WARP_NUMBER ((int)threadIdx.x >> 5)

#ifndef EMULATED_CUDA
typedef unsigned short half_word;

// c += a b: a is 16 x 16, b 16 x 8. Lane: a[0], a[1] = rows lane / 4 and 8 on, columns 2 (lane % 4) and the next; a[2], a[3] =
// 8 columns on. b0 = rows 2 (lane % 4) and the next, column lane / 4; b1 = 8 rows on. c[0], c[1] = row lane / 4, columns 2
// (lane % 4) and the next; c[2], c[3] = 8 rows on.
template <bool F16> FN void warp_mma(float *c, const uint *a, uint b0, uint b1) {
    if (F16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

FN uint warp_address(const void *shared) { return (uint)__cvta_generic_to_shared(shared); }

// Four 8 x 8 matrices of halves in shared memory; lanes 8 i ... 8 i + 7 name the rows (16 bytes each) of matrix i.
FN void warp_load4(uint *r, const half_word *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(warp_address(row))
                 : "memory");
}
FN void warp_load4_transposed(uint *r, const half_word *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(warp_address(row))
                 : "memory");
}

FN float warp_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
FN float warp_from(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane & 31); }
FN bool warp_any(bool yes) { return __any_sync(0xffffffffu, yes); }
#define WARP_BARRIER __syncwarp();

// Words in their places, which are multiples of their size.
FN void put_word(half_word *to, uint a) { *(uint *)to = a; }
FN void put_words(half_word *to, uint a, uint b) { *(uint2 *)to = make_uint2(a, b); }
FN void put_pair(float *to, float a, float b) { *(float2 *)to = make_float2(a, b); }

// An 8 x 8 matrix of halves, lane: row lane / 4, columns 2 (lane % 4) and the next, turned over.
FN uint warp_transpose(uint v) {
    uint r;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}

// Shared memory of as many bytes as the launch says.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[];

// 16 bytes from global to shared memory, later; zeros where `there` is false.
FN void async_copy16(half_word *to, const half_word *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(warp_address(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}
FN void async_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int LEFT> FN void async_wait() { asm volatile("cp.async.wait_group %0;" : : "n"(LEFT) : "memory"); }

// Two floats as halves, rounded to the nearest; the first one in the low bits.
FN uint pack_f16(float low, float high) {
    uint r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
FN uint pack_bf16(float low, float high) {
    uint r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
FN float unpack_f16(uint h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((half_word)h));
    return f;
}
#endif

// Floats as sums of halves. T = 1: the nearest half. F16 with T = 2: 22 bits. BF16 with T = 3: all 24 bits, cut off rather than
// rounded. terms[i] holds the i-th term of both.
template <int T, bool F16> FN void split_pair(uint *terms, float low, float high) {
    if (T == 1) {
        terms[0] = F16 ? pack_f16(low, high) : pack_bf16(low, high);
    } else if (F16) {
        terms[0] = pack_f16(low, high);
        float l = low - unpack_f16(terms[0] & 0xffffu), h = high - unpack_f16(terms[0] >> 16);
        terms[1] = pack_f16(IS_NAN(l) ? 0.0f : l, IS_NAN(h) ? 0.0f : h); // infinity less itself
    } else {
#pragma unroll
        for (int i = 0; i < T; i++) {
            uint l = BITS_OF(low), h = BITS_OF(high);
            if (IS_NAN(low)) l = 0x7fc00000u; // so that no NaN is cut to infinity
            if (IS_NAN(high)) h = 0x7fc00000u;
            terms[i] = (l >> 16) | (h & 0xffff0000u);
            low = (l & 0x7f800000u) == 0x7f800000u ? 0.0f : low - FROM_BITS(l & 0xffff0000u);
            high = (h & 0x7f800000u) == 0x7f800000u ? 0.0f : high - FROM_BITS(h & 0xffff0000u);
        }
    }
}

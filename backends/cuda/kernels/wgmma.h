// wgmma.h - what compute capability 9.0 has beyond warp.h (architecture 90a): products of a warp group of 128 items, which run
// beside it; barriers with phases in shared memory; bulk copies of a tensor's boxes, which count their bytes at such a barrier;
// barriers by number; and registers that one warp group leaves to another. The emulated driver has its own forms
// (tests/plugins/emulated_cuda/wgmma_emulated.h).
//
// Rules: wgmma_begin before the first product of each group of products, and after sums or factors in registers were written;
// wgmma_commit ends the group; a group's sums and factors must be left alone until wgmma_wait has let it pass, and wgmma_done
// says to the compiler that the sums are there.
#ifndef EMULATED_CUDA
typedef unsigned long long phase_barrier;

FN uint shared_address(const void *p) { return warp_address(p); }

FN void phase_init(phase_barrier *p, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(shared_address(p)), "r"(count) : "memory");
}
// After the last of them, before the group's barrier.
FN void phase_inits_seen() { asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory"); }
// One arrival, and so many bytes more that the phase waits for.
FN void phase_expect(phase_barrier *p, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" : : "r"(shared_address(p)), "r"(bytes) : "memory");
}
FN void phase_arrive(phase_barrier *p) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(shared_address(p)) : "memory");
}
// Until the phase of this parity is over. The phase before the first one has parity 1.
FN void phase_wait(const phase_barrier *p, int parity) {
    asm volatile("{\n"
                 ".reg .pred over;\n"
                 "AGAIN:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
                 "@!over bra AGAIN;\n"
                 "}" : : "r"(shared_address(p)), "r"(parity) : "memory");
}

FN void map_soon(const tensor_map *map) { asm volatile("prefetch.tensormap [%0];" : : "l"(map) : "memory"); }
// The box at (a, b, c, d), the dense axis first, to a multiple of 1024 in shared memory.
FN void bulk_tile(half_word *to, const tensor_map *map, int a, int b, int c, int d, phase_barrier *p) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4, %5, %6}], [%2];"
                 : : "r"(shared_address(to)), "l"(map), "r"(shared_address(p)), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}
// What this item has written to shared memory may be multiplied (after a barrier of all who wrote).
FN void shared_seen_by_products() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }

// Barrier `id` (1 ... 15) of n items: waits for them, or only arrives.
FN void barrier_of(int id, int n) { asm volatile("bar.sync %0, %1;" : : "r"(id), "r"(n) : "memory"); }
FN void arrive_of(int id, int n) { asm volatile("bar.arrive %0, %1;" : : "r"(id), "r"(n) : "memory"); }

// 1 / x by the special unit, within one unit of the last place.
FN float fast_inverse(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The registers of each item of this warp group from here on.
template <int REGISTERS> FN void registers_more() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(REGISTERS)); }
template <int REGISTERS> FN void registers_fewer() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(REGISTERS)); }

FN void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
FN void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
// Until at most LEFT groups of products are under way.
template <int LEFT> FN void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(LEFT) : "memory"); }
template <int N> FN void wgmma_done(float (&c)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(c[i]) : : "memory");
}

#define SUMS4(c, i)  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define SUMS8(c, i)  SUMS4(c, i), SUMS4(c, i + 4)
#define SUMS32(c, i) SUMS8(c, i), SUMS8(c, i + 8), SUMS8(c, i + 16), SUMS8(c, i + 24)

#define FIRST32                                                                                                                \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                                                   \
    "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NEXT32                                                                                                                 \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                                                         \
    "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define PRODUCT(shape, type, add, operands)                                                                                    \
    "{\n.reg .pred add;\nsetp.ne.b32 add, " add ", 0;\n"                                                                       \
    "wgmma.mma_async.sync.aligned." shape "k16.f32." type "." type " " operands ";\n}"

// c (64 x 128) = or += a b: a is 64 x 16 and b 16 x 128, both with k dense in shared memory (descriptors). An item's sums: c[4
// i], c[4 i + 1] = row 16 (warp of the group) + lane / 4, columns 8 i + 2 (lane % 4) and the next; c[4 i + 2], c[4 i + 3] = 8
// rows on.
template <bool F16, bool ADD> FN void wgmma_shared_128(float (&c)[64], unsigned long long a, unsigned long long b) {
    if (F16)
        asm volatile(PRODUCT("m64n128", "f16", "%66", "{" FIRST32 "," NEXT32 "}, %64, %65, add, 1, 1, 0, 0")
                     : SUMS32(c, 0), SUMS32(c, 32) : "l"(a), "l"(b), "n"((int)ADD));
    else
        asm volatile(PRODUCT("m64n128", "bf16", "%66", "{" FIRST32 "," NEXT32 "}, %64, %65, add, 1, 1, 0, 0")
                     : SUMS32(c, 0), SUMS32(c, 32) : "l"(a), "l"(b), "n"((int)ADD));
}

// c (64 x 64, or 64 x 128) += a b: a in registers, each warp's 16 rows as warp_mma has them; b with its columns dense in shared
// memory.
template <bool F16> FN void wgmma_registers(float (&c)[32], const uint *a, unsigned long long b) {
    if (F16)
        asm volatile(PRODUCT("m64n64", "f16", "1", "{" FIRST32 "}, {%32,%33,%34,%35}, %36, add, 1, 1, 1")
                     : SUMS32(c, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    else
        asm volatile(PRODUCT("m64n64", "bf16", "1", "{" FIRST32 "}, {%32,%33,%34,%35}, %36, add, 1, 1, 1")
                     : SUMS32(c, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
template <bool F16> FN void wgmma_registers(float (&c)[64], const uint *a, unsigned long long b) {
    if (F16)
        asm volatile(PRODUCT("m64n128", "f16", "1", "{" FIRST32 "," NEXT32 "}, {%64,%65,%66,%67}, %68, add, 1, 1, 1")
                     : SUMS32(c, 0), SUMS32(c, 32) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    else
        asm volatile(PRODUCT("m64n128", "bf16", "1", "{" FIRST32 "," NEXT32 "}, {%64,%65,%66,%67}, %68, add, 1, 1, 1")
                     : SUMS32(c, 0), SUMS32(c, 32) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef FIRST32
#undef NEXT32
#undef PRODUCT
#undef SUMS4
#undef SUMS8
#undef SUMS32
#endif

// A matrix in shared memory whose rows of 128 bytes stand in groups of eight, each group a multiple of 1024 bytes, with 16-byte
// chunk c of row r at chunk c ^ (r % 8). With k dense, `rows` is the distance of groups of eight rows (bytes), `next` is not
// used; with rows or columns dense, `next` is the distance of 64 of them and `rows` that of eight k.
FN unsigned long long turned_matrix(const void *at, int next, int rows) {
    const uint low = (shared_address(at) >> 4 & 0x3fffu) | (uint)(next >> 4) << 16, high = (uint)(rows >> 4) | 1u << 30;
    return low | (unsigned long long)high << 32;
}
// The same, so many bytes on: a group has less than 256 KB, so that the address does not run over.
FN unsigned long long moved(unsigned long long matrix, int bytes) { return matrix + (unsigned long long)(bytes >> 4); }

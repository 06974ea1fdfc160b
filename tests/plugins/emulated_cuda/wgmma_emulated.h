/* wgmma_emulated.h - the words of backends/cuda/kernels/wgmma.h for the machine that runs the tests (run.cpp does the work):
 * products of a warp group by the layouts of the PTX ISA ("Asynchronous warpgroup-level matrix instructions": register
 * fragments, and matrices in shared memory by descriptor, in every swizzling mode), barriers with phases, and bulk copies by
 * tensor maps. */
#ifndef STRAND_EMULATED_CUDA_WGMMA_H
#define STRAND_EMULATED_CUDA_WGMMA_H

#include "warp_emulated.h"

/* An mbarrier: the arrivals and bytes that its phase still waits for. */
struct emulated_phase {
    unsigned count : 15, pending : 15, parity : 1;
    int bytes;
};
typedef emulated_phase phase_barrier;

void emulated_barrier_of(unsigned id, unsigned n);
void emulated_arrive_of(unsigned id, unsigned n);
void emulated_phase_arrive(emulated_phase *p, int bytes);
void emulated_phase_wait(const emulated_phase *p, unsigned parity);
void emulated_bulk(void *to, const void *map, const int at[4], emulated_phase *phase);
void emulated_products_begin();
void emulated_product(float *c, int n, bool f16, bool add, const unsigned *a, unsigned long long a_at, unsigned long long b_at,
                      bool n_major);
void emulated_products_commit();
void emulated_products_wait(int left);

static inline void phase_init(phase_barrier *p, int count) {
    p->count = p->pending = static_cast<unsigned>(count) & 0x7fff;
    p->parity = 0;
    p->bytes = 0;
}
static inline void phase_inits_seen() {}
static inline void phase_expect(phase_barrier *p, int bytes) {
    emulated_phase_arrive(p, bytes);
}
static inline void phase_arrive(phase_barrier *p) {
    emulated_phase_arrive(p, 0);
}
static inline void phase_wait(const phase_barrier *p, int parity) {
    emulated_phase_wait(p, static_cast<unsigned>(parity));
}

struct tensor_map;
static inline void map_soon(const tensor_map *) {}
static inline void bulk_tile(half_word *to, const tensor_map *map, int a, int b, int c, int d, phase_barrier *p) {
    const int at[4] = {a, b, c, d};
    emulated_bulk(to, map, at, p);
}
static inline void shared_seen_by_products() {}

static inline void barrier_of(int id, int n) {
    emulated_barrier_of(static_cast<unsigned>(id), static_cast<unsigned>(n));
}
static inline void arrive_of(int id, int n) {
    emulated_arrive_of(static_cast<unsigned>(id), static_cast<unsigned>(n));
}
static inline float fast_inverse(float x) {
    float y = 1 / x; /* up or down by a unit */
    return std::isinf(y) || y == 0 ? y : y + y * ((__float_as_uint(x) * 2654435761u) >> 31 ? 1.1920929e-07f : -1.1920929e-07f);
}
template <int REGISTERS> static inline void registers_more() {}
template <int REGISTERS> static inline void registers_fewer() {}

extern unsigned char emulated_shared[];
static inline unsigned shared_address(const void *p) {
    return static_cast<unsigned>(static_cast<const unsigned char *>(p) - emulated_shared);
}

static inline void wgmma_begin() {
    emulated_products_begin();
}
static inline void wgmma_commit() {
    emulated_products_commit();
}
template <int LEFT> static inline void wgmma_wait() {
    emulated_products_wait(LEFT);
}
template <int N> static inline void wgmma_done(float (&)[N]) {}
template <bool F16, bool ADD> static inline void wgmma_shared_128(float (&c)[64], unsigned long long a, unsigned long long b) {
    emulated_product(c, 128, F16, ADD, nullptr, a, b, false);
}
template <bool F16> static inline void wgmma_registers(float (&c)[32], const unsigned *a, unsigned long long b) {
    emulated_product(c, 64, F16, true, a, 0, b, true);
}
template <bool F16> static inline void wgmma_registers(float (&c)[64], const unsigned *a, unsigned long long b) {
    emulated_product(c, 128, F16, true, a, 0, b, true);
}

#endif

/* graphs_links.h - a small graph as lists of its links, for sums over neighbours: published supports are mostly zeros.
 *
 * Rows of x are whole vectors and lie `pitch` floats apart. Each element of a sum is one chain of vf_fma over the links in
 * order, begun at zero. A link of weight zero takes no part, so what is not finite stays with its neighbours. */
#ifndef STRAND_CPU_GRAPHS_LINKS_H
#define STRAND_CPU_GRAPHS_LINKS_H

#include "cpu.h"
#include "simd.h"

typedef struct cpu_link {
    int32_t from;
    float weight;
} cpu_link;

/* Floats of memory that the lists of `count` graphs of n nodes take. */
static inline int64_t cpu_links_floats(int64_t n, int64_t count) {
    return count * (n * n * 2 + n + 1) + 16;
}

/* The links of graph m end where those of m + 1 begin: first[m * (n + 1) + i] is where node i's begin among all of m's n * n
 * places. */
typedef struct cpu_links {
    const cpu_link *links;
    const int32_t *first;
    int64_t n;
} cpu_links;

/* Lists the links of s [count][n][n], with the given strides, in `room`. */
static inline cpu_links cpu_links_of(const float *s, const int64_t *strides, int64_t n, int64_t count, float *room) {
    cpu_link *link = (cpu_link *)(void *)room;
    int32_t *first = (int32_t *)(void *)(room + count * n * n * 2);
    for (int64_t m = 0; m < count; m++) {
        int32_t made = 0;
        for (int64_t i = 0; i < n; i++) {
            const float *row = s + m * strides[0] + i * strides[1];
            first[m * (n + 1) + i] = made;
            for (int64_t k = 0; k < n; k++) {
                link[m * n * n + made] = (cpu_link){(int32_t)k, row[k]};
                made += row[k] != 0;
            }
        }
        first[m * (n + 1) + n] = made;
    }
    return (cpu_links){(cpu_link *)(void *)room, first, n};
}

CPU_INLINE void cpu_links_row(const cpu_link *link, const cpu_link *end, const float *x, const float *before, float *y,
                              int64_t pitch, const int vectors) {
    vf sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] = vf_zero();
    for (; link < end; link++) {
        const float *from = x + link->from * pitch;
        vf weight = vf_set(link->weight);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[v] = vf_fma(weight, vf_load(from + v * CPU_LANES), sum[v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vf_store(y + v * CPU_LANES, before ? sum[v] + sum[v] - vf_load(before + v * CPU_LANES) : sum[v]);
}

/* y = S x, or 2 S x - before: S is graph m, rows have `columns` floats, whole vectors. */
static inline void cpu_links_carry(const cpu_links *g, int64_t m, const float *x, const float *before, float *y, int64_t pitch,
                                   int64_t columns) {
    const cpu_link *links = g->links + m * g->n * g->n;
    const int32_t *first = g->first + m * (g->n + 1);
    for (int64_t i = 0; i < g->n; i++) {
        const cpu_link *link = links + first[i], *end = links + first[i + 1];
        const int64_t row = i * pitch;
        int64_t c = 0;
        for (; c + 4 * CPU_LANES <= columns; c += 4 * CPU_LANES)
            cpu_links_row(link, end, x + c, before ? before + row + c : NULL, y + row + c, pitch, 4);
        for (; c < columns; c += CPU_LANES)
            cpu_links_row(link, end, x + c, before ? before + row + c : NULL, y + row + c, pitch, 1);
    }
}

#endif

/* matmul_kernel.h - the loops of matrix products: a template that matmul_f32.c and matmul_bf16.c include, each with a unit.
 *
 * A *unit* is what one step of a chain takes from a row or column: one F32 number, or two neighbours along k as a pair of BF16
 * (UNIT_PAIRS). Both are 32 bits wide and travel as float, unread. Invariant: how an element of the result is added up follows
 * from k and from how B lies alone; which register, strip, panel or block it fell into, and how many rows there are, does not
 * enter. That is what makes one row alone, and any tile, give the bytes that the whole gives. The sums:
 *   B dense along n, or k below SHORT_K: one chain of unit_fma over the units in order, begun at zero;
 *   B dense along k (weights as they are stored): each segment of BLOCK_K units makes CHAINS chains, chain i of the units i,
 *   i + CHAINS, ..., the last ones with zeros for what is not there; the segment is ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 +
 *   7)), or (0 + 2) + (1 + 3) where vectors have four lanes, and segments are added in order. Few rows then take the units
 *   as they lie, a vector from one column, without transposing them.
 *
 * Four ways lead through a product, by its number of rows and by how B lies:
 *   few rows, B dense along k: matmul_few.h, or matmul_short.h where there is one chain;
 *   few rows, B dense along n: the result's rows stay in L1 while rows of B stream by;
 *   tens of rows, B dense along n: matmul_copied.h;
 *   else: A and B are packed into panels, panel[place * width + i], and multiplied register block by register block. Where
 *   there are chains, a panel holds one after the other (panel_place).
 * Sums over k that do not fit one block wait in the result itself, exactly. */
#ifndef UNIT_PAIRS
#error "say what a unit is"
#endif
#include "matmul_pack.h"

/* ---- the register block ---- */

/* What memory is asked for while a block is multiplied: every SEGMENT units the next `bytes` of some rows. */
#define SEGMENT 16
typedef struct ahead {
    const char *p;
    int64_t outer, bytes, rows;
} ahead;

/* The steps of one chain; `from` is their place among all of the block's. */
INLINE void chain(int rows, int vectors, vf sum[PANEL_ROWS][PANEL_VECTORS], const float *a, const float *b, int64_t from,
                  int64_t units, float *c, int64_t c_stride, const ahead *soon) {
    for (int64_t end = from + units; from < end;) {
        int64_t n = cpu_min(SEGMENT - from % SEGMENT, end - from);
        if (from % SEGMENT == 0) {
            const char *next = soon->p + from / SEGMENT * soon->bytes;
            for (int64_t i = 0; i < soon->rows; i++, next += soon->outer) {
                __builtin_prefetch(next, 0, 2);
                if (soon->bytes > 64) __builtin_prefetch(next + 64, 0, 2);
            }
        }
        if (from == 0)
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++) __builtin_prefetch(c + r * c_stride + (PANEL_VECTORS + v) * CPU_LANES, 1, 3);
        from += n;
#pragma GCC unroll 1
        for (int64_t k = 0; k < n; k++, a += rows, b += PANEL_COLUMNS) {
            vf right[PANEL_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) right[v] = vf_load(b + v * CPU_LANES);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                vf left = vf_set(a[r]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) sum[r][v] = unit_fma(left, right[v], sum[r][v]);
            }
        }
    }
}

INLINE void add_to(int rows, int vectors, vf sum[PANEL_ROWS][PANEL_VECTORS], const float *c, int64_t c_stride) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = vf_load(c + r * c_stride + v * CPU_LANES) + sum[r][v];
}

INLINE void put(int rows, int vectors, vf sum[PANEL_ROWS][PANEL_VECTORS], float *c, int64_t c_stride) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) vf_store(c + r * c_stride + v * CPU_LANES, sum[r][v]);
}

/* rows x vectors (constants) of the result over `units` steps, going on from what c holds unless `fresh`; in one chain or in
 * CHAINS, which come in the order of panel_place. Sums that wait for their partner are as many as half of the tree is high. */
INLINE void block(int rows, int vectors, bool chains, const float *a, const float *b, int64_t units, float *c, int64_t c_stride,
                  bool fresh, const ahead *soon) {
    vf sum[PANEL_ROWS][PANEL_VECTORS];
    float waiting[CHAINS / 4 + 1][PANEL_ROWS * PANEL_COLUMNS] __attribute__((aligned(64)));
    const int64_t each = chains ? (units + CHAINS - 1) / CHAINS : units, apart = chain_apart(units);
    for (int i = 0; i < (chains ? CHAINS : 1); i++) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = fresh || chains ? vf_zero() : vf_load(c + r * c_stride + v * CPU_LANES);
        chain(rows, vectors, sum, a + i * apart * rows, b + i * apart * PANEL_COLUMNS, i * each, each, c, c_stride, soon);
        if (!chains) break;
        int height = 0;
        for (int left = i; left % 2; left /= 2) height++;
        for (int low = 0; low < height; low++) add_to(rows, vectors, sum, waiting[low], PANEL_COLUMNS);
        if (i < CHAINS - 1) put(rows, vectors, sum, waiting[height], PANEL_COLUMNS);
    }
    if (chains && !fresh) add_to(rows, vectors, sum, c, c_stride);
    put(rows, vectors, sum, c, c_stride);
}

typedef void block_fn(const float *a, const float *b, int64_t units, float *c, int64_t c_stride, bool fresh, const ahead *soon);
#define BLOCK(rows, vectors)                                                                                                   \
    TARGET static void block_##rows##_##vectors(const float *a, const float *b, int64_t units, float *c, int64_t c_stride,     \
                                                bool fresh, const ahead *soon) {                                               \
        block(rows, vectors, false, a, b, units, c, c_stride, fresh, soon);                                                    \
    }                                                                                                                          \
    TARGET static void chains_##rows##_##vectors(const float *a, const float *b, int64_t units, float *c, int64_t c_stride,    \
                                                 bool fresh, const ahead *soon) {                                              \
        block(rows, vectors, true, a, b, units, c, c_stride, fresh, soon);                                                     \
    }
#if PANEL_VECTORS == 3
#define BLOCKS(rows) BLOCK(rows, 1) BLOCK(rows, 2) BLOCK(rows, 3)
#define NAMES(rows)                                                                                                            \
    {{block_##rows##_1, block_##rows##_2, block_##rows##_3}, {chains_##rows##_1, chains_##rows##_2, chains_##rows##_3}},
#else
#define BLOCKS(rows) BLOCK(rows, 1) BLOCK(rows, 2)
#define NAMES(rows)  {{block_##rows##_1, block_##rows##_2}, {chains_##rows##_1, chains_##rows##_2}},
#endif
#if PANEL_ROWS == 12
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif PANEL_ROWS == 8
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#elif PANEL_ROWS == 6
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define EACH(X) X(1) X(2) X(3) X(4)
#endif
EACH(BLOCKS)
static block_fn *const blocks[PANEL_ROWS][2][PANEL_VECTORS] = {EACH(NAMES)};

/* One register block at the edge or inside: what stands over the edge of c is computed too, and thrown away. */
TARGET static void one_block(bool chains, const float *a, const float *b, int64_t units, float *c, int64_t c_stride,
                             int64_t rows, int64_t columns, bool fresh, const ahead *soon) {
    int64_t vectors = (cpu_min(columns, PANEL_COLUMNS) + CPU_LANES - 1) / CPU_LANES;
    block_fn *run = blocks[cpu_min(rows, PANEL_ROWS) - 1][chains][vectors - 1];
    if (columns >= vectors * CPU_LANES) {
        run(a, b, units, c, c_stride, fresh, soon);
        return;
    }
    float tile[PANEL_ROWS * PANEL_COLUMNS];
    rows = cpu_min(rows, PANEL_ROWS);
    size_t bytes = (size_t)columns * sizeof *c;
    for (int64_t r = 0; r < rows && !fresh; r++) {
        memset(tile + r * PANEL_COLUMNS, 0, PANEL_COLUMNS * sizeof *tile);
        memcpy(tile + r * PANEL_COLUMNS, c + r * c_stride, bytes);
    }
    run(a, b, units, tile, PANEL_COLUMNS, fresh, soon);
    for (int64_t r = 0; r < rows; r++) memcpy(c + r * c_stride, tile + r * PANEL_COLUMNS, bytes);
}

/* ---- products by panels ---- */

#define SHORT_K 96 /* with fewer, several chains cost more than they save */
CPU_INLINE bool in_chains(const cpu_product *p) {
    return p->b.inner == 1 && p->k >= SHORT_K;
}

#define BLOCK_M (PANEL_ROWS * (144 / PANEL_ROWS))
#define BLOCK_N (PANEL_COLUMNS * (256 / PANEL_COLUMNS)) /* a packed block of B stays in L2 */

/* Columns of a block: twice as many where k is so short that they fit, since A is packed once for each block. */
CPU_INLINE int64_t block_n(int64_t units) {
    return units <= BLOCK_K / 2 ? 2 * BLOCK_N : BLOCK_N;
}

CPU_INLINE int64_t packed_a(int64_t m, int64_t units) {
    return round_up(cpu_min(m, BLOCK_M) * (cpu_min(round_up(units, CHAINS), BLOCK_K) + CHAINS) + STRIP, 16);
}
/* Never less for more units. */
CPU_INLINE int64_t packed_b(int64_t n, int64_t units) {
    const int64_t all = round_up(n, PANEL_COLUMNS), places = round_up(units, CHAINS);
    int64_t wide = cpu_min(all, 2 * BLOCK_N) * (cpu_min(places, BLOCK_K / 2) + CHAINS);
    return round_up(cpu_max(wide, cpu_min(all, BLOCK_N) * (cpu_min(places, BLOCK_K) + CHAINS)), 16);
}

/* A packed block of A times a packed block of B; what is to be packed next is asked for on the way, evenly. */
TARGET static void inner_blocks(bool chains, const float *a, const float *b, int64_t units, float *c, int64_t c_stride,
                                int64_t m, int64_t n, bool fresh, const ahead *next) {
    int64_t count = (m + PANEL_ROWS - 1) / PANEL_ROWS * ((n + PANEL_COLUMNS - 1) / PANEL_COLUMNS);
    const int64_t places = chains ? CHAINS * chain_apart(units) : units;
    int64_t each = (next->rows + count - 1) / count, at = 0;
    for (int64_t i = 0; i < m; i += PANEL_ROWS)
        for (int64_t j = 0; j < n; j += PANEL_COLUMNS, at += each) {
            ahead soon = *next;
            soon.p += at * next->outer;
            soon.rows = cpu_max(0, cpu_min(each, next->rows - at));
            one_block(chains, a + i * places, b + j * places, units, c + i * c_stride + j, c_stride, m - i, n - j, fresh,
                      &soon);
        }
}

/* `count` rows or columns of a factor from `first` on, for `depth` elements from k on: they are packed next. */
static ahead packed_next(const cpu_factor *f, int64_t first, int64_t count, int64_t k, int64_t depth) {
    const int64_t bytes = cpu_element_bytes(f->dtype);
    ahead next = {.p = f->data + (first * f->outer + k * f->inner) * bytes};
    if (f->inner == 1) {
        next.outer = f->outer * bytes;
        next.bytes = SEGMENT * UNIT_K * bytes;
        next.rows = cpu_max(0, count);
    } else { /* as many segments as a block of BLOCK_K units has, but of count columns */
        next.outer = f->inner * bytes;
        next.bytes = (count * bytes + BLOCK_K / SEGMENT - 1) / (BLOCK_K / SEGMENT);
        next.rows = count > 0 ? cpu_max(0, depth) : 0;
    }
    return next;
}

/* Places of the units of a block. */
CPU_INLINE int64_t places_of(const cpu_product *p, int64_t depth) {
    return in_chains(p) ? CHAINS * chain_apart(units_of(depth)) : units_of(depth);
}

/* Where the panels of B that begin at `column` stand for elements [k, k + depth) when all of B is packed: the blocks of k one
 * after the other, in each the panels of all columns. */
CPU_INLINE int64_t packed_at(const cpu_product *p, int64_t column, int64_t k, int64_t depth) {
    int64_t before = k / (BLOCK_K * UNIT_K) * places_of(p, BLOCK_K * UNIT_K);
    return before * round_up(p->n, CPU_PRODUCT_ALIGN) + column * places_of(p, depth);
}

TARGET static void pack_all(const cpu_product *p, int64_t piece, float *packed) {
    int64_t column = piece * CPU_PRODUCT_ALIGN, n = cpu_min(CPU_PRODUCT_ALIGN, p->n - column);
    for (int64_t k = 0; k < p->k; k += BLOCK_K * UNIT_K) {
        int64_t depth = cpu_min(BLOCK_K * UNIT_K, p->k - k);
        pack(packed + packed_at(p, column, k, depth), PANEL_COLUMNS, true, in_chains(p), &p->b, column, n, k, depth);
    }
}

/* The panels of nj columns: packed now, unless all of B is. */
TARGET static const float *panels_of_b(const cpu_product *p, int64_t column, int64_t nj, int64_t k, int64_t depth, float *pb) {
    if (p->packed) return p->packed + packed_at(p, column, k, depth);
    pack(pb, PANEL_COLUMNS, true, in_chains(p), &p->b, column, nj, k, depth);
    return pb;
}

/* Rows that fit one block of A: it is packed once for all columns. With few of them, and B dense along k, a panel of B is used
 * up before the next one is packed. */
TARGET static void one_block_of_rows(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c,
                                     int64_t c_stride, float *pa, float *pb) {
    int64_t wide = m <= 4 * PANEL_ROWS && p->b.inner == 1 ? PANEL_COLUMNS : block_n(units_of(p->k));
    for (int64_t k = 0; k < p->k; k += BLOCK_K * UNIT_K) {
        int64_t depth = cpu_min(BLOCK_K * UNIT_K, p->k - k), units = units_of(depth);
        pack(pa, PANEL_ROWS, false, in_chains(p), &p->a, row, m, k, depth);
        for (int64_t j = 0; j < n; j += wide) {
            int64_t nj = cpu_min(wide, n - j), left = n - j - wide;
            ahead next = {0};
            if (!p->packed && left > 0) next = packed_next(&p->b, column + j + wide, cpu_min(wide, left), k, depth);
            if (!p->packed && left <= 0)
                next = packed_next(&p->b, column, cpu_min(wide, n), k + depth, cpu_min(BLOCK_K * UNIT_K, p->k - k - depth));
            const float *panels = panels_of_b(p, column + j, nj, k, depth, pb);
            inner_blocks(in_chains(p), pa, panels, units, c + j, c_stride, m, nj, k == 0, &next);
        }
    }
}

TARGET static void by_panels(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c,
                             int64_t c_stride, float *scratch) {
    float *pa = scratch, *pb = scratch + packed_a(m, units_of(p->k));
    if (m <= BLOCK_M) {
        one_block_of_rows(p, row, m, column, n, c, c_stride, pa, pb);
        return;
    }
    const int64_t wide = block_n(units_of(p->k));
    for (int64_t j = 0; j < n; j += wide)
        for (int64_t k = 0; k < p->k; k += BLOCK_K * UNIT_K) {
            int64_t nj = cpu_min(wide, n - j), depth = cpu_min(BLOCK_K * UNIT_K, p->k - k), units = units_of(depth);
            const float *panels = panels_of_b(p, column + j, nj, k, depth, pb);
            for (int64_t i = 0; i < m; i += BLOCK_M) {
                int64_t mi = cpu_min(BLOCK_M, m - i), left = m - i - BLOCK_M;
                ahead next = {0};
                if (left > 0)
                    next = packed_next(&p->a, row + i + BLOCK_M, cpu_min(BLOCK_M, left), k, depth);
                else if (!p->packed)
                    next = packed_next(&p->b, column + j, nj, k + depth, cpu_min(BLOCK_K * UNIT_K, p->k - k - depth));
                pack(pa, PANEL_ROWS, false, in_chains(p), &p->a, row + i, mi, k, depth);
                inner_blocks(in_chains(p), pa, panels, units, c + i * c_stride + j, c_stride, mi, nj, k == 0, &next);
            }
        }
}

/* ---- few rows ---- */

#define FEW_STREAMS 16   /* of B dense along n */
#define FEW_K       2048 /* units of A that are kept at a time */
#define FEW_SUMS    4096 /* floats: half of L1 */
#define FEW_ROOM    4096 /* floats of A beside B dense along k, kept at a time, or a segment */

typedef void few_fn(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                    float *a);

#ifdef __OPTIMIZE_SIZE__ /* these kernels are half of the code: panels serve here */
static few_fn *few_kernel(const cpu_product *p, int64_t m) {
    (void)p, (void)m;
    return NULL;
}
#else
#include "matmul_few.h"
#include "matmul_short.h"

/* m rows of A as units, a[unit * rows + r]: where they lie, or packed into `room`. */
TARGET static const float *few_of_a(float *room, const cpu_product *p, int64_t row, int64_t m, int64_t rows, int64_t k,
                                    int64_t depth) {
    if (!UNIT_PAIRS && rows == 1 && p->a.inner == 1 && p->a.dtype == STRAND_PLUGIN_F32)
        return (const float *)(const void *)p->a.data + row * p->a.outer + k;
    pack(room, rows, true, false, &p->a, row, m, k, depth);
    return room;
}

/* Rows of B that are read side by side. */
#define ABREAST (CPU_LANES == 16 && !UNIT_PAIRS ? 8 : 4)

/* m rows of `vectors` vectors of columns over `steps` units; n columns of the vector (CPU_LANES when there are two). */
INLINE void few_step(uint32_t dtype, int steps, int vectors, const float *a, int64_t rows, const char *b, int64_t inner,
                     bool odd, float *c, int64_t c_stride, int64_t m, int64_t n, bool fresh, bool ahead) {
    const int64_t bytes = cpu_element_bytes(dtype);
    vf right[8][2];
#pragma GCC unroll 8
    for (int s = 0; s < steps; s++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const char *at = b + s * UNIT_K * inner + v * CPU_LANES * bytes;
            right[s][v] = load_units(at, UNIT_PAIRS && !odd ? at + inner : NULL, dtype, n < CPU_LANES ? n : CPU_LANES);
            if (ahead) __builtin_prefetch(at + steps * UNIT_K * inner, 0, 2);
            if (UNIT_PAIRS && ahead) __builtin_prefetch(at + (steps * UNIT_K + 1) * inner, 0, 2);
        }
#pragma GCC unroll 1
    for (int64_t r = 0; r < m; r++, c += c_stride) {
        vf sum[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            sum[v] = fresh ? vf_zero() : n < CPU_LANES ? vf_load_part(c, n) : vf_load(c + v * CPU_LANES);
        }
#pragma GCC unroll 8
        for (int s = 0; s < steps; s++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[v] = unit_fma(vf_set(a[s * rows + r]), right[s][v], sum[v]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            if (n < CPU_LANES)
                vf_store_part(c, sum[v], n);
            else
                vf_store(c + v * CPU_LANES, sum[v]);
        }
    }
}

INLINE void few_steps(uint32_t dtype, int steps, const float *a, int64_t rows, const char *b, int64_t inner, bool odd, float *c,
                      int64_t c_stride, int64_t m, int64_t n, bool fresh, bool ahead) {
    const int64_t bytes = cpu_element_bytes(dtype);
    int64_t j = 0;
    for (; j + 2 * CPU_LANES <= n; j += 2 * CPU_LANES) {
        few_step(dtype, steps, 2, a, rows, b + j * bytes, inner, odd, c + j, c_stride, m, CPU_LANES, fresh, ahead);
    }
    for (; j < n; j += CPU_LANES) {
        few_step(dtype, steps, 1, a, rows, b + j * bytes, inner, odd, c + j, c_stride, m, cpu_min(CPU_LANES, n - j), fresh,
                 ahead);
    }
}

/* m x n of the result, B dense along n. */
INLINE void few_along_n(uint32_t dtype, const float *a, int64_t rows, const char *b, int64_t inner, int64_t depth, float *c,
                        int64_t c_stride, int64_t m, int64_t n, bool fresh, bool ahead) {
    int64_t k = 0;
    for (; k + ABREAST * UNIT_K <= depth; k += ABREAST * UNIT_K) {
        few_steps(dtype, ABREAST, a + k / UNIT_K * rows, rows, b + k * inner, inner, false, c, c_stride, m, n, fresh && k == 0,
                  ahead);
    }
    for (; k < depth; k += UNIT_K) {
        few_steps(dtype, 1, a + k / UNIT_K * rows, rows, b + k * inner, inner, k + 1 == depth, c, c_stride, m, n,
                  fresh && k == 0, ahead);
    }
}

/* Any number of rows, and as many columns as have their sums in L1, where they stand together: rows of the result
 * may lie a power of two apart. */
INLINE void few_streams(uint32_t dtype, bool ahead, const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n,
                        float *c, int64_t c_stride, float *a) {
    const int64_t bytes = cpu_element_bytes(dtype), inner = p->b.inner * bytes;
    int64_t wide = cpu_min(FEW_SUMS / m / (2 * CPU_LANES) * (2 * CPU_LANES), round_up(n, 2 * CPU_LANES));
    float *sum = a, *room = a + m * wide;
    for (int64_t k = 0; k < p->k; k += FEW_K * UNIT_K) {
        int64_t depth = cpu_min(FEW_K * UNIT_K, p->k - k);
        const char *b = p->b.data + column * bytes + k * inner;
        const float *units = few_of_a(room, p, row, m, m, k, depth);
        for (int64_t j = 0; j < n; j += wide) {
            int64_t here = cpu_min(wide, n - j);
            if (m == 1) {
                few_along_n(dtype, units, m, b + j * bytes, inner, depth, c + j, c_stride, m, here, k == 0, ahead);
                continue;
            }
            for (int64_t r = 0; r < m && k > 0; r++) memcpy(sum + r * wide, c + r * c_stride + j, (size_t)here * sizeof *c);
            few_along_n(dtype, units, m, b + j * bytes, inner, depth, sum, wide, m, here, k == 0, ahead);
            for (int64_t r = 0; r < m; r++) memcpy(c + r * c_stride + j, sum + r * wide, (size_t)here * sizeof *c);
        }
    }
}

#if !UNIT_PAIRS
#include "matmul_held.h"
#endif
#include "matmul_copied.h"

#define FEW(name, f, ...)                                                                                                      \
    TARGET static void name(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c,                 \
                            int64_t c_stride, float *a) {                                                                      \
        f(__VA_ARGS__, p, row, m, column, n, c, c_stride, a);                                                                  \
    }
#define FEWS(name, dtype)                                                                                                      \
    FEW(weights_1_##name, few_weights, 1, dtype)                                                                               \
    FEW(weights_2_##name, few_weights, 2, dtype)                                                                               \
    FEW(weights_most_##name, few_weights, FEW_ROWS, dtype)                                                                     \
    FEW(short_1_##name, few_short, 1, dtype)                                                                                   \
    FEW(short_2_##name, few_short, 2, dtype)                                                                                   \
    FEW(short_4_##name, few_short, 4, dtype)                                                                                   \
    FEW(short_8_##name, few_short, 8, dtype)                                                                                   \
    FEW(streams_##name, few_streams, dtype, true)                                                                              \
    FEW(cached_##name, few_streams, dtype, false)                                                                              \
    FEW(copied_##name, few_copied, dtype)
FEWS(f32, STRAND_PLUGIN_F32)
#if !UNIT_PAIRS
FEW(held_1, few_held, 1)
FEW(held_2, few_held, 2)
FEW(held_4, few_held, 4)
FEW(held_8, few_held, HELD_ROWS)
#endif
#if CPU_LANES > 4 || defined(__aarch64__)
FEWS(f16, STRAND_PLUGIN_F16)
FEWS(bf16, STRAND_PLUGIN_BF16)
#define FEW_TYPES 3
#else /* halves are converted number by number: that is done once, in panels */
#define FEW_TYPES 1
#endif
#define FEW_NAMES(name)                                                                                                        \
    {                                                                                                                          \
        streams_##name, cached_##name, weights_1_##name, weights_2_##name, weights_most_##name, short_1_##name,                \
            short_2_##name, short_4_##name, short_8_##name, copied_##name                                                      \
    }

/* NULL: panels are better. */
static few_fn *few_kernel(const cpu_product *p, int64_t m) {
    static few_fn *const kernels[FEW_TYPES][10] = {
        FEW_NAMES(f32),
#if FEW_TYPES == 3
        FEW_NAMES(f16),
        FEW_NAMES(bf16),
#endif
    };
    int type = p->b.dtype == STRAND_PLUGIN_F32 ? 0 : p->b.dtype == STRAND_PLUGIN_F16 ? 1 : 2;
    bool weights = p->b.inner == 1;
    if (type >= FEW_TYPES) return NULL;
    if (!weights && !p->packed && m > COPIED_ABOVE && m <= COPIED_MOST) return kernels[type][9];
    if (m > (weights ? FEW_MOST : FEW_STREAMS)) return NULL;
#if !UNIT_PAIRS
    static few_fn *const in_registers[] = {held_1, held_2, held_4, held_4, held_8, held_8, held_8, held_8};
    if (!weights && type == 0 && m <= HELD_ROWS && p->n * p->k * (int64_t)sizeof(float) <= FITS_IN_L2)
        return in_registers[m - 1];
#endif
    if (!weights) return kernels[type][p->n * p->k * cpu_element_bytes(p->b.dtype) <= FITS_IN_L2];
    if (!in_chains(p)) return kernels[type][m == 1 ? 5 : m == 2 ? 6 : m <= 4 ? 7 : 8];
    return kernels[type][m == 1 ? 2 : m == 2 ? 3 : 4];
}
#endif

/* ---- all of it ---- */

CPU_INLINE int64_t scratch_floats(int64_t m, int64_t n, int64_t k) {
    int64_t units = units_of(k), panels = packed_a(m, units) + packed_b(n, units);
    int64_t sums = cpu_min(FEW_SUMS, round_up(cpu_min(n, FEW_SUMS), 2 * CPU_LANES) * cpu_min(m, FEW_STREAMS));
    int64_t few = 2 * cpu_min(m, FEW_STREAMS); /* 3 rows are packed as 4, or 5 as 8 */
    few = cpu_max(cpu_min(few, FEW_STREAMS) * cpu_min(FEW_K, units) + STRIP,
                  cpu_min(cpu_max(FEW_ROOM, FEW_STREAMS * BLOCK_K), few * round_up(units, CHAINS)));
    return cpu_max(panels, round_up(sums + few, 16));
}

TARGET static void sums(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                        float *scratch) {
    few_fn *few_rows = few_kernel(p, m);
    for (int64_t i = 0; i < m && p->k == 0; i++) memset(c + i * c_stride, 0, (size_t)n * sizeof *c);
    if (few_rows)
        few_rows(p, row, m, column, n, c, c_stride, scratch);
    else
        by_panels(p, row, m, column, n, c, c_stride, scratch);
}

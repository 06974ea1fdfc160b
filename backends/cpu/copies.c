/* copies.c - moving elements between two strided layouts, at the speed of memory where the layouts allow it.
 *
 * Loops are merged where both sides are dense across them. Then there are three ways: rows that are dense on both sides;
 * squares that are transposed, where the dense axis of one side is another one than that of the other; and element by
 * element. The work is cut by the shape alone. */
#include "copies.h"
#include "simd.h"

#define LAST   (CPU_COPY_LOOPS - 1)
#define SQUARE 64    /* elements of both sides of the blocks that are transposed: one is in the first cache */
#define PIECE  16384 /* elements of a piece of work, about */

typedef enum way { ROWS, SQUARES, ELEMENTS } way;

typedef struct part {
    cpu_copy c;
    way way;
    int64_t height, width, across; /* of a piece: rows or elements of loop LAST - 1, elements of the last loop, pieces beside
                                      one another */
    int64_t down, first;           /* pieces of the rows (or of one pair of the last two loops); the first piece of this part */
} part;

typedef struct job {
    part parts[STRAND_PLUGIN_MAX_INPUTS];
    int count;
} job;

/* ---- one part ---- */

static void merge(cpu_copy *c) {
    cpu_copy m = *c;
    int k = CPU_COPY_LOOPS; /* loops k.. of m are done */
    for (int i = LAST; i >= 0; i--) {
        if (c->n[i] == 1) continue;
        if (k < CPU_COPY_LOOPS && c->to_step[i] == m.to_step[k] * m.n[k] && c->from_step[i] == m.from_step[k] * m.n[k]) {
            m.n[k] *= c->n[i];
            continue;
        }
        k--;
        m.n[k] = c->n[i], m.to_step[k] = c->to_step[i], m.from_step[k] = c->from_step[i];
    }
    for (int i = 0; i < k; i++) m.n[i] = 1, m.to_step[i] = m.from_step[i] = 0;
    if (k == CPU_COPY_LOOPS) m.to_step[LAST] = m.from_step[LAST] = 1; /* one element */
    *c = m;
}

static void swap_loops(cpu_copy *c, int a, int b) {
    int64_t n = c->n[a], to = c->to_step[a], from = c->from_step[a];
    c->n[a] = c->n[b], c->to_step[a] = c->to_step[b], c->from_step[a] = c->from_step[b];
    c->n[b] = n, c->to_step[b] = to, c->from_step[b] = from;
}

/* How many pieces there are. */
static int64_t cut(part *p) {
    cpu_copy *c = &p->c;
    int64_t rows = 1;
    merge(c);
    p->way = c->from_step[LAST] == 1 && c->to_step[LAST] == 1 ? ROWS : ELEMENTS;
    for (int i = 0; i < LAST && p->way == ELEMENTS && c->to_step[LAST] == 1; i++)
        if (c->from_step[i] == 1 && c->n[i] > 1) {
            swap_loops(c, i, LAST - 1);
            p->way = SQUARES;
        }
    for (int i = 0; i < LAST; i++) rows *= c->n[i];
    p->width = cpu_min(c->n[LAST], p->way == SQUARES ? PIECE / SQUARE : PIECE);
    p->across = (c->n[LAST] + p->width - 1) / p->width;
    if (p->way == SQUARES) {
        p->height = SQUARE;
        p->down = (c->n[LAST - 1] + SQUARE - 1) / SQUARE;
        return p->across * p->down * (rows / c->n[LAST - 1]);
    }
    p->height = cpu_max(1, PIECE / c->n[LAST]);
    p->down = (rows + p->height - 1) / p->height;
    return p->across * p->down;
}

/* ---- ways ---- */

/* n elements with steps */
static void move(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t bytes) {
    if (bytes == 4)
        for (int64_t i = 0; i < n; i++) memcpy(to + 4 * i * to_step, from + 4 * i * from_step, 4);
    else if (bytes == 2)
        for (int64_t i = 0; i < n; i++) memcpy(to + 2 * i * to_step, from + 2 * i * from_step, 2);
    else
        for (int64_t i = 0; i < n; i++) memcpy(to + 8 * i * to_step, from + 8 * i * from_step, 8);
}

/* The same of one row, with what is special about its steps made known to the compiler. */
static void move_row(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t bytes) {
    if (to_step == 1 && from_step == 0)
        move(to, 1, from, 0, n, bytes);
    else if (to_step == 1 && from_step == -1)
        move(to, 1, from, -1, n, bytes);
    else
        move(to, to_step, from, from_step, n, bytes);
}

/* Rows [row, end) of all loops but the last, elements [column, column + width) of the last. */
static void rows(const part *p, int64_t row, int64_t end, int64_t column, int64_t width) {
    const cpu_copy *c = &p->c;
    int64_t index[LAST], at_to = column * c->to_step[LAST], at_from = column * c->from_step[LAST], rest = row;
    for (int i = LAST - 1; i >= 0; rest /= c->n[i], i--) {
        index[i] = rest % c->n[i];
        at_to += index[i] * c->to_step[i];
        at_from += index[i] * c->from_step[i];
    }
    for (; row < end; row++) {
        char *to = c->to + at_to * c->bytes;
        const char *from = c->from + at_from * c->bytes;
        if (p->way == ROWS && width * c->bytes > 64)
            memcpy(to, from, (size_t)(width * c->bytes));
        else if (p->way == ROWS)
            move(to, 1, from, 1, width, c->bytes);
        else
            move_row(to, c->to_step[LAST], from, c->from_step[LAST], width, c->bytes);
        for (int i = LAST - 1; i >= 0; i--) {
            at_to += c->to_step[i];
            at_from += c->from_step[i];
            if (++index[i] < c->n[i]) break;
            at_to -= c->n[i] * c->to_step[i];
            at_from -= c->n[i] * c->from_step[i];
            index[i] = 0;
        }
    }
}

/* to[r * to_stride + c] = from[c * from_stride + r] for r < height, c < width. */
static void turn4(float *to, int64_t to_stride, const float *from, int64_t from_stride, int64_t height, int64_t width) {
    for (int64_t c = 0; c < width; c += CPU_LANES) {
        int64_t in_c = cpu_min(CPU_LANES, width - c);
        for (int64_t r = 0; r < height; r += CPU_LANES) {
            int64_t in_r = cpu_min(CPU_LANES, height - r);
            const float *x = from + c * from_stride + r;
            float *y = to + r * to_stride + c;
            vf block[CPU_LANES];
            if (in_r == CPU_LANES && in_c == CPU_LANES) {
                /* steps of rows are no stream to the processor */
                for (int i = 0; i < CPU_LANES && c + 2 * CPU_LANES <= width; i++) {
                    __builtin_prefetch(x + (CPU_LANES + i) * from_stride, 0, 3);
                    __builtin_prefetch(y + i * to_stride + CPU_LANES, 1, 3);
                }
#pragma GCC unroll 16
                for (int i = 0; i < CPU_LANES; i++) block[i] = vf_load(x + i * from_stride);
                vf_transpose(block);
#pragma GCC unroll 16
                for (int i = 0; i < CPU_LANES; i++) vf_store(y + i * to_stride, block[i]);
                continue;
            }
            for (int64_t i = 0; i < CPU_LANES; i++) block[i] = i < in_c ? vf_load_part(x + i * from_stride, in_r) : vf_zero();
            vf_transpose(block);
            for (int64_t i = 0; i < in_r; i++) vf_store_part(y + i * to_stride, block[i], in_c);
        }
    }
}

/* A square of 2 CPU_LANES rows of halves: pairs of rows become rows of pairs, which are turned like floats. */
CPU_INLINE void turn2_square(char *to, int64_t to_stride, const char *from, int64_t from_stride) {
    vf even[CPU_LANES], odd[CPU_LANES];
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++) {
        vu a, b;
        memcpy(&a, from + 4 * i * from_stride, sizeof a);
        memcpy(&b, from + (4 * i + 2) * from_stride, sizeof b);
        even[i] = (vf)((a & 0xffff) | b << 16);
        odd[i] = (vf)(a >> 16 | (b & 0xffff0000u));
    }
    vf_transpose(even);
    vf_transpose(odd);
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++) {
        memcpy(to + 4 * i * to_stride, &even[i], sizeof even[i]);
        memcpy(to + (4 * i + 2) * to_stride, &odd[i], sizeof odd[i]);
    }
}

/* A square of CPU_LANES / 2 rows of eight bytes. */
CPU_INLINE void turn8_square(char *to, int64_t to_stride, const char *from, int64_t from_stride) {
    enum { N = CPU_LANES / 2 };
    vf r[N];
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) memcpy(&r[i], from + 8 * i * from_stride, sizeof r[i]);
#if CPU_LANES == 16
    for (int i = 0; i < 4; i++) vf_exchange8(&r[i], &r[i + 4]);
#endif
#if CPU_LANES >= 8
#pragma GCC unroll 8
    for (int i = 0; i < N; i++)
        if (!(i & 2)) vf_exchange4(&r[i], &r[i + 2]);
#endif
#pragma GCC unroll 8
    for (int i = 0; i < N; i += 2) vf_exchange2(&r[i], &r[i + 1]);
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) memcpy(to + 8 * i * to_stride, &r[i], sizeof r[i]);
}

/* Whole squares, then what is left over element by element. */
#define TURN(bytes, side)                                                                                                      \
    static void turn##bytes(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t height, int64_t width) { \
        int64_t whole_r = height - height % (side), whole_c = width - width % (side);                                          \
        for (int64_t c = 0; c < whole_c; c += (side))                                                                          \
            for (int64_t r = 0; r < whole_r; r += (side))                                                                      \
                turn##bytes##_square(to + bytes * (r * to_stride + c), to_stride, from + bytes * (c * from_stride + r), from_stride); \
        for (int64_t r = 0; r < height; r++)                                                                                   \
            for (int64_t c = r < whole_r ? whole_c : 0; c < width; c++)                                                        \
                memcpy(to + bytes * (r * to_stride + c), from + bytes * (c * from_stride + r), bytes);                         \
    }
TURN(2, 2 * CPU_LANES)
TURN(8, CPU_LANES / 2)

/* One block of the last two loops, of which the first is dense in `from` and the last in `to`. */
static void squares(const part *p, int64_t outer, int64_t r, int64_t column, int64_t width) {
    const cpu_copy *c = &p->c;
    int64_t at_to = r * c->to_step[LAST - 1] + column, at_from = r + column * c->from_step[LAST];
    for (int i = LAST - 2; i >= 0; outer /= c->n[i], i--) {
        at_to += outer % c->n[i] * c->to_step[i];
        at_from += outer % c->n[i] * c->from_step[i];
    }
    char *to = c->to + at_to * c->bytes;
    const char *from = c->from + at_from * c->bytes;
    int64_t height = cpu_min(p->height, c->n[LAST - 1] - r), to_stride = c->to_step[LAST - 1], from_stride = c->from_step[LAST];
    for (int64_t k = 0; k < width; k += SQUARE) {
        int64_t n = cpu_min(SQUARE, width - k);
        if (c->bytes == 4)
            turn4((float *)(void *)(to + 4 * k), to_stride, (const float *)(const void *)(from + 4 * k * from_stride),
                  from_stride, height, n);
        else if (c->bytes == 2)
            turn2(to + 2 * k, to_stride, from + 2 * k * from_stride, from_stride, height, n);
        else
            turn8(to + 8 * k, to_stride, from + 8 * k * from_stride, from_stride, height, n);
    }
}

/* ---- all parts ---- */

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int k = j->count - 1;
    (void)worker;
    while (i < j->parts[k].first) k--;
    const part *p = &j->parts[k];
    i -= p->first;
    int64_t column = i % p->across * p->width, width = cpu_min(p->width, p->c.n[LAST] - column), down = i / p->across;
    if (p->way == SQUARES) {
        squares(p, down / p->down, down % p->down * p->height, column, width);
        return;
    }
    int64_t all = 1;
    for (int l = 0; l < LAST; l++) all *= p->c.n[l];
    rows(p, down * p->height, cpu_min((down + 1) * p->height, all), column, width);
}

void cpu_copies(const cpu_device *device, const cpu_copy *copies, int count) {
    job j = {.count = 0};
    int64_t pieces = 0;
    for (int i = 0; i < count; i++) {
        bool empty = false;
        for (int l = 0; l < CPU_COPY_LOOPS; l++) empty = empty || copies[i].n[l] < 1;
        if (empty) continue;
        part *p = &j.parts[j.count++];
        *p = (part){.c = copies[i], .first = pieces};
        pieces += cut(p);
    }
    if (pieces) cpu_parallel(device, pieces, body, &j);
}

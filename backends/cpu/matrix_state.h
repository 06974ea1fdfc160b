/* matrix_state.h - what the kernels with a matrix state share: how they see their tensors, how work is cut, and the small
 * products that move a block of tokens past a state.
 *
 * While a sequence runs, a head's state lies in working memory as S [depth][pitch]: depth is the axis that queries contract,
 * the values lie along the lanes, pitch is a whole number of vectors. Tokens go by in blocks whose length is a constant,
 * counted from the first token. Columns of values never mix, so that a tile of them has the bytes of the whole.
 *
 * Invariant: each element of a result is one chain of vf_fma in the order written here, whichever register block it fell
 * into. */
#ifndef STRAND_CPU_MATRIX_STATE_H
#define STRAND_CPU_MATRIX_STATE_H

#include "kernels.h"
#include "simd.h"

/* ---- tensors ---- */

/* An input [B, L, channels], or a vector over channels (strides 0): batch entries counted from y's, tokens and channels from
 * the whole's. data NULL: absent. */
typedef struct ms_tokens {
    float *data;
    int64_t batch, token, origin;
} ms_tokens;

static inline ms_tokens ms_view(const strand_plugin_node *node, const strand_plugin_tensor *t) {
    if (!t) return (ms_tokens){0};
    if (t->rank == 1) return (ms_tokens){cpu_f32(t), 0, 0, t->origin[0]};
    return (ms_tokens){cpu_f32(t) + (node->outputs[0].origin[0] - t->origin[0]) * t->strides[0], t->strides[0], t->strides[1],
                       t->origin[2]};
}

static inline float *ms_at(const ms_tokens *v, int64_t b, int64_t t, int64_t channel) {
    return v->data + b * v->batch + t * v->token + (channel - v->origin);
}

/* Where the channels from `first` on of `block` tokens stand, from t on: n of them, `none` for the others. */
CPU_INLINE void ms_rows(const float **row, const int block, const ms_tokens *v, int64_t b, int64_t t, int64_t n, int64_t first,
                        const float *none) {
    const float *p = ms_at(v, b, t, first);
#pragma GCC unroll 8
    for (int i = 0; i < block; i++, p += v->token) row[i] = i < n ? p : none;
}

/* Asks for the cache lines of `count` channels of tokens [t, t + n) that there are before `length`. A head's rows lie far
 * apart, so the processor does not see by itself what comes next. */
CPU_INLINE void ms_ahead(const ms_tokens *v, int64_t b, int64_t t, int64_t n, int64_t length, int64_t channel, int64_t count) {
    if (!v->token) return;
    for (int64_t i = t; i < cpu_min(t + n, length); i++)
        for (int64_t c = 0; c < count; c += 16) __builtin_prefetch(ms_at(v, b, i, channel + c), 0, 2);
}

/* The same, spread over other work: dozens of lines asked for at once fill the places of misses and stand in the way. Rows
 * are added first, then each call asks for four lines. What does not fit the list is left to the processor. */
#define MS_ASK       64 /* floats */
#define MS_MOST_ASKS 128
typedef struct ms_asking {
    int32_t asks, done;
    const float *at[MS_MOST_ASKS];
} ms_asking;

static inline void ms_will_ask(ms_asking *m, const float *row, int64_t count) {
    do {
        m->at[m->asks] = row;
        m->asks += m->asks < MS_MOST_ASKS - 1;
        row += MS_ASK;
    } while ((count -= MS_ASK) > 0);
}

CPU_INLINE void ms_ask(ms_asking *m) {
    if (m->done == m->asks) return;
    const float *p = m->at[m->done++];
#pragma GCC unroll 4
    for (int i = 0; i < MS_ASK; i += 16) __builtin_prefetch(p + i, 0, 2);
}

/* Rows of a later block that are asked for while products run, and how far on those of the block after it are. */
typedef struct ms_later {
    ms_asking asking;
    int64_t step[MS_MOST_ASKS];
} ms_later;

/* `count` channels of the n tokens from t on; blocks of tokens follow one another. */
CPU_INLINE void ms_ask_rows(ms_later *l, const ms_tokens *v, int64_t b, int64_t t, int64_t n, int64_t block, int64_t channel,
                            int64_t count) {
    const float *p = ms_at(v, b, t, channel);
    int32_t from = l->asking.asks;
    for (int64_t i = 0; i < n; i++, p += v->token) ms_will_ask(&l->asking, p, count);
    for (; from < l->asking.asks; from++) l->step[from] = block * v->token;
}

CPU_INLINE void ms_move_on(ms_later *l) {
    l->asking.done = 0;
    for (int i = 0; i < l->asking.asks; i++) l->asking.at[i] += l->step[i];
}

/* A state [B, heads, rows, columns]; data NULL: absent. */
typedef struct ms_state {
    float *data;
    int64_t batch, head, row;
} ms_state;

static inline ms_state ms_state_view(const strand_plugin_node *node, const strand_plugin_tensor *t) {
    if (!t) return (ms_state){0};
    return (ms_state){cpu_f32(t) + (node->outputs[0].origin[0] - t->origin[0]) * t->strides[0], t->strides[0], t->strides[1],
                      t->strides[2]};
}

/* The state that came in, and the one to leave behind. */
static inline ms_state ms_state_in(const strand_plugin_node *node, uint32_t i) {
    return ms_state_view(node, cpu_input(node, i));
}
static inline ms_state ms_state_out(const strand_plugin_node *node) {
    return ms_state_view(node, node->n_outputs > 1 ? &node->outputs[1] : NULL);
}

static inline float *ms_head(const ms_state *s, int64_t b, int64_t h) {
    return s->data ? s->data + b * s->batch + h * s->head : NULL;
}

/* ---- work ---- */

/* Units of work: batch entries x the heads that y's channels touch x blocks of a head's values, begun at the head's first
 * value. `group` units go together where one is too small to be worth handing out. */
typedef struct ms_cut {
    int64_t batches, width, block, begin, end; /* channels [begin, end) of the whole; width of a head, of a block */
    int64_t first, heads, blocks, units, group, pieces;
} ms_cut;

/* cost: rough vector instructions of one unit. */
static inline ms_cut ms_plan(const strand_plugin_node *node, int64_t heads, int64_t block, double cost) {
    const strand_plugin_tensor *out = &node->outputs[0];
    ms_cut c = {
        .batches = out->dims[0], .width = out->whole[2] / heads, .begin = out->origin[2], .end = out->origin[2] + out->dims[2]};
    c.block = cpu_min(block, c.width);
    c.first = c.begin / c.width;
    c.heads = c.end > c.begin ? (c.end - 1) / c.width + 1 - c.first : 0;
    c.blocks = (c.width + c.block - 1) / c.block;
    c.units = c.batches * c.heads * c.blocks;
    c.group = cost < 30000 ? (int64_t)(30000 / (cost + 1)) + 1 : 1;
    c.pieces = (c.units + c.group - 1) / c.group;
    if (c.pieces > 0) c.group = (c.units + c.pieces - 1) / c.pieces; /* all alike */
    return c;
}

/* Head h of batch entry b, its values [v, v + n), which are channels [channel, channel + n) of y. */
typedef struct ms_unit {
    int64_t b, h, v, n, channel;
} ms_unit;

/* False: no channel of y is in this unit. */
static inline bool ms_take(const ms_cut *c, int64_t i, ms_unit *u) {
    int64_t block = i % c->blocks, h = i / c->blocks % c->heads;
    u->b = i / c->blocks / c->heads;
    u->h = c->first + h;
    int64_t begin = cpu_max(c->begin, u->h * c->width + block * c->block);
    int64_t end = cpu_min(c->end, u->h * c->width + cpu_min(c->width, (block + 1) * c->block));
    u->channel = begin;
    u->v = begin - u->h * c->width;
    u->n = end - begin;
    return u->n > 0;
}

static inline int64_t ms_pitch(int64_t n) {
    return (n + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

/* Floats of working memory, rounded so that what follows is aligned. */
static inline int64_t ms_floats(int64_t n) {
    return (n + 15) / 16 * 16;
}

/* ---- vectors ---- */

/* The first n elements, zeros where there are fewer than lanes; n may be 0 or less. */
CPU_INLINE vf ms_load(const float *p, int64_t n) {
    return n >= CPU_LANES ? vf_load(p) : n > 0 ? vf_load_part(p, n) : vf_zero();
}
CPU_INLINE void ms_store(float *p, vf x, int64_t n) {
    if (n >= CPU_LANES)
        vf_store(p, x);
    else if (n > 0)
        vf_store_part(p, x, n);
}

/* to[c][r] = from[r][c] for rows x columns; to has to_pitch, a whole number of vectors of which those that hold `rows` are all
 * written (zeros after the last row). */
static inline void ms_transpose_in(float *to, int64_t to_pitch, const float *from, int64_t from_pitch, int64_t rows,
                                   int64_t columns) {
    for (int64_t r = 0; r < rows; r += CPU_LANES)
        for (int64_t c = 0; c < columns; c += CPU_LANES) {
            vf square[CPU_LANES];
            int64_t n = cpu_min(CPU_LANES, rows - r), m = cpu_min(CPU_LANES, columns - c);
            for (int i = 0; i < CPU_LANES; i++) square[i] = i < n ? ms_load(from + (r + i) * from_pitch + c, m) : vf_zero();
            vf_transpose(square);
            for (int i = 0; i < m; i++) vf_store(to + (c + i) * to_pitch + r, square[i]);
        }
}

/* to[r][c] = from[c][r] for rows x columns of `to`; from is padded as above. */
static inline void ms_transpose_out(float *to, int64_t to_pitch, const float *from, int64_t from_pitch, int64_t rows,
                                    int64_t columns) {
    for (int64_t r = 0; r < rows; r += CPU_LANES)
        for (int64_t c = 0; c < columns; c += CPU_LANES) {
            vf square[CPU_LANES];
            int64_t n = cpu_min(CPU_LANES, rows - r), m = cpu_min(CPU_LANES, columns - c);
            for (int i = 0; i < CPU_LANES; i++) square[i] = i < m ? vf_load(from + (c + i) * from_pitch + r) : vf_zero();
            vf_transpose(square);
            for (int i = 0; i < n; i++) ms_store(to + (r + i) * to_pitch + c, square[i], m);
        }
}

/* Rows of n elements to rows of whole vectors with zeros behind, and back. */
static inline void ms_rows_in(float *to, int64_t to_pitch, const float *from, int64_t from_pitch, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c += CPU_LANES) vf_store(to + r * to_pitch + c, ms_load(from + r * from_pitch + c, n - c));
}
static inline void ms_rows_out(float *to, int64_t to_pitch, const float *from, int64_t from_pitch, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c += CPU_LANES) ms_store(to + r * to_pitch + c, vf_load(from + r * from_pitch + c), n - c);
}

/* ---- products ---- */

#if CPU_LANES == 16
#define MS_ROWS 8
#else
#define MS_ROWS 4
#endif

/* A block of tokens that reads the state: y[i] = gain[i] (q[i] S) + sum over j <= i of a[i][j] x[j]. */
typedef struct ms_reading {
    const float *q, *s, *a, *x, *gain; /* gain NULL: 1 */
    float *y;
    int64_t q_pitch, depth, pitch, a_pitch; /* s, x and y have `pitch` */
    ms_asking *asking;                      /* NULL: nothing to ask for */
} ms_reading;

/* Rows [i, i + rows), `vectors` vectors from column c on; with `inside` row r takes x of [0, r], and nothing behind it is
 * touched: 0 times a number that is none would reach the past. */
CPU_INLINE void ms_read_block(const ms_reading *m, int64_t i, int64_t c, const bool inside, const int rows, const int vectors) {
    vf acc[MS_ROWS][2];
    const float *q = m->q + i * m->q_pitch, *s = m->s + c;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v] = vf_zero();
    for (int64_t k = 0; k < m->depth; k++, s += m->pitch) {
        vf row[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) row[v] = vf_load(s + v * CPU_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf one = vf_set(q[r * m->q_pitch + k]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) acc[r][v] = vf_fma(one, row[v], acc[r][v]);
        }
        if (!inside && k % 4 == 0 && m->asking) ms_ask(m->asking);
    }
    if (m->gain)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) acc[r][v] *= vf_set(m->gain[i + r]);
    const float *a = m->a + i * m->a_pitch, *x = m->x + c;
    for (int64_t j = 0; j < (inside ? i : 0); j++, x += m->pitch) {
        vf row[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) row[v] = vf_load(x + v * CPU_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf one = vf_set(a[r * m->a_pitch + j]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) acc[r][v] = vf_fma(one, row[v], acc[r][v]);
        }
    }
    if (inside)
#pragma GCC unroll 8
        for (int j = 0; j < rows; j++, x += m->pitch) {
            vf row[2];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) row[v] = vf_load(x + v * CPU_LANES);
#pragma GCC unroll 8
            for (int r = j; r < rows; r++) {
                vf one = vf_set(a[r * m->a_pitch + i + j]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) acc[r][v] = vf_fma(one, row[v], acc[r][v]);
            }
        }
    float *y = m->y + i * m->pitch + c;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) vf_store(y + r * m->pitch + v * CPU_LANES, acc[r][v]);
}

/* n rows of y; above its diagonal a is not read. q, a and y need n rows only. */
static inline void ms_read(const ms_reading *m, int64_t n) {
    int64_t whole = n / MS_ROWS * MS_ROWS;
    for (int64_t c = 0; c < m->pitch; c += 2 * CPU_LANES) {
        bool two = c + CPU_LANES < m->pitch;
        for (int64_t i = 0; i < whole; i += MS_ROWS)
            if (two)
                ms_read_block(m, i, c, true, MS_ROWS, 2);
            else
                ms_read_block(m, i, c, true, MS_ROWS, 1);
        for (int64_t i = whole; i < n; i++)
            if (two)
                ms_read_block(m, i, c, true, 1, 2);
            else
                ms_read_block(m, i, c, true, 1, 1);
    }
}

/* y[i] = q[i] S alone, for n rows. */
static inline void ms_product(const ms_reading *m, int64_t n) {
    ms_reading plain = *m;
    plain.a = plain.x = plain.s; /* not read */
    for (int64_t c = 0; c < m->pitch; c += 2 * CPU_LANES) {
        bool two = c + CPU_LANES < m->pitch;
        int64_t i = 0;
        for (; i + MS_ROWS <= n; i += MS_ROWS)
            if (two)
                ms_read_block(&plain, i, c, false, MS_ROWS, 2);
            else
                ms_read_block(&plain, i, c, false, MS_ROWS, 1);
        for (; i < n; i++)
            if (two)
                ms_read_block(&plain, i, c, false, 1, 2);
            else
                ms_read_block(&plain, i, c, false, 1, 1);
    }
}

/* A block of n tokens that changes the state: S[k] = decay[k] S[k] + sum over j < n of b[j][k] x[j]. */
typedef struct ms_writing {
    const float *b, *x, *decay; /* decay_step 0: one decay for all of S */
    float *s;
    int64_t b_pitch, depth, pitch, n, decay_step; /* s and x have `pitch` */
} ms_writing;

CPU_INLINE void ms_write_block(const ms_writing *m, int64_t k, int64_t c, const int rows, const int vectors) {
    vf acc[MS_ROWS][2];
    float *s = m->s + k * m->pitch + c;
    const float *b = m->b + k, *x = m->x + c;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        vf decay = vf_set(m->decay[(k + r) * m->decay_step]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v] = decay * vf_load(s + r * m->pitch + v * CPU_LANES);
    }
    for (int64_t j = 0; j < m->n; j++, x += m->pitch, b += m->b_pitch) {
        vf row[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) row[v] = vf_load(x + v * CPU_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf one = vf_set(b[r]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) acc[r][v] = vf_fma(one, row[v], acc[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) vf_store(s + r * m->pitch + v * CPU_LANES, acc[r][v]);
}

static inline void ms_write(const ms_writing *m) {
    int64_t whole = m->depth / MS_ROWS * MS_ROWS;
    for (int64_t c = 0; c < m->pitch; c += 2 * CPU_LANES) {
        bool two = c + CPU_LANES < m->pitch;
        for (int64_t k = 0; k < whole; k += MS_ROWS)
            if (two)
                ms_write_block(m, k, c, MS_ROWS, 2);
            else
                ms_write_block(m, k, c, MS_ROWS, 1);
        for (int64_t k = whole; k < m->depth; k++)
            if (two)
                ms_write_block(m, k, c, 1, 2);
            else
                ms_write_block(m, k, c, 1, 1);
    }
}

#if CPU_LANES == 16
#define MS_BOTH      64
#define MS_BOTH_ROWS 8 /* tokens that write, and that read */
#define MS_BOTH_KEYS 4 /* of the state at once, beside the sums of what is read */
/* ms_write of one block, then ms_product of the next with the state loaded once: by the same chains, so that it is the same.
 * For MS_BOTH keys and values, a constant, lest every row needs an address of its own. */
static __attribute__((noinline, unused)) void ms_write_and_read(const ms_writing *m, const ms_reading *r) {
    enum { n = MS_BOTH };
    const float *x = m->x, *decays = m->decay, *b = m->b, *q = r->q;
    float *s = m->s, *seen = r->y;
    for (int c = 0; c < n; c += 2 * CPU_LANES) {
        vf y[MS_BOTH_ROWS][2];
#pragma GCC unroll 8
        for (int i = 0; i < MS_BOTH_ROWS; i++) y[i][0] = vf_zero(), y[i][1] = vf_zero();
        for (int k = 0; k < n; k += MS_BOTH_KEYS) {
            vf state[MS_BOTH_KEYS][2];
            float *at = s + k * n + c;
#pragma GCC unroll 4
            for (int e = 0; e < MS_BOTH_KEYS; e++) {
                vf decay = vf_set(decays[k + e]);
                state[e][0] = decay * vf_load(at + e * n), state[e][1] = decay * vf_load(at + e * n + CPU_LANES);
            }
#pragma GCC unroll 8
            for (int j = 0; j < MS_BOTH_ROWS; j++) {
                vf row[2] = {vf_load(x + j * n + c), vf_load(x + j * n + c + CPU_LANES)};
#pragma GCC unroll 4
                for (int e = 0; e < MS_BOTH_KEYS; e++) {
                    vf one = vf_set(b[j * n + k + e]);
                    state[e][0] = vf_fma(one, row[0], state[e][0]), state[e][1] = vf_fma(one, row[1], state[e][1]);
                }
            }
#pragma GCC unroll 4
            for (int e = 0; e < MS_BOTH_KEYS; e++) {
                vf_store(at + e * n, state[e][0]), vf_store(at + e * n + CPU_LANES, state[e][1]);
#pragma GCC unroll 8
                for (int i = 0; i < MS_BOTH_ROWS; i++) {
                    vf one = vf_set(q[i * n + k + e]);
                    y[i][0] = vf_fma(one, state[e][0], y[i][0]), y[i][1] = vf_fma(one, state[e][1], y[i][1]);
                }
            }
            ms_ask(r->asking);
        }
#pragma GCC unroll 8
        for (int i = 0; i < MS_BOTH_ROWS; i++)
            vf_store(seen + i * n + c, y[i][0]), vf_store(seen + i * n + c + CPU_LANES, y[i][1]);
    }
}
#endif

#endif

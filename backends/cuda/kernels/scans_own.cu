// scans_own.cu - selective scan in one pass, and single steps of the scans and of the recurrences with a matrix state. Compute
// capability 8.0 and later.
//
// selective_chunks (Gu & Dao, arXiv 2312.00752): a warp has a channel, its lanes have 8 consecutive tokens each of a chunk of
// 256. A lane walks its tokens from zero, the lanes' results are put together by a scan (h -> p h + q is a pair that composes),
// and each walks again from the state before it with the factors it kept: one exponential for a state and token, and no second
// pass over memory. B and C of a chunk are in shared memory for the channels of a group. The others hold the state in
// registers, read it once and write it once, 16 bytes a lane where it is a matrix.
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"
#include "scan_step.h"

#define SEGMENT 8
#define TOKENS  256
#define ROW     33 // token 8 s + i is number 33 i + s: neither reads by lane nor writes by state share a bank
static_assert(SCAN_PITCH >= SEGMENT * ROW, "a chunk's tokens of a state");

HEAD(selective_chunks, 512)
(const float *u, const float *dt, const float *__restrict__ A, const float *__restrict__ B, const float *__restrict__ C,
 const float *__restrict__ D, const float *z, const float *__restrict__ bias, const float *state, float *y, float *after,
 const __grid_constant__ scan_numbers N) {
    DYNAMIC_SHARED(raw)
    float *const tb = (float *)raw, *const tc = tb + SCAN_SLAB * SCAN_PITCH, *const steps = tc + SCAN_SLAB * SCAN_PITCH,
                 *const gain = steps + N.group * SCAN_PITCH, *const kept = gain + N.group * SCAN_PITCH;
    const int items = N.group * 32, lane = WARP_LANE, warp = WARP_NUMBER, b = GROUP_Y, c0 = GROUP_X * N.group, c = c0 + warp;
    const bool live = c < N.channels;
    for (int n = lane; n < N.states; n += 32)
        kept[warp * N.states + n] =
            live && N.has_state ? state[(long long)b * N.state[0] + (long long)c * N.state[1] + n * N.state[2]] : 0.0f;
    for (int t0 = 0; t0 < N.tokens; t0 += TOKENS) {
        BARRIER // what was there is used
        for (int i = LOCAL; i < TOKENS * N.group; i += items) {
            const int t = i / N.group, k = i % N.group, at = k * SCAN_PITCH + t % SEGMENT * ROW + t / SEGMENT;
            float d = 0.0f, x = 0.0f;
            if (t0 + t < N.tokens && c0 + k < N.channels) {
                x = u[(long long)b * N.u[0] + (long long)(t0 + t) * N.u[1] + c0 + k];
                d = step_of(dt + (long long)b * N.dt[0] + (long long)(t0 + t) * N.dt[1] + c0 + k, bias, c0 + k, N);
            }
            steps[at] = d;
            gain[at] = d * x;
        }
        float sum[SEGMENT] = {}, d[SEGMENT], x[SEGMENT];
        for (int n0 = 0; n0 < N.states; n0 += SCAN_SLAB) {
            if (n0 > 0) {
                BARRIER
            }
            for (int i = LOCAL; i < TOKENS * SCAN_SLAB; i += items) {
                const int t = i / SCAN_SLAB, n = i % SCAN_SLAB, at = n * SCAN_PITCH + t % SEGMENT * ROW + t / SEGMENT;
                const bool there = t0 + t < N.tokens && n0 + n < N.states;
                tb[at] = there ? B[(long long)b * N.b[0] + (long long)(t0 + t) * N.b[1] + n0 + n] : 0.0f;
                tc[at] = there ? C[(long long)b * N.c[0] + (long long)(t0 + t) * N.c[1] + n0 + n] : 0.0f;
            }
            BARRIER
            if (n0 == 0) {
#pragma unroll
                for (int i = 0; i < SEGMENT; i++)
                    d[i] = steps[warp * SCAN_PITCH + i * ROW + lane], x[i] = gain[warp * SCAN_PITCH + i * ROW + lane];
            }
            for (int n = 0; n < SCAN_SLAB && n0 + n < N.states; n++) {
                const float a = live ? A[(long long)c * N.a_stride + n0 + n] * EXP_SCALE : 0.0f,
                            begin = kept[warp * N.states + n0 + n];
                float p[SEGMENT], q[SEGMENT], h = lane == 0 ? begin : 0.0f, all = 1.0f;
#pragma unroll
                for (int i = 0; i < SEGMENT; i++) {
                    p[i] = EXP_SCALED(d[i] * a);
                    q[i] = x[i] * tb[n * SCAN_PITCH + i * ROW + lane];
                    h = FMA(p[i], h, q[i]);
                    all *= p[i];
                }
#pragma unroll
                for (int back = 1; back < 32; back *= 2) {
                    const float before = warp_from(h, lane - back), factor = warp_from(all, lane - back);
                    if (lane >= back) {
                        h = FMA(all, before, h);
                        all *= factor;
                    }
                }
                const float end = warp_from(h, 31);
                h = warp_from(h, lane - 1);
                if (lane == 0) {
                    h = begin;
                    kept[warp * N.states + n0 + n] = end;
                }
#pragma unroll
                for (int i = 0; i < SEGMENT; i++) {
                    h = FMA(p[i], h, q[i]);
                    sum[i] = FMA(tc[n * SCAN_PITCH + i * ROW + lane], h, sum[i]);
                }
                WARP_BARRIER
            }
        }
#pragma unroll
        for (int i = 0; i < SEGMENT; i++) gain[warp * SCAN_PITCH + i * ROW + lane] = sum[i];
        BARRIER
        for (int i = LOCAL; i < TOKENS * N.group; i += items) {
            const int t = i / N.group, k = i % N.group;
            if (t0 + t < N.tokens && c0 + k < N.channels) {
                float v = gain[k * SCAN_PITCH + t % SEGMENT * ROW + t / SEGMENT];
                if (N.has_d)
                    v = FMA(D[(c0 + k) * N.d_stride], u[(long long)b * N.u[0] + (long long)(t0 + t) * N.u[1] + c0 + k], v);
                if (N.has_z) {
                    const float gate = z[(long long)b * N.z[0] + (long long)(t0 + t) * N.z[1] + c0 + k];
                    v *= f_gated(gate, f_sigmoid(gate));
                }
                y[(long long)b * N.y[0] + (long long)(t0 + t) * N.y[1] + c0 + k] = v;
            }
        }
    }
    for (int n = lane; n < N.states && live && N.has_after; n += 32)
        after[(long long)b * N.after[0] + (long long)c * N.after[1] + n * N.after[2]] = kept[warp * N.states + n];
}

HEAD(selective_step, 128)
(const float *u, const float *dt, const float *__restrict__ A, const float *__restrict__ B, const float *__restrict__ C,
 const float *__restrict__ D, const float *z, const float *__restrict__ bias, const float *state, float *y, float *after,
 const __grid_constant__ scan_numbers N) {
    scan_step(u, dt, NULL, A, B, C, D, z, bias, state, y, after, GROUP_X, GROUP_Y, N);
}

// ---- matrix states ----

FN float dot4(float4 a, float4 b) { return FMA(a.w, b.w, FMA(a.z, b.z, FMA(a.y, b.y, a.x * b.x))); }
FN float4 mul4(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
// a + f b
FN float4 add4(float4 a, float f, float4 b) {
    return make_float4(FMA(f, b.x, a.x), FMA(f, b.y, a.y), FMA(f, b.z, a.z), FMA(f, b.w, a.w));
}
FN float4 none4() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }
// Elements [from, to) of four that are `stride` apart, the others zero; at once where that can be.
FN float4 load_range(const float *p, int stride, int fast, int from, int to) {
    float4 f = none4();
    if (fast && from <= 0 && to >= 4) return LOAD4(p, 0);
    if (from <= 0 && to > 0) f.x = p[0];
    if (from <= 1 && to > 1) f.y = p[(long long)stride];
    if (from <= 2 && to > 2) f.z = p[2ll * stride];
    if (from <= 3 && to > 3) f.w = p[3ll * stride];
    return f;
}
FN void store_range(float *p, int stride, int fast, int from, int to, float4 f) {
    if (fast && from <= 0 && to >= 4) {
        STORE4(p, 0, f);
        return;
    }
    if (from <= 0 && to > 0) p[0] = f.x;
    if (from <= 1 && to > 1) p[(long long)stride] = f.y;
    if (from <= 2 && to > 2) p[2ll * stride] = f.z;
    if (from <= 3 && to > 3) p[3ll * stride] = f.w;
}
FN float over_warp(float f) {
    for (int mask = 1; mask < 32; mask *= 2) f += warp_xor(f, mask);
    return f;
}
FN float4 decay4(float4 w, int logarithms) {
    return logarithms ? make_float4(f_exp(w.x), f_exp(w.y), f_exp(w.z), f_exp(w.w)) : w;
}

#define ROWS 4 // of the state, that a warp has: loads under way together

// States [columns, rows], rows dense: SSD [P, N] and the delta rule [V, K]. Lane: four numbers of each row. tokens: (batch,
// token) of each input.
template <bool DELTA>
FN void rows_step(const float *const (&in)[6], const float *D, const float *bias, const float *state, float *y, float *after,
                  const step_numbers &N) {
    const int lane = WARP_LANE, b = GROUP_Z, head = N.first_head + GROUP_Y, p0 = GROUP_X * 4 * ROWS + WARP_NUMBER * ROWS,
              n = lane * 4;
    const bool here = n < N.n;
    const int of = (DELTA ? head : head / N.heads_a_group) * N.n + n;
    float4 s[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        s[r] = none4();
        if (here && p0 + r < N.width && N.has_state)
            s[r] = load_range(state + (long long)b * N.state[0] + (long long)head * N.state[1] +
                                  (long long)(p0 + r) * N.state[2] + (long long)n * N.state[3],
                              N.state[3], N.fast_state, 0, N.n - n);
    }
    for (int t = 0; t < N.tokens; t++) {
#define AT(i) (in[i] + (long long)b * N.in[i][0] + (long long)t * N.in[i][1])
#define VECTOR(i) load_range(AT(i) + of, 1, N.fast_in, 0, N.n - n)
        const float4 out = VECTOR(0), up = VECTOR(1); // C, B; r, k
        float4 w = none4(), left = none4(), right = none4();
        float step = 1.0f, keep = 1.0f, skip = 0.0f;
        if (DELTA) {
            w = decay4(VECTOR(3), N.log_w);
            left = VECTOR(4);
            right = VECTOR(5);
        } else {
            if (N.has_dt) {
                step = AT(4)[head] + (N.has_bias ? bias[head * N.bias_stride] : 0.0f);
                if (N.softplus) step = f_softplus(step);
                step = IS_NAN(step) ? step : FMIN(FMAX(step, N.dt_min), N.dt_max);
            }
            keep = f_exp(step * (N.a_moves ? AT(3)[head] : in[3][(long long)head * N.in[3][0]]));
            skip = N.has_d ? D[head * N.d_stride] : 0.0f;
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int p = p0 + r, at = head * N.width + p - N.origin;
            const bool mine = p < N.width && at >= 0 && at < N.channels;
            const float x = mine ? AT(2)[at] : 0.0f;
            if (DELTA) {
                const float seen = over_warp(dot4(s[r], left));
                s[r] = add4(add4(mul4(s[r], w), seen, right), x, up);
            } else {
                s[r] = add4(mul4(s[r], make_float4(keep, keep, keep, keep)), step * x, up);
            }
            const float sum = over_warp(dot4(s[r], out));
            if (lane == 0 && mine)
                y[(long long)b * N.y[0] + (long long)t * N.y[1] + at] = DELTA ? N.scale * sum : FMA(skip, x, sum);
        }
#undef VECTOR
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (here && p0 + r < N.width && N.has_after)
            store_range(after + (long long)b * N.after[0] + (long long)head * N.after[1] + (long long)(p0 + r) * N.after[2] +
                            (long long)n * N.after[3],
                        N.after[3], N.fast_after, 0, N.n - n, s[r]);
}

#define STEP(name)                                                                                                                                             \
    HEAD(name, 128)(const float *in0, const float *in1, const float *in2, const float *in3, const float *in4, const float *in5, const float *__restrict__ D,    \
                    const float *__restrict__ bias, const float *state, float *y, float *after, const __grid_constant__ step_numbers N) {                      \
        const float *const in[6] = {in0, in1, in2, in3, in4, in5};
STEP(ssd_step)
        rows_step<false>(in, D, bias, state, y, after, N);
}
STEP(delta_step)
        rows_step<true>(in, D, bias, state, y, after, N);
}

// Gated linear attention, state [K, V], V dense: a group has 32 columns, 8 lanes a row, and 16 rows at a time. Inputs: q, k, v,
// w; bias: u.
STEP(gated_step)
        __shared__ float4 sums[4][8];
        const int lane = WARP_LANE, b = GROUP_Z, head = N.first_head + GROUP_Y, column = GROUP_X * 32 + (lane & 7) * 4,
                  row = WARP_NUMBER * 4 + (lane >> 3);
        const bool here = column < N.width;
        float4 s[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int k = row + 16 * i;
            s[i] = none4();
            if (here && k < N.n && N.has_state)
                s[i] = load_range(state + (long long)b * N.state[0] + (long long)head * N.state[1] + (long long)k * N.state[2] +
                                      (long long)column * N.state[3],
                                  N.state[3], N.fast_state, 0, N.width - column);
        }
        for (int t = 0; t < N.tokens; t++) {
            const int at = head * N.width + column - N.origin, to = IMIN(N.width - column, N.channels - at);
            const float4 v = load_range(AT(2) + at, 1, N.fast_in, -at, to);
            float4 sum = none4();
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int k = row + 16 * i;
                if (k >= N.n) continue;
                const int of = head * N.n + k;
                const float key = AT(1)[of], q = AT(0)[of];
                float w = N.a_moves ? AT(3)[of] : in[3][(long long)of * N.in[3][0]];
                if (N.log_w) w = f_exp(w);
                const float4 before = s[i];
                s[i] = add4(mul4(s[i], make_float4(w, w, w, w)), key, v);
                sum = add4(sum, q, N.has_bias ? add4(before, bias[of * N.bias_stride] * key, v) : s[i]);
            }
#pragma unroll
            for (int mask = 8; mask < 32; mask *= 2) {
                sum.x += warp_xor(sum.x, mask);
                sum.y += warp_xor(sum.y, mask);
                sum.z += warp_xor(sum.z, mask);
                sum.w += warp_xor(sum.w, mask);
            }
            BARRIER // the sums of the token before are used
            if (lane < 8) sums[WARP_NUMBER][lane] = sum;
            BARRIER
            if (LOCAL < 8 && here) {
                for (int i = 1; i < 4; i++) sum = add4(sum, 1.0f, sums[i][lane]);
                store_range(y + (long long)b * N.y[0] + (long long)t * N.y[1] + at, 1, N.fast_y, -at, to,
                            make_float4(N.scale * sum.x, N.scale * sum.y, N.scale * sum.z, N.scale * sum.w));
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int k = row + 16 * i;
            if (here && k < N.n && N.has_after)
                store_range(after + (long long)b * N.after[0] + (long long)head * N.after[1] + (long long)k * N.after[2] +
                                (long long)column * N.after[3],
                            N.after[3], N.fast_after, 0, N.width - column, s[i]);
        }
}

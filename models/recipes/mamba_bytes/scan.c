/* scan.c - the selective scan of Mamba with its gradients, for train.py, which compiles it. Everything is F32 and row-major:
 * dt, u, y [L, B, D], b, c [L, B, N], A [N, D] (negative), h0 [B, N, D], h [L, B, N, D]. The long axis D is the innermost
 * one, so that every inner loop is a vector loop; nothing of size L*B*N*D but h itself ever goes through memory. */
#include <math.h>
#include <string.h>

void scan_forward(long L, long B, long N, long D, const float *dt, const float *u, const float *A, const float *b,
                  const float *c, const float *h0, float *y, float *h) {
    for (long i = 0; i < B; i++) {
        const float *last = h0 + i * N * D;
        for (long t = 0; t < L; t++) {
            long row = t * B + i;
            const float *restrict d = dt + row * D, *restrict x = u + row * D;
            float *restrict out = y + row * D;
            memset(out, 0, (size_t)D * sizeof *out);
            for (long n = 0; n < N; n++) {
                const float *restrict a = A + n * D, *restrict before = last + n * D;
                float *restrict now = h + (row * N + n) * D, bn = b[row * N + n], cn = c[row * N + n];
#pragma GCC ivdep
                for (long k = 0; k < D; k++) {
                    now[k] = expf(d[k] * a[k]) * before[k] + d[k] * x[k] * bn;
                    out[k] += now[k] * cn;
                }
            }
            last = h + row * N * D;
        }
    }
}

/* `work` holds N D floats; gA [N, D] is added to. */
void scan_backward(long L, long B, long N, long D, const float *dt, const float *u, const float *A, const float *b,
                   const float *c, const float *h0, const float *h, const float *gy, float *gdt, float *gu, float *gA,
                   float *gb, float *gc, float *work) {
    for (long i = 0; i < B; i++) {
        memset(work, 0, (size_t)(N * D) * sizeof *work);
        for (long t = L - 1; t >= 0; t--) {
            long row = t * B + i;
            const float *restrict d = dt + row * D, *restrict x = u + row * D, *restrict g = gy + row * D;
            float *restrict od = gdt + row * D, *restrict ou = gu + row * D;
            memset(od, 0, (size_t)D * sizeof *od);
            memset(ou, 0, (size_t)D * sizeof *ou);
            for (long n = 0; n < N; n++) {
                const float *restrict a = A + n * D, *restrict now = h + (row * N + n) * D;
                const float *restrict before = t ? h + ((row - B) * N + n) * D : h0 + (i * N + n) * D;
                float *restrict carry = work + n * D, *restrict oa = gA + n * D;
                float bn = b[row * N + n], cn = c[row * N + n], sb = 0, sc = 0;
#pragma GCC ivdep
                for (long k = 0; k < D; k++) {
                    float p = expf(d[k] * a[k]), s = carry[k] + g[k] * cn, q = s * before[k] * p;
                    od[k] += q * a[k] + s * x[k] * bn;
                    ou[k] += s * d[k] * bn;
                    oa[k] += q * d[k];
                    sb += s * d[k] * x[k];
                    sc += g[k] * now[k];
                    carry[k] = p * s;
                }
                gb[row * N + n] = sb;
                gc[row * N + n] = sc;
            }
        }
    }
}

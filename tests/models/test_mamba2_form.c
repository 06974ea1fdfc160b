/* test_mamba2_form.c - Mamba-2 with all that it may have beside the state space: a gated pair, MLPs, an attention layer with a
 * short convolution. Judged by a form of its own in double precision, as test_text_forms.c does. */
#include "made.h"

#include <math.h>

#define V           67 /* vocabulary */
#define L           90
#define D           24
#define LAYER(part) made_find(m, "backbone.layers.%d." part, l)

static void random_ids(randoms *r, int64_t ids[L]) {
    for (int i = 0; i < L; i++) ids[i] = random_below(r, V);
}

/* ---- Mamba-2, arXiv 2405.21060, with the modules of its repository: a gated pair (d_ssm below d_inner), MLPs, an attention
 * layer ---- */

#define SSM   32 /* d_ssm: 4 heads of 8 */
#define PAIR  16
#define SH    4
#define SN    5
#define ROWS  (2 * PAIR + 2 * SSM + 2 * SN + SH)
#define CONV  (SSM + 2 * SN)
#define AH    2 /* attention: 2 heads of 12, one key head, the first 8 elements rotated */
#define AW    12
#define QKV   (AW * (AH + 2))
#define APAIR 20
#define MLP   18

static void make_mamba2(made *m) {
    made_add(m, 0, 1, DIMS(V, D), "backbone.embedding.weight");
    for (int l = 0; l < 2; l++) {
        bool attention = l == 1;
        made_add(m, 1, 0.2, DIMS(D), "backbone.layers.%d.norm.weight", l);
        made_add(m, 1, 0.2, DIMS(D), "backbone.layers.%d.norm2.weight", l);
        made_add(m, 0, 0.3, DIMS(2 * MLP, D), "backbone.layers.%d.mlp.fc1.weight", l);
        made_add(m, 0, 0.3, DIMS(D, MLP), "backbone.layers.%d.mlp.fc2.weight", l);
        made_add(m, 0, 0.3, DIMS(attention ? QKV + 2 * APAIR : ROWS, D), "backbone.layers.%d.mixer.in_proj.weight", l);
        made_add(m, 0, 0.5, DIMS(attention ? QKV : CONV, 1, 3), "backbone.layers.%d.mixer.conv1d.weight", l);
        made_add(m, 0, 0.3, DIMS(attention ? QKV : CONV), "backbone.layers.%d.mixer.conv1d.bias", l);
        made_add(m, 0, 0.3, DIMS(D, attention ? AH * AW + APAIR : SSM + PAIR), "backbone.layers.%d.mixer.out_proj.weight", l);
        if (attention) continue;
        made_add(m, -1, 0.7, DIMS(SH), "backbone.layers.%d.mixer.dt_bias", l);
        made_add(m, 0.5, 0.7, DIMS(SH), "backbone.layers.%d.mixer.A_log", l);
        made_add(m, 0, 1, DIMS(SH), "backbone.layers.%d.mixer.D", l);
        made_add(m, 1, 0.2, DIMS(SSM), "backbone.layers.%d.mixer.norm.weight", l);
    }
    made_add(m, 1, 0.2, DIMS(D), "backbone.norm_f.weight");
}

/* A causal convolution of 3 taps over rows of n. */
static double tapped(const made *m, int l, const double *x, int64_t stride, int t, int c) {
    double y = (double)LAYER("mixer.conv1d.bias")[c];
    for (int i = 0; i < 3; i++)
        if (t - 2 + i >= 0) y += (double)LAYER("mixer.conv1d.weight")[3 * c + i] * x[(t - 2 + i) * stride + c];
    return y;
}

static void mamba2_mixer(const made *m, int l, double (*n)[D], double (*out)[D]) {
    static double in[L][ROWS];
    double s[SH][SSM / SH][SN] = {0};
    for (int t = 0; t < L; t++) d_linear(in[t], LAYER("mixer.in_proj.weight"), NULL, n[t], ROWS, D);
    for (int t = 0; t < L; t++) {
        const double *z = in[t] + 2 * PAIR, *dt = in[t] + ROWS - SH;
        double x[CONV], y[PAIR + SSM], normed[SSM];
        for (int c = 0; c < CONV; c++) x[c] = d_silu(tapped(m, l, in[0] + 2 * PAIR + SSM, ROWS, t, c));
        for (int h = 0; h < SH; h++) {
            double step = log1p(exp(dt[h] + (double)LAYER("mixer.dt_bias")[h])),
                   decay = exp(-step * exp((double)LAYER("mixer.A_log")[h]));
            for (int i = 0; i < SSM / SH; i++) {
                int c = h * (SSM / SH) + i;
                y[PAIR + c] = (double)LAYER("mixer.D")[h] * x[c];
                for (int k = 0; k < SN; k++) {
                    s[h][i][k] = decay * s[h][i][k] + step * x[SSM + k] * x[c];
                    y[PAIR + c] += x[SSM + SN + k] * s[h][i][k];
                }
            }
        }
        for (int c = 0; c < SSM; c++) y[PAIR + c] *= d_silu(z[c]);
        d_rms_norm(normed, LAYER("mixer.norm.weight"), y + PAIR, SSM, 1e-5);
        memcpy(y + PAIR, normed, sizeof normed);
        for (int c = 0; c < PAIR; c++) y[c] = d_silu(in[t][c]) * in[t][PAIR + c];
        d_linear(out[t], LAYER("mixer.out_proj.weight"), NULL, y, D, PAIR + SSM);
    }
}

/* Halves of the first 8 elements of a head, rotated. */
static void rotated(double *x, int t) {
    for (int i = 0; i < 4; i++) {
        double angle = t * pow(10000, -2.0 * i / 8), a = x[i], b = x[i + 4];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + 4] = b * cos(angle) + a * sin(angle);
    }
}

static void mamba2_attention(const made *m, int l, double (*n)[D], double (*out)[D]) {
    static double in[L][QKV + 2 * APAIR], x[L][QKV];
    for (int t = 0; t < L; t++) d_linear(in[t], LAYER("mixer.in_proj.weight"), NULL, n[t], QKV + 2 * APAIR, D);
    for (int t = 0; t < L; t++) {
        for (int c = 0; c < QKV; c++) x[t][c] = tapped(m, l, in[0], QKV + 2 * APAIR, t, c);
        for (int h = 0; h <= AH; h++) rotated(x[t] + h * AW, t); /* the heads of q, and k */
    }
    for (int t = 0; t < L; t++) {
        double y[AH * AW + APAIR] = {0};
        for (int h = 0; h < AH; h++) {
            double score[L], sum = 0;
            for (int s = 0; s <= t; s++) {
                score[s] = 0;
                for (int i = 0; i < AW; i++) score[s] += x[t][h * AW + i] * x[s][AH * AW + i] / sqrt(AW);
                sum += score[s] = exp(score[s]);
            }
            for (int s = 0; s <= t; s++)
                for (int i = 0; i < AW; i++) y[h * AW + i] += score[s] / sum * x[s][(AH + 1) * AW + i];
        }
        for (int c = 0; c < APAIR; c++) y[AH * AW + c] = in[t][QKV + c] * d_silu(in[t][QKV + APAIR + c]);
        d_linear(out[t], LAYER("mixer.out_proj.weight"), NULL, y, D, AH * AW + APAIR);
    }
}

static void mamba2(void **state) {
    (void)state;
    made m = {.r = {random_seed("mamba2", 6)}};
    static double want[L * V], x[L][D], n[L][D], y[L][D];
    int64_t ids[L];
    make_mamba2(&m);
    random_ids(&m.r, ids);
    for (int t = 0; t < L; t++)
        for (int i = 0; i < D; i++) x[t][i] = (double)made_find(&m, "backbone.embedding.weight")[ids[t] * D + i];
    for (int l = 0; l < 2; l++) {
        for (int t = 0; t < L; t++) d_rms_norm(n[t], made_find(&m, "backbone.layers.%d.norm.weight", l), x[t], D, 1e-5);
        (l == 1 ? mamba2_attention : mamba2_mixer)(&m, l, n, y);
        for (int t = 0; t < L; t++) {
            double two[2 * MLP], down[D];
            for (int i = 0; i < D; i++) x[t][i] += y[t][i];
            d_rms_norm(n[t], made_find(&m, "backbone.layers.%d.norm2.weight", l), x[t], D, 1e-5);
            d_linear(two, made_find(&m, "backbone.layers.%d.mlp.fc1.weight", l), NULL, n[t], 2 * MLP, D);
            for (int i = 0; i < MLP; i++) two[i] *= d_silu(two[MLP + i]);
            d_linear(down, made_find(&m, "backbone.layers.%d.mlp.fc2.weight", l), NULL, two, D, MLP);
            for (int i = 0; i < D; i++) x[t][i] += down[i];
        }
    }
    for (int t = 0; t < L; t++) {
        double end[D];
        d_rms_norm(end, made_find(&m, "backbone.norm_f.weight"), x[t], D, 1e-5);
        d_linear(want + t * V, made_find(&m, "backbone.embedding.weight"), NULL, end, V, D);
    }
    made_judge(&m,
               "{\"ssm_cfg\": {\"layer\": \"Mamba2\"}, \"attn_layer_idx\": [1], \"attn_cfg\": {\"num_heads\": 2, "
               "\"num_heads_kv\": 1, \"head_dim\": 12, \"rotary_emb_dim\": 8}}",
               "mamba2", ids, L, V, want, 5e-6);
    made_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mamba2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

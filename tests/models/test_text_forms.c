/* test_text_forms.c - families of which no numbers of the published code are at hand: RWKV-5 (both kinds), GPT-2, GSS, Hyena, and
 * Mamba-2 with all that it may have beside the state space (a gated pair, an MLP, attention). Each is
 * judged by a form of its own, written here from its paper in double precision and token by token (convolutions as sums), on random
 * weights: whole, in pieces and step by step. */
#include "made.h"

#include <complex.h>
#include <math.h>

#define V 67 /* vocabulary; for Hyena above what counts as characters */
#define L 90
#define D 24
#define LAYERS 2

static void random_ids(randoms *r, int64_t ids[L]) {
    for (int i = 0; i < L; i++) ids[i] = random_below(r, V);
}

static void add_norm(made *m, const char *name, int64_t n) {
    made_add(m, 1, 0.2, DIMS(n), "%s.weight", name);
    made_add(m, 0, 0.2, DIMS(n), "%s.bias", name);
}

static void norm(const made *m, const char *name, const double *x, double *y, int64_t n, double eps) {
    d_layer_norm(y, made_find(m, "%s.weight", name), made_find(m, "%s.bias", name), x, n, eps);
}

/* ---- RWKV-5, arXiv 2404.05892, section 4 (Eagle) ---- */

#define HEADS 3
#define N (D / HEADS)
#define INNER 40

static void make_rwkv5(made *m, bool gate) {
    made_add(m, 0, 1, DIMS(V, D), "emb.weight");
    add_norm(m, "blocks.0.ln0", D);
    for (int l = 0; l < LAYERS; l++) {
        char name[64];
        static const char *const norms[] = {"ln1", "ln2", "att.ln_x"}, *const squares[] = {"receptance", "key", "value", "output", "gate"};
        for (int i = 0; i < 3; i++) snprintf(name, sizeof name, "blocks.%d.%s", l, norms[i]), add_norm(m, name, D);
        for (int i = 0; i < (gate ? 5 : 4); i++) made_add(m, 0, 0.35, DIMS(D, D), "blocks.%d.att.%s.weight", l, squares[i]);
        for (const char *c = gate ? "kvrg" : "kvr"; *c; c++) made_add(m, 0.5, 0.25, DIMS(1, 1, D), "blocks.%d.att.time_mix_%c", l, *c);
        if (gate) {
            made_add(m, -1, 0.8, DIMS(HEADS, N), "blocks.%d.att.time_decay", l);
            made_add(m, 0, 0.5, DIMS(HEADS, N), "blocks.%d.att.time_faaaa", l);
        } else {
            made_add(m, -1, 0.8, DIMS(HEADS), "blocks.%d.att.time_decay", l);
            made_add(m, 0, 0.5, DIMS(HEADS), "blocks.%d.att.time_first", l);
        }
        for (const char *c = "kr"; *c; c++) made_add(m, 0.5, 0.25, DIMS(1, 1, D), "blocks.%d.ffn.time_mix_%c", l, *c);
        made_add(m, 0, 0.3, DIMS(INNER, D), "blocks.%d.ffn.key.weight", l);
        made_add(m, 0, 0.3, DIMS(D, INNER), "blocks.%d.ffn.value.weight", l);
        made_add(m, 0, 0.3, DIMS(D, D), "blocks.%d.ffn.receptance.weight", l);
    }
    add_norm(m, "ln_out", D);
    made_add(m, 0, 0.5, DIMS(V, D), "head.weight");
}

static void mix(double *y, const float *by, const double *x, const double *before) {
    for (int i = 0; i < D; i++) y[i] = x[i] * (double)by[i] + before[i] * (1 - (double)by[i]);
}

typedef struct rwkv5_state {
    double shift[LAYERS][2][D], s[LAYERS][HEADS][N][N];
} rwkv5_state;

static void rwkv5_time(const made *m, int l, bool gate, rwkv5_state *st, double *x) {
    double n[D], xm[D], r[D], k[D], v[D], g[D], y[D], out[D];
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.ln1", l);
    norm(m, name, x, n, D, 1e-5);
    mix(xm, made_find(m, "blocks.%d.att.time_mix_r", l), n, st->shift[l][0]);
    d_linear(r, made_find(m, "blocks.%d.att.receptance.weight", l), NULL, xm, D, D);
    mix(xm, made_find(m, "blocks.%d.att.time_mix_k", l), n, st->shift[l][0]);
    d_linear(k, made_find(m, "blocks.%d.att.key.weight", l), NULL, xm, D, D);
    mix(xm, made_find(m, "blocks.%d.att.time_mix_v", l), n, st->shift[l][0]);
    d_linear(v, made_find(m, "blocks.%d.att.value.weight", l), NULL, xm, D, D);
    if (gate) {
        mix(xm, made_find(m, "blocks.%d.att.time_mix_g", l), n, st->shift[l][0]);
        d_linear(g, made_find(m, "blocks.%d.att.gate.weight", l), NULL, xm, D, D);
    }
    memcpy(st->shift[l][0], n, sizeof n);
    const float *decay = made_find(m, "blocks.%d.att.time_decay", l), *first = made_find(m, gate ? "blocks.%d.att.time_faaaa" : "blocks.%d.att.time_first", l);
    for (int h = 0; h < HEADS; h++) {
        for (int j = 0; j < N; j++) y[h * N + j] = 0;
        for (int i = 0; i < N; i++) {
            int c = h * N + i;
            double w = exp(-exp((double)decay[gate ? c : h])), u = gate ? (double)first[c] : exp((double)first[h]);
            for (int j = 0; j < N; j++) {
                double kv = k[c] * v[h * N + j], *s = &st->s[l][h][i][j];
                y[h * N + j] += r[c] * (*s + u * kv);
                *s = w * *s + kv;
            }
        }
    }
    const float *wx = made_find(m, "blocks.%d.att.ln_x.weight", l), *bx = made_find(m, "blocks.%d.att.ln_x.bias", l);
    for (int h = 0; h < HEADS; h++) d_layer_norm(out + h * N, wx + h * N, bx + h * N, y + h * N, N, 64e-5);
    for (int i = 0; i < D && gate; i++) out[i] *= d_silu(g[i]);
    d_linear(y, made_find(m, "blocks.%d.att.output.weight", l), NULL, out, D, D);
    for (int i = 0; i < D; i++) x[i] += y[i];
}

static void rwkv5_channels(const made *m, int l, rwkv5_state *st, double *x) {
    double n[D], xm[D], r[D], k[INNER], v[D];
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.ln2", l);
    norm(m, name, x, n, D, 1e-5);
    mix(xm, made_find(m, "blocks.%d.ffn.time_mix_k", l), n, st->shift[l][1]);
    d_linear(k, made_find(m, "blocks.%d.ffn.key.weight", l), NULL, xm, INNER, D);
    for (int i = 0; i < INNER; i++) k[i] = k[i] > 0 ? k[i] * k[i] : 0;
    d_linear(v, made_find(m, "blocks.%d.ffn.value.weight", l), NULL, k, D, INNER);
    mix(xm, made_find(m, "blocks.%d.ffn.time_mix_r", l), n, st->shift[l][1]);
    d_linear(r, made_find(m, "blocks.%d.ffn.receptance.weight", l), NULL, xm, D, D);
    memcpy(st->shift[l][1], n, sizeof n);
    for (int i = 0; i < D; i++) x[i] += d_sigmoid(r[i]) * v[i];
}

static void judge_rwkv5(bool gate) {
    made m = {.r = {random_seed("rwkv5", 5 + gate)}};
    static rwkv5_state st;
    static double want[L * V];
    int64_t ids[L];
    memset(&st, 0, sizeof st);
    make_rwkv5(&m, gate);
    random_ids(&m.r, ids);
    for (int t = 0; t < L; t++) {
        double x[D], y[D];
        for (int i = 0; i < D; i++) y[i] = (double)made_find(&m, "emb.weight")[ids[t] * D + i];
        norm(&m, "blocks.0.ln0", y, x, D, 1e-5);
        for (int l = 0; l < LAYERS; l++) {
            rwkv5_time(&m, l, gate, &st, x);
            rwkv5_channels(&m, l, &st, x);
        }
        norm(&m, "ln_out", x, y, D, 1e-5);
        d_linear(want + t * V, made_find(&m, "head.weight"), NULL, y, V, D);
    }
    made_judge(&m, NULL, "rwkv5", ids, L, V, want, 5e-6);
    made_free(&m);
}

static void rwkv51(void **state) {
    (void)state;
    judge_rwkv5(false);
}

static void rwkv52(void **state) {
    (void)state;
    judge_rwkv5(true);
}

/* ---- GPT-2 ---- */

static void make_gpt2(made *m) {
    made_add(m, 0, 1, DIMS(V, D), "transformer.wte.weight");
    made_add(m, 0, 0.5, DIMS(L + 9, D), "transformer.wpe.weight");
    for (int l = 0; l < LAYERS; l++) {
        char name[64];
        for (int i = 1; i < 3; i++) snprintf(name, sizeof name, "transformer.h.%d.ln_%d", l, i), add_norm(m, name, D);
        made_add(m, 0, 0.35, DIMS(D, 3 * D), "transformer.h.%d.attn.c_attn.weight", l);
        made_add(m, 0, 0.2, DIMS(3 * D), "transformer.h.%d.attn.c_attn.bias", l);
        made_add(m, 0, 0.35, DIMS(D, D), "transformer.h.%d.attn.c_proj.weight", l);
        made_add(m, 0, 0.2, DIMS(D), "transformer.h.%d.attn.c_proj.bias", l);
        made_add(m, 0, 0.35, DIMS(D, INNER), "transformer.h.%d.mlp.c_fc.weight", l);
        made_add(m, 0, 0.2, DIMS(INNER), "transformer.h.%d.mlp.c_fc.bias", l);
        made_add(m, 0, 0.35, DIMS(INNER, D), "transformer.h.%d.mlp.c_proj.weight", l);
        made_add(m, 0, 0.2, DIMS(D), "transformer.h.%d.mlp.c_proj.bias", l);
        made_add(m, 0, 1, DIMS(1, 1, 8, 8), "transformer.h.%d.attn.bias", l); /* a buffer, to be passed over */
    }
    add_norm(m, "transformer.ln_f", D);
}

/* y = x W + b, W [columns, rows] */
static void turned(double *y, const float *w, const float *b, const double *x, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        y[i] = (double)b[i];
        for (int64_t k = 0; k < columns; k++) y[i] += (double)w[k * rows + i] * x[k];
    }
}

#define TURNED(m, y, part, x, rows, columns)                                                                                             \
    turned(y, made_find(m, "transformer.h.%d." part ".weight", l), made_find(m, "transformer.h.%d." part ".bias", l), x, rows, columns)

static void gpt2_layer(const made *m, int l, double (*x)[D]) {
    static double qkv[L][3 * D];
    char name[64];
    for (int t = 0; t < L; t++) {
        double n[D];
        snprintf(name, sizeof name, "transformer.h.%d.ln_1", l);
        norm(m, name, x[t], n, D, 1e-5);
        TURNED(m, qkv[t], "attn.c_attn", n, 3 * D, D);
    }
    for (int t = 0; t < L; t++) {
        double y[D] = {0}, out[D], n[D], wide[INNER];
        for (int h = 0; h < HEADS; h++) {
            double score[L], sum = 0;
            for (int s = 0; s <= t; s++) {
                score[s] = 0;
                for (int i = h * N; i < (h + 1) * N; i++) score[s] += qkv[t][i] * qkv[s][D + i] / sqrt(N);
                sum += score[s] = exp(score[s]);
            }
            for (int s = 0; s <= t; s++)
                for (int i = h * N; i < (h + 1) * N; i++) y[i] += score[s] / sum * qkv[s][2 * D + i];
        }
        TURNED(m, out, "attn.c_proj", y, D, D);
        for (int i = 0; i < D; i++) x[t][i] += out[i];
        snprintf(name, sizeof name, "transformer.h.%d.ln_2", l);
        norm(m, name, x[t], n, D, 1e-5);
        TURNED(m, wide, "mlp.c_fc", n, INNER, D);
        for (int i = 0; i < INNER; i++) wide[i] = d_gelu_tanh(wide[i]);
        TURNED(m, out, "mlp.c_proj", wide, D, INNER);
        for (int i = 0; i < D; i++) x[t][i] += out[i];
    }
}

static void gpt2(void **state) {
    (void)state;
    made m = {.r = {random_seed("gpt2", 2)}};
    static double want[L * V], x[L][D];
    int64_t ids[L];
    make_gpt2(&m);
    random_ids(&m.r, ids);
    const float *wte = made_find(&m, "transformer.wte.weight"), *wpe = made_find(&m, "transformer.wpe.weight");
    for (int t = 0; t < L; t++)
        for (int i = 0; i < D; i++) x[t][i] = (double)wte[ids[t] * D + i] + (double)wpe[t * D + i];
    for (int l = 0; l < LAYERS; l++) gpt2_layer(&m, l, x);
    for (int t = 0; t < L; t++) {
        double y[D];
        norm(&m, "transformer.ln_f", x[t], y, D, 1e-5);
        d_linear(want + t * V, wte, NULL, y, V, D);
    }
    made_judge(&m, "{\"model_type\": \"gpt2\", \"n_head\": 3}", "gpt2", ids, L, V, want, 5e-6);
    made_free(&m);
}

/* ---- GSS, arXiv 2206.13947, figure 2 and section 3; the kernel is that of arXiv 2203.14343, equation 2 ---- */

#define WIDE 50
#define H 10
#define STATES 6

static void make_gss(made *m) {
    made_add(m, 0, 1, DIMS(V, D), "token_emb.weight");
    for (int l = 0; l < LAYERS; l++) {
        char name[64];
        snprintf(name, sizeof name, "layers.%d.0.norm", l), add_norm(m, name, D);
        snprintf(name, sizeof name, "layers.%d.0.dss.norm", l), add_norm(m, name, H);
        made_add(m, 0, 0.3, DIMS(WIDE, D), "layers.%d.0.to_u.0.weight", l);
        made_add(m, 0, 0.3, DIMS(H, D), "layers.%d.0.to_v.0.weight", l);
        made_add(m, -2, 0.8, DIMS(STATES), "layers.%d.0.dss.Lambda_real", l);
        made_add(m, -0.5, 0.8, DIMS(STATES), "layers.%d.0.dss.Lambda_imag", l);
        made_add(m, 0, 0.7, DIMS(H, STATES), "layers.%d.0.dss.C_real", l);
        made_add(m, 0, 0.7, DIMS(H, STATES), "layers.%d.0.dss.C_imag", l);
        made_add(m, 0, 1, DIMS(H), "layers.%d.0.dss.param_D", l);
        made_add(m, 0, 0.3, DIMS(WIDE, H), "layers.%d.0.to_gate.weight", l);
        made_add(m, 0, 0.3, DIMS(D, WIDE), "layers.%d.0.to_out.weight", l);
        made_add(m, 0, 0.3, DIMS(D), "layers.%d.0.to_out.bias", l);
    }
    made_add(m, 0, 0.5, DIMS(V, D), "to_logits.weight");
}

static double dss_kernel(const made *m, int l, int h, int t) {
    const float *re = made_find(m, "layers.%d.0.dss.Lambda_real", l), *im = made_find(m, "layers.%d.0.dss.Lambda_imag", l);
    const float *cr = made_find(m, "layers.%d.0.dss.C_real", l), *ci = made_find(m, "layers.%d.0.dss.C_imag", l);
    double complex sum = 0;
    for (int n = 0; n < STATES; n++) {
        double complex lambda = -exp((double)re[n]) + I * exp((double)im[n]), c = (double)cr[h * STATES + n] + I * (double)ci[h * STATES + n];
        sum += c * (cexp(lambda) - 1) / lambda * cexp(lambda * t);
    }
    return creal(sum);
}

static void gss_layer(const made *m, int l, double (*x)[D]) {
    static double u[L][WIDE], v[L][H], k[H][L];
    char name[64];
    for (int t = 0; t < L; t++) {
        double n[D], raw[H];
        snprintf(name, sizeof name, "layers.%d.0.norm", l);
        norm(m, name, x[t], n, D, 1e-5);
        d_linear(u[t], made_find(m, "layers.%d.0.to_u.0.weight", l), NULL, n, WIDE, D);
        d_linear(raw, made_find(m, "layers.%d.0.to_v.0.weight", l), NULL, n, H, D);
        for (int i = 0; i < WIDE; i++) u[t][i] = d_gelu(u[t][i]);
        for (int i = 0; i < H; i++) raw[i] = d_gelu(raw[i]);
        snprintf(name, sizeof name, "layers.%d.0.dss.norm", l);
        norm(m, name, raw, v[t], H, 1e-5);
    }
    for (int h = 0; h < H; h++)
        for (int t = 0; t < L; t++) k[h][t] = dss_kernel(m, l, h, t);
    for (int t = 0; t < L; t++) {
        double w[H], wide[WIDE], out[D];
        for (int h = 0; h < H; h++) {
            w[h] = (double)made_find(m, "layers.%d.0.dss.param_D", l)[h] * v[t][h];
            for (int s = 0; s <= t; s++) w[h] += k[h][t - s] * v[s][h];
        }
        d_linear(wide, made_find(m, "layers.%d.0.to_gate.weight", l), NULL, w, WIDE, H);
        for (int i = 0; i < WIDE; i++) wide[i] *= u[t][i];
        d_linear(out, made_find(m, "layers.%d.0.to_out.weight", l), made_find(m, "layers.%d.0.to_out.bias", l), wide, D, WIDE);
        for (int i = 0; i < D; i++) x[t][i] += out[i];
    }
}

static void gss(void **state) {
    (void)state;
    made m = {.r = {random_seed("gss", 3)}};
    static double want[L * V], x[L][D];
    int64_t ids[L];
    make_gss(&m);
    random_ids(&m.r, ids);
    for (int t = 0; t < L; t++)
        for (int i = 0; i < D; i++) x[t][i] = (double)made_find(&m, "token_emb.weight")[ids[t] * D + i];
    for (int l = 0; l < LAYERS; l++) gss_layer(&m, l, x);
    for (int t = 0; t < L; t++) d_linear(want + t * V, made_find(&m, "to_logits.weight"), NULL, x[t], V, D);
    made_judge(&m, NULL, "gss", ids, L, V, want, 1e-5);
    made_free(&m);
}

/* ---- Hyena, arXiv 2302.10866, section 3 and appendix D ---- */

#define LONGEST 120 /* l_max */
#define FEATURES 7
#define ORDER 12

static void make_hyena(made *m, bool modulate) {
    made_add(m, 0, 1, DIMS(V, D), "backbone.embeddings.word_embeddings.weight");
    for (int l = 0; l < LAYERS; l++) {
        char name[96];
        for (int i = 1; i < 3; i++) snprintf(name, sizeof name, "backbone.layers.%d.norm%d", l, i), add_norm(m, name, D);
        made_add(m, 0, 0.3, DIMS(3 * D, D), "backbone.layers.%d.mixer.in_proj.weight", l);
        made_add(m, 0, 0.2, DIMS(3 * D), "backbone.layers.%d.mixer.in_proj.bias", l);
        made_add(m, 0, 0.3, DIMS(D, D), "backbone.layers.%d.mixer.out_proj.weight", l);
        made_add(m, 0, 0.2, DIMS(D), "backbone.layers.%d.mixer.out_proj.bias", l);
        made_add(m, 0, 0.5, DIMS(3 * D, 1, 3), "backbone.layers.%d.mixer.short_filter.weight", l);
        made_add(m, 0, 0.2, DIMS(3 * D), "backbone.layers.%d.mixer.short_filter.bias", l);
        made_add(m, 0, 1, DIMS(D), "backbone.layers.%d.mixer.filter_fn.bias", l);
        made_add(m, 0, 1, DIMS(1, LONGEST, FEATURES), "backbone.layers.%d.mixer.filter_fn.pos_emb.z", l);
        made_add(m, 0, 0.5, DIMS(ORDER, FEATURES), "backbone.layers.%d.mixer.filter_fn.implicit_filter.0.weight", l);
        made_add(m, 0, 0.5, DIMS(ORDER), "backbone.layers.%d.mixer.filter_fn.implicit_filter.0.bias", l);
        made_add(m, 1, 0.5, DIMS(1, ORDER), "backbone.layers.%d.mixer.filter_fn.implicit_filter.1.freq", l);
        made_add(m, 0, 0.5, DIMS(ORDER, ORDER), "backbone.layers.%d.mixer.filter_fn.implicit_filter.2.weight", l);
        made_add(m, 0, 0.5, DIMS(ORDER), "backbone.layers.%d.mixer.filter_fn.implicit_filter.2.bias", l);
        made_add(m, 0, 0.2, DIMS(D, ORDER), "backbone.layers.%d.mixer.filter_fn.implicit_filter.4.weight", l);
        if (modulate) made_add(m, -8, 3, DIMS(1, 1, D), "backbone.layers.%d.mixer.filter_fn.modulation.deltas", l);
        made_add(m, 0, 0.3, DIMS(INNER, D), "backbone.layers.%d.mlp.fc1.weight", l);
        made_add(m, 0, 0.2, DIMS(INNER), "backbone.layers.%d.mlp.fc1.bias", l);
        made_add(m, 0, 0.3, DIMS(D, INNER), "backbone.layers.%d.mlp.fc2.weight", l);
        made_add(m, 0, 0.2, DIMS(D), "backbone.layers.%d.mlp.fc2.bias", l);
    }
    add_norm(m, "backbone.ln_f", D);
    made_add(m, 0, 0.5, DIMS(V, D), "lm_head.weight");
}

#define LAYER(part) made_find(m, "backbone.layers.%d." part, l)

static void hyena_filter(const made *m, int l, bool modulate, double (*k)[D]) {
    const float *freq = LAYER("mixer.filter_fn.implicit_filter.1.freq");
    for (int t = 0; t < L; t++) {
        double z[FEATURES], a[ORDER], b[ORDER];
        for (int i = 0; i < FEATURES; i++) z[i] = (double)LAYER("mixer.filter_fn.pos_emb.z")[t * FEATURES + i];
        d_linear(a, LAYER("mixer.filter_fn.implicit_filter.0.weight"), LAYER("mixer.filter_fn.implicit_filter.0.bias"), z, ORDER, FEATURES);
        for (int i = 0; i < ORDER; i++) a[i] = sin((double)freq[i] * a[i]);
        d_linear(b, LAYER("mixer.filter_fn.implicit_filter.2.weight"), LAYER("mixer.filter_fn.implicit_filter.2.bias"), a, ORDER, ORDER);
        for (int i = 0; i < ORDER; i++) b[i] = sin((double)freq[i] * b[i]);
        d_linear(k[t], LAYER("mixer.filter_fn.implicit_filter.4.weight"), NULL, b, D, ORDER);
        for (int i = 0; i < D && modulate; i++)
            k[t][i] *= exp(-(double)t / (LONGEST - 1) * fabs((double)LAYER("mixer.filter_fn.modulation.deltas")[i])) + 0.02;
    }
}

static void hyena_layer(const made *m, int l, bool modulate, double (*x)[D]) {
    static double in[L][3 * D], u[L][D], k[L][D];
    char name[64];
    hyena_filter(m, l, modulate, k);
    for (int t = 0; t < L; t++) {
        double n[D];
        snprintf(name, sizeof name, "backbone.layers.%d.norm1", l);
        norm(m, name, x[t], n, D, 1e-5);
        d_linear(in[t], LAYER("mixer.in_proj.weight"), LAYER("mixer.in_proj.bias"), n, 3 * D, D);
    }
    const float *taps = LAYER("mixer.short_filter.weight"), *tap_bias = LAYER("mixer.short_filter.bias"), *skip = LAYER("mixer.filter_fn.bias");
    for (int t = 0; t < L; t++) {
        double z[3 * D], y[D], out[D], n[D], wide[INNER];
        for (int c = 0; c < 3 * D; c++) {
            z[c] = (double)tap_bias[c];
            for (int i = 0; i < 3; i++)
                if (t - 2 + i >= 0) z[c] += (double)taps[3 * c + i] * in[t - 2 + i][c];
        }
        for (int c = 0; c < D; c++) {
            u[t][c] = z[D + c] * z[2 * D + c];
            y[c] = (double)skip[c] * u[t][c];
            for (int s = 0; s <= t; s++) y[c] += k[t - s][c] * u[s][c];
            y[c] *= z[c];
        }
        d_linear(out, LAYER("mixer.out_proj.weight"), LAYER("mixer.out_proj.bias"), y, D, D);
        for (int i = 0; i < D; i++) x[t][i] += out[i];
        snprintf(name, sizeof name, "backbone.layers.%d.norm2", l);
        norm(m, name, x[t], n, D, 1e-5);
        d_linear(wide, LAYER("mlp.fc1.weight"), LAYER("mlp.fc1.bias"), n, INNER, D);
        for (int i = 0; i < INNER; i++) wide[i] = d_gelu_tanh(wide[i]);
        d_linear(out, LAYER("mlp.fc2.weight"), LAYER("mlp.fc2.bias"), wide, D, INNER);
        for (int i = 0; i < D; i++) x[t][i] += out[i];
    }
}

static void judge_hyena(bool modulate) {
    made m = {.r = {random_seed("hyena", 4 + modulate)}};
    static double want[L * V], x[L][D];
    int64_t ids[L];
    make_hyena(&m, modulate);
    random_ids(&m.r, ids);
    for (int t = 0; t < L; t++)
        for (int i = 0; i < D; i++) x[t][i] = (double)made_find(&m, "backbone.embeddings.word_embeddings.weight")[ids[t] * D + i];
    for (int l = 0; l < LAYERS; l++) hyena_layer(&m, l, modulate, x);
    for (int t = 0; t < L; t++) {
        double y[D];
        norm(&m, "backbone.ln_f", x[t], y, D, 1e-5);
        d_linear(want + t * V, made_find(&m, "lm_head.weight"), NULL, y, V, D);
    }
    made_judge(&m, modulate ? "{\"layer\": {\"modulate\": true, \"shift\": 0.02}}" : "{\"layer\": {\"modulate\": false}}", "hyena", ids, L, V, want, 1e-5);
    made_free(&m);
}

static void hyena_plain(void **state) {
    (void)state;
    judge_hyena(false);
}

static void hyena_modulated(void **state) {
    (void)state;
    judge_hyena(true);
}

/* ---- Mamba-2, arXiv 2405.21060, with the modules of its repository: a gated pair (d_ssm below d_inner), MLPs, an attention layer ---- */

#define SSM 32 /* d_ssm: 4 heads of 8 */
#define PAIR 16
#define SH 4
#define SN 5
#define ROWS (2 * PAIR + 2 * SSM + 2 * SN + SH)
#define CONV (SSM + 2 * SN)
#define AH 2 /* attention: 2 heads of 12, one key head, the first 8 elements rotated */
#define AW 12
#define QKV (AW * (AH + 2))
#define APAIR 20
#define MLP 18

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
            double step = log1p(exp(dt[h] + (double)LAYER("mixer.dt_bias")[h])), decay = exp(-step * exp((double)LAYER("mixer.A_log")[h]));
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
    made_judge(&m, "{\"ssm_cfg\": {\"layer\": \"Mamba2\"}, \"attn_layer_idx\": [1], \"attn_cfg\": {\"num_heads\": 2, \"num_heads_kv\": 1, \"head_dim\": 12, \"rotary_emb_dim\": 8}}",
               "mamba2", ids, L, V, want, 5e-6);
    made_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mamba2), cmocka_unit_test(rwkv51), cmocka_unit_test(rwkv52), cmocka_unit_test(gpt2), cmocka_unit_test(gss), cmocka_unit_test(hyena_plain),
                                       cmocka_unit_test(hyena_modulated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

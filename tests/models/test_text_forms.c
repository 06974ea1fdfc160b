/* test_text_forms.c - families of which no numbers of the published code are at hand: RWKV-5 (both kinds), GPT-2, GSS and
 * Hyena. Each is judged by a form of its own, written here from its paper in double precision and token by token (convolutions
 * as sums), on random weights: whole, in pieces and step by step. */
#include "made.h"

#include <complex.h>
#include <math.h>

#define V      67 /* vocabulary; for Hyena above what counts as characters */
#define L      90
#define D      24
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
#define N     (D / HEADS)
#define INNER 40

static void make_rwkv5(made *m, bool gate) {
    made_add(m, 0, 1, DIMS(V, D), "emb.weight");
    add_norm(m, "blocks.0.ln0", D);
    for (int l = 0; l < LAYERS; l++) {
        char name[64];
        static const char *const norms[] = {"ln1", "ln2", "att.ln_x"}, *const squares[] = {"receptance", "key", "value",
                                                                                           "output", "gate"};
        for (int i = 0; i < 3; i++) snprintf(name, sizeof name, "blocks.%d.%s", l, norms[i]), add_norm(m, name, D);
        for (int i = 0; i < (gate ? 5 : 4); i++) made_add(m, 0, 0.35, DIMS(D, D), "blocks.%d.att.%s.weight", l, squares[i]);
        for (const char *c = gate ? "kvrg" : "kvr"; *c; c++)
            made_add(m, 0.5, 0.25, DIMS(1, 1, D), "blocks.%d.att.time_mix_%c", l, *c);
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
    const float *decay = made_find(m, "blocks.%d.att.time_decay", l),
                *first = made_find(m, gate ? "blocks.%d.att.time_faaaa" : "blocks.%d.att.time_first", l);
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

#define TURNED(m, y, part, x, rows, columns)                                                                                   \
    turned(y, made_find(m, "transformer.h.%d." part ".weight", l), made_find(m, "transformer.h.%d." part ".bias", l), x, rows, \
           columns)

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

#define WIDE   50
#define H      10
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
        double complex lambda = -exp((double)re[n]) + I * exp((double)im[n]),
                       c = (double)cr[h * STATES + n] + I * (double)ci[h * STATES + n];
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

#define LONGEST  120 /* l_max */
#define FEATURES 7
#define ORDER    12

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
        d_linear(a, LAYER("mixer.filter_fn.implicit_filter.0.weight"), LAYER("mixer.filter_fn.implicit_filter.0.bias"), z,
                 ORDER, FEATURES);
        for (int i = 0; i < ORDER; i++) a[i] = sin((double)freq[i] * a[i]);
        d_linear(b, LAYER("mixer.filter_fn.implicit_filter.2.weight"), LAYER("mixer.filter_fn.implicit_filter.2.bias"), a,
                 ORDER, ORDER);
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
    const float *taps = LAYER("mixer.short_filter.weight"), *tap_bias = LAYER("mixer.short_filter.bias"),
                *skip = LAYER("mixer.filter_fn.bias");
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
        for (int i = 0; i < D; i++)
            x[t][i] = (double)made_find(&m, "backbone.embeddings.word_embeddings.weight")[ids[t] * D + i];
    for (int l = 0; l < LAYERS; l++) hyena_layer(&m, l, modulate, x);
    for (int t = 0; t < L; t++) {
        double y[D];
        norm(&m, "backbone.ln_f", x[t], y, D, 1e-5);
        d_linear(want + t * V, made_find(&m, "lm_head.weight"), NULL, y, V, D);
    }
    made_judge(&m, modulate ? "{\"layer\": {\"modulate\": true, \"shift\": 0.02}}" : "{\"layer\": {\"modulate\": false}}",
               "hyena", ids, L, V, want, 1e-5);
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rwkv51),      cmocka_unit_test(rwkv52),
                                       cmocka_unit_test(gpt2),        cmocka_unit_test(gss),
                                       cmocka_unit_test(hyena_plain), cmocka_unit_test(hyena_modulated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* attention.c - see attention.h. Frequencies that are not plain powers of a base are computed here in double precision and
 * become a constant of the graph: rope_scaling of Hugging Face's configs, as transformers' modeling_rope_utils defines it. */
#include "attention.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST_CONTEXT ((int64_t)1 << 30)
#define MOST_ROTARY  8192

_Static_assert(STRAND_F16 == STRAND_F32 + 1 && STRAND_BF16 == STRAND_F32 + 2, "the types of caches stand side by side");

#define PIECE 1024 /* tokens that caches which slide take at once, by default */

/* cache=f32 (default), f16 (default with precision=f16) or bf16. */
static strand_status cache_type(builder *b) {
    static const char *const names[] = {"f32", "f16", "bf16"};
    const char *given = config_given(b->config, "cache");
    b->cache = b->halves ? STRAND_F16 : STRAND_F32;
    if (given) b->cache = STRAND_F32;
    for (int i = 0; given && i < 3; i++)
        if (!strcmp(given, names[i])) b->cache = (strand_dtype)(STRAND_F32 + i);
    if (given && strcmp(given, names[b->cache - STRAND_F32]) != 0)
        return error_set(b->e, STRAND_ERR_ARGUMENT, "setting cache=%.40s is none of f32, f16, bf16", given);
    return config_record(b->m, "cache", names[b->cache - STRAND_F32], b->e);
}

strand_status build_context(builder *b, int64_t longest, int64_t window) {
    const char *given = config_given(b->config, "context");
    if (cache_type(b)) return b->e->status;
    char text[32];
    int64_t most = longest ? longest : MOST_CONTEXT, usual = window > 1 ? window - 1 + PIECE : 4096;
    b->context = most < usual ? most : usual;
    if (given && (!config_parse_integer(given, &b->context) || b->context < 1 || b->context > most))
        return error_set(b->e, STRAND_ERR_ARGUMENT, "setting context=%.40s is not a whole number from 1 to %lld", given,
                         (long long)most);
    snprintf(text, sizeof text, "%lld", (long long)b->context);
    bool sliding = window > 1 && window <= b->context;
    build_lengths(b, sliding ? longest : b->context);
    if (sliding) b->m->window = b->context - window + 1;
    /* What is called the context in the facts of a model is where its sequences end; these have no such end. */
    return config_record(b->m, sliding ? "cache_rows" : "context", text, b->e);
}

static tensor_id rotate(builder *b, const char *name, const char *which, const build_attention *p, int64_t heads, tensor_id x) {
    if (!p->rotary || build_failed(b)) return x;
    strand_op_rotary r = {.heads = heads,
                          .rotary = p->rotary,
                          .interleaved = p->interleaved,
                          .base = (float)p->base,
                          .position_scale = p->position_scale ? (float)p->position_scale : 1.0f,
                          .magnitude = p->magnitude ? (float)p->magnitude : 1.0f};
    const char *label = graph_name(b->g, "%s.%s.rotary", build_name(b, name), which);
    return graph_op(b->g, label, STRAND_OP_ROTARY, &r, (tensor_id[]){x, graph_positions(b->g), p->frequencies}, 3, NULL);
}

/* Does the cache slide along with the window, so that a sequence has no end? Keys that stay are those that a next token may
 * see. */
static bool slides(const builder *b, const build_attention *p) {
    return p->window > 1 && !p->sinks && p->window <= b->context;
}

/* Writes the run's rows behind those of the runs before it. */
static tensor_id cached(builder *b, const char *name, const char *which, const build_attention *p, int64_t channels,
                        tensor_id x) {
    strand_op_cache_write w = {.slide = slides(b, p) ? (uint32_t)(p->window - 1) : 0};
    const char *label = graph_name(b->g, "%s.%s", build_name(b, name), which);
    const op_dim dims[] = {DIM_B, DIM(b->context), DIM(channels)};
    tensor_id cache = w.slide ? graph_state(b->g, label, b->cache, 3, dims) : graph_state_cache(b->g, label, b->cache, 3, dims);
    tensor_id next = graph_op(b->g, label, STRAND_OP_CACHE_WRITE, &w, (tensor_id[]){cache, x, graph_begin(b->g)}, 3, NULL);
    graph_state_next(b->g, cache, next);
    return next;
}

tensor_id build_attend(builder *b, const char *name, const build_attention *p, tensor_id q, tensor_id k, tensor_id v) {
    q = rotate(b, name, "q", p, p->heads, q);
    k = rotate(b, name, "k", p, p->kv_heads, k);
    if (build_failed(b)) return 0;
    k = cached(b, name, "k", p, p->kv_heads * p->width, k);
    v = cached(b, name, "v", p, p->kv_heads * (p->value_width ? p->value_width : p->width), v);
    strand_op_attention a = {.heads = p->heads,
                             .kv_heads = p->kv_heads,
                             .window = p->window,
                             .sinks = p->sinks,
                             .scale = (float)(p->scale ? p->scale : 1 / sqrt((double)p->width)),
                             .softcap = (float)p->softcap,
                             .causal = 1,
                             .precision = b->precision};
    tensor_id length = slides(b, p) ? graph_end_within(b->g, b->context) : graph_end(b->g);
    return graph_op(b->g, build_name(b, name), STRAND_OP_ATTENTION, &a, (tensor_id[]){q, k, v, length}, 4, NULL);
}

/* ---- rope_scaling ---- */

static double of(const json *o, const char *key, double fallback) {
    return json_number(o, key, fallback);
}

/* Long waves are stretched by `factor`, short ones stay, those between are blended. */
static double llama3(const json *s, double f, double factor, double longest) {
    double low = of(s, "low_freq_factor", 1), high = of(s, "high_freq_factor", 4),
           old = of(s, "original_max_position_embeddings", longest);
    double wave = 2 * M_PI / f;
    if (wave < old / high) return f;
    if (wave > old / low) return f / factor;
    double smooth = (old / wave - low) / (high - low);
    return (1 - smooth) * f / factor + smooth * f;
}

/* The element of a pair whose wave makes `turns` turns over the old context. */
static double turning(double turns, int64_t rotary, double base, double old) {
    return (double)rotary * log(old / (turns * 2 * M_PI)) / (2 * log(base));
}

/* YaRN, arXiv 2309.00071: waves with more than `fast` turns over the old context stay, those with fewer than `slow` are
 * stretched. */
static double blend(double f, int64_t i, int64_t rotary, double base, double factor, double old, double fast, double slow,
                    bool truncate) {
    double low = turning(fast, rotary, base, old), high = turning(slow, rotary, base, old);
    if (truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, (double)(rotary - 1));
    if (low == high) high += 0.001;
    double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
    return f / factor * ramp + f * (1 - ramp);
}

static double yarn(const json *s, double f, int64_t i, int64_t rotary, double base, double factor, double longest) {
    return blend(f, i, rotary, base, factor, of(s, "original_max_position_embeddings", longest), of(s, "beta_fast", 32),
                 of(s, "beta_slow", 1), json_bool(s, "truncate", true));
}

static double yarn_magnitude(const json *s, double factor) {
    double given = of(s, "attention_factor", 0), scale = of(s, "mscale", 0), all = of(s, "mscale_all_dim", 0);
    if (given > 0) return given;
    if (factor <= 1) return 1;
    return scale > 0 && all > 0 ? (0.1 * scale * log(factor) + 1) / (0.1 * all * log(factor) + 1) : 0.1 * log(factor) + 1;
}

static strand_status keep_frequencies(builder *b, build_attention *p, const float *f) {
    for (int64_t i = 0; i < p->rotary / 2; i++)
        if (!isfinite(f[i])) return build_refuse(b, "the scaling of the rotary positions gives no finite frequencies");
    p->frequencies = build_constant(b, "rope_frequencies", 1, (int64_t[]){p->rotary / 2}, f);
    return b->e->status;
}

/* GGUF: a factor for each frequency (rope_freqs), or linear or yarn scaling of all. */
static strand_status rope_of_metadata(builder *b, build_attention *p, double base, int64_t longest) {
    const char *type = build_meta_text(b, "rope.scaling.type", "none");
    const weights_tensor *factors = build_find(b, "rope_freqs.weight");
    p->base = build_meta_number(b, "rope.freq_base", base, 1e-6, 1e30);
    double factor =
        build_meta_number(b, "rope.scaling.factor", build_meta_number(b, "rope.scale_linear", 1, 1e-3, 1e6), 1e-3, 1e6);
    bool is_yarn = !strcmp(type, "yarn");
    if (build_failed(b)) return b->e->status;
    if (!is_yarn && strcmp(type, "none") != 0 && strcmp(type, "linear") != 0)
        return build_refuse(b, "rope.scaling.type '%.40s' is not supported; none, linear and yarn are", type);
    if (!is_yarn) p->position_scale = 1 / factor;
    if (!factors && !is_yarn) return STRAND_OK;
    if (p->rotary < 2 || p->rotary > MOST_ROTARY)
        return build_refuse(b, "a head of %lld rotary elements is too wide", (long long)p->rotary);
    if (factors && (factors->rank != 1 || factors->dims[0] != p->rotary / 2 || factors->dtype != STRAND_F32))
        return build_refuse(b, "tensor '%.120s' is not F32, one factor for each of %lld pairs", factors->name,
                            (long long)(p->rotary / 2));
    float f[MOST_ROTARY / 2];
    double old = build_meta_number(b, "rope.scaling.original_context_length", (double)longest, 1, 1e9);
    for (int64_t i = 0; i < p->rotary / 2; i++) {
        double plain = pow(p->base, -2.0 * (double)i / (double)p->rotary);
        if (factors) plain /= (double)((const float *)factors->data)[i];
        f[i] = (float)(is_yarn ? blend(plain, i, p->rotary, p->base, factor, old, 32, 1, true) : plain);
    }
    if (is_yarn)
        p->magnitude =
            build_meta_number(b, "rope.scaling.attn_factor", 1, 1e-3, 1e3) * (factor > 1 ? 0.1 * log(factor) + 1 : 1);
    return keep_frequencies(b, p, f);
}

strand_status build_rope(builder *b, build_attention *p, double base, int64_t longest) {
    if (build_architecture(b)) return rope_of_metadata(b, p, base, longest);
    float f[MOST_ROTARY / 2];
    const json *root = b->config->root, *s = root ? json_get(root, "rope_scaling") : NULL;
    if (!s || s->type != JSON_OBJECT) s = root ? json_get(root, "rope_parameters") : NULL;
    if (s && s->type != JSON_OBJECT) s = NULL;
    p->base = build_number(b, "rope_theta", of(s, "rope_theta", base), 1e-6, 1e30);
    const char *type = json_text(s, "rope_type", json_text(s, "type", "default"));
    double factor = of(s, "factor", 1);
    if (build_failed(b) || !s || !strcmp(type, "default") || !strcmp(type, "dynamic")) return b->e->status;
    if (!(factor >= 1e-3 && factor <= 1e6)) return build_refuse(b, "config.json: the factor of rope_scaling is %g", factor);
    if (!strcmp(type, "linear")) {
        p->position_scale = 1 / factor;
        return STRAND_OK;
    }
    bool is_yarn = !strcmp(type, "yarn");
    if (!is_yarn && strcmp(type, "llama3") != 0)
        return build_refuse(
            b, "config.json: rope_scaling of type '%.40s' is not supported; default, linear, dynamic, llama3 and yarn are",
            type);
    if (p->rotary < 2 || p->rotary > MOST_ROTARY)
        return build_refuse(b, "a head of %lld rotary elements is too wide", (long long)p->rotary);
    for (int64_t i = 0; i < p->rotary / 2; i++) {
        double plain = pow(p->base, -2.0 * (double)i / (double)p->rotary);
        f[i] = (float)(is_yarn ? yarn(s, plain, i, p->rotary, p->base, factor, (double)longest)
                               : llama3(s, plain, factor, (double)longest));
    }
    if (is_yarn) p->magnitude = yarn_magnitude(s, factor);
    return keep_frequencies(b, p, f);
}

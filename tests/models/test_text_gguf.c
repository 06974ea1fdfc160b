/* test_text_gguf.c - GGUF files of language models: the golden cases, written as llama.cpp's converters write them (its names,
 * its orders of rows, decays already exponentiated, low-rank matrices turned, projections taken apart), must give the case's
 * logits. In F32 within the case's tolerance; with the matrices in half precision, and where rows are whole blocks in Q8_0,
 * near them. */
#include "../weights/writers.h"
#include "runs.h"

#include <math.h>
#include <sys/stat.h>

#define MOST 128

typedef struct part {
    char name[80];
    int axes;
    int64_t dims[4]; /* as in torch: the fastest last */
    float *data;
} part;

typedef struct value {
    const char *key;
    uint32_t type; /* of GGUF: 4 U32, 6 F32, 7 BOOL */
    double number;
} value;

typedef struct gguf {
    const char *architecture;
    part parts[MOST];
    int n_parts;
    value values[16];
    int n_values;
    strand_file *source;
} gguf;

static int64_t count(const part *p) {
    int64_t n = 1;
    for (int i = 0; i < p->axes; i++) n *= p->dims[i];
    return n;
}

static bool source_has(const gguf *g, const char *name, strand_tensor *t) {
    for (int64_t i = 0; i < strand_file_count(g->source); i++)
        if (!strand_file_get(g->source, i, t) && !strcmp(t->name, name)) return true;
    return false;
}

/* A tensor of the source under a new name, extents of 1 left out. */
static part *add(gguf *g, const char *to, const char *from) {
    strand_tensor t;
    if (!source_has(g, from, &t)) fail_msg("the case has no tensor %s", from);
    assert_true(g->n_parts < MOST && t.dtype == STRAND_F32);
    part *p = &g->parts[g->n_parts++];
    *p = (part){.axes = 0};
    snprintf(p->name, sizeof p->name, "%s", to);
    for (int i = 0; i < t.rank; i++)
        if (t.dims[i] != 1) p->dims[p->axes++] = t.dims[i];
    p->data = malloc(t.bytes);
    assert_non_null(p->data);
    memcpy(p->data, t.data, t.bytes);
    return p;
}

/* "blk.L.TO" from "FROM", in which * is the layer. */
static part *add_layer(gguf *g, int layer, const char *to, const char *from) {
    char a[80], b[120];
    const char *star = strchr(from, '*');
    snprintf(a, sizeof a, "blk.%d.%s", layer, to);
    snprintf(b, sizeof b, "%.*s%d%s", (int)(star - from), from, layer, star + 1);
    return add(g, a, b);
}

static void set(gguf *g, const char *key, uint32_t type, double number) {
    assert_true(g->n_values < 16);
    g->values[g->n_values++] = (value){key, type, number};
}

/* [rows, columns] -> [columns, rows], for each of the leading extents. */
static void turn(part *p) {
    int64_t rows = p->dims[p->axes - 2], columns = p->dims[p->axes - 1], n = count(p);
    float *to = malloc((size_t)n * sizeof *to);
    for (int64_t at = 0; at < n; at += rows * columns)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) to[at + c * rows + r] = p->data[at + r * columns + c];
    free(p->data);
    p->data = to;
    p->dims[p->axes - 2] = columns;
    p->dims[p->axes - 1] = rows;
}

static void minus_exp(part *p) {
    for (int64_t i = 0; i < count(p); i++) p->data[i] = -expf(p->data[i]);
}

static void reshape(part *p, int axes, int64_t a, int64_t b) {
    int64_t n = count(p);
    p->axes = axes;
    p->dims[0] = a;
    p->dims[1] = b;
    assert_int_equal(count(p), n);
}

/* Row r of each block of `block` rows goes to where `place` says. */
static void move_rows(part *p, int64_t block, int64_t (*place)(int64_t r, int64_t block)) {
    int64_t rows = p->dims[0], columns = count(p) / rows;
    float *to = malloc((size_t)(rows * columns) * sizeof *to);
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + (r / block * block + place(r % block, block)) * columns, p->data + r * columns,
               (size_t)columns * sizeof *to);
    free(p->data);
    p->data = to;
}

/* ---- the families ---- */

/* Halves of a head to pairs side by side. */
static int64_t side_by_side(int64_t r, int64_t block) {
    return r < block / 2 ? 2 * r : 2 * (r - block / 2) + 1;
}

static void to_llama(gguf *g) {
    g->architecture = "llama";
    set(g, "llama.attention.head_count", 4, 8);
    set(g, "llama.attention.head_count_kv", 4, 4);
    set(g, "llama.attention.layer_norm_rms_epsilon", 6, 1e-6);
    set(g, "llama.rope.freq_base", 6, 500000);
    set(g, "llama.rope.dimension_count", 4, 6);
    set(g, "llama.context_length", 4, 1024);
    add(g, "token_embd.weight", "model.embed_tokens.weight");
    add(g, "output_norm.weight", "model.norm.weight");
    for (int l = 0; l < 3; l++) {
        add_layer(g, l, "attn_norm.weight", "model.layers.*.input_layernorm.weight");
        add_layer(g, l, "ffn_norm.weight", "model.layers.*.post_attention_layernorm.weight");
        move_rows(add_layer(g, l, "attn_q.weight", "model.layers.*.self_attn.q_proj.weight"), 6, side_by_side);
        move_rows(add_layer(g, l, "attn_k.weight", "model.layers.*.self_attn.k_proj.weight"), 6, side_by_side);
        add_layer(g, l, "attn_v.weight", "model.layers.*.self_attn.v_proj.weight");
        add_layer(g, l, "attn_output.weight", "model.layers.*.self_attn.o_proj.weight");
        add_layer(g, l, "ffn_gate.weight", "model.layers.*.mlp.gate_proj.weight");
        add_layer(g, l, "ffn_up.weight", "model.layers.*.mlp.up_proj.weight");
        add_layer(g, l, "ffn_down.weight", "model.layers.*.mlp.down_proj.weight");
    }
}

/* What both Mambas have: the ends, and of each of two layers all but the state space's own. */
static void mamba_common(gguf *g) {
    static const char *const names[][2] = {{"attn_norm.weight", "norm.weight"},
                                           {"ssm_in.weight", "mixer.in_proj.weight"},
                                           {"ssm_conv1d.weight", "mixer.conv1d.weight"},
                                           {"ssm_conv1d.bias", "mixer.conv1d.bias"},
                                           {"ssm_out.weight", "mixer.out_proj.weight"}};
    add(g, "token_embd.weight", "backbone.embedding.weight");
    add(g, "output_norm.weight", "backbone.norm_f.weight");
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            char from[64];
            snprintf(from, sizeof from, "backbone.layers.*.%s", names[i][1]);
            add_layer(g, l, names[i][0], from);
        }
}

static void to_mamba(gguf *g) {
    g->architecture = "mamba";
    set(g, "mamba.attention.layer_norm_rms_epsilon", 6, 1e-5);
    set(g, "mamba.ssm.dt_b_c_rms", 7, 0);
    mamba_common(g);
    for (int l = 0; l < 2; l++) {
        add_layer(g, l, "ssm_x.weight", "backbone.layers.*.mixer.x_proj.weight");
        add_layer(g, l, "ssm_dt.weight", "backbone.layers.*.mixer.dt_proj.weight");
        add_layer(g, l, "ssm_dt.bias", "backbone.layers.*.mixer.dt_proj.bias");
        minus_exp(add_layer(g, l, "ssm_a", "backbone.layers.*.mixer.A_log"));
        add_layer(g, l, "ssm_d", "backbone.layers.*.mixer.D");
    }
}

static void to_mamba2(gguf *g) {
    g->architecture = "mamba2";
    set(g, "mamba2.attention.layer_norm_rms_epsilon", 6, 1e-5);
    set(g, "mamba2.ssm.group_count", 4, 2);
    mamba_common(g);
    for (int l = 0; l < 2; l++) {
        add_layer(g, l, "ssm_dt.bias", "backbone.layers.*.mixer.dt_bias");
        part *a = add_layer(g, l, "ssm_a", "backbone.layers.*.mixer.A_log");
        minus_exp(a);
        reshape(a, 2, count(a), 1);
        part *d = add_layer(g, l, "ssm_d", "backbone.layers.*.mixer.D");
        reshape(d, 2, count(d), 1);
        part *n = add_layer(g, l, "ssm_norm.weight", "backbone.layers.*.mixer.norm.weight");
        reshape(n, 2, 2, count(n) / 2);
    }
}

/* Heads of [q, k, v], 16 wide, three of them: all q, all k, all v. */
static int64_t apart(int64_t r, int64_t block) {
    (void)block;
    return r % 48 / 16 * 48 + r / 48 * 16 + r % 16;
}

static void to_neox(gguf *g) {
    static const char *const pairs[][2] = {{"attn_norm", "input_layernorm"},   {"ffn_norm", "post_attention_layernorm"},
                                           {"attn_output", "attention.dense"}, {"ffn_up", "mlp.dense_h_to_4h"},
                                           {"ffn_down", "mlp.dense_4h_to_h"},  {"attn_qkv", "attention.query_key_value"}};
    g->architecture = "gptneox";
    set(g, "gptneox.attention.head_count", 4, 3);
    set(g, "gptneox.attention.layer_norm_epsilon", 6, 1e-5);
    set(g, "gptneox.rope.dimension_count", 4, 4);
    set(g, "gptneox.use_parallel_residual", 7, 1);
    set(g, "gptneox.context_length", 4, 128);
    add(g, "token_embd.weight", "gpt_neox.embed_in.weight");
    add(g, "output.weight", "embed_out.weight");
    add(g, "output_norm.weight", "gpt_neox.final_layer_norm.weight");
    add(g, "output_norm.bias", "gpt_neox.final_layer_norm.bias");
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < 12; i++) {
            char to[40], from[96];
            snprintf(to, sizeof to, "%s.%s", pairs[i / 2][0], i % 2 ? "bias" : "weight");
            snprintf(from, sizeof from, "gpt_neox.layers.*.%s.%s", pairs[i / 2][1], i % 2 ? "bias" : "weight");
            part *p = add_layer(g, l, to, from);
            if (i >= 10) move_rows(p, 144, apart);
        }
}

/* Several vectors of the source as one tensor [n, 1, 1, d]. */
static void fuse(gguf *g, int layer, const char *to, const char *from, const char *letters) {
    char name[80];
    part *all = NULL;
    int64_t n = (int64_t)strlen(letters);
    for (int64_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, from, letters[i]);
        part *p = add_layer(g, layer, to, name);
        int64_t d = count(p);
        if (!all) {
            all = p;
            all->data = realloc(all->data, (size_t)(n * d) * sizeof(float));
            assert_non_null(all->data);
            continue;
        }
        memcpy(all->data + i * d, p->data, (size_t)d * sizeof(float));
        free(p->data);
        g->n_parts--;
    }
    all->axes = 4;
    all->dims[3] = all->dims[0];
    all->dims[0] = n;
    all->dims[1] = all->dims[2] = 1;
}

static void rwkv_common(gguf *g, int l) {
    static const char *const names[][2] = {{"attn_norm.weight", "ln1.weight"},
                                           {"attn_norm.bias", "ln1.bias"},
                                           {"attn_norm_2.weight", "ln2.weight"},
                                           {"attn_norm_2.bias", "ln2.bias"},
                                           {"time_mix_receptance.weight", "att.receptance.weight"},
                                           {"time_mix_key.weight", "att.key.weight"},
                                           {"time_mix_value.weight", "att.value.weight"},
                                           {"time_mix_output.weight", "att.output.weight"},
                                           {"time_mix_ln.weight", "att.ln_x.weight"},
                                           {"time_mix_ln.bias", "att.ln_x.bias"},
                                           {"channel_mix_key.weight", "ffn.key.weight"},
                                           {"channel_mix_value.weight", "ffn.value.weight"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char from[64];
        snprintf(from, sizeof from, "blocks.*.%s", names[i][1]);
        add_layer(g, l, names[i][0], from);
    }
}

static void rwkv_ends(gguf *g) {
    add(g, "token_embd.weight", "emb.weight");
    add(g, "token_embd_norm.weight", "blocks.0.ln0.weight");
    add(g, "token_embd_norm.bias", "blocks.0.ln0.bias");
    add(g, "output_norm.weight", "ln_out.weight");
    add(g, "output_norm.bias", "ln_out.bias");
    add(g, "output.weight", "head.weight");
}

static void to_rwkv7(gguf *g) {
    static const char *const low[] = {"w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"}, *const vectors[] = {"w0",  "a0",  "v0",
                                                                                                           "k_k", "k_a", "r_k"};
    g->architecture = "rwkv7";
    set(g, "rwkv7.wkv.head_size", 4, 24);
    set(g, "rwkv7.attention.layer_norm_epsilon", 6, 1e-5);
    rwkv_ends(g);
    for (int l = 0; l < 2; l++) {
        char to[40], from[40];
        rwkv_common(g, l);
        for (int i = 0; i < 8; i++) {
            snprintf(to, sizeof to, "time_mix_%s.weight", low[i]);
            snprintf(from, sizeof from, "blocks.*.att.%s", low[i]);
            turn(add_layer(g, l, to, from));
        }
        for (int i = 0; i < 6; i++) {
            snprintf(to, sizeof to, "time_mix_%s.weight", vectors[i]);
            snprintf(from, sizeof from, "blocks.*.att.%s", vectors[i]);
            part *p = add_layer(g, l, to, from);
            reshape(p, 1, count(p), 1);
        }
        fuse(g, l, "time_mix_lerp_fused.weight", "blocks.*.att.x_%c", "rwkvag");
        add_layer(g, l, "channel_mix_lerp_k.weight", "blocks.*.ffn.x_k");
    }
}

static void scale(part *p, float by) {
    for (int64_t i = 0; i < count(p); i++) p->data[i] *= by;
}

/* With x halved after every layer, and the matrices that add to it divided to match. */
static void to_rwkv6(gguf *g) {
    g->architecture = "rwkv6";
    set(g, "rwkv6.wkv.head_size", 4, 24);
    set(g, "rwkv6.attention.layer_norm_epsilon", 6, 1e-5);
    set(g, "rwkv6.rescale_every_n_layers", 4, 1);
    rwkv_ends(g);
    for (int l = 0; l < 2; l++) {
        int before = g->n_parts;
        rwkv_common(g, l);
        for (int i = before; i < g->n_parts; i++)
            if (strstr(g->parts[i].name, "time_mix_output") || strstr(g->parts[i].name, "channel_mix_value"))
                scale(&g->parts[i], l ? 0.5f : 1);
        add_layer(g, l, "time_mix_gate.weight", "blocks.*.att.gate.weight");
        add_layer(g, l, "time_mix_lerp_x.weight", "blocks.*.att.time_maa_x");
        if (l == 0)
            fuse(g, l, "time_mix_lerp_fused.weight", "blocks.*.att.time_maa_%c", "wkvrg");
        else /* as files from before that was done */
            for (const char *c = "wkvrg"; *c; c++) {
                char to[40], from[40];
                snprintf(to, sizeof to, "time_mix_lerp_%c.weight", *c);
                snprintf(from, sizeof from, "blocks.*.att.time_maa_%c", *c);
                add_layer(g, l, to, from);
            }
        turn(add_layer(g, l, "time_mix_w1.weight", "blocks.*.att.time_maa_w1"));
        turn(add_layer(g, l, "time_mix_w2.weight", "blocks.*.att.time_maa_w2"));
        turn(add_layer(g, l, "time_mix_decay_w1.weight", "blocks.*.att.time_decay_w1"));
        turn(add_layer(g, l, "time_mix_decay_w2.weight", "blocks.*.att.time_decay_w2"));
        add_layer(g, l, "time_mix_decay.weight", "blocks.*.att.time_decay");
        add_layer(g, l, "time_mix_first.weight", "blocks.*.att.time_faaaa");
        add_layer(g, l, "channel_mix_lerp_k.weight", "blocks.*.ffn.time_maa_k");
        add_layer(g, l, "channel_mix_lerp_r.weight", "blocks.*.ffn.time_maa_r");
        add_layer(g, l, "channel_mix_receptance.weight", "blocks.*.ffn.receptance.weight");
    }
}

/* ---- writing ---- */

enum { AS_F32 = 0, AS_F16 = 1, AS_Q8_0 = 8, AS_BF16 = 30 };

static uint16_t half(float x) {
    uint32_t b;
    memcpy(&b, &x, 4);
    int e = (int)(b >> 23 & 255) - 112;
    if (e <= 0) return (uint16_t)(b >> 16 & 0x8000); /* tiny: 0 */
    return (uint16_t)((b >> 16 & 0x8000) | ((uint32_t)e << 10) | ((b >> 13 & 0x3ff))) + (uint16_t)((b >> 12) & 1);
}

static void put_rows(buffer *b, const part *p, uint32_t type) {
    int64_t n = count(p);
    for (int64_t i = 0; i < n && type != AS_Q8_0; i++) {
        uint32_t bits;
        memcpy(&bits, &p->data[i], 4);
        if (type == AS_F32) put_int(b, bits, 4);
        if (type == AS_F16) put_int(b, half(p->data[i]), 2);
        if (type == AS_BF16) put_int(b, (bits + 0x7fff + (bits >> 16 & 1)) >> 16, 2);
    }
    for (int64_t i = 0; i < n && type == AS_Q8_0; i += 32) {
        float most = 0;
        for (int k = 0; k < 32; k++) most = fmaxf(most, fabsf(p->data[i + k]));
        put_int(b, half(most / 127), 2);
        for (int k = 0; k < 32; k++) put_int(b, (uint64_t)(int64_t)(most > 0 ? lroundf(p->data[i + k] / most * 127) : 0), 1);
    }
}

/* Matrices of products in `type`; everything that is fragile, or no matrix, in F32, as converters do. */
static uint32_t type_of(const part *p, uint32_t type) {
    static const char *const plain[] = {"ssm_conv1d", "ssm_a", "ssm_d",       "ssm_norm", "lerp",
                                        "first",      "r_k",   "time_mix_w2", "ssm_dt.w"};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strstr(p->name, plain[i])) return AS_F32;
    return p->axes < 2 || (type == AS_Q8_0 && p->dims[p->axes - 1] % 32) ? AS_F32 : type;
}

static void write_file(const gguf *g, uint32_t type, const char *path) {
    buffer head = {0}, data = {0};
    put_gguf(&head, (uint64_t)g->n_parts, (uint64_t)g->n_values + 1);
    put_gguf_key(&head, "general.architecture", 8);
    put_gguf_string(&head, g->architecture);
    for (int i = 0; i < g->n_values; i++) {
        const value *v = &g->values[i];
        float number = (float)v->number;
        uint32_t bits;
        memcpy(&bits, &number, 4);
        put_gguf_key(&head, v->key, v->type);
        put_int(&head, v->type == 6 ? bits : (uint64_t)v->number, v->type == 7 ? 1 : 4);
    }
    for (int i = 0; i < g->n_parts; i++) {
        const part *p = &g->parts[i];
        uint64_t dims[4];
        for (int k = 0; k < p->axes; k++) dims[k] = (uint64_t)p->dims[p->axes - 1 - k];
        put_gguf_tensor(&head, p->name, p->axes, dims, type_of(p, type), data.size);
        put_rows(&data, p, type_of(p, type));
        put_padding(&data, 32);
    }
    put_padding(&head, 32);
    put_buffer(&head, &data);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(head.data, 1, head.size, f), head.size);
    assert_int_equal(fclose(f), 0);
    buffer_free(&head);
    buffer_free(&data);
}

/* ---- judging ---- */

static double relative_l2(const float *a, const float *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    return sqrt(d / s);
}

static const struct {
    const char *folder, *family;
    void (*convert)(gguf *g);
    double tolerance;
    bool blocks; /* its rows are whole blocks of 32 */
} cases[] = {{"llama/gqa-d48-n3-l96-sharded-tied", "llama", to_llama, 3e-5, false},
             {"mamba1/orig-d32-n2-l64", "mamba", to_mamba, 2e-5, true},
             {"mamba2/orig-d64-n2-l101-g2", "mamba2", to_mamba2, 1e-5, true},
             {"gpt_neox/parallel-d48-n2-l90-buffers", "gpt_neox", to_neox, 1e-5, false},
             {"rwkv6/pth-d48-n2-l101", "rwkv6", to_rwkv6, 1e-4, false}, /* halved x meets the same epsilons */
             {"rwkv7/pth-d48-n2-l130", "rwkv7", to_rwkv7, 1e-5, false}};

static void judge(strand_context *c, size_t i, uint32_t type, const gguf *g, const strand_tensor *ids,
                  const strand_tensor *want, double tolerance) {
    char path[512];
    strand_tensor shape;
    strand_model_info info;
    snprintf(path, sizeof path, "%s", build_path("tests/models/text-%s-%u.gguf", cases[i].family, type));
    write_file(g, type, path);
    opened o = open_all(c, path, &(run_how){.backends = "cpu"}, ids->dims[0], ids->dims[1]);
    assert_int_equal(strand_model_get(o.model, &info), STRAND_OK);
    assert_string_equal(info.family, cases[i].family);
    float *have = run_output(&o, ids->data, ids->dims[0], ids->dims[1], "logits", &shape);
    assert_int_equal(shape.bytes, want->bytes);
    double d = relative_l2(have, want->data, (int64_t)(want->bytes / 4));
    print_message("  %-10s type %2u: relative L2 %.1e\n", cases[i].family, type, d);
    if (!(d <= tolerance)) fail_msg("%s, type %u: differs by %.3g", cases[i].folder, type, d);
    free(have);
    close_all(&o);
    remove(path);
}

static void every_family(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 2});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gguf g = {0};
        char file[512];
        strand_file *inputs, *expected;
        strand_tensor ids, want;
        snprintf(file, sizeof file, "%s", source_path("tests/golden/text/%s", cases[i].folder));
        assert_ok(c, strand_file_open(c, file, &g.source));
        cases[i].convert(&g);
        snprintf(file, sizeof file, "%s", source_path("tests/golden/text/%s/input.safetensors", cases[i].folder));
        assert_ok(c, strand_file_open(c, file, &inputs));
        snprintf(file, sizeof file, "%s", source_path("tests/golden/text/%s/expected.safetensors", cases[i].folder));
        assert_ok(c, strand_file_open(c, file, &expected));
        assert_int_equal(strand_file_get(inputs, 0, &ids), STRAND_OK);
        bool found = false;
        for (int64_t k = 0; !found && k < strand_file_count(expected); k++)
            found = !strand_file_get(expected, k, &want) && !strcmp(want.name, "logits");
        assert_true(found);
        judge(c, i, AS_F32, &g, &ids, &want, cases[i].tolerance);
        judge(c, i, AS_F16, &g, &ids, &want, 5e-3);
        judge(c, i, AS_BF16, &g, &ids, &want, 4e-2);
        if (cases[i].blocks) judge(c, i, AS_Q8_0, &g, &ids, &want, 0.1);
        for (int k = 0; k < g.n_parts; k++) free(g.parts[k].data);
        strand_file_close(g.source);
        strand_file_close(inputs);
        strand_file_close(expected);
    }
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

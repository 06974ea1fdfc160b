/* quantize.c - `strand quantize`: a model's matrices as blocks of small numbers, in a GGUF file.
 *
 * A GGUF file keeps its metadata byte for byte, so that whoever read it reads the result. From other files the tensors keep
 * their names, and config.json and tokenizer.json travel as metadata (strand.config, tokenizer.huggingface.json), from which
 * Strand opens the result as it opened the source. What is known to be fragile stays F32: norms, biases, convolutions, and
 * the parameters that a recurrence multiplies with itself (A, dt, decays). The result is opened before it appears. */
#include "blocks.h"

#include "commands.h"
#include "runtime.h"
#include "output.h"
#include "progress.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGN 32

typedef struct piece {
    strand_tensor source;
    strand_dtype to;
    uint64_t bytes, offset;
} piece;

typedef struct job {
    runtime rt;
    strand_file *file;
    piece *pieces;
    int64_t n, quantised;
    output *out;
    uint64_t written, before, after;
    const unsigned char *metadata; /* of a GGUF source, mapped */
    uint64_t metadata_bytes, n_values;
    void *mapping;
    size_t mapping_bytes;
    char *config, *tokenizer;
    size_t n_config, n_tokenizer;
} job;

/* ---- what becomes of a tensor ---- */

static int has(const char *name, const char *const *parts) {
    for (; *parts; parts++)
        if (strstr(name, *parts)) return 1;
    return 0;
}

/* Fragile, small, or used in ways that blocks do not allow (Hugging Face's GPT-2 keeps its matrices transposed). */
static int stays_f32(const strand_tensor *t) {
    static const char *const parts[] = {"norm",     "conv",   "A_log",    "ssm_a", "ssm_dt", "ssm_x", "dt_proj",
                                        "x_proj",   "time_",  "attn.g_1", "ln_",   "lora",   ".D",    "poles",
                                        "residues", "filter", "decay",    "bias",  "rotary", NULL};
    return t->rank != 2 || t->dims[0] < 32 || t->dims[1] < 32 || has(t->name, parts);
}

/* Those of RWKV that llama.cpp's converter names after their place in the time mixing, which are large and sturdy. */
static int is_sturdy(const char *name) {
    static const char *const parts[] = {"time_mix_key.weight",  "time_mix_value.weight",  "time_mix_receptance.weight",
                                        "time_mix_gate.weight", "time_mix_output.weight", NULL};
    return has(name, parts);
}

static int stays_f16(const char *name) {
    static const char *const parts[] = {"c_attn", "c_fc", "c_proj", "wpe", "position_embd", "embed_positions", NULL};
    return has(name, parts);
}

static int is_outer(const char *name) { /* the first and the last matrix, where errors are seen most */
    static const char *const parts[] = {"embed",      "wte",     "token_embd", "output.weight", "lm_head", "head.weight",
                                        "emb.weight", "unembed", NULL};
    return has(name, parts) && !strstr(name, "attn") && !strstr(name, "time_mix") && !strstr(name, "layers");
}

static int is_float(strand_dtype t) {
    return t == STRAND_F32 || t == STRAND_F16 || t == STRAND_BF16 || t == STRAND_F64;
}

static strand_dtype choose(const strand_tensor *t, int quant) {
    static const strand_dtype types[] = {STRAND_Q8_0, STRAND_Q4_0, STRAND_Q4_K, STRAND_Q6_K,
                                         STRAND_F16,  STRAND_BF16, STRAND_F32};
    strand_dtype want = types[quant];
    if (!is_float(t->dtype)) return t->dtype; /* whole numbers, and what is quantised already */
    if (want == STRAND_F32 || (stays_f32(t) && !is_sturdy(t->name))) return STRAND_F32;
    if (!block_elements(want)) return want;
    if (stays_f16(t->name)) return STRAND_F16;
    if (want == STRAND_Q4_K && is_outer(t->name)) want = STRAND_Q6_K;
    if (want == STRAND_Q4_0 && is_outer(t->name)) want = STRAND_Q8_0;
    if (t->dims[1] % block_elements(want)) want = STRAND_Q8_0;
    return t->dims[1] % block_elements(want) ? STRAND_F16 : want;
}

static int64_t elements_of(const strand_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

static uint64_t bytes_of(strand_dtype type, int64_t n) {
    return block_elements(type) ? (uint64_t)(n / block_elements(type) * block_bytes(type))
                                : (uint64_t)n * strand_dtype_size(type);
}

static int plan(job *j) {
    j->n = strand_file_count(j->file);
    j->pieces = calloc((size_t)j->n + 1, sizeof *j->pieces);
    uint64_t at = 0;
    if (!j->pieces) return complain("out of memory"), -1;
    int64_t all = j->n, left_out = 0;
    j->n = 0;
    for (int64_t i = 0; i < all; i++) {
        piece *p = &j->pieces[j->n];
        strand_file_get(j->file, i, &p->source);
        if (p->source.dtype == STRAND_BOOL || p->source.dtype == STRAND_U8 || p->source.dtype == STRAND_U16 ||
            p->source.dtype == STRAND_U32 || p->source.dtype == STRAND_U64) {
            left_out++; /* masks and the like: GGUF has no type for them, and the result is tried without */
            continue;
        }
        j->n++;
        p->to = choose(&p->source, j->rt.settings->quant_type);
        p->bytes = p->to == p->source.dtype ? p->source.bytes : bytes_of(p->to, elements_of(&p->source));
        p->offset = at;
        at += (p->bytes + ALIGN - 1) / ALIGN * ALIGN;
        j->before += p->source.bytes;
        j->after += p->bytes;
        j->quantised += block_elements(p->to) > 0 && p->to != p->source.dtype;
        if (p->source.rank > 4)
            return complain("%s: tensor %s has %d axes; GGUF has at most 4", j->rt.info.name, p->source.name,
                            (int)p->source.rank),
                   -1;
    }
    if (left_out) remark("%lld tensors of a type that GGUF has not were left out", (long long)left_out);
    return 0;
}

/* ---- writing ---- */

static int put(job *j, const void *data, size_t n) {
    j->written += n;
    return output_write(j->out, data, n);
}

static int put_number(job *j, uint64_t v, int bytes) {
    unsigned char b[8];
    for (int i = 0; i < bytes; i++) b[i] = (unsigned char)(v >> 8 * i);
    return put(j, b, (size_t)bytes);
}

static int put_text(job *j, const char *text, size_t n) {
    return put_number(j, n, 8) || put(j, text, n);
}

static int put_pair(job *j, const char *key, const char *text, size_t n) {
    return put_text(j, key, strlen(key)) || put_number(j, 8, 4) || put_text(j, text, n);
}

static int pad(job *j) {
    static const char zeros[ALIGN];
    return j->written % ALIGN ? put(j, zeros, ALIGN - j->written % ALIGN) : 0;
}

/* Element `i` of a float tensor. */
static float element(const strand_tensor *t, int64_t i) {
    const unsigned char *at = (const unsigned char *)t->data;
    float x;
    double d;
    uint32_t bits;
    uint16_t h;
    switch (t->dtype) {
    case STRAND_F32:
        memcpy(&x, at + 4 * i, 4);
        return x;
    case STRAND_F64:
        memcpy(&d, at + 8 * i, 8);
        return (float)d;
    case STRAND_F16:
        memcpy(&h, at + 2 * i, 2);
        return half_to(h);
    default:
        memcpy(&h, at + 2 * i, 2);
        bits = (uint32_t)h << 16;
        memcpy(&x, &bits, 4);
        return x;
    }
}

static uint16_t brain(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return x != x ? 0x7FC0 : (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static int put_tensor(job *j, const piece *p) {
    enum { RUN = 4096 };
    float x[RUN];
    unsigned char made[4 * RUN];
    int64_t n = elements_of(&p->source);
    if (p->to == p->source.dtype) return put(j, p->source.data, p->bytes) || pad(j);
    for (int64_t at = 0; at < n; at += RUN) {
        int64_t now = n - at < RUN ? n - at : RUN;
        for (int64_t i = 0; i < now; i++) x[i] = element(&p->source, at + i);
        if (block_elements(p->to)) {
            block_quantise(p->to, x, now, made);
        } else if (p->to == STRAND_F32) {
            memcpy(made, x, (size_t)now * 4);
        } else {
            for (int64_t i = 0; i < now; i++) {
                uint16_t h = p->to == STRAND_F16 ? half_from(x[i]) : brain(x[i]);
                made[2 * i] = (unsigned char)h;
                made[2 * i + 1] = (unsigned char)(h >> 8);
            }
        }
        if (put(j, made, bytes_of(p->to, now)) || interrupted()) return -1;
    }
    return pad(j);
}

static uint32_t gguf_number(strand_dtype t) {
    static const struct {
        strand_dtype type;
        uint32_t number;
    } rows[] = {{STRAND_F32, 0}, {STRAND_F16, 1},  {STRAND_Q4_0, 2}, {STRAND_Q8_0, 8}, {STRAND_Q4_K, 12}, {STRAND_Q6_K, 14},
                {STRAND_I8, 24}, {STRAND_I16, 25}, {STRAND_I32, 26}, {STRAND_I64, 27}, {STRAND_F64, 28},  {STRAND_BF16, 30}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].type == t) return rows[i].number;
    return UINT32_MAX;
}

static int put_header(job *j) {
    uint64_t values = j->metadata ? j->n_values : 1u + (j->config != NULL) + (j->tokenizer != NULL);
    if (put(j, "GGUF", 4) || put_number(j, 3, 4) || put_number(j, (uint64_t)j->n, 8) || put_number(j, values, 8)) return -1;
    if (j->metadata) {
        if (put(j, j->metadata, j->metadata_bytes)) return -1;
    } else {
        if (put_pair(j, "general.name", j->rt.info.name, strlen(j->rt.info.name))) return -1;
        if (j->config && put_pair(j, "strand.config", j->config, j->n_config)) return -1;
        if (j->tokenizer && put_pair(j, "tokenizer.huggingface.json", j->tokenizer, j->n_tokenizer)) return -1;
    }
    for (int64_t i = 0; i < j->n; i++) {
        const piece *p = &j->pieces[i];
        uint32_t number = gguf_number(p->to);
        if (number == UINT32_MAX)
            return complain("tensor %s: GGUF has no type for %s", p->source.name, strand_dtype_name(p->to)), -1;
        if (put_text(j, p->source.name, strlen(p->source.name)) || put_number(j, (uint64_t)p->source.rank, 4)) return -1;
        for (int k = p->source.rank - 1; k >= 0; k--)
            if (put_number(j, (uint64_t)p->source.dims[k], 8)) return -1;
        if (put_number(j, number, 4) || put_number(j, p->offset, 8)) return -1;
    }
    return pad(j);
}

/* ---- the source's metadata ---- */

static uint64_t number_at(const unsigned char *at, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)at[i] << 8 * i;
    return v;
}

/* Bytes of a value of this type; the library has checked the file. */
static uint64_t value_bytes(const unsigned char *at, uint32_t type) {
    static const unsigned char sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) return 8 + number_at(at, 8);
    if (type != 9) return sizes[type];
    uint32_t item = (uint32_t)number_at(at, 4);
    uint64_t n = number_at(at + 4, 8), bytes = 12;
    if (item != 8) return bytes + n * sizes[item];
    for (uint64_t i = 0; i < n; i++) bytes += 8 + number_at(at + bytes, 8);
    return bytes;
}

/* The metadata of a GGUF source as it is, but the alignment, which is ours. */
static int take_metadata(job *j) {
    struct stat st;
    int fd = open(j->rt.info.path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) return complain("%s: cannot be opened: %s", j->rt.info.path, strerror(errno)), -1;
    j->mapping_bytes = (size_t)st.st_size;
    j->mapping = mmap(NULL, j->mapping_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (j->mapping == MAP_FAILED)
        return j->mapping = NULL, complain("%s: cannot be mapped: %s", j->rt.info.path, strerror(errno)), -1;
    const unsigned char *at = j->mapping, *from = at + 24;
    j->n_values = number_at(at + 16, 8);
    at = from;
    for (uint64_t i = 0; i < j->n_values; i++) {
        uint64_t n = number_at(at, 8);
        uint32_t type = (uint32_t)number_at(at + 8 + n, 4);
        if (n == 17 && !memcmp(at + 8, "general.alignment", 17) && number_at(at + 8 + n + 4, 4) != ALIGN)
            return complain("%s: its alignment is not 32; it cannot be kept", j->rt.info.path), -1;
        at += 8 + n + 4;
        at += value_bytes(at, type);
    }
    j->metadata = from;
    j->metadata_bytes = (uint64_t)(at - from);
    return 0;
}

static int take_beside(const job *j, const char *name, char **text, size_t *n) {
    char path[4096];
    const char *slash = strrchr(j->rt.info.path, '/');
    if (snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - j->rt.info.path + 1) : 0, j->rt.info.path, name) >=
            (int)sizeof path ||
        access(path, R_OK))
        return 0;
    return text_read(path, (size_t)64 << 20, text, n);
}

static int source(job *j) {
    const options *s = j->rt.settings;
    if (strand_file_open(j->rt.context, j->rt.info.path, &j->file) != STRAND_OK)
        return complain("%s", strand_error(j->rt.context)), -1;
    if (!strcmp(strand_file_format(j->file), "gguf")) return take_metadata(j);
    if (s->config ? text_read(s->config, (size_t)4 << 20, &j->config, &j->n_config)
                  : take_beside(j, "config.json", &j->config, &j->n_config))
        return -1;
    return take_beside(j, "tokenizer.json", &j->tokenizer, &j->n_tokenizer);
}

/* The result must open, and plan, as a model. */
static int check(const job *j, const char *path) {
    runtime rt;
    options settings = *j->rt.settings;
    strand_plan *plan = NULL;
    settings.config = NULL;
    if (runtime_open(&rt, &settings, path)) return -1;
    int bad = runtime_plan(&rt, 1, 1, NULL, &plan) != STRAND_OK;
    if (bad) complain("the result does not run: %s", strand_error(rt.context));
    strand_plan_close(plan);
    runtime_close(&rt);
    return bad ? -1 : 0;
}

static int write_file(job *j) {
    char temp[4096];
    if (output_reserve(j->rt.settings->output, temp, sizeof temp)) return -1;
    j->out = output_open(temp);
    int bad = !j->out || put_header(j);
    for (int64_t i = 0; i < j->n && !bad; i++) {
        bad = put_tensor(j, &j->pieces[i]);
        progress_fraction((double)(i + 1) / (double)j->n);
    }
    if (j->out && output_close(j->out, !bad)) bad = 1;
    if (!bad) bad = check(j, temp);
    if (!bad) bad = output_commit(temp, j->rt.settings->output);
    if (bad) output_discard(temp);
    return bad ? -1 : 0;
}

int run_quantize(const options *settings) {
    job j = {0};
    if (!settings->output || !strcmp(settings->output, "-")) return complain("quantize: -o FILE.gguf is needed"), EXIT_USAGE;
    options with = *settings;
    if (settings->n_args) with.model = settings->args[0];
    if (!with.model) return complain("quantize: which model?"), EXIT_USAGE;
    int rc = runtime_open(&j.rt, &with, NULL);
    if (rc) return rc;
    progress_begin("tensors");
    int bad = source(&j) || plan(&j) || write_file(&j);
    if (!bad)
        remark("%lld of %lld tensors quantised: %.1f MB became %.1f MB", (long long)j.quantised, (long long)j.n,
               (double)j.before / 1e6, (double)j.after / 1e6);
    free(j.pieces);
    free(j.config);
    free(j.tokenizer);
    if (j.mapping) munmap(j.mapping, j.mapping_bytes);
    strand_file_close(j.file);
    runtime_close(&j.rt);
    return bad ? EXIT_FAILED : EXIT_DONE;
}

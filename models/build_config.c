/* build_config.c - the part of build.h that reads numbers: config.json, the metadata of GGUF files, the settings of one load.
 * Every number has a range; what lies outside is one line that names the key. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "build.h"
#include "weights/gguf.h"

/* ---- configuration ---- */

/* A number out of its range is refused, and the least one stands in for it, so that what is computed of it makes sense. */
int64_t build_int_of(builder *b, const json *object, const char *key, int64_t fallback, int64_t low, int64_t high) {
    const json *v = object ? json_get(object, key) : NULL;
    if (v && v->type == JSON_NULL) v = NULL;
    int64_t n = v && v->is_integer ? v->integer : fallback;
    if ((!v || v->is_integer) && n >= low && n <= high) return n;
    if (v && !v->is_integer)
        build_refuse(b, "config.json: '%s' is not a whole number", key);
    else if (!v)
        build_refuse(b, "config.json with '%s' is needed beside the weights (or --config FILE)", key);
    else
        build_refuse(b, "config.json: '%s' is %lld; expected %lld to %lld", key, (long long)n, (long long)low, (long long)high);
    return low;
}

int64_t build_int(builder *b, const char *key, int64_t fallback, int64_t low, int64_t high) {
    return build_int_of(b, b->config->root, key, fallback, low, high);
}

double build_number(builder *b, const char *key, double fallback, double low, double high) {
    const json *v = b->config->root ? json_get(b->config->root, key) : NULL;
    double n = v && v->type == JSON_NUMBER ? v->number : fallback;
    bool number = !v || v->type == JSON_NUMBER || v->type == JSON_NULL;
    if (number && n >= low && n <= high) return n;
    if (number)
        build_refuse(b, "config.json: '%s' is %g; expected %g to %g", key, n, low, high);
    else
        build_refuse(b, "config.json: '%s' is not a number", key);
    return low;
}

uint32_t build_activation(builder *b, const char *name) {
    static const struct {
        const char *name;
        uint32_t kind;
    } known[] = {{"gelu", STRAND_UNARY_GELU},
                 {"gelu_new", STRAND_UNARY_GELU_TANH},
                 {"gelu_pytorch_tanh", STRAND_UNARY_GELU_TANH},
                 {"gelu_fast", STRAND_UNARY_GELU_TANH},
                 {"gelu_approx", STRAND_UNARY_GELU_TANH},
                 {"silu", STRAND_UNARY_SILU},
                 {"swish", STRAND_UNARY_SILU},
                 {"relu", STRAND_UNARY_RELU},
                 {"quick_gelu", STRAND_UNARY_QUICK_GELU},
                 {"tanh", STRAND_UNARY_TANH},
                 {"sqrelu", STRAND_UNARY_SQUARED_RELU}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(name, known[i].name)) return known[i].kind;
    build_refuse(b, "config.json: the activation '%.40s' is not supported", name);
    return STRAND_UNARY_IDENTITY;
}

void build_lengths(builder *b, int64_t longest) {
    b->m->max_length = longest ? longest : (int64_t)1 << 31;
    b->m->window = longest && longest < 2048 ? longest : 2048;
}

strand_status build_settings(builder *b) {
    const char *given = config_given(b->config, "precision");
    if (given && strcmp(given, "f32") != 0 && strcmp(given, "bf16") != 0 && strcmp(given, "f16") != 0)
        return error_set(b->e, STRAND_ERR_ARGUMENT, "setting precision=%.40s is none of f32, f16, bf16", given);
    b->precision = given && !strcmp(given, "bf16") ? STRAND_PRECISION_BF16 : STRAND_PRECISION_F32;
    b->halves = given && !strcmp(given, "f16");
    return config_record(b->m, "precision", b->halves ? "f16" : b->precision ? "bf16" : "f32", b->e);
}

/* ---- GGUF ---- */

const char *build_architecture(const builder *b) {
    return gguf_text(b->m->weights, "general.architecture", NULL);
}

/* "llama.rope.freq_base" for "rope.freq_base". */
static const gguf_value *meta(const builder *b, const char *key) {
    char full[128];
    const char *architecture = build_architecture(b);
    if (!architecture || (size_t)snprintf(full, sizeof full, "%s.%s", architecture, key) >= sizeof full) return NULL;
    const gguf_value *v = weights_gguf(b->m->weights, full);
    return v && !v->array ? v : NULL;
}

int64_t build_meta_int(builder *b, const char *key, int64_t fallback, int64_t low, int64_t high) {
    const gguf_value *v = meta(b, key);
    int64_t n = v ? gguf_int_at(v, 0, INT64_MIN) : fallback;
    if (n >= low && n <= high) return n;
    if (v)
        build_refuse(b, "metadata '%s' is %lld; expected %lld to %lld", v->key, (long long)n, (long long)low, (long long)high);
    else
        build_refuse(b, "the file's metadata has no '%s.%s'", build_architecture(b) ? build_architecture(b) : "", key);
    return low;
}

double build_meta_number(builder *b, const char *key, double fallback, double low, double high) {
    const gguf_value *v = meta(b, key);
    double n = v ? gguf_number_at(v, 0, NAN) : fallback;
    if (n >= low && n <= high) return n;
    build_refuse(b, "metadata '%s.%s' is %g; expected %g to %g", build_architecture(b) ? build_architecture(b) : "", key, n,
                 low, high);
    return low;
}

bool build_meta_bool(const builder *b, const char *key, bool fallback) {
    const gguf_value *v = meta(b, key);
    return v ? gguf_int_at(v, 0, fallback) != 0 : fallback;
}

const char *build_meta_text(const builder *b, const char *key, const char *fallback) {
    char full[128];
    const char *architecture = build_architecture(b);
    if (!architecture || (size_t)snprintf(full, sizeof full, "%s.%s", architecture, key) >= sizeof full) return fallback;
    return gguf_text(b->m->weights, full, fallback);
}

/* support.c - see support.h. */
#define _GNU_SOURCE
#include "support.h"

#include <math.h>

/* ---- allocator ---- */

#define STAMP 0x5354524eu

typedef struct header {
    void *raw;
    size_t size;
    uint32_t stamp;
} header;

static void *counting_alloc(void *user, size_t size, size_t align) {
    counting *c = user;
    c->calls++;
    if (c->fail_at && (c->calls == c->fail_at || (c->fail_on && c->calls > c->fail_at))) return NULL;
    if (align < 16) align = 16;
    unsigned char *raw = malloc(size + align + sizeof(header));
    if (!raw) return NULL;
    size_t before = sizeof(header);
    before += (size_t)(-(uintptr_t)(raw + before) & (align - 1));
    header h = {raw, size, STAMP};
    memcpy(raw + before - sizeof h, &h, sizeof h);
    unsigned char *at = raw + before;
    memset(at, 0xa5, size);
    c->live++;
    c->bytes += size;
    if (c->bytes > c->most) c->most = c->bytes;
    return at;
}

static void counting_free(void *user, void *block, size_t size) {
    counting *c = user;
    header h;
    if (!block) return;
    memcpy(&h, (unsigned char *)block - sizeof h, sizeof h);
    if (h.stamp != STAMP || h.size != size) {
        c->wrong++;
        return;
    }
    memset((unsigned char *)block - sizeof h, 0, sizeof h);
    c->live--;
    c->bytes -= size;
    free(h.raw);
}

strand_allocator counting_allocator(counting *c) {
    return (strand_allocator){counting_alloc, counting_free, c};
}

/* ---- random ---- */

uint64_t random_next(randoms *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

int64_t random_below(randoms *r, int64_t n) {
    return n > 1 ? (int64_t)(random_next(r) % (uint64_t)n) : 0;
}

float random_real(randoms *r) {
    return (float)((double)(random_next(r) >> 11) / 4503599627370496.0 - 1.0);
}

void random_fill(randoms *r, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) x[i] = scale * random_real(r);
}

uint64_t random_seed(const char *test, uint64_t fallback) {
    const char *given = getenv("STRAND_TEST_SEED");
    uint64_t seed = given && *given ? strtoull(given, NULL, 10) : fallback;
    print_message("%s: seed %llu (replay with STRAND_TEST_SEED)\n", test, (unsigned long long)seed);
    return seed;
}

/* ---- paths ---- */

static char *next_text(void) {
    static char texts[8][512];
    static unsigned at;
    return texts[at++ % 8];
}

static const char *join(const char *root, const char *format, va_list args) {
    char *text = next_text();
    int n = snprintf(text, 512, "%s/", root ? root : ".");
    if (n > 0 && n < 512) vsnprintf(text + n, 512 - (size_t)n, format, args);
    return text;
}

const char *source_path(const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *path = join(getenv("STRAND_SOURCE"), format, args);
    va_end(args);
    return path;
}

const char *build_path(const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *path = join(getenv("STRAND_BUILD"), format, args);
    va_end(args);
    return path;
}

const char *shared_path(const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *root = getenv("STRAND_SHARED"), *path = root ? join(root, format, args) : NULL;
    va_end(args);
    FILE *f = path ? fopen(path, "r") : NULL; /* folders open too */
    if (f) fclose(f);
    return f ? path : NULL;
}

const char *faraway_folder(void) {
    return build_path("tests/plugins/faraway");
}

/* ---- contexts ---- */

void log_counter(void *user, strand_log_level level, const char *text) {
    log_count *log = user;
    if (strstr(text, "ABI violation")) log->violations++;
    if (level != STRAND_LOG_ERROR) return;
    log->errors++;
    snprintf(log->last, sizeof log->last, "%s", text);
}

strand_context *open_context(const open_with *how) {
    strand_context_params p;
    strand_allocator memory;
    strand_context *c = NULL;
    char path[1100] = "";
    strand_context_params_init(&p);
    p.threads = how->threads ? how->threads : 1;
    p.cpu_mask = how->cpu_mask;
    if (how->memory) {
        memory = counting_allocator(how->memory);
        p.allocator = &memory;
    }
    if (how->log) {
        p.log = log_counter;
        p.log_user = how->log;
    }
    snprintf(path, sizeof path, "%s%s%s", how->faraway ? faraway_folder() : "", how->faraway && how->plugin_path ? ":" : "",
             how->plugin_path ? how->plugin_path : "");
    if (path[0]) p.plugin_path = path;
    strand_status status = strand_context_open(&p, &c);
    if (status) fail_msg("no context: status %s", strand_status_name(status));
    if (how->faraway && !has_backend(c, "faraway")) fail_msg("the test plugin is not in %s", faraway_folder());
    return c;
}

bool has_backend(const strand_context *c, const char *name) {
    strand_backend_info info;
    for (int32_t i = 0; i < strand_backend_count(c); i++)
        if (!strand_backend_get(c, i, &info) && !strcmp(info.name, name)) return true;
    return false;
}

static void set(const char *name, const char *value) {
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

void faraway_env(const char *queue, const char *subset, const char *fault) {
    set("STRAND_FARAWAY_QUEUE", queue);
    set("STRAND_FARAWAY_SUBSET", subset);
    set("STRAND_FARAWAY_FAIL", fault);
}

/* ---- comparisons ---- */

void assert_ok_(const strand_context *c, strand_status status, const char *what, const char *file, int line) {
    if (!status) return;
    print_error("%s\n  -> %s: %s\n", what, strand_status_name(status), strand_error(c));
    _fail(file, line);
}

double largest_difference(const float *a, const float *b, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= most)) most = isnan(d) ? INFINITY : d;
    }
    return most;
}

double largest_magnitude(const float *a, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i]) <= most)) most = isnan(a[i]) ? INFINITY : fabs((double)a[i]);
    return most;
}

void assert_same_bytes(const void *a, const void *b, size_t bytes, const char *what) {
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < bytes; i++)
        if (x[i] != y[i]) {
            size_t k = i / sizeof(float);
            float u = 0, v = 0;
            memcpy(&u, x + k * sizeof u, sizeof u);
            memcpy(&v, y + k * sizeof v, sizeof v);
            fail_msg("%s: element %zu differs (as F32: %.9g and %.9g)", what, k, (double)u, (double)v);
        }
}

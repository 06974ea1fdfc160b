/* test_ops.c - the operator tester: any plugin against the reference module, through the ABI.
 *
 *   test_ops --plugin strand-x.so --reference strand-cpu-reference.so [--seed N] [--op NAME] [--cases N] [--mask N] [--bench]
 *            [--full-only]    (skipped unless STRAND_TEST_SAMPLE is full)
 *            [--matrices]     (products of halves fail where the device has no cooperative matrices)
 *            [--except A,B]   (families that another test has)
 *            [--share K/N]    (every N-th family from the K-th on, so that N of them run beside each other)
 *            [--drawn K/N]    (skipped where STRAND_TEST_SEED draws another of N tests that stand for each other)
 *
 * Each case is run whole and compared with the double-precision reference; then again in every way that must not change a byte:
 * with more workers in random order, cut into pieces along every axis that the op table allows, with inputs wider than the
 * piece needs, with everything the piece does not need turned to NaN, in place, with and without its prepared constant, and
 * as a claimed group. The working memory that it asks for must not fall as a batch or a length grows. The seed is printed;
 * the same seed makes the same cases on every machine. Exit code 77: this plugin cannot run here. A plugin that does not
 * support a case is not blamed for it. STRAND_TEST_ONE_IN=N takes of each N cases of a family in a row the one that
 * STRAND_TEST_SEED draws, two of a family at least, and prints so. Whatever a plugin logs as an error or a warning fails the
 * run: with STRAND_VULKAN_VALIDATE=1 those are the messages of the validation layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops_cases.h"
#include "ops_run.h"

static struct settings {
    const char *plugin, *reference, *op, *says; /* says: part of the one message that the plugin is to log */
    const char *except, *drawn;
    uint64_t seed;
    int cases;
    int one_in;        /* of so many cases in a row one is run */
    int share, shares; /* and of the families those whose number leaves `share` */
    uint32_t mask; /* features of the processor that are hidden from the plugin */
    bool bench, full_only, matrices;
} settings = {.cases = 48, .one_in = 1, .shares = 1};

static ops_plugin judged, judge;

typedef struct counts {
    int cases, unsupported, claimed, pieces, sizes;
    double worst; /* error, relative to what the case allows over its row's tolerance */
} counts;

/* One case at hand, for messages. */
typedef struct at {
    const ops_family *family;
    int index;
    const ops_program *g;
    counts *n;
} at;

static void blame(const at *a, const char *what, const char *why) {
    print_error("%s case %d (%s): %s%s%s\n  again: --plugin %s --seed %llu --op %s\n", a->family->name, a->index, a->g->text,
                what, why[0] ? ": " : "", why, settings.plugin, (unsigned long long)settings.seed, a->family->name);
    fail();
}

/* ---- looking at results ---- */

static const ops_node *last_node(const ops_program *g) {
    return &g->nodes[g->n_nodes - 1];
}

static double value(const unsigned char *bytes, uint32_t dtype) {
    float f = 0;
    int64_t id = 0;
    if (dtype == STRAND_PLUGIN_I64 || dtype == STRAND_PLUGIN_I32) {
        int32_t small = 0;
        memcpy(dtype == STRAND_PLUGIN_I64 ? (void *)&id : (void *)&small, bytes, dtype == STRAND_PLUGIN_I64 ? 8 : 4);
        return dtype == STRAND_PLUGIN_I64 ? (double)id : (double)small;
    }
    uint16_t h = 0;
    if (dtype == STRAND_PLUGIN_F32) {
        memcpy(&f, bytes, 4);
        return (double)f;
    }
    memcpy(&h, bytes, 2);
    return h; /* halves are compared as bits */
}

static size_t size_of(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_I64 ? 8 : dtype == STRAND_PLUGIN_F32 || dtype == STRAND_PLUGIN_I32 ? 4 : 2;
}

static bool whole_number(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_I64 || dtype == STRAND_PLUGIN_I32;
}

static bool is_nan(const unsigned char *bytes, uint32_t dtype) {
    if (whole_number(dtype)) return false;
    if (dtype == STRAND_PLUGIN_F32) return isnan(value(bytes, dtype));
    uint16_t h;
    memcpy(&h, bytes, 2);
    return dtype == STRAND_PLUGIN_F16 ? (h & 0x7fff) > 0x7c00 : (h & 0x7fff) > 0x7f80;
}

/* The largest difference from the reference of tensor `out`, relative to its largest value; NaN must meet NaN, and a whole
 * number the same one. */
static double distance(const ops_program *g, int out, const ops_result *mine, const ops_result *good) {
    const ops_tensor *t = &g->tensors[out];
    double most = 0, worst = 0;
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        uint64_t where = ops_place(t, &t->view, i);
        const unsigned char *a = mine->after[out] + where, *b = good->after[out] + where;
        bool nan = is_nan(b, t->view.dtype);
        if (nan && is_nan(a, t->view.dtype)) continue;
        double x = value(a, t->view.dtype), y = value(b, t->view.dtype);
        if (x == y) continue;
        if (nan || !(fabs(x - y) < 1e300) || whole_number(t->view.dtype)) return INFINITY;
        if (fabs(x - y) > worst) worst = fabs(x - y);
    }
    for (int64_t i = 0; i < n; i++) {
        double y = fabs(value(good->after[out] + ops_place(t, &t->view, i), t->view.dtype));
        if (y > most && y < 1e300) most = y;
    }
    return worst / (most > 1e-30 ? most : 1);
}

/* Are the elements of `piece` of tensor `out` the same bytes in two runs? a stands in tensor a_at, whose strides it has. */
static bool same_bytes(const ops_program *g, const ops_result *a, int a_at, const ops_result *b, int out,
                       const strand_plugin_tensor *piece) {
    strand_plugin_tensor a_view = *piece;
    memcpy(a_view.strides, g->tensors[a_at].view.strides, sizeof a_view.strides);
    int64_t n = ops_count(piece);
    for (int64_t i = 0; i < n; i++) {
        const unsigned char *x = a->after[a_at] + ops_place(&g->tensors[a_at], &a_view, i);
        const unsigned char *y = b->after[out] + ops_place(&g->tensors[out], piece, i);
        if (memcmp(x, y, size_of(piece->dtype))) return false;
    }
    return true;
}

/* The input that the second output may overwrite, or the second output itself. */
static int state_of(const ops_node *n) {
    for (uint32_t k = 0; k < n->n_inputs; k++)
        if ((op_find(n->op)->second_in_place >> k & 1) && n->inputs[k] >= 0) return n->inputs[k];
    return n->second;
}

/* ---- the checks ---- */

/* Runs once more in another way: the piece that it makes must have the bytes of `base`. */
static void again(const at *a, const ops_program *g, const ops_options *o, const ops_result *base, const char *what) {
    ops_result r;
    char why[400];
    int code = ops_run(&judged, g, o, &r, why, sizeof why);
    int home = o->alias ? g->nodes[0].inputs[0] : last_node(g)->output;
    strand_plugin_tensor piece = g->tensors[last_node(g)->output].view;
    if (o->axis >= 0) ops_cut(&piece, o->axis, o->begin, o->end);
    if (code == OPS_FAILED || code == OPS_ERROR) blame(a, what, why);
    if (code == OPS_OK && !same_bytes(g, &r, home, base, last_node(g)->output, &piece)) blame(a, what, "other bytes");
    int second = last_node(g)->second;
    if (code == OPS_OK && o->axis < 0 && second >= 0 &&
        !same_bytes(g, &r, o->over_state ? state_of(last_node(g)) : second, base, second, &g->tensors[second].view))
        blame(a, what, "other bytes in the second output");
    if (code == OPS_OK) a->n->pieces++;
    ops_result_free(&r);
}

/* Turns to NaN what [begin, end) of `axis` does not need of the floating-point inputs. */
static void poison(ops_program *g, const ops_views *v) {
    for (int i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].n_inputs; k++) {
            int index = g->nodes[i].inputs[k];
            if (index < 0) continue;
            ops_tensor *t = &g->tensors[index];
            if (t->view.dtype == STRAND_PLUGIN_I32 || t->view.dtype == STRAND_PLUGIN_I64) continue;
            unsigned char *mask = calloc(1, t->bytes);
            if (!mask) abort();
            ops_mark(t, &v->inputs[i][k], mask);
            for (uint64_t b = 0; b < t->bytes; b++)
                if (!mask[b]) t->start[b] = 0xff;
            free(mask);
        }
}

static void copy_starts(const ops_program *g, ops_program *copy) {
    *copy = *g;
    for (int i = 0; i < g->n_tensors; i++) {
        copy->tensors[i].start = malloc(g->tensors[i].bytes);
        if (!copy->tensors[i].start) abort();
        memcpy(copy->tensors[i].start, g->tensors[i].start, g->tensors[i].bytes);
    }
}

/* Pieces along one axis: [0, cut) and [cut, end), exact and with wide inputs, and one of them with NaN all around. */
static void check_axis(const at *a, ops_program *g, int axis, bool grouped, bool prepared, const ops_result *base) {
    int64_t whole = g->tensors[last_node(g)->output].view.dims[axis];
    if (!whole) return;
    int64_t cut = whole > 1 ? ops_between(g, 1, whole - 1) : 1;
    ops_options o = {.workers = 1, .axis = axis, .begin = 0, .end = cut, .grouped = grouped, .prepared = prepared};
    again(a, g, &o, base, "the first piece of an axis");
    if (whole > 1) {
        o.begin = cut, o.end = whole, o.workers = 2;
        again(a, g, &o, base, "the second piece of an axis");
    }
    if (!grouped) {
        o.loose = true;
        again(a, g, &o, base, "a piece made from wide inputs");
        o.loose = false;
    }
    ops_views v;
    if (grouped || !ops_tile(g, axis, o.begin, o.end, &v)) return;
    ops_program copy;
    copy_starts(g, &copy);
    poison(&copy, &v);
    ops_options all = {.workers = 1, .axis = -1, .prepared = prepared};
    ops_result r;
    char why[400];
    int code = ops_run(&judged, &copy, &all, &r, why, sizeof why);
    strand_plugin_tensor piece = v.outputs[g->n_nodes - 1];
    if (code) blame(a, "with NaN in what a piece does not need", why);
    if (!same_bytes(g, &r, last_node(g)->output, base, last_node(g)->output, &piece))
        blame(a, "NaN spread to another part", "");
    ops_result_free(&r);
    ops_program_free(&copy);
}

static bool same_form(const strand_plugin_tensor *a, const strand_plugin_tensor *b) {
    return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, a->rank * sizeof *a->dims);
}

static void check_ways(const at *a, ops_program *g, bool grouped, const ops_result *base) {
    const strand_plugin_tensor *out = &g->tensors[last_node(g)->output].view;
    ops_options o = {.workers = 3, .axis = -1, .grouped = grouped};
    again(a, g, &o, base, "three workers in random order");
    o.workers = 1, o.prepared = true;
    again(a, g, &o, base, "with what was prepared");
    for (uint32_t axis = 0; axis < out->rank; axis++) check_axis(a, g, (int)axis, grouped, axis & 1, base);
    const ops_node *n = &g->nodes[0];
    if (g->n_nodes == 1 && (op_find(n->op)->in_place & 1) && same_form(out, &g->tensors[n->inputs[0]].view)) {
        ops_options alias = {.workers = 2, .axis = -1, .alias = true};
        again(a, g, &alias, base, "in place");
    }
    if (!grouped && g->n_nodes == 1 && n->second >= 0 && state_of(n) != n->second) {
        ops_options over = {.workers = 2, .axis = -1, .over_state = true};
        again(a, g, &over, base, "with the state in place");
    }
}

/* Keys and values behind the valid ones are NaN in the cases: zeros there give the same bytes. */
static void check_behind(const at *a, const ops_program *g, const ops_result *base) {
    const ops_node *n = &g->nodes[0];
    if (g->n_nodes != 1 || n->op != STRAND_OP_ATTENTION || n->inputs[3] < 0) return;
    const ops_tensor *length = &g->tensors[n->inputs[3]];
    ops_program copy;
    copy_starts(g, &copy);
    for (int k = 1; k < 3; k++) {
        ops_tensor *t = &copy.tensors[n->inputs[k]];
        const int64_t *dims = t->view.dims;
        for (int64_t b = 0; b < dims[0]; b++) {
            int64_t valid = 0; /* of either type, as this machine's bytes stand */
            memcpy(&valid, length->start + ops_place(length, &length->view, length->view.dims[0] > 1 ? b : 0),
                   size_of(length->view.dtype));
            for (int64_t i = (b * dims[1] + valid) * dims[2]; i < (b + 1) * dims[1] * dims[2]; i++)
                memset(t->start + ops_place(t, &t->view, i), 0, size_of(t->view.dtype));
        }
    }
    ops_options o = {.workers = 1, .axis = -1};
    again(a, &copy, &o, base, "with zeros behind the valid keys");
    ops_program_free(&copy);
}

static bool covered[256]; /* operators that some case has */

static uint64_t name_hash(const char *name) {
    uint64_t h = 14695981039346656037ull;
    while (*name) h = (h ^ (unsigned char)*name++) * 1099511628211ull;
    return h;
}

/* Nothing, or the one message that is wanted. */
static bool logged_well(void) {
    if (!settings.says) return !judged.host.messages;
    return judged.host.messages < 2 && (!judged.host.messages || strstr(judged.host.message, settings.says));
}

static void check_case(const ops_family *family, int index, counts *n) {
    ops_program g;
    ops_result mine, good;
    char why[400];
    ops_program_begin(&g, settings.seed * 1000003 + (uint64_t)index * 131 + name_hash(family->name));
    family->make(&g, index);
    for (int i = 0; i < g.n_nodes; i++) covered[g.nodes[i].op] = true;
    at a = {family, index, &g, n};
    ops_options o = {.workers = 1, .axis = -1, .repeat = settings.bench ? 5 : 0};
    int code = ops_run(&judged, &g, &o, &mine, why, sizeof why);
    if (code == OPS_FAILED || code == OPS_ERROR) blame(&a, "run", why);
    n->cases++;
    /* Hundreds of sizes each: the first cases show the forms. */
    if (!settings.bench && index < 6 && !ops_scratch_grows(&judged, &g, &n->sizes, why, sizeof why))
        blame(&a, "working memory for less", why);
    n->unsupported += code == OPS_UNSUPPORTED;
    if (code == OPS_OK && settings.bench) {
        double elements = (double)ops_count(&g.tensors[last_node(&g)->output].view);
        printf("%-12s %10.1f us %9.3f ns/element  %s\n", family->name, 1e6 * mine.seconds, 1e9 * mine.seconds / elements,
               g.text);
    } else if (code == OPS_OK) {
        if (ops_run(&judge, &g, &o, &good, why, sizeof why)) blame(&a, "the reference", why);
        float tolerance = 0;
        for (int i = 0; i < g.n_nodes; i++) tolerance += op_find(g.nodes[i].op)->tolerance;
        tolerance *= (float)g.slack;
        double d = distance(&g, last_node(&g)->output, &mine, &good);
        if (last_node(&g)->second >= 0) d = fmax(d, distance(&g, last_node(&g)->second, &mine, &good));
        snprintf(why, sizeof why, "%.3g of the largest value, allowed %.3g", d, (double)tolerance);
        if (!(d <= (double)tolerance)) blame(&a, "differs from the reference", why);
        if (g.n_nodes == 1 && d / g.slack > n->worst) n->worst = d / g.slack;
        ops_result_free(&good);
        check_ways(&a, &g, false, &mine);
        check_behind(&a, &g, &mine);
        if (family->group && ops_claim(&judged, &g) == (uint32_t)g.n_nodes) {
            ops_options group = {.workers = 2, .axis = -1, .grouped = true};
            n->claimed++;
            again(&a, &g, &group, &mine, "as a group");
            check_ways(&a, &g, true, &mine);
        }
    }
    if (!logged_well()) blame(&a, "the plugin's log", judged.host.message);
    ops_result_free(&mine);
    ops_program_free(&g);
}

/* A device with cooperative matrices multiplies halves by them; where it has none, that is said, and fails with --matrices. */
static void test_matrices(void) {
    char text[4096] = "";
    const char *line = NULL;
    if (judged.api->device_features && !judged.api->device_features(judged.instance, 0, text, sizeof text))
        line = strstr(text, "cooperative matrices=");
    if (!line || !strncmp(strchr(line, '=') + 1, "no", 2)) {
        if (settings.matrices) fail_msg("no cooperative matrices on this device");
        if (!strcmp(judged.table.name, "vulkan")) print_message("no cooperative matrices on this device: not run\n");
        return;
    }
    print_message("%.*s: %s\n", (int)strcspn(line, "\n"), line, judged.host.matrices ? "used" : "not used");
    if (!judged.host.matrices) fail_msg("the device has cooperative matrices, but products of halves do without");
}

static void test_family(void **state) {
    const ops_family *family = *state;
    counts n = {0};
    for (int i = 0; i < settings.cases; i++)
        if (ops_sampled(settings.one_in, family->name, i)) check_case(family, i, &n);
    if (settings.bench) return;
    print_message(
        "%s: %d cases, %d not supported, %d other ways to the same bytes, %d sizes of working memory, worst error %.2g",
        family->name, n.cases, n.unsupported, n.pieces, n.sizes, n.worst);
    if (family->group) print_message(", %d claimed as a group", n.claimed);
    print_message("\n");
    if (!strcmp(family->name, "matmul_halves") || !strcmp(family->name, "matmul_extremes")) test_matrices();
    bool cpu = !strcmp(judged.table.name, "cpu");
    if (cpu && n.unsupported) fail_msg("the CPU must support every case");
    if (cpu && family->group && n.cases >= 10 && n.claimed < n.cases / 2)
        fail_msg("the CPU no longer claims this group");
}

/* An id outside the table is the caller's error, named, and no more than that. */
static void test_bad_id(void **state) {
    int64_t table_dims[2] = {7, 16}, dims[3] = {2, 9, 16};
    ops_options o = {.workers = 1, .axis = -1};
    (void)state;
    for (int round = 0; round < 4; round++) {
        ops_program g;
        ops_result r;
        char why[400];
        ops_program_begin(&g, (uint64_t)round);
        g.strided = false;
        int in[2] = {ops_add(&g, STRAND_PLUGIN_F32, 2, table_dims, OPS_NORMAL), ops_add_ids(&g, STRAND_PLUGIN_I32, 2, dims, 7)};
        int32_t bad = round & 1 ? -1 : 7;
        memcpy(g.tensors[in[1]].start + ops_place(&g.tensors[in[1]], &g.tensors[in[1]].view, round < 2 ? 17 : 3), &bad, 4);
        ops_add_node(&g, STRAND_OP_GATHER, NULL, 0, 2, in, ops_add(&g, STRAND_PLUGIN_F32, 3, dims, OPS_OUTPUT));
        int code = ops_run(&judged, &g, &o, &r, why, sizeof why);
        if (code != OPS_UNSUPPORTED) {
            assert_int_equal(code, OPS_ERROR);
            assert_non_null(strstr(judged.host.failure, round & 1 ? "-1" : "7"));
        }
        ops_result_free(&r);
        ops_program_free(&g);
    }
}

/* Runs last: a new operator needs cases. */
static void test_every_operator(void **state) {
    (void)state;
    for (uint32_t i = 0; i < op_count(); i++)
        if (!covered[op_at(i)->id]) fail_msg("no case has operator %s", op_at(i)->name);
}

/* Each pair once: of two rows for one operator the first would be run and the other would rot. */
static void test_operators_once(void **state) {
    (void)state;
    for (uint32_t i = 0; i < judged.table.n_ops; i++)
        for (uint32_t j = 0; j < i; j++)
            if (judged.table.ops[i].op == judged.table.ops[j].op && judged.table.ops[i].version == judged.table.ops[j].version)
                fail_msg("operator %u stands twice in the plugin's list", judged.table.ops[i].op);
}

static void test_unknown_operator(void **state) {
    strand_plugin_tensor t = {.dtype = STRAND_PLUGIN_F32, .rank = 1, .dims = {4}, .strides = {1}, .whole = {4}};
    strand_plugin_node node = {.op = 60000, .version = 1, .n_inputs = 1, .n_outputs = 1, .inputs = &t, .outputs = &t};
    char why[80] = "";
    (void)state;
    assert_int_not_equal(judged.api->supports(judged.device, &node, why, sizeof why), STRAND_PLUGIN_OK);
    node.op = STRAND_OP_UNARY;
    node.version = 999;
    assert_int_not_equal(judged.api->supports(judged.device, &node, why, sizeof why), STRAND_PLUGIN_OK);
}

/* ---- the program ---- */

static bool arguments(int argc, char **argv) {
    settings.seed = (uint64_t)time(NULL) % 1000000;
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--bench")) {
            settings.bench = true;
            continue;
        }
        if (!strcmp(argv[i], "--matrices")) {
            settings.matrices = true;
            continue;
        }
        if (!strcmp(argv[i], "--full-only")) {
            settings.full_only = true;
            continue;
        }
        if (!next) return false;
        if (!strcmp(argv[i], "--plugin")) settings.plugin = next;
        if (!strcmp(argv[i], "--reference")) settings.reference = next;
        if (!strcmp(argv[i], "--op")) settings.op = next;
        if (!strcmp(argv[i], "--seed")) settings.seed = strtoull(next, NULL, 10);
        if (!strcmp(argv[i], "--cases")) settings.cases = atoi(next);
        if (!strcmp(argv[i], "--says")) settings.says = next;
        if (!strcmp(argv[i], "--except")) settings.except = next;
        if (!strcmp(argv[i], "--drawn")) settings.drawn = next;
        if (!strcmp(argv[i], "--share")) {
            char *rest = NULL;
            settings.share = (int)strtol(next, &rest, 10) - 1;
            settings.shares = *rest == '/' ? atoi(rest + 1) : 0;
            if (settings.share < 0 || settings.share >= settings.shares) return false;
        }
        if (!strcmp(argv[i], "--mask")) settings.mask = (uint32_t)strtoul(next, NULL, 0);
        i++;
    }
    return settings.plugin && settings.reference;
}

int main(int argc, char **argv) {
    char why[300] = "";
    if (!arguments(argc, argv)) {
        fprintf(stderr,
                "usage: test_ops --plugin FILE --reference FILE [--seed N] [--op NAME] [--cases N] [--mask N] [--says TEXT] "
                "[--except NAME,NAME] [--share K/N] [--drawn K/N] [--full-only] [--bench] [--matrices]\n");
        return 2;
    }
    const char *sample = getenv("STRAND_TEST_SAMPLE");
    if (settings.full_only && (!sample || strcmp(sample, "full")))
        return printf("only with STRAND_TEST_SAMPLE=full: skipped\n"), 77;
    if (settings.drawn && !ops_drawn(settings.drawn)) return printf("not drawn by STRAND_TEST_SEED: skipped\n"), 77;
    if (!settings.bench) settings.one_in = ops_one_in(settings.cases);
    int code = ops_open(&judge, settings.reference, why, sizeof why);
    if (code) return fprintf(stderr, "%s: %s\n", settings.reference, why), code;
    code = ops_open_masked(&judged, settings.plugin, settings.mask, why, sizeof why);
    if (code) {
        printf("%s: %s%s\n", settings.plugin, why, code == 77 ? ": skipped" : "");
        return code;
    }
    printf("%s: %s, seed %llu\n", judged.table.name, judged.info.description, (unsigned long long)settings.seed);
    struct CMUnitTest tests[128];
    int n = 0, at = 0;
    for (int s = 0; s < ops_n_case_sets; s++)
        for (int i = 0; i < *ops_case_sets[s].n; i++) {
            const ops_family *from = &ops_case_sets[s].families[i];
            if (settings.op ? strcmp(settings.op, from->name) != 0 : ops_on_request(from)) continue;
            if (ops_listed(settings.except, from->name) || at++ % settings.shares != settings.share) continue;
            ops_family *family = NULL;
            memcpy(&family, &from, sizeof family);
            tests[n++] = (struct CMUnitTest){from->name, test_family, NULL, NULL, family};
        }
    if (!n) return fprintf(stderr, "no family of cases is named '%s'\n", settings.op), 2;
    if (!settings.op && !settings.bench) {
        tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_bad_id);
        tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_operators_once);
        tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_unknown_operator);
        if (settings.shares == 1) tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_every_operator);
    }
    int failed = _cmocka_run_group_tests("ops", tests, (size_t)n, NULL, NULL);
    int64_t left = ops_close(&judged);
    if (left) fprintf(stderr, "%lld allocations were not given back\n", (long long)left);
    bool logged = logged_well() && (!settings.says || judged.host.messages);
    if (!logged)
        fprintf(stderr, "%lld messages in the plugin's log, the first: %s\n", (long long)judged.host.messages,
                judged.host.message);
    ops_close(&judge);
    return failed || left || !logged ? 1 : 0;
}

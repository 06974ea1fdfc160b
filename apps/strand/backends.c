/* backends.c - `strand backends`: devices that can compute here, with what their plugins use of them, and plugins that were
 * refused, each with the reason. For people, or as JSON. */
#include "commands.h"
#include "runtime.h"
#include "escape.h"

#include <inttypes.h>
#include <string.h>

static void print_memory(const strand_backend_info *b) {
    if (b->host_memory)
        printf("  memory    the host's\n");
    else
        printf("  memory    %.1f GiB of its own\n", (double)b->memory / (1 << 30));
}

/* Type and driver have lines of their own; the others stand together, a line each. */
static void print_backend(const runtime *rt, int32_t index, const strand_backend_info *b) {
    const char *name, *value, *title = "features";
    printf("%s\n  device    %s\n", b->name, b->description);
    for (int32_t i = 0; strand_backend_feature(rt->context, index, i, &name, &value) == STRAND_OK; i++)
        if (!strcmp(name, "type") || !strcmp(name, "driver")) printf("  %-9s %s\n", name, value);
    print_memory(b);
    for (int32_t i = 0; strand_backend_feature(rt->context, index, i, &name, &value) == STRAND_OK; i++) {
        if (!strcmp(name, "type") || !strcmp(name, "driver")) continue;
        printf("  %-9s %s: %s\n", title, name, value);
        title = "";
    }
    printf("  plugin    %s, version %s, score %d\n", b->plugin, b->version, b->score);
}

static void json_pair(output *out, const char *before, const char *name, const char *value) {
    output_printf(out, "%s", before);
    write_json_text(out, name);
    output_printf(out, ": ");
    write_json_text(out, value);
}

static void json_backend(output *out, const runtime *rt, int32_t index, const strand_backend_info *b) {
    const char *name, *value;
    json_pair(out, "  {", "name", b->name);
    json_pair(out, ", ", "device", b->description);
    output_printf(out, ", \"host_memory\": %s, \"memory_bytes\": %" PRIu64, b->host_memory ? "true" : "false", b->memory);
    json_pair(out, ", ", "plugin", b->plugin);
    json_pair(out, ", ", "version", b->version);
    output_printf(out, ", \"score\": %d, \"features\": {", b->score);
    for (int32_t i = 0; strand_backend_feature(rt->context, index, i, &name, &value) == STRAND_OK; i++)
        json_pair(out, i ? ", " : "", name, value);
    output_printf(out, "}}");
}

/* {"backends": [...], "refused": [...]} */
static int json_all(const runtime *rt, int32_t n) {
    output *out = output_open("-");
    const char *file, *why;
    strand_backend_info info;
    if (!out) return EXIT_FAILED;
    output_printf(out, "{\"backends\": [");
    for (int32_t i = 0; i < n; i++) {
        if (strand_backend_get(rt->context, i, &info) != STRAND_OK) continue;
        output_printf(out, "%s\n", i ? "," : "");
        json_backend(out, rt, i, &info);
    }
    output_printf(out, "\n], \"refused\": [");
    for (int32_t i = 0; strand_refused_get(rt->context, i, &file, &why) == STRAND_OK; i++) {
        output_printf(out, "%s\n", i ? "," : "");
        json_pair(out, "  {", "plugin", file);
        json_pair(out, ", ", "why", why);
        output_printf(out, "}");
    }
    output_printf(out, "\n]}\n");
    return output_close(out, 1) ? EXIT_FAILED : EXIT_DONE;
}

static void print_all(const runtime *rt, const options *settings, int32_t n) {
    const char *file, *why;
    strand_backend_info info;
    for (int32_t i = 0; i < n; i++) {
        if (strand_backend_get(rt->context, i, &info) != STRAND_OK) continue;
        if (settings->devices)
            printf("%s\n", info.name);
        else
            print_backend(rt, i, &info);
    }
    for (int32_t i = 0; !settings->devices && i < strand_refused_count(rt->context); i++)
        if (strand_refused_get(rt->context, i, &file, &why) == STRAND_OK) printf("refused %s\n  %s\n", file, why);
}

int run_backends(const options *settings) {
    runtime rt;
    int rc = runtime_open_context(&rt, settings);
    if (rc) return rc;
    const int32_t n = strand_backend_count(rt.context);
    rc = n ? EXIT_DONE : EXIT_FAILED;
    if (settings->backends_format && !settings->devices) {
        if (json_all(&rt, n)) rc = EXIT_FAILED;
    } else {
        print_all(&rt, settings, n);
    }
    if (n == 0) complain("no backend was found; reinstall Strand, or give --plugins DIR");
    runtime_close(&rt);
    return rc;
}

/* backends.c - `strand backends`: devices that can compute here, and plugins that were refused, each with the reason.
 */
#include "commands.h"
#include "common.h"

#include <inttypes.h>

static void print_backend(const strand_backend_info *b) {
    printf("%s\n  device   %s\n  plugin   %s, version %s, score %d\n", b->name, b->description, b->plugin, b->version,
           b->score);
    if (b->host_memory)
        printf("  memory   the host's\n");
    else
        printf("  memory   %.1f GiB of its own\n", (double)b->memory / (1 << 30));
}

int run_backends(const options *settings) {
    runtime rt;
    strand_backend_info info;
    const char *file, *why;
    const int rc = runtime_open_context(&rt, settings);
    if (rc) return rc;
    const int32_t n = strand_backend_count(rt.context);
    for (int32_t i = 0; i < n; i++) {
        if (strand_backend_get(rt.context, i, &info) != STRAND_OK) continue;
        if (settings->devices)
            printf("%s\n", info.name);
        else
            print_backend(&info);
    }
    for (int32_t i = 0; !settings->devices && i < strand_refused_count(rt.context); i++)
        if (strand_refused_get(rt.context, i, &file, &why) == STRAND_OK) printf("refused %s\n  %s\n", file, why);
    if (n == 0) complain("no backend was found; reinstall Strand, or give --plugins DIR");
    runtime_close(&rt);
    return n ? EXIT_DONE : EXIT_FAILED;
}

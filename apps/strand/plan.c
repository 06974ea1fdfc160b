/* plan.c - `strand plan`: where each operator would run and what memory it takes, without running.
 */
#include "commands.h"
#include "runtime.h"

#include <inttypes.h>

static const char *size_text(uint64_t bytes, char *text, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

static void print_table(const strand_plan *plan) {
    strand_plan_node_info node;
    char output[32], scratch[32], prepared[32], group[16], region[64];
    printf("%-32s %-16s %-10s %5s %-22s %-10s %10s %10s %10s  %s\n", "node", "op", "backend", "group", "region", "weights",
           "output", "scratch", "prepared", "why not on the first backend");
    for (int32_t i = 0; strand_plan_node(plan, i, &node) == STRAND_OK; i++) {
        snprintf(group, sizeof group, node.group < 0 ? "-" : "%d", node.group);
        if (node.region < 0)
            snprintf(region, sizeof region, "-");
        else
            snprintf(region, sizeof region, "%d: %" PRId64 " x %s", node.region, node.tiles, node.axis);
        printf("%-32s %-16s %-10s %5s %-22s %-10s %10s %10s %10s  %s\n", node.name, node.op, node.backend, group, region,
               !node.weights_only ? "-"
               : node.kept        ? "kept"
                                  : "recomputed",
               size_text(node.output_bytes, output, sizeof output), size_text(node.scratch_bytes, scratch, sizeof scratch),
               size_text(node.prepared_bytes, prepared, sizeof prepared), node.why);
    }
}

static void print_tsv(const strand_plan *plan) {
    strand_plan_node_info node;
    printf("node\top\tbackend\twhy\tgroup\tregion\taxis\ttiles\tweights_only\tkept\toutput_bytes\tscratch_bytes\tprepared_"
           "bytes\n");
    for (int32_t i = 0; strand_plan_node(plan, i, &node) == STRAND_OK; i++)
        printf("%s\t%s\t%s\t%s\t%d\t%d\t%s\t%" PRId64 "\t%d\t%d\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", node.name, node.op,
               node.backend, node.why, node.group, node.region, node.axis, node.tiles, node.weights_only, node.kept,
               node.output_bytes, node.scratch_bytes, node.prepared_bytes);
}

static void print_total(const char *name, uint64_t bytes, const char *remark_text) {
    char text[32];
    printf("%-12s %10s  (%" PRIu64 " bytes)%s\n", name, size_text(bytes, text, sizeof text), bytes, remark_text);
}

static void print_totals(const strand_plan_info *info, const runtime *rt) {
    printf("\n%s, batch %" PRId64 ", length %" PRId64 ": %d nodes, %d steps, %d tiled regions, backends %s\n", rt->info.name,
           info->max_batch, info->max_length, info->nodes, info->steps, info->regions, rt->backends);
    print_total("weights", rt->info.weight_bytes, ", mapped from the file");
    print_total("session", info->block_bytes, ", all that a session allocates");
    print_total("arena", info->arena_bytes, ", of that: planned tensors");
    print_total("constants", info->constant_bytes, ", of the arena: kept from run to run");
    print_total("lower bound", info->lower_bound, ", most bytes alive at one step");
    print_total("unlimited", info->unlimited_bytes, ", the arena without a memory limit");
    print_total("device", info->device_bytes, ", on devices with their own memory");
    printf("%-12s %s\n", "peak node", info->peak_node ? info->peak_node : "-");
}

int run_plan(const options *settings) {
    runtime rt;
    strand_plan *plan;
    strand_plan_info info;
    if (!settings->length) return complain("plan: no length; give --length N"), EXIT_USAGE;
    int rc = runtime_open(&rt, settings, settings->n_args ? settings->args[0] : NULL);
    if (rc) return rc;
    if (runtime_plan(&rt, settings->batch, settings->length, settings->outputs, &plan) != STRAND_OK) {
        complain("%s", strand_error(rt.context));
        rc = EXIT_FAILED;
    } else {
        if (settings->tsv) {
            print_tsv(plan);
        } else {
            print_table(plan);
            if (strand_plan_get(plan, &info) == STRAND_OK) print_totals(&info, &rt);
        }
        strand_plan_close(plan);
    }
    runtime_close(&rt);
    return rc;
}

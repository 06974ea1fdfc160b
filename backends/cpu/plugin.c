/* plugin.c - the function table of the plugin: one device, the host's own memory, no queue.
 *
 * Knows no operator: everything about one stands in its row of cpu_table (table.c). `launch` asks the row's own predicate
 * again before it runs, so that what was accepted and what runs cannot drift apart. */
#include "cpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct strand_plugin_instance {
    const strand_host *host;
    uint32_t features;
};

int32_t cpu_workers(const cpu_device *device) {
    int32_t n = device->host->workers ? device->host->workers(device->host->context) : 1;
    return n < 1 ? 1 : n;
}

void cpu_parallel(const cpu_device *device, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg) {
    if (n > 1 && device->host->parallel_for) {
        device->host->parallel_for(device->host->context, n, body, arg);
        return;
    }
    for (int64_t i = 0; i < n; i++) body(arg, i, 0);
}

strand_plugin_status cpu_fail(const cpu_device *device, strand_plugin_status status, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (device->host->fail) device->host->fail(device->host->context, text);
    return status;
}

bool cpu_no(char *why, size_t why_bytes, const char *format, ...) {
    if (!why || !why_bytes) return false;
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return false;
}

/* ---- instance and device ---- */

static strand_plugin_status plugin_open(const strand_host *host, strand_plugin_instance **instance) {
    *instance = host->alloc(host->context, sizeof **instance, CPU_ALIGN);
    if (!*instance) return STRAND_PLUGIN_ERR_MEMORY;
    (*instance)->host = host;
    (*instance)->features = cpu_features(host);
    return STRAND_PLUGIN_OK;
}

static void plugin_close(strand_plugin_instance *instance) {
    if (instance) instance->host->free(instance->host->context, instance, sizeof *instance);
}

static uint32_t plugin_device_count(strand_plugin_instance *instance) {
    (void)instance;
    return 1;
}

static strand_plugin_status plugin_device_info(strand_plugin_instance *instance, uint32_t index,
                                               strand_plugin_device_info *info) {
    if (index != 0) return STRAND_PLUGIN_ERR_ARGUMENT;
    const strand_host *host = instance->host;
    strand_plugin_device_info mine = {.flags = STRAND_DEVICE_HOST_MEMORY, .alignment = CPU_ALIGN};
    int32_t n = host->workers ? host->workers(host->context) : 1;
    snprintf(mine.description, sizeof mine.description, "%s%s%s; %d thread%s", cpu_isa,
             instance->features & CPU_AVX512_VNNI ? " VNNI" : "", instance->features & CPU_AVX512_BF16 ? " BF16" : "", (int)n,
             n == 1 ? "" : "s");
    mine.size = info->size;
    memcpy(info, &mine, info->size < sizeof mine ? info->size : sizeof mine);
    return STRAND_PLUGIN_OK;
}

static strand_plugin_status plugin_device_features(strand_plugin_instance *instance, uint32_t index, char *text, size_t bytes) {
    if (index != 0 || !bytes) return STRAND_PLUGIN_ERR_ARGUMENT;
    int32_t n = instance->host->workers ? instance->host->workers(instance->host->context) : 1;
    snprintf(text, bytes, "type=processor\ninstruction set=%s\ninteger dot products=%s\nbfloat16 dot products=%s\nthreads=%d\n",
             cpu_isa, instance->features & CPU_AVX512_VNNI ? "AVX512-VNNI" : "no",
             instance->features & CPU_AVX512_BF16 ? "AVX512-BF16" : "no", (int)n);
    return STRAND_PLUGIN_OK;
}

static strand_plugin_status plugin_device_open(strand_plugin_instance *instance, uint32_t index,
                                               strand_plugin_device **device) {
    if (index != 0) return STRAND_PLUGIN_ERR_ARGUMENT;
    const strand_host *host = instance->host;
    cpu_device *d = host->alloc(host->context, sizeof *d, CPU_ALIGN);
    if (!d) return STRAND_PLUGIN_ERR_MEMORY;
    d->host = host;
    d->features = instance->features;
    *device = (strand_plugin_device *)d;
    return STRAND_PLUGIN_OK;
}

static void plugin_device_close(strand_plugin_device *device) {
    cpu_device *d = (cpu_device *)device;
    if (d) d->host->free(d->host->context, d, sizeof *d);
}

/* ---- operators ---- */

static const cpu_op *find(const strand_plugin_node *node) {
    for (uint32_t i = 0; i < cpu_table_size; i++)
        if (cpu_table[i].op == node->op && cpu_table[i].version == node->version) return &cpu_table[i];
    return NULL;
}

static strand_plugin_status plugin_supports(strand_plugin_device *device, const strand_plugin_node *node, char *why,
                                            size_t why_bytes) {
    (void)device;
    const cpu_op *op = find(node);
    if (!op) {
        cpu_no(why, why_bytes, "operator %u version %u is not known here", node->op, node->version);
        return STRAND_PLUGIN_ERR_UNSUPPORTED;
    }
    return op->supports(node, why, why_bytes) ? STRAND_PLUGIN_OK : STRAND_PLUGIN_ERR_UNSUPPORTED;
}

/* One byte more than a cache line, so that the working memory can be aligned whatever the host gives. */
static uint64_t with_slack(uint64_t bytes) {
    return bytes ? bytes + CPU_ALIGN : 0;
}

static void *aligned(const strand_plugin_memory *m) {
    return m && m->data ? (char *)m->data + (-(uintptr_t)m->data & (CPU_ALIGN - 1)) : NULL;
}

static uint64_t node_scratch(const cpu_device *device, const strand_plugin_node *node) {
    const cpu_op *op = find(node);
    return op && op->scratch ? op->scratch(device, node) : 0;
}

static uint64_t nodes_scratch(const cpu_device *device, const strand_plugin_node *nodes, uint32_t n) {
    uint64_t most = 0;
    if (n > 1 && cpu_grouping) most = cpu_grouping->scratch(device, nodes, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t one = node_scratch(device, &nodes[i]);
        if (one > most) most = one;
    }
    return most;
}

static uint64_t plugin_scratch_size(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n) {
    return with_slack(nodes_scratch((const cpu_device *)device, nodes, n));
}

static uint64_t plugin_prepare_size(strand_plugin_device *device, const strand_plugin_node *node) {
    (void)device;
    const cpu_op *op = find(node);
    return op && op->prepare_size ? op->prepare_size(node) : 0;
}

/* Is the working memory that came with the call as large as scratch_size said? */
static bool enough(const strand_plugin_memory *scratch, uint64_t need) {
    return !need || (scratch && scratch->data && scratch->bytes >= with_slack(need));
}

static strand_plugin_status plugin_prepare(strand_plugin_device *device, const strand_plugin_node *node,
                                           const strand_plugin_memory *scratch) {
    const cpu_device *d = (const cpu_device *)device;
    const cpu_op *op = find(node);
    char why[200] = "";
    if (!op || !op->supports(node, why, sizeof why)) {
        return cpu_fail(d, STRAND_PLUGIN_ERR_UNSUPPORTED, "%s: %s", node->name ? node->name : "node", why);
    }
    uint64_t need = op->prepare_size ? op->prepare_size(node) : 0;
    if (!need) return STRAND_PLUGIN_OK;
    if (!node->prepared.data || node->prepared.bytes < need) {
        return cpu_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "%s: too little memory given to prepare",
                        node->name ? node->name : "node");
    }
    return op->prepare(d, node, aligned(scratch));
}

static strand_plugin_status run_one(const cpu_device *d, const strand_plugin_node *node, void *scratch) {
    const cpu_op *op = find(node);
    char why[200] = "unknown operator";
    const char *name = node->name ? node->name : "node";
    if (!op || !op->supports(node, why, sizeof why)) return cpu_fail(d, STRAND_PLUGIN_ERR_UNSUPPORTED, "%s: %s", name, why);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (node->inputs[i].dtype != STRAND_PLUGIN_NONE && !node->inputs[i].memory.data &&
            !(node->prepared.data && (node->inputs[i].flags & STRAND_TENSOR_CONSTANT))) { /* what was prepared may be gone */
            return cpu_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "%s: input %u has no memory", name, i);
        }
    for (uint32_t i = 0; i < node->n_outputs; i++)
        if (!node->outputs[i].memory.data)
            return cpu_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "%s: output %u has no memory", name, i);
    return op->run(d, node, scratch);
}

static strand_plugin_status plugin_launch(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n,
                                          const strand_plugin_memory *scratch) {
    const cpu_device *d = (const cpu_device *)device;
    if (!enough(scratch, nodes_scratch(d, nodes, n))) {
        return cpu_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "too little working memory given to launch");
    }
    bool whole = true; /* does every tensor have memory? then a group may also be run node by node */
    for (uint32_t i = 0; i + 1 < n; i++) whole = whole && nodes[i].outputs[0].memory.data;
    if (n > 1 && !whole) {
        if (!cpu_grouping) return cpu_fail(d, STRAND_PLUGIN_ERR_UNSUPPORTED, "groups are not known here");
        return cpu_grouping->run(d, nodes, n, aligned(scratch));
    }
    for (uint32_t i = 0; i < n; i++) {
        strand_plugin_status s = run_one(d, &nodes[i], aligned(scratch));
        if (s) return s;
    }
    return STRAND_PLUGIN_OK;
}

static uint32_t plugin_claim(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    uint32_t plain = 0; /* nodes with something prepared stay alone */
    (void)device;
    while (plain < n && !nodes[plain].prepared.bytes) plain++;
    return cpu_grouping && plain > 1 ? cpu_grouping->claim(nodes, plain, needed) : 0;
}

const strand_plugin_api cpu_api = {
    .size = sizeof cpu_api,
    .open = plugin_open,
    .close = plugin_close,
    .device_count = plugin_device_count,
    .device_info = plugin_device_info,
    .device_open = plugin_device_open,
    .device_close = plugin_device_close,
    .supports = plugin_supports,
    .scratch_size = plugin_scratch_size,
    .prepare_size = plugin_prepare_size,
    .prepare = plugin_prepare,
    .launch = plugin_launch,
    .claim = plugin_claim,
    .device_features = plugin_device_features,
};

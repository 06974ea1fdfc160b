/* plugin.c - the ABI's function table over a driver (driver.h) and the operators' table (gpu.h), and the plugin's entry.
 *
 * Knows no operator and no vendor. The host may use one device from several threads: a lock a device keeps calls apart. */
#include "gpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROW(id, name, scratch, size, make) {id, 1, cpu_supports_##name, gpu_supports_##name, scratch, size, make, gpu_##name},
static const gpu_op table[] = {GPU_TABLE(ROW)};
#define PAIR(id, name, scratch, size, make) {id, 1},
static const strand_plugin_op ops[] = {GPU_TABLE(PAIR)};
#define N_OPS (sizeof table / sizeof table[0])

strand_plugin_status gpu_fail(const strand_host *host, strand_plugin_status status, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (host->fail) host->fail(host->context, text);
    return status;
}

void gpu_say(gpu_text *text, const char *name, const char *format, ...) {
    char value[512];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    for (char *at = value; *at; at++)
        if ((unsigned char)*at < 32) *at = ' '; /* a driver's own text may hold anything */
    size_t need = strlen(name) + strlen(value) + 2;
    if (need >= text->room) return;
    snprintf(text->at, text->room, "%s=%s\n", name, value);
    text->at += need;
    text->room -= need;
}

bool cpu_no(char *why, size_t why_bytes, const char *format, ...) {
    if (!why || !why_bytes) return false;
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return false;
}

static const gpu_op *find(const strand_plugin_node *node) {
    for (size_t i = 0; i < N_OPS; i++)
        if (table[i].op == node->op && table[i].version == node->version) return &table[i];
    return NULL;
}

/* A device that was lost stays lost; the process goes on. */
static strand_plugin_status kept(strand_plugin_device *d, strand_plugin_status status) {
    if (status == STRAND_PLUGIN_ERR_DEVICE) d->lost = true;
    return status;
}

static strand_plugin_status enter(strand_plugin_device *d) {
    pthread_mutex_lock(&d->lock);
    if (!d->lost) return STRAND_PLUGIN_OK;
    pthread_mutex_unlock(&d->lock);
    return gpu_fail(d->host, STRAND_PLUGIN_ERR_DEVICE, "the device was lost");
}

static strand_plugin_status leave(strand_plugin_device *d, strand_plugin_status status) {
    kept(d, status);
    pthread_mutex_unlock(&d->lock);
    return status;
}

static strand_plugin_status device_features(strand_plugin_instance *instance, uint32_t index, char *text, size_t bytes) {
    gpu_text t = {text, bytes};
    if (!bytes) return STRAND_PLUGIN_ERR_ARGUMENT;
    text[0] = 0;
    return driver_device_features(instance, index, &t);
}

#define LEAST_SHARED 32768 /* bytes: the largest that kernels take, on any device */

/* STRAND_GPU_GROUPS=N: as if the device took N groups along an axis, so that tests of any size are made of several
 * dispatches. */
static void limit_groups(gpu_limits *limits) {
    const char *text = getenv("STRAND_GPU_GROUPS");
    long most = text ? strtol(text, NULL, 10) : 0;
    if (most < 1 || most > 65535) return;
    limits->groups_x = limits->groups_y = (uint32_t)most;
}

static strand_plugin_status device_open(strand_plugin_instance *instance, uint32_t index, strand_plugin_device **device) {
    strand_plugin_status status = driver_device_open(instance, index, device);
    if (status) return status;
    if ((*device)->limits.shared_bytes < LEAST_SHARED) {
        status = gpu_fail(instance->host, STRAND_PLUGIN_ERR_UNSUPPORTED,
                          "the device has %u bytes of memory for a work group; its kernels take up to %d",
                          (*device)->limits.shared_bytes, LEAST_SHARED);
        driver_device_close(*device);
        return status;
    }
    limit_groups(&(*device)->limits);
    pthread_mutex_init(&(*device)->lock, NULL);
    return status;
}

static void device_close(strand_plugin_device *device) {
    if (!device) return;
    pthread_mutex_destroy(&device->lock);
    driver_device_close(device);
}

static strand_plugin_status buffer_create(strand_plugin_device *d, uint64_t bytes, strand_plugin_buffer **buffer) {
    strand_plugin_status status = enter(d);
    return status ? status : leave(d, driver_buffer_create(d, bytes, buffer));
}

static void buffer_destroy(strand_plugin_device *d, strand_plugin_buffer *buffer) {
    pthread_mutex_lock(&d->lock);
    driver_buffer_destroy(d, buffer);
    pthread_mutex_unlock(&d->lock);
}

static strand_plugin_status upload(strand_plugin_device *d, strand_plugin_buffer *buffer, uint64_t offset, const void *from,
                                   uint64_t bytes) {
    strand_plugin_status status = enter(d);
    if (status) return status;
    return leave(d, bytes ? driver_upload(d, buffer, offset, from, bytes) : STRAND_PLUGIN_OK);
}

static strand_plugin_status download(strand_plugin_device *d, strand_plugin_buffer *buffer, uint64_t offset, void *to,
                                     uint64_t bytes) {
    strand_plugin_status status = enter(d);
    if (status) return status;
    return leave(d, bytes ? driver_download(d, buffer, offset, to, bytes) : STRAND_PLUGIN_OK);
}

static strand_plugin_status copy(strand_plugin_device *d, strand_plugin_buffer *from, uint64_t from_offset,
                                 strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes) {
    strand_plugin_status status = enter(d);
    if (status) return status;
    return leave(d, bytes ? driver_copy(d, from, from_offset, to, to_offset, bytes) : STRAND_PLUGIN_OK);
}

static strand_plugin_status submit(strand_plugin_device *d, uint64_t *point) {
    strand_plugin_status status = enter(d);
    return status ? status : leave(d, driver_submit(d, point));
}

/* What a kernel found wrong becomes the error of the wait. */
static strand_plugin_status take_fault(strand_plugin_device *d) {
    int32_t fault[4];
    if (!driver_take_fault(d, fault)) return STRAND_PLUGIN_OK;
    return gpu_fail(d->host, STRAND_PLUGIN_ERR_ARGUMENT, "index %d is outside [0, %d)", (int)fault[1], (int)fault[2]);
}

static strand_plugin_status wait_point(strand_plugin_device *d, uint64_t point) {
    strand_plugin_status status = enter(d);
    if (status) return status;
    status = driver_wait(d, point);
    return leave(d, status ? status : take_fault(d));
}

static bool accepted(strand_plugin_device *d, const gpu_op *op, const strand_plugin_node *node, char *why, size_t why_bytes) {
    return op->shapes(node, why, why_bytes) && gpu_fits(d, node, why, why_bytes) && op->supports(d, node, why, why_bytes);
}

static strand_plugin_status supports(strand_plugin_device *d, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const gpu_op *op = find(node);
    if (!op) {
        cpu_no(why, why_bytes, "operator %u version %u is not known here", node->op, node->version);
        return STRAND_PLUGIN_ERR_UNSUPPORTED;
    }
    return accepted(d, op, node, why, why_bytes) ? STRAND_PLUGIN_OK : STRAND_PLUGIN_ERR_UNSUPPORTED;
}

/* Working memory of one node: of the common kernels, or of the driver's own way where that needs more. */
static uint64_t scratch_of(strand_plugin_device *d, const gpu_op *op, const strand_plugin_node *node) {
    uint64_t common = op && op->scratch ? op->scratch(d, node) : 0, own = op && d->own ? d->own->scratch(d, node) : 0;
    return own > common ? own : common;
}

static uint64_t scratch_size(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n) {
    uint64_t most = 0;
    if (n > 1 && d->own && d->own->group_scratch) return d->own->group_scratch(d, nodes, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t one = scratch_of(d, find(&nodes[i]), &nodes[i]);
        if (one > most) most = one;
    }
    return most;
}

static uint64_t prepare_size(strand_plugin_device *d, const strand_plugin_node *node) {
    const gpu_op *op = find(node);
    uint64_t own = op && d->own ? d->own->prepare_size(d, node) : 0;
    return own ? own : op && op->prepare_size ? op->prepare_size(d, node) : 0;
}

static const char *named(const strand_plugin_node *node) {
    return node->name ? node->name : "node";
}

static strand_plugin_status prepare(strand_plugin_device *d, const strand_plugin_node *node,
                                    const strand_plugin_memory *scratch) {
    char why[200] = "unknown operator";
    const gpu_op *op = find(node);
    if (!op || !accepted(d, op, node, why, sizeof why))
        return gpu_fail(d->host, STRAND_PLUGIN_ERR_UNSUPPORTED, "%s: %s", named(node), why);
    uint64_t own = d->own ? d->own->prepare_size(d, node) : 0, need = own                ? own
                                                                      : op->prepare_size ? op->prepare_size(d, node)
                                                                                         : 0;
    if (!need) return STRAND_PLUGIN_OK;
    if (!node->prepared.buffer || node->prepared.bytes < need)
        return gpu_fail(d->host, STRAND_PLUGIN_ERR_ARGUMENT, "%s: too little memory given to prepare", named(node));
    strand_plugin_status status = enter(d);
    return status ? status : leave(d, own ? d->own->prepare(d, node, scratch) : op->prepare(d, node, scratch));
}

uint64_t gpu_node_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    return scratch_of(device, find(node), node);
}

strand_plugin_status gpu_run_node(strand_plugin_device *d, const strand_plugin_node *node,
                                  const strand_plugin_memory *scratch) {
    char why[200] = "unknown operator";
    const gpu_op *op = find(node);
    if (!op || !accepted(d, op, node, why, sizeof why))
        return gpu_fail(d->host, STRAND_PLUGIN_ERR_UNSUPPORTED, "%s: %s", named(node), why);
    uint64_t need = scratch_of(d, op, node);
    if (need && (!scratch || !scratch->buffer || scratch->bytes < need))
        return gpu_fail(d->host, STRAND_PLUGIN_ERR_ARGUMENT, "%s: too little working memory given to launch", named(node));
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (cpu_input(node, i) && !node->inputs[i].memory.buffer &&
            !(node->prepared.buffer && (node->inputs[i].flags & STRAND_TENSOR_CONSTANT)))
            return gpu_fail(d->host, STRAND_PLUGIN_ERR_ARGUMENT, "%s: input %u has no memory", named(node), i);
    for (uint32_t i = 0; i < node->n_outputs; i++)
        if (!node->outputs[i].memory.buffer)
            return gpu_fail(d->host, STRAND_PLUGIN_ERR_ARGUMENT, "%s: output %u has no memory", named(node), i);
    if (gpu_count(&node->outputs[0]) == 0 && node->n_outputs == 1) return STRAND_PLUGIN_OK;
    bool done = false;
    strand_plugin_status status = d->own ? d->own->run(d, node, scratch, &done) : STRAND_PLUGIN_OK;
    return status || done ? status : op->run(d, node, scratch);
}

/* Several are a group that was claimed. */
static strand_plugin_status run_nodes(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n,
                                      const strand_plugin_memory *scratch) {
    if (n == 1) return gpu_run_node(d, nodes, scratch);
    if (!d->own || !d->own->group_run)
        return gpu_fail(d->host, STRAND_PLUGIN_ERR_UNSUPPORTED, "%s: this group was never claimed", named(nodes));
    return d->own->group_run(d, nodes, n, scratch);
}

static uint32_t claim(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed) {
    if (!d->own || !d->own->claim || enter(d)) return 0;
    uint32_t taken = d->own->claim(d, nodes, n, needed);
    leave(d, STRAND_PLUGIN_OK);
    return taken;
}

static strand_plugin_status launch(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n,
                                   const strand_plugin_memory *scratch) {
    strand_plugin_status status = enter(d);
    if (status) return status;
    status = run_nodes(d, nodes, n, scratch);
    return leave(d, status);
}

static strand_plugin_status segment_create(strand_plugin_device *d, strand_plugin_segment **segment) {
    strand_plugin_status status = enter(d);
    return status ? status : leave(d, driver_segment_create(d, segment));
}

/* The lock keeps other threads' dispatches out of the recording. */
static strand_plugin_status segment_launch(strand_plugin_device *d, strand_plugin_segment *segment,
                                           const strand_plugin_node *nodes, uint32_t n, const strand_plugin_memory *scratch) {
    strand_plugin_status status = enter(d);
    if (status) return status;
    d->segment = segment;
    status = run_nodes(d, nodes, n, scratch);
    d->segment = NULL;
    return leave(d, status);
}

static strand_plugin_status segment_run(strand_plugin_device *d, strand_plugin_segment *segment) {
    strand_plugin_status status = enter(d);
    return status ? status : leave(d, driver_segment_run(d, segment));
}

static void segment_destroy(strand_plugin_device *d, strand_plugin_segment *segment) {
    if (!segment) return;
    pthread_mutex_lock(&d->lock);
    driver_segment_destroy(d, segment);
    pthread_mutex_unlock(&d->lock);
}

static uint64_t buffer_limit(strand_plugin_device *d) {
    return d->limits.buffer_bytes;
}

static const strand_plugin_api api = {
    .size = sizeof api,
    .open = driver_open,
    .close = driver_close,
    .device_count = driver_device_count,
    .device_info = driver_device_info,
    .device_open = device_open,
    .device_close = device_close,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .upload = upload,
    .download = download,
    .submit = submit,
    .wait = wait_point,
    .supports = supports,
    .scratch_size = scratch_size,
    .prepare_size = prepare_size,
    .prepare = prepare,
    .launch = launch,
    .claim = claim,
    .device_features = device_features,
    .copy = copy,
    .segment_create = segment_create,
    .segment_launch = segment_launch,
    .segment_run = segment_run,
    .segment_destroy = segment_destroy,
    .buffer_limit = buffer_limit,
};

/* Is there a processor of that kind, judged by its device file? Opening a driver to find out would cost every start a tenth
 * of a second. Where device files are unknown, yes. */
static bool hardware(void) {
#ifdef __linux__
    static const char *const files[] = {"/dev/nvidiactl", "/dev/kfd", "/dev/mali0", "/dev/kgsl-3d0", "/dev/dxg"};
    char path[32];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (!access(files[i], F_OK)) return true;
    for (int i = 128; i < 144; i++) {
        snprintf(path, sizeof path, "/dev/dri/renderD%d", i);
        if (!access(path, F_OK)) return true;
    }
    return false;
#else
    return true;
#endif
}

static int32_t score(const strand_host *host, char *why, size_t why_bytes) {
    (void)host;
    if (why_bytes) why[0] = 0;
    return hardware() ? gpu_score_value : 1;
}

strand_plugin_status strand_plugin_entry(const strand_host *host, strand_plugin *plugin);

STRAND_PLUGIN_EXPORT strand_plugin_status strand_plugin_entry(const strand_host *host, strand_plugin *plugin) {
    (void)host;
    strand_plugin mine = {.magic = STRAND_PLUGIN_MAGIC,
                          .capacity = plugin->capacity,
                          .size = sizeof mine,
                          .abi_major = STRAND_PLUGIN_ABI_MAJOR,
                          .abi_minor = STRAND_PLUGIN_ABI_MINOR,
                          .layout_hash = strand_plugin_layout_hash(),
                          .layout = strand_plugin_layout(),
                          .n_layout = STRAND_PLUGIN_N_LAYOUT,
                          .n_ops = N_OPS,
                          .ops = ops,
                          .name = gpu_name,
                          .version = "0.1.0",
                          .description = gpu_description,
                          .score = score,
                          .api = &api};
    memcpy(plugin, &mine, plugin->capacity < sizeof mine ? plugin->capacity : sizeof mine);
    return STRAND_PLUGIN_OK;
}

/* bad.c - one small plugin and many ways to break it: tests/plugins/meson.build compiles it once per flaw, with -DFLAW_...
 *
 * Without a flaw it is a good plugin on host memory that knows BINARY alone. Compiled with -DSTRAND_PLUGIN_ABI_MINOR=0 it is a
 * plugin of the previous minor version, which has to load and to work. */
#include "strand_plugin.h"

#include <string.h>

#ifndef NAME
#define NAME "plain"
#endif

struct strand_plugin_instance {
    const strand_host *host;
};
struct strand_plugin_device {
    const strand_host *host;
};

__attribute__((unused)) static struct strand_plugin_instance the_instance; /* some flaws leave a part without use */
static struct strand_plugin_device the_device;

static strand_plugin_status plain_open(const strand_host *host, strand_plugin_instance **out) {
#ifdef FLAW_OPEN
    (void)out;
    host->fail(host->context, "the machine room\nis locked");
    return STRAND_PLUGIN_ERR_DEVICE;
#else
    the_instance.host = the_device.host = host;
    *out = &the_instance;
    return STRAND_PLUGIN_OK;
#endif
}

static void plain_close(strand_plugin_instance *x) {
    (void)x;
}

static uint32_t plain_device_count(strand_plugin_instance *x) {
    (void)x;
#ifdef FLAW_NO_DEVICE
    return 0;
#else
    return 1;
#endif
}

static strand_plugin_status plain_device_info(strand_plugin_instance *x, uint32_t index, strand_plugin_device_info *info) {
    (void)x;
    (void)index;
    info->flags = STRAND_DEVICE_HOST_MEMORY;
    info->alignment = 64;
    strcpy(info->description, "adds and multiplies");
#ifdef FLAW_BUFFERS
    info->flags = 0;
#endif
#ifdef FLAW_ALIGNMENT
    info->alignment = 48;
#endif
#ifdef FLAW_DEVICE_INFO
    return STRAND_PLUGIN_ERR_DEVICE;
#endif
    return STRAND_PLUGIN_OK;
}

static strand_plugin_status plain_device_open(strand_plugin_instance *x, uint32_t index, strand_plugin_device **out) {
    (void)index;
#ifdef FLAW_DEVICE_OPEN
    x->host->fail(x->host->context, "it is asleep");
    return STRAND_PLUGIN_ERR_DEVICE;
#endif
    (void)x;
    *out = &the_device;
    return STRAND_PLUGIN_OK;
}

static void plain_device_close(strand_plugin_device *d) {
    (void)d;
}

static strand_plugin_status plain_supports(strand_plugin_device *d, const strand_plugin_node *n, char *why, size_t why_bytes) {
    (void)d;
    for (uint32_t i = 0; i < n->outputs[0].rank; i++)
        if (n->inputs[1].whole[i] != n->outputs[0].whole[i]) {
            if (why_bytes > 15) strcpy(why, "equal axes only");
            return STRAND_PLUGIN_ERR_UNSUPPORTED;
        }
    return STRAND_PLUGIN_OK;
}

static uint64_t plain_scratch_size(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n) {
    (void)d;
    (void)nodes;
    (void)n;
    return 0;
}

static uint64_t plain_prepare_size(strand_plugin_device *d, const strand_plugin_node *n) {
    return plain_scratch_size(d, n, 1);
}

static strand_plugin_status plain_prepare(strand_plugin_device *d, const strand_plugin_node *n,
                                          const strand_plugin_memory *scratch) {
    (void)d;
    (void)n;
    (void)scratch;
    return STRAND_PLUGIN_OK;
}

static float *element(const strand_plugin_tensor *t, const int64_t *index) {
    float *at = t->memory.data;
    for (uint32_t i = 0; i < t->rank; i++) at += (index[i] - t->origin[i]) * t->strides[i];
    return at;
}

__attribute__((unused)) static strand_plugin_status plain_launch(strand_plugin_device *d, const strand_plugin_node *nodes,
                                                                 uint32_t n, const strand_plugin_memory *scratch) {
    const strand_plugin_tensor *out = nodes[0].outputs;
    int64_t index[STRAND_PLUGIN_RANK] = {0};
    (void)scratch;
    if (n != 1) {
        d->host->fail(d->host->context, "a group, though it claims none");
        return STRAND_PLUGIN_ERR_ARGUMENT;
    }
    memcpy(index, out->origin, out->rank * sizeof *index);
    for (uint32_t axis = out->rank; axis > 0;) {
        float a = *element(&nodes[0].inputs[0], index), b = *element(&nodes[0].inputs[1], index);
        uint32_t kind = ((const strand_op_binary *)nodes[0].params)->kind;
        *element(out, index) = kind == STRAND_BINARY_ADD ? a + b : kind == STRAND_BINARY_MUL ? a * b : a - b;
        for (axis = out->rank; axis > 0; axis--) {
            if (++index[axis - 1] < out->origin[axis - 1] + out->dims[axis - 1]) break;
            index[axis - 1] = out->origin[axis - 1];
        }
    }
    return STRAND_PLUGIN_OK;
}

#ifdef FLAW_SUBMIT
static strand_plugin_status plain_submit(strand_plugin_device *d, uint64_t *point) {
    (void)d;
    *point = 0;
    return STRAND_PLUGIN_OK;
}
#endif

static const strand_plugin_api api = {
#ifdef FLAW_SHORT_API
    .size = offsetof(strand_plugin_api, prepare),
#else
    .size = sizeof api,
#endif
    .open = plain_open,
    .close = plain_close,
    .device_count = plain_device_count,
    .device_info = plain_device_info,
    .device_open = plain_device_open,
    .device_close = plain_device_close,
    .supports = plain_supports,
#ifdef FLAW_SUBMIT
    .submit = plain_submit,
#endif
    .scratch_size = plain_scratch_size,
    .prepare_size = plain_prepare_size,
    .prepare = plain_prepare,
#ifndef FLAW_SLOT
    .launch = plain_launch,
#endif
};

static int32_t plain_score(const strand_host *host, char *why, size_t why_bytes) {
    (void)host;
#ifdef FLAW_SCORE
    strncpy(why, "there is no\nmoon tonight", why_bytes);
    return 0;
#else
    if (why_bytes) why[0] = 0;
    return 1;
#endif
}

#ifdef FLAW_DEPENDENCY
int strand_absent(void);
#endif

#ifdef FLAW_NO_ENTRY
#define strand_plugin_entry something_else
#endif
strand_plugin_status strand_plugin_entry(const strand_host *host, strand_plugin *plugin);

STRAND_PLUGIN_EXPORT strand_plugin_status strand_plugin_entry(const strand_host *host, strand_plugin *plugin) {
    static const strand_plugin_op ops[] = {{STRAND_OP_BINARY, 1}};
    (void)host;
    strand_plugin mine = {.magic = STRAND_PLUGIN_MAGIC,
                          .capacity = plugin->capacity,
                          .size = sizeof mine,
                          .abi_major = STRAND_PLUGIN_ABI_MAJOR,
                          .abi_minor = STRAND_PLUGIN_ABI_MINOR,
                          .layout_hash = strand_plugin_layout_hash(),
                          .layout = strand_plugin_layout(),
                          .n_layout = STRAND_PLUGIN_N_LAYOUT,
                          .n_ops = 1,
                          .ops = ops,
                          .name = NAME,
                          .version = "1",
                          .description = "a small plugin",
                          .score = plain_score,
                          .api = &api};
#ifdef FLAW_ENTRY
    return STRAND_PLUGIN_ERR_MEMORY;
#endif
#ifdef FLAW_MAGIC
    mine.magic = 0x30305c5d5c; /* other byte order, or something else altogether */
#endif
#ifdef FLAW_MAJOR
    mine.abi_major = STRAND_PLUGIN_ABI_MAJOR + 1;
#endif
#ifdef FLAW_SHORT_TABLE
    mine.size = offsetof(strand_plugin, score);
#endif
#ifdef FLAW_LAYOUT
    static uint32_t other[STRAND_PLUGIN_N_LAYOUT];
    memcpy(other, mine.layout, sizeof other);
    other[6] += 8; /* the seventh entry is strand_plugin_tensor.origin */
    mine.layout = other;
    mine.layout_hash++;
#endif
#ifdef FLAW_SHORT_LAYOUT
    mine.n_layout = 5;
    mine.layout_hash++;
#endif
#ifdef FLAW_NO_OPS
    mine.n_ops = 0;
#endif
#ifdef FLAW_NO_API
    mine.api = NULL;
#endif
#ifdef FLAW_NO_SCORE
    mine.score = NULL;
#endif
#ifdef FLAW_DEPENDENCY
    mine.abi_minor += (uint32_t)strand_absent();
#endif
    memcpy(plugin, &mine, plugin->capacity < sizeof mine ? plugin->capacity : sizeof mine);
    return STRAND_PLUGIN_OK;
}

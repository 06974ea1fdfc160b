/* bench_vkfft.c - the whole long convolution of a GPU plugin next to two transforms by VkFFT on the same device: forward and
 * inverse, real, of twice the length, in place, without the product between them, the gates and the filter (its fused
 * convolution is no peer: on PoCL it does not compile). Compiled once for Vulkan (VKFFT_BACKEND 0) and once for OpenCL (3);
 * VkFFT is a header, which nothing else in Strand uses. That what VkFFT made is right is looked at once: both transforms
 * together give the input, n times as large.
 *
 *   bench_vkfft_vulkan --plugin strand-vulkan.so [--shape PART] [--rounds N] [--json]        (the first device of each) */
#include "vkfft_c.h"

#include <math.h>

#include "bench.h"

#define F32 STRAND_PLUGIN_F32

/* Rows of n real numbers, each followed by the two that the bins need more. */
typedef struct peer {
    uint64_t n, rows, bytes;
    VkFFTApplication app;
#if VKFFT_BACKEND == 0
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkFence fence;
    VkBuffer buffer;
    VkDeviceMemory memory;
#else
    cl_device_id device;
    cl_context context;
    cl_command_queue queue;
    cl_mem buffer;
#endif
    bool failed;
} peer;

/* ---- the device ---- */

#if VKFFT_BACKEND == 0
static bool open_device(peer *p) {
    const VkInstanceCreateInfo about = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                        .pApplicationInfo = &(VkApplicationInfo){.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                                                                 .apiVersion = VK_API_VERSION_1_1}};
    uint32_t count = 1, family = 0;
    VkQueueFamilyProperties families[8];
    if (vkCreateInstance(&about, NULL, &p->instance) || vkEnumeratePhysicalDevices(p->instance, &count, &p->physical) < 0 ||
        !count)
        return false;
    count = 8;
    vkGetPhysicalDeviceQueueFamilyProperties(p->physical, &count, families);
    while (family < count && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT)) family++;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &(float){1}};
    const VkDeviceCreateInfo device = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue};
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = family};
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    if (family == count || vkCreateDevice(p->physical, &device, NULL, &p->device)) return false;
    vkGetDeviceQueue(p->device, family, 0, &p->queue);
    return !vkCreateCommandPool(p->device, &pool, NULL, &p->pool) && !vkCreateFence(p->device, &fence, NULL, &p->fence);
}

/* Memory that the host sees: on a card with memory of its own, one that has both. */
static bool make_buffer(peer *p) {
    const VkBufferCreateInfo buffer = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = p->bytes, .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
    const VkMemoryPropertyFlags wanted =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    VkPhysicalDeviceMemoryProperties types;
    VkMemoryRequirements needs;
    uint32_t type = 0;
    if (vkCreateBuffer(p->device, &buffer, NULL, &p->buffer)) return false;
    vkGetBufferMemoryRequirements(p->device, p->buffer, &needs);
    vkGetPhysicalDeviceMemoryProperties(p->physical, &types);
    while (type < types.memoryTypeCount &&
           (!(needs.memoryTypeBits >> type & 1) || (types.memoryTypes[type].propertyFlags & wanted) != wanted))
        type++;
    const VkMemoryAllocateInfo memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
    return type < types.memoryTypeCount && !vkAllocateMemory(p->device, &memory, NULL, &p->memory) &&
           !vkBindBufferMemory(p->device, p->buffer, p->memory, 0);
}

static void configure(peer *p, VkFFTConfiguration *c) {
    c->physicalDevice = &p->physical;
    c->device = &p->device;
    c->queue = &p->queue;
    c->commandPool = &p->pool;
    c->fence = &p->fence;
}

/* Both transforms, recorded once. */
static bool record(peer *p) {
    const VkCommandBufferAllocateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                  .commandPool = p->pool,
                                                  .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                  .commandBufferCount = 1};
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    if (vkAllocateCommandBuffers(p->device, &commands, &p->commands) || vkBeginCommandBuffer(p->commands, &begin)) return false;
    VkFFTLaunchParams launch = {.commandBuffer = &p->commands, .buffer = &p->buffer};
    if (VkFFTAppend(&p->app, -1, &launch) || VkFFTAppend(&p->app, 1, &launch)) return false;
    return !vkEndCommandBuffer(p->commands);
}

static void run(void *arg) {
    peer *p = arg;
    const VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &p->commands};
    if (vkQueueSubmit(p->queue, 1, &submit, p->fence) || vkWaitForFences(p->device, 1, &p->fence, VK_TRUE, UINT64_MAX) ||
        vkResetFences(p->device, 1, &p->fence))
        p->failed = true;
}

static bool copy(peer *p, float *to, const float *from) {
    void *mapped;
    if (vkMapMemory(p->device, p->memory, 0, p->bytes, 0, &mapped)) return false;
    memcpy(to ? (void *)to : mapped, to ? mapped : (const void *)from, p->bytes);
    vkUnmapMemory(p->device, p->memory);
    return true;
}

static void close_device(peer *p) {
    if (p->device) {
        vkDestroyBuffer(p->device, p->buffer, NULL);
        vkFreeMemory(p->device, p->memory, NULL);
        vkDestroyFence(p->device, p->fence, NULL);
        vkDestroyCommandPool(p->device, p->pool, NULL);
        vkDestroyDevice(p->device, NULL);
    }
    if (p->instance) vkDestroyInstance(p->instance, NULL);
}
#else
static bool open_device(peer *p) {
    cl_platform_id platform;
    cl_int error;
    if (clGetPlatformIDs(1, &platform, NULL) || clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &p->device, NULL)) return false;
    p->context = clCreateContext(NULL, 1, &p->device, NULL, NULL, &error);
    if (error) return false;
    p->queue = clCreateCommandQueue(p->context, p->device, 0, &error);
    return !error;
}

static bool make_buffer(peer *p) {
    cl_int error;
    p->buffer = clCreateBuffer(p->context, CL_MEM_READ_WRITE, p->bytes, NULL, &error);
    return !error;
}

static void configure(peer *p, VkFFTConfiguration *c) {
    c->device = &p->device;
    c->context = &p->context;
}

static bool record(peer *p) {
    return p->queue != NULL;
}

static void run(void *arg) {
    peer *p = arg;
    VkFFTLaunchParams launch = {.commandQueue = &p->queue, .buffer = &p->buffer};
    if (VkFFTAppend(&p->app, -1, &launch) || VkFFTAppend(&p->app, 1, &launch) || clFinish(p->queue)) p->failed = true;
}

static bool copy(peer *p, float *to, const float *from) {
    return !(to ? clEnqueueReadBuffer(p->queue, p->buffer, CL_TRUE, 0, p->bytes, to, 0, NULL, NULL)
                : clEnqueueWriteBuffer(p->queue, p->buffer, CL_TRUE, 0, p->bytes, from, 0, NULL, NULL));
}

static void close_device(peer *p) {
    if (p->buffer) clReleaseMemObject(p->buffer);
    if (p->queue) clReleaseCommandQueue(p->queue);
    if (p->context) clReleaseContext(p->context);
}
#endif

/* ---- the peer ---- */

static void close_peer(void *arg) {
    peer *p = arg;
    if (p->app.configuration.FFTdim) deleteVkFFT(&p->app);
    close_device(p);
}

/* Numbers in, both transforms, numbers out; then zeros, which stay zeros however often it runs. */
static bool is_right(bench *b, peer *p) {
    uint64_t width = p->n + 2;
    float *in = bench_memory(b, p->bytes), *out = bench_memory(b, p->bytes);
    double worst = 0;
    for (uint64_t i = 0; i < p->rows * width; i++)
        in[i] = i % width < p->n ? (float)((i * 2654435761u >> 8) % 1000) / 500 - 1 : 0;
    if (!copy(p, NULL, in)) return false;
    run(p);
    if (p->failed || !copy(p, out, NULL)) return false;
    for (uint64_t i = 0; i < p->rows * width; i++)
        if (i % width < p->n) worst = fmax(worst, fabs(out[i] / (double)p->n - in[i]));
    memset(in, 0, p->bytes);
    if (!(worst < 1e-4)) fprintf(stderr, "bench_vkfft: VkFFT's result is off by %.1e\n", worst);
    return worst < 1e-4 && copy(p, NULL, in);
}

static peer *open_peer(bench *b, int64_t length, int64_t channels) {
    peer *p = bench_memory(b, sizeof *p);
    memset(p, 0, sizeof *p);
    p->n = 2 * (uint64_t)length;
    p->rows = (uint64_t)channels;
    p->bytes = p->rows * (p->n + 2) * sizeof(float);
    VkFFTConfiguration c = {.FFTdim = 1, .size = {p->n, 1, 1}, .numberBatches = p->rows, .performR2C = 1};
    bench_later(b, close_peer, p);
    if (!open_device(p) || !make_buffer(p)) {
        fprintf(stderr, "bench_vkfft: no device for VkFFT\n");
        return NULL;
    }
    configure(p, &c);
    c.buffer = &p->buffer;
    c.bufferSize = &p->bytes;
    VkFFTResult result = initializeVkFFT(&p->app, c);
    if (!result && record(p) && is_right(b, p)) return p;
    fprintf(stderr, "bench_vkfft: VkFFT does not do %lld x %lld here (%d)\n", (long long)channels, (long long)length,
            (int)result);
    return NULL;
}

static void bench_length(bench *b, int64_t length, int64_t channels) {
    const strand_op_long_conv params = {0};
    const int64_t x[3] = {1, channels, length};
    double n = (double)length * (double)channels;
    bench_case c;
    bench_begin(b, &c, "long_conv", STRAND_OP_LONG_CONV, &params, sizeof params, "C=%lld L=%lld", (long long)channels,
                (long long)length);
    if (!b->unwanted) {
        bench_input(&c, bench_random(b, F32, 3, x, -1, 1));
        bench_input(&c, bench_constant(bench_random(b, F32, 2, x + 1, -1, 1)));
        for (int i = 0; i < 3; i++) bench_input(&c, bench_absent());
        bench_output(&c, bench_zeros(b, F32, 3, x));
        c.flops = 5 * 2 * n * log2(2 * (double)length);
        c.reads = 12 * n, c.writes = 4 * n;
        peer *p = open_peer(b, length, channels);
        if (p) bench_peer(&c, "VkFFT, transforms alone", run, p);
    }
    bench_run(b, &c);
}

int main(int argc, char **argv) {
    static const int64_t sizes[][2] = {{1024, 256}, {8192, 64}, {32768, 16}, {131072, 8}, {1048576, 2}};
    bench b;
    int code = bench_open(&b, argc, argv, "vkfft");
    if (code) return code;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) bench_length(&b, sizes[i][0], sizes[i][1]);
    return bench_close(&b);
}

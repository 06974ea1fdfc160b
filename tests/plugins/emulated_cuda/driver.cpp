/* driver.cpp - a libcuda.so.1 for tests: the part of the driver API that the plugin calls, on the host. Memory is host
 * memory with canaries, a stream does its work at once, kernels run as run.cpp runs them.
 *
 * What a test can do with it: make the n-th call of a function fail (EMULATED_CUDA_FAIL=cuMemAlloc:2:700, or
 * emulated_cuda_fail; * is any function), make the device small (EMULATED_CUDA_BYTES; EMULATED_CUDA_SHARED: a group's
 * memory) or another one (EMULATED_CUDA_CAPABILITY=80), have several of it (EMULATED_CUDA_DEVICES), take its pools away
 * (EMULATED_CUDA_POOLS=0), refuse every tensor map (EMULATED_CUDA_MAPS=0; compiled with EMULATED_CUDA_OLD the driver knows
 * neither pools nor tensor maps), and ask what is
 * still allocated (emulated_cuda_live), how often a function was called (emulated_cuda_calls_of) and what was done wrong
 * (emulated_cuda_wrong): copies and kernel arguments outside allocations or before or after them in the order of the stream
 * that they belong to, frees of what was never given or is still in use, damaged canaries, calls without a context. Error
 * 700 and above stay, as sticky errors do. */
#include <cuda.h>

#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "numbers.h"
#include "run.h"

namespace {
std::recursive_mutex lock;
std::map<CUdeviceptr, size_t> memory; /* device and pinned memory alike: one address space */
std::set<void *> streams, events, modules;
/* Memory of a pool: usable on its stream, from the allocation to the free in the stream's order. */
std::map<CUdeviceptr, CUstream> ordered;
struct pool {
    size_t kept, most_kept; /* given back, and not yet to the device */
    long live;
};
std::map<void *, pool> pools;
std::map<CUdeviceptr, void *> pool_of;
std::set<CUstream> busy; /* work since the last wait */
CUstream at_work;        /* whose work is being done */

/* A link of a graph, and what must have been done before it. */
struct graph_link {
    std::function<CUresult()> work;
    std::vector<CUgraphNode> after;
};
struct graph {
    std::map<CUgraphNode, graph_link> links;
};
std::map<void *, graph> graphs, ready_graphs;
std::map<CUstream, graph *> captures; /* streams whose work is recorded */
size_t handles;
long graph_launches;
std::map<std::string, long> &launched = *new std::map<std::string, long>; /* lives until the very end */
std::map<std::string, long> called;

std::string fail_name, failed, wrong; /* failed: the call that did, as asked for */
long fail_at, calls, retained, launches;
CUresult fail_with, sticky = CUDA_SUCCESS;
size_t used;
unsigned long order = 1;
thread_local CUcontext now;
constexpr size_t guard = 256;
constexpr unsigned char canary = 0xa5;

struct function {
    char name[64];
    unsigned shared; /* bytes that it may ask for */
};

long setting(const char *name, long fallback) {
    const char *text = getenv(name);
    return text ? strtol(text, nullptr, 10) : fallback;
}

void fault(const char *what) {
    if (wrong.empty()) wrong = what;
}

/* Every entry: counts the call, and fails it if a test asked for that. */
CUresult enter(const char *symbol, bool needs_context) {
    static bool read;
    std::string name = symbol;
    /* as cuda.h renames them */
    if (name.size() > 3 && name.compare(name.size() - 3, 2, "_v") == 0) name.resize(name.size() - 3);
    if (!read) {
        read = true;
        const char *text = getenv("EMULATED_CUDA_FAIL");
        char buffer[64];
        int at, code;
        if (text && sscanf(text, "%63[^:]:%d:%d", buffer, &at, &code) == 3) {
            fail_name = buffer;
            fail_at = at;
            fail_with = static_cast<CUresult>(code);
        }
    }
    called[name]++;
    if (sticky != CUDA_SUCCESS) return sticky;
    if (needs_context && !now) {
        fault(symbol);
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if ((fail_name != "*" && fail_name != name) || ++calls != fail_at) return CUDA_SUCCESS;
    if (fail_with >= 700) sticky = fail_with;
    failed = name;
    return fail_with;
}

bool inside(CUdeviceptr p, size_t bytes) {
    auto i = memory.upper_bound(p);
    if (i == memory.begin()) return false;
    --i;
    return p + bytes <= i->first + i->second && p + bytes >= p;
}

/* Is it there for work of this stream? */
void use(CUdeviceptr p, size_t bytes, CUstream s, const char *what) {
    if (!inside(p, bytes)) return fault(what);
    auto owner = ordered.find(std::prev(memory.upper_bound(p))->first);
    if (owner != ordered.end() && owner->second != s) fault("memory of one stream in the work of another");
}

CUresult allocate(CUdeviceptr *p, size_t bytes) {
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    unsigned char *block = static_cast<unsigned char *>(aligned_alloc(256, (bytes + 2 * guard + 255) / 256 * 256));
    if (!block) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(block, canary, guard);
    memset(block + guard, 0x7f, bytes); /* fresh memory holds rubbish */
    memset(block + guard + bytes, canary, guard);
    *p = reinterpret_cast<CUdeviceptr>(block + guard);
    memory[*p] = bytes;
    return CUDA_SUCCESS;
}

CUresult release(CUdeviceptr p) {
    auto i = memory.find(p);
    if (i == memory.end()) {
        fault("a free of what was never given");
        return CUDA_ERROR_INVALID_VALUE;
    }
    unsigned char *at = reinterpret_cast<unsigned char *>(p);
    for (size_t k = 0; k < guard; k++)
        if (at[-1 - static_cast<long>(k)] != canary || at[i->second + k] != canary) fault("a write beside an allocation");
    memory.erase(i);
    ordered.erase(p);
    free(at - guard);
    return CUDA_SUCCESS;
}

template <class H> CUresult make(std::set<void *> &all, H *out) {
    void *p = malloc(1);
    all.insert(p);
    *out = reinterpret_cast<H>(p);
    return CUDA_SUCCESS;
}

template <class H> CUresult end(std::set<void *> &all, H h) {
    if (!all.erase(reinterpret_cast<void *>(h))) fault("a handle that is not alive");
    else
        free(reinterpret_cast<void *>(h));
    return CUDA_SUCCESS;
}
} // namespace

#define ENTER(needs_context)                                                                                                    \
    std::lock_guard<std::recursive_mutex> guard_(lock);                                                                         \
    {                                                                                                                           \
        CUresult entered_ = enter(__func__, needs_context);                                                                     \
        if (entered_ != CUDA_SUCCESS) return entered_;                                                                          \
    }
#define API extern "C" __attribute__((visibility("default")))

API void emulated_cuda_fail(const char *name, long nth, int code) {
    std::lock_guard<std::recursive_mutex> g(lock);
    fail_name = name ? name : "";
    fail_at = nth;
    fail_with = static_cast<CUresult>(code);
    sticky = CUDA_SUCCESS;
    calls = 0;
    failed.clear();
}
/* The call that failed as asked for, or "". */
API const char *emulated_cuda_failed(void) { return failed.c_str(); }
API long emulated_cuda_live(void) {
    return static_cast<long>(memory.size() + streams.size() + events.size() + modules.size() + pools.size() + graphs.size() + ready_graphs.size()) + retained;
}
API long emulated_cuda_calls_of(const char *name) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return called[name];
}
API const char *emulated_cuda_wrong(void) { return wrong.c_str(); }
API void emulated_cuda_fault(const char *what) {
    std::lock_guard<std::recursive_mutex> g(lock);
    fault(what);
}
API int emulated_cuda_inside(CUdeviceptr p, size_t bytes) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return inside(p, bytes);
}
API long emulated_cuda_launches(void) { return launches; }

API CUresult cuInit(unsigned) {
    ENTER(false)
    return CUDA_SUCCESS;
}
API CUresult cuDriverGetVersion(int *v) {
    *v = CUDA_VERSION;
    return CUDA_SUCCESS;
}
API CUresult cuGetErrorString(CUresult e, const char **text) {
    static thread_local char line[64];
    snprintf(line, sizeof line, "emulated error %d", static_cast<int>(e));
    *text = line;
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetCount(int *n) {
    ENTER(false)
    *n = static_cast<int>(setting("EMULATED_CUDA_DEVICES", 1));
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGet(CUdevice *d, int i) {
    ENTER(false)
    *d = i;
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetName(char *name, int n, CUdevice d) {
    snprintf(name, static_cast<size_t>(n), "emulated device %d", d);
    return CUDA_SUCCESS;
}
API CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
    *bytes = static_cast<size_t>(setting("EMULATED_CUDA_BYTES", 1L << 32));
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute what, CUdevice) {
    *v = what == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK ? 49152
         : what == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? static_cast<int>(setting("EMULATED_CUDA_CAPABILITY", 90)) / 10
         : what == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? static_cast<int>(setting("EMULATED_CUDA_CAPABILITY", 90)) % 10
         : what == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
             ? static_cast<int>(setting("EMULATED_CUDA_SHARED", emulated_most_shared))
         : what == CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED ? static_cast<int>(setting("EMULATED_CUDA_POOLS", 1))
                                                              : 0;
    return CUDA_SUCCESS;
}
API CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) {
    ENTER(false)
    retained++;
    *c = reinterpret_cast<CUcontext>(static_cast<size_t>(d) + 16);
    return CUDA_SUCCESS;
}
/* The last release destroys the context and what is in it. Something may be left there only where the context was lost, or
 * could not be made current to tidy up. */
API CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    std::lock_guard<std::recursive_mutex> g(lock);
    if (--retained) return CUDA_SUCCESS;
    if (emulated_cuda_live() && sticky == CUDA_SUCCESS && failed != "cuCtxSetCurrent") fault("a context that was left with something in it");
    while (!memory.empty()) release(memory.begin()->first);
    graphs.clear();
    ready_graphs.clear();
    pools.clear();
    pool_of.clear();
    busy.clear();
    for (auto *all : {&streams, &events, &modules})
        while (!all->empty()) end(*all, *all->begin());
    used = 0;
    return CUDA_SUCCESS;
}
API CUresult cuCtxSetCurrent(CUcontext c) {
    ENTER(false)
    now = c;
    return CUDA_SUCCESS;
}
API CUresult cuStreamCreate(CUstream *s, unsigned) {
    ENTER(true)
    return make(streams, s);
}
API CUresult cuStreamDestroy(CUstream s) {
    std::lock_guard<std::recursive_mutex> g(lock);
    for (auto &one : ordered)
        if (one.second == s && sticky == CUDA_SUCCESS) fault("a stream that ends before its memory is given back");
    busy.erase(s);
    return end(streams, s);
}
API CUresult cuStreamSynchronize(CUstream s) {
    ENTER(true)
    busy.erase(s);
    for (auto &p : pools)
        if (p.second.kept > p.second.most_kept) used -= p.second.kept - p.second.most_kept, p.second.kept = p.second.most_kept;
    return CUDA_SUCCESS;
}
API CUresult cuEventCreate(CUevent *e, unsigned) {
    ENTER(true)
    return make(events, e);
}
API CUresult cuEventDestroy(CUevent e) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return end(events, e);
}
API CUresult cuEventRecord(CUevent, CUstream) {
    ENTER(true)
    return CUDA_SUCCESS;
}
API CUresult cuEventSynchronize(CUevent) {
    ENTER(true)
    return CUDA_SUCCESS;
}
API CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned) {
    ENTER(true)
    CUdeviceptr at;
    CUresult r = allocate(&at, bytes);
    if (r == CUDA_SUCCESS) *p = reinterpret_cast<void *>(at);
    return r;
}
API CUresult cuMemFreeHost(void *p) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return release(reinterpret_cast<CUdeviceptr>(p));
}
API CUresult cuMemHostGetDevicePointer(CUdeviceptr *d, void *p, unsigned) {
    ENTER(true)
    *d = reinterpret_cast<CUdeviceptr>(p);
    return CUDA_SUCCESS;
}
API CUresult cuMemAlloc(CUdeviceptr *p, size_t bytes) {
    ENTER(true)
    size_t total;
    cuDeviceTotalMem(&total, 0);
    if (used + bytes > total) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult r = allocate(p, bytes);
    if (r == CUDA_SUCCESS) used += bytes;
    return r;
}
API CUresult cuMemFree(CUdeviceptr p) {
    std::lock_guard<std::recursive_mutex> g(lock);
    if (memory.count(p)) used -= memory[p];
    if (ordered.count(p) && busy.count(ordered[p])) fault("memory of a pool freed while its stream works");
    if (pool_of.count(p)) pools[pool_of[p]].live--, pool_of.erase(p);
    return release(p);
}
#ifndef EMULATED_CUDA_OLD
API CUresult cuMemPoolCreate(CUmemoryPool *p, const CUmemPoolProps *what) {
    ENTER(true)
    if (what->location.type != CU_MEM_LOCATION_TYPE_DEVICE || what->allocType != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
    *p = reinterpret_cast<CUmemoryPool>(++handles);
    pools[*p] = {0, 0, 0};
    return CUDA_SUCCESS;
}
API CUresult cuMemPoolSetAttribute(CUmemoryPool p, CUmemPool_attribute which, void *value) {
    ENTER(true)
    if (!pools.count(p) || which != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) return CUDA_ERROR_INVALID_VALUE;
    cuuint64_t kept;
    memcpy(&kept, value, sizeof kept);
    pools[p].most_kept = kept;
    return CUDA_SUCCESS;
}
API CUresult cuMemPoolDestroy(CUmemoryPool p) {
    std::lock_guard<std::recursive_mutex> g(lock);
    if (!pools.count(p)) fault("a pool that is not alive");
    else if (pools[p].live && sticky == CUDA_SUCCESS && failed != "cuCtxSetCurrent") fault("a pool that ends before its memory is given back");
    used -= pools[p].kept;
    pools.erase(p);
    return CUDA_SUCCESS;
}
API CUresult cuMemAllocFromPoolAsync(CUdeviceptr *at, size_t bytes, CUmemoryPool p, CUstream s) {
    ENTER(true)
    if (!pools.count(p) || !streams.count(reinterpret_cast<void *>(s))) return CUDA_ERROR_INVALID_VALUE;
    size_t total, again = pools[p].kept < bytes ? pools[p].kept : bytes;
    cuDeviceTotalMem(&total, 0);
    if (used + bytes - again > total) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult r = allocate(at, bytes);
    if (r != CUDA_SUCCESS) return r;
    used += bytes - again;
    pools[p].kept -= again;
    pools[p].live++;
    ordered[*at] = s;
    pool_of[*at] = p;
    busy.insert(s);
    return r;
}
API CUresult cuMemFreeAsync(CUdeviceptr at, CUstream s) {
    ENTER(true)
    if (!pool_of.count(at)) return CUDA_ERROR_INVALID_VALUE;
    use(at, 1, s, "a free of what was never given");
    pool &p = pools[pool_of[at]];
    p.live--;
    p.kept += memory[at];
    pool_of.erase(at);
    return release(at);
}
#endif
#ifndef EMULATED_CUDA_OLD
/* Rank 4, halves, no steps between elements: what the plugin asks for, with the limits of the real one. */
API CUresult cuTensorMapEncodeTiled(CUtensorMap *to, CUtensorMapDataType type, cuuint32_t rank, void *base,
                                    const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
                                    const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                    CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
    ENTER(false)
    const bool halves = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    const unsigned turned = swizzle == CU_TENSOR_MAP_SWIZZLE_128B  ? 128
                            : swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? 64
                            : swizzle == CU_TENSOR_MAP_SWIZZLE_32B ? 32
                                                                   : 0;
    emulated_map m = {emulated_map_magic, turned, 2, {}, static_cast<const unsigned char *>(base), {}, {}};
    size_t last = 2;
    if (!setting("EMULATED_CUDA_MAPS", 1)) return CUDA_ERROR_INVALID_VALUE;
    if (rank != 4 || !halves || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
        return CUDA_ERROR_INVALID_VALUE;
    if (reinterpret_cast<size_t>(base) % 16 || reinterpret_cast<size_t>(to) % 64 || (turned && box[0] * 2 > turned) ||
        box[0] * 2 % 16)
        return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < 4; i++) {
        if (!dims[i] || dims[i] >> 32 || !box[i] || box[i] > 256 || steps[i] != 1) return CUDA_ERROR_INVALID_VALUE;
        if (i && (!strides[i - 1] || strides[i - 1] % 16 || strides[i - 1] >> 40)) return CUDA_ERROR_INVALID_VALUE;
        m.dims[i] = dims[i];
        m.box[i] = box[i];
        if (i) m.strides[i - 1] = strides[i - 1];
        last += (dims[i] - 1) * (i ? strides[i - 1] : 2);
    }
    if (!inside(reinterpret_cast<CUdeviceptr>(base), last)) fault("a tensor map of what is outside an allocation");
    memset(to, 0, sizeof *to);
    memcpy(to, &m, sizeof m);
    return CUDA_SUCCESS;
}
#endif
API CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream s) {
    ENTER(true)
    busy.insert(s);
    use(to, bytes, s, "an upload outside an allocation");
    if (inside(to, bytes)) memcpy(reinterpret_cast<void *>(to), from, bytes);
    return CUDA_SUCCESS;
}
API CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream s) {
    ENTER(true)
    busy.insert(s);
    use(from, bytes, s, "a download outside an allocation");
    if (inside(from, bytes)) memcpy(to, reinterpret_cast<void *>(from), bytes);
    return CUDA_SUCCESS;
}
API CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
    ENTER(true)
    busy.insert(s);
    use(from, bytes, s, "a copy outside an allocation");
    use(to, bytes, s, "a copy outside an allocation");
    if (inside(from, bytes) && inside(to, bytes)) memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    return CUDA_SUCCESS;
}
API CUresult cuModuleLoadData(CUmodule *m, const void *image) {
    ENTER(true)
    unsigned magic;
    memcpy(&magic, image, sizeof magic);
    if (magic != 0xba55ed50u) {
        fault("an image that is no fat binary");
        return CUDA_ERROR_INVALID_IMAGE;
    }
    return make(modules, m);
}
API CUresult cuModuleUnload(CUmodule m) {
    std::lock_guard<std::recursive_mutex> g(lock);
    return end(modules, m);
}
API CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
    ENTER(true)
    static std::map<std::string, function> all;
    if (!modules.count(reinterpret_cast<void *>(m))) fault("a module that is not loaded");
    if (!emulated_arguments(name)) return CUDA_ERROR_NOT_FOUND;
    function &x = all[name];
    x.shared = 49152;
    snprintf(x.name, sizeof x.name, "%s", name);
    *f = reinterpret_cast<CUfunction>(&x);
    return CUDA_SUCCESS;
}
API CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute what, int value) {
    ENTER(true)
    if (what != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > setting("EMULATED_CUDA_SHARED", emulated_most_shared)) return CUDA_ERROR_INVALID_VALUE;
    reinterpret_cast<function *>(f)->shared = static_cast<unsigned>(value);
    return CUDA_SUCCESS;
}
static void use_all(const unsigned long long *first, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (first[i]) use(first[i], 1, at_work, "an address in a kernel's structure outside an allocation");
}
/* Addresses stand at the beginning of the structures that have any, and of those in them. 0: there is no such operand. */
static void addresses_in(const std::string &name, const void *structure, size_t bytes) {
    if (name == "step_products" && bytes == sizeof(step_products_numbers)) {
        step_products_numbers x;
        memcpy(&x, structure, bytes);
        use_all(&x.x, offsetof(step_products_numbers, k) / sizeof x.x);
        for (const step_matrix &m : x.of) use_all(&m.b, offsetof(step_matrix, n) / sizeof m.b);
    } else if (name == "step_scan" && bytes == sizeof(step_scan_numbers)) {
        step_scan_numbers x;
        memcpy(&x, structure, bytes);
        use_all(&x.x, offsetof(step_scan_numbers, k) / sizeof x.x);
        use_all(&x.of.b, offsetof(step_matrix, n) / sizeof x.of.b);
    } else if (name.compare(0, 9, "hyena_in_") == 0 && bytes == sizeof(hyena_in_numbers)) {
        hyena_in_numbers x;
        memcpy(&x, structure, bytes);
        use_all(x.bias, offsetof(hyena_in_numbers, length) / sizeof x.bias[0]);
    }
}
/* One launch, checked as far as a real driver does. */
static CUresult launch(CUfunction f, const unsigned grid[3], unsigned bx, unsigned shared, void **arguments) {
    launches++;
    launched[reinterpret_cast<function *>(f)->name]++;
    const size_t *sizes = emulated_arguments(reinterpret_cast<function *>(f)->name);
    for (size_t i = 0; sizes && sizes[i]; i++) {
        CUdeviceptr p;
        if (sizes[i] != sizeof p) {
            addresses_in(reinterpret_cast<function *>(f)->name, arguments[i], sizes[i]);
            continue;
        }
        memcpy(&p, arguments[i], sizeof p);
        use(p, 1, at_work, "a kernel's argument outside an allocation");
    }
    if (emulated_run(reinterpret_cast<function *>(f)->name, grid, bx, shared, arguments, &order)) return CUDA_SUCCESS;
    fault("a kernel whose items part at a barrier, or that writes beyond its shared memory");
    return sticky = CUDA_ERROR_LAUNCH_FAILED;
}
static bool possible(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared) {
    return gx && gy && gz && gx <= 0x7fffffffu && gy <= 65535 && gz <= 65535 && bx && bx <= 1024 && by == 1 && bz == 1 && shared <= reinterpret_cast<function *>(f)->shared;
}
/* The launch for later, with a copy of its arguments. */
static std::function<CUresult()> later(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned shared, void **arguments) {
    std::vector<std::vector<unsigned char>> copies;
    const size_t *sizes = emulated_arguments(reinterpret_cast<function *>(f)->name);
    for (size_t i = 0; sizes && sizes[i]; i++) {
        const unsigned char *from = static_cast<unsigned char *>(arguments[i]);
        copies.emplace_back(from, from + sizes[i]);
    }
    return [=]() mutable {
        const unsigned grid[3] = {gx, gy, gz};
        std::vector<void *> at;
        for (auto &c : copies) at.push_back(c.data());
        return launch(f, grid, bx, shared, at.data());
    };
}
static CUresult add(graph &g, std::function<CUresult()> work, const CUgraphNode *after, size_t n, CUgraphNode *node) {
    graph_link l = {work, {}};
    for (size_t i = 0; i < n; i++) {
        if (!g.links.count(after[i])) return CUDA_ERROR_INVALID_VALUE;
        l.after.push_back(after[i]);
    }
    *node = reinterpret_cast<CUgraphNode>(++handles);
    g.links[*node] = l;
    return CUDA_SUCCESS;
}
/* Captured work follows on all that the stream has done before. */
static CUresult add_captured(graph &g, std::function<CUresult()> work) {
    CUgraphNode node, last = g.links.empty() ? nullptr : g.links.rbegin()->first;
    return add(g, work, &last, last ? 1 : 0, &node);
}
/* Whatever may run runs, the youngest first: a missing dependency gives another result. */
static CUresult run(const graph &g) {
    std::set<CUgraphNode> done;
    while (done.size() < g.links.size()) {
        for (auto i = g.links.rbegin();; ++i) {
            if (i == g.links.rend()) return CUDA_ERROR_INVALID_VALUE;
            bool free = !done.count(i->first);
            for (CUgraphNode n : i->second.after) free = free && done.count(n);
            if (!free) continue;
            CUresult e = i->second.work();
            if (e != CUDA_SUCCESS) return e;
            done.insert(i->first);
            break;
        }
    }
    return CUDA_SUCCESS;
}
/* For libraries: 1 when the work was recorded in place of being done. */
API int emulated_cuda_capture(CUstream s, std::function<CUresult()> *work) {
    std::lock_guard<std::recursive_mutex> g(lock);
    if (!captures.count(s)) return 0;
    add_captured(*captures[s], *work);
    return 1;
}
/* Launches of the kernels whose names begin so. */
API long emulated_cuda_launches_of(const char *prefix) {
    std::lock_guard<std::recursive_mutex> g(lock);
    long n = 0;
    for (auto &one : launched)
        if (!one.first.compare(0, strlen(prefix), prefix)) n += one.second;
    return n;
}
/* EMULATED_CUDA_EXPECT=NAME,NAME: these kernels must have run when the process ends. */
__attribute__((destructor)) static void expect() {
    const char *names = getenv("EMULATED_CUDA_EXPECT");
    int missing = 0;
    for (std::string left = names ? names : ""; !left.empty();) {
        size_t comma = left.find(',');
        std::string name = left.substr(0, comma);
        left = comma == std::string::npos ? "" : left.substr(comma + 1);
        if (!launched.count(name)) missing = fprintf(stderr, "kernel %s did not run\n", name.c_str());
    }
    if (missing) _exit(9);
}
API long emulated_cuda_graph_launches(void) { return graph_launches; }

API CUresult cuGraphCreate(CUgraph *g, unsigned) {
    ENTER(true)
    *g = reinterpret_cast<CUgraph>(++handles);
    graphs[*g];
    return CUDA_SUCCESS;
}
API CUresult cuGraphDestroy(CUgraph g) {
    std::lock_guard<std::recursive_mutex> guard_(lock);
    if (!graphs.erase(g)) fault("a graph that is not alive");
    return CUDA_SUCCESS;
}
API CUresult cuGraphExecDestroy(CUgraphExec g) {
    std::lock_guard<std::recursive_mutex> guard_(lock);
    if (!ready_graphs.erase(g)) fault("a ready graph that is not alive");
    return CUDA_SUCCESS;
}
API CUresult cuGraphAddKernelNode(CUgraphNode *node, CUgraph g, const CUgraphNode *after, size_t n, const CUDA_KERNEL_NODE_PARAMS *p) {
    ENTER(true)
    if (!graphs.count(g)) fault("a graph that is not alive");
    if (!graphs.count(g) || !possible(p->func, p->gridDimX, p->gridDimY, p->gridDimZ, p->blockDimX, p->blockDimY, p->blockDimZ, p->sharedMemBytes)) return CUDA_ERROR_INVALID_VALUE;
    return add(graphs[g], later(p->func, p->gridDimX, p->gridDimY, p->gridDimZ, p->blockDimX, p->sharedMemBytes, p->kernelParams), after, n, node);
}
API CUresult cuGraphAddChildGraphNode(CUgraphNode *node, CUgraph g, const CUgraphNode *after, size_t n, CUgraph child) {
    ENTER(true)
    if (!graphs.count(g) || !graphs.count(child)) fault("a graph that is not alive");
    graph copy = graphs[child];
    return add(graphs[g], [copy]() { return run(copy); }, after, n, node);
}
API CUresult cuGraphInstantiate(CUgraphExec *ready, CUgraph g, unsigned long long) {
    ENTER(true)
    if (!graphs.count(g)) fault("a graph that is not alive");
    *ready = reinterpret_cast<CUgraphExec>(++handles);
    ready_graphs[*ready] = graphs[g];
    return CUDA_SUCCESS;
}
API CUresult cuGraphLaunch(CUgraphExec g, CUstream s) {
    ENTER(true)
    if (!ready_graphs.count(g) || !streams.count(reinterpret_cast<void *>(s))) fault("a graph or stream that is not alive");
    graph_launches++;
    busy.insert(s);
    at_work = s;
    return run(ready_graphs[g]);
}
API CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode) {
    ENTER(true)
    if (!streams.count(reinterpret_cast<void *>(s)) || captures.count(s)) return CUDA_ERROR_ILLEGAL_STATE;
    captures[s] = new graph;
    return CUDA_SUCCESS;
}
API CUresult cuStreamEndCapture(CUstream s, CUgraph *g) {
    std::lock_guard<std::recursive_mutex> guard_(lock);
    if (!captures.count(s)) return CUDA_ERROR_ILLEGAL_STATE;
    graph *made = captures[s];
    captures.erase(s); /* a failing end ends it too */
    CUresult e = enter(__func__, true);
    if (e == CUDA_SUCCESS) {
        *g = reinterpret_cast<CUgraph>(++handles);
        graphs[*g] = *made;
    }
    delete made;
    return e;
}
API CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream s,
                            void **arguments, void **) {
    ENTER(true)
    if (!possible(f, gx, gy, gz, bx, by, bz, shared)) return CUDA_ERROR_INVALID_VALUE;
    if (!streams.count(reinterpret_cast<void *>(s))) fault("a launch without a stream");
    if (captures.count(s)) return add_captured(*captures[s], later(f, gx, gy, gz, bx, shared, arguments));
    const unsigned grid[3] = {gx, gy, gz};
    busy.insert(s);
    at_work = s;
    return launch(f, grid, bx, shared, arguments);
}

/* run.cpp - runs a kernel's grid: groups one after another, the items of a group as coroutines that yield at barriers.
 *
 * Between two barriers the items run to the barrier one at a time, warp after warp, in an order that changes from phase to phase (a
 * fixed pseudo-random sequence): a missing barrier gives another result than the reference. Items that do not all come to the same
 * barrier are an error, as on a device; so are lanes of a warp of which some alone come to what warps do together. */
#include "run.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "shim.h"
#include "warp_emulated.h"

#include <vector>

emulated_index threadIdx, blockIdx, gridDim;
emulated_kernel *emulated_kernels;
alignas(256) unsigned char emulated_shared[emulated_most_shared + 4096];

emulated_kernel::emulated_kernel(const char *n, emulated_entry e, const size_t *s) : name(n), entry(e), sizes(s), next(emulated_kernels) { emulated_kernels = this; }

namespace {
constexpr size_t stack_bytes = 256 << 10;
constexpr unsigned most_items = 1024;

/* Begun once by makecontext, and from then on switched without a system call. After the kernel's end an item waits for the next group. */
struct item {
    ucontext_t context;
    jmp_buf at;
    bool begun, done, at_warp; /* at_warp: waits for the other lanes, not for the group */
    unsigned turn;
};

/* A copy of 16 bytes that is under way. */
struct copy {
    void *to;
    const void *from;
    bool there;
};

item items[most_items];
std::vector<std::vector<copy>> copies[most_items]; /* by item: committed groups, and the one that is open */
char *stacks;
jmp_buf scheduler;
unsigned running;
emulated_entry entry;
void **arguments;

void leave() {
    if (!_setjmp(items[running].at)) _longjmp(scheduler, 1);
}

void body() {
    for (;;) {
        entry(arguments);
        items[running].done = true;
        leave();
    }
}

void resume() {
    item &x = items[running];
    if (_setjmp(scheduler)) return;
    if (x.begun) _longjmp(x.at, 1);
    x.begun = true;
    getcontext(&x.context);
    x.context.uc_stack.ss_sp = stacks + running * stack_bytes;
    x.context.uc_stack.ss_size = stack_bytes;
    x.context.uc_link = nullptr;
    makecontext(&x.context, body, 0);
    setcontext(&x.context);
}

unsigned pick(unsigned long &order) {
    order = order * 6364136223846793005UL + 1442695040888963407UL;
    return static_cast<unsigned>(order >> 33);
}

/* The lanes of a warp up to the next barrier of the group, or their end. */
bool run_warp(unsigned begin, unsigned lanes, unsigned long &order) {
    for (;;) {
        unsigned first = pick(order), forward = first >> 16 & 1, waiting = 0;
        for (unsigned k = 0; k < lanes; k++) {
            running = begin + (first % lanes + (forward ? k : lanes - k)) % lanes;
            threadIdx.x = running;
            items[running].at_warp = false;
            resume();
            waiting += items[running].at_warp;
        }
        if (waiting == 0) return true;
        if (waiting < lanes || lanes < 32) return false;
    }
}

/* All items up to their end; false when some wait at a barrier that others never reach. */
bool run_group(unsigned n, unsigned long &order) {
    const unsigned warps = (n + 31) / 32;
    bool good = true;
    for (unsigned i = 0; i < n; i++) items[i].done = false, items[i].turn = 0, copies[i].clear();
    while (good) {
        unsigned finished = 0, first = pick(order), forward = first >> 16 & 1;
        for (unsigned k = 0; k < warps && good; k++) {
            unsigned w = (first % warps + (forward ? k : warps - k)) % warps, begin = w * 32;
            good = run_warp(begin, n - begin < 32 ? n - begin : 32, order);
        }
        for (unsigned i = 0; i < n; i++) finished += items[i].done;
        if (good && finished == n) return true;
        good = good && !finished;
    }
    for (unsigned i = 0; i < n; i++) items[i].begun = false; /* what waits is abandoned */
    return false;
}
} // namespace

const emulated_words *emulated_warp(const emulated_words &mine) {
    static emulated_words all[most_items / 32][2][32];
    item &x = items[running];
    unsigned warp = running / 32, turn = x.turn++ & 1;
    all[warp][turn][running % 32] = mine;
    x.at_warp = true;
    leave();
    return all[warp][turn];
}

void emulated_copy(void *to, const void *from, bool there) {
    auto &c = copies[running];
    if (c.empty()) c.emplace_back();
    c.back().push_back({to, from, there});
}

void emulated_commit() {
    if (copies[running].empty()) copies[running].emplace_back();
    copies[running].emplace_back();
}

void emulated_wait(int left) {
    auto &c = copies[running];
    while (static_cast<int>(c.size()) - 1 > left) { /* the last one is open */
        for (const copy &one : c.front()) {
            if (one.there)
                memcpy(one.to, one.from, 16);
            else
                memset(one.to, 0, 16);
        }
        c.erase(c.begin());
    }
}

void emulated_barrier() { leave(); }

bool emulated_run(const char *name, const unsigned grid[3], unsigned group, unsigned shared, void **args, unsigned long *order) {
    entry = nullptr;
    for (emulated_kernel *k = emulated_kernels; k && !entry; k = k->next)
        if (!std::strcmp(k->name, name)) entry = k->entry;
    if (!stacks) {
        void *p = mmap(nullptr, most_items * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return false;
        stacks = static_cast<char *>(p);
    }
    if (!entry || group > most_items || shared > emulated_most_shared) return false;
    memset(emulated_shared, 0x7f, sizeof emulated_shared); /* rubbish */
    arguments = args;
    gridDim = {grid[0], grid[1], grid[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
                if (!run_group(group, *order)) return false;
    for (unsigned i = shared; i < sizeof emulated_shared; i++)
        if (emulated_shared[i] != 0x7f) return false;
    return true;
}

const size_t *emulated_arguments(const char *name) {
    for (emulated_kernel *k = emulated_kernels; k; k = k->next)
        if (!std::strcmp(k->name, name)) return k->sizes;
    return nullptr;
}

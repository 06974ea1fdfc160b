/* run.cpp - runs a kernel's grid: groups one after another, the items of a group as coroutines that yield at barriers.
 *
 * Between two barriers the items run to the barrier one at a time, in an order that changes from phase to phase (a fixed
 * pseudo-random sequence): a missing barrier gives another result than the reference. Items that do not all come to the same barrier
 * are an error, as on a device. */
#include "run.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "shim.h"

emulated_index threadIdx, blockIdx, gridDim;
emulated_kernel *emulated_kernels;

emulated_kernel::emulated_kernel(const char *n, emulated_entry e) : name(n), entry(e), next(emulated_kernels) { emulated_kernels = this; }

namespace {
constexpr size_t stack_bytes = 256 << 10;
constexpr unsigned most_items = 1024;

/* Begun once by makecontext, and from then on switched without a system call. After the kernel's end an item waits for the next group. */
struct item {
    ucontext_t context;
    jmp_buf at;
    bool begun, done;
};

item items[most_items];
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

/* All items up to their end; false when some wait at a barrier that others never reach. */
bool run_group(unsigned n, unsigned long &order) {
    for (unsigned i = 0; i < n; i++) items[i].done = false;
    for (;;) {
        unsigned finished = 0;
        order = order * 6364136223846793005UL + 1442695040888963407UL;
        unsigned first = static_cast<unsigned>((order >> 33) % n), forward = (order >> 20) & 1;
        for (unsigned k = 0; k < n; k++) {
            running = (first + (forward ? k : n - k)) % n;
            threadIdx.x = running;
            resume();
            finished += items[running].done;
        }
        if (finished == n) return true;
        if (finished) {
            for (unsigned i = 0; i < n; i++) items[i].begun = false; /* what waits is abandoned */
            return false;
        }
    }
}
} // namespace

void emulated_barrier() { leave(); }

bool emulated_run(const char *name, const unsigned grid[3], unsigned group, void **args, unsigned long *order) {
    entry = nullptr;
    for (emulated_kernel *k = emulated_kernels; k && !entry; k = k->next)
        if (!std::strcmp(k->name, name)) entry = k->entry;
    if (!stacks) {
        void *p = mmap(nullptr, most_items * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return false;
        stacks = static_cast<char *>(p);
    }
    if (!entry || group > most_items) return false;
    arguments = args;
    gridDim = {grid[0], grid[1], grid[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
                if (!run_group(group, *order)) return false;
    return true;
}

bool emulated_known(const char *name) {
    for (emulated_kernel *k = emulated_kernels; k; k = k->next)
        if (!std::strcmp(k->name, name)) return true;
    return false;
}

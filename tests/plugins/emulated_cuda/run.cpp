/* run.cpp - runs a kernel's grid: groups one after another in random order, as a device may, the items of a group as coroutines
 * that yield where they wait. Shared memory that a launch asks for is rubbish when a group begins.
 *
 * Items run to the next place where they must wait one at a time, warp after warp, in an order that changes from phase to phase
 * (a fixed pseudo-random sequence): a missing barrier gives another result than the reference. Items that wait for what never
 * comes are an error, as on a device; so are lanes of a warp of which some alone come to what warps do together or to a
 * barrier, and arrivals, copies or products that nobody waits for.
 *
 * What a device does beside its items comes as late as it may: copies of 16 bytes and products of a warp group when they are
 * waited for, bulk copies at any time after their beginning. Where such a copy goes, and a product's sums, are rubbish until
 * then. */
#include "run.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "shim.h"
#include "warp_emulated.h"
#include "wgmma_emulated.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

emulated_index threadIdx, blockIdx, gridDim;
emulated_kernel *emulated_kernels;
alignas(1024) unsigned char emulated_shared[emulated_most_shared + 4096];

emulated_kernel::emulated_kernel(const char *n, emulated_entry e, const size_t *s) : name(n), entry(e), sizes(s), next(emulated_kernels) { emulated_kernels = this; }

namespace {
constexpr size_t stack_bytes = 256 << 10;
constexpr unsigned most_items = 1024;
constexpr unsigned char rubbish_byte = 0x7f;

/* Begun once by makecontext, and from then on switched without a system call. After the kernel's end an item waits for the next
 * group. */
struct item {
    ucontext_t context;
    jmp_buf at;
    bool begun;
    enum { RUNS, AT_WARP, AT_BARRIER, AT_PHASE, DONE } state;
    unsigned turn, barrier;      /* AT_BARRIER: its number */
    const emulated_phase *phase; /* AT_PHASE, until its parity is no longer this one */
    unsigned parity;
    bool fenced; /* registers may go into products */
};

/* A barrier of the group by number: who has come. */
struct barrier {
    unsigned need, here;
};

/* A bulk copy that is under way. */
struct bulk {
    emulated_map map;
    unsigned char *to;
    int at[4];
    emulated_phase *phase;
};

/* The part of a warp group's product that one lane makes: its sums c, of rows lane / 4 and 8 on of its warp's 16. */
struct product {
    float *c;
    int n;
    bool f16, add, a_shared;
    unsigned long long a_at, b_at;
    const unsigned *a;
    unsigned a_was[4];
    float rows[2][16];
    bool n_major;
};

/* The sums that products under way add to, and how many of these are left. */
struct sums {
    float *c;
    std::vector<float> now;
    unsigned left;
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
unsigned running, group_items, group_shared;
emulated_entry entry;
void **arguments;
barrier barriers[16];
std::vector<bulk> bulks;
std::vector<std::vector<product>> products[most_items]; /* by item, as copies */
std::vector<sums> under_way[most_items];
std::vector<unsigned long long>
    batches[most_items / 32]; /* what each warp has multiplied: a warp group's warps must do the same */
const char *trouble;

void fault(const char *what) {
    if (!trouble) fprintf(stderr, "emulated CUDA: %s\n", trouble = what);
}

void leave() {
    if (!_setjmp(items[running].at)) _longjmp(scheduler, 1);
}

void body() {
    for (;;) {
        entry(arguments);
        items[running].state = item::DONE;
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

/* 0 ... n - 1 in random order. */
std::vector<unsigned long> shuffled(unsigned long n, unsigned long &order) {
    std::vector<unsigned long> all(n);
    for (unsigned long i = 0; i < n; i++) {
        unsigned long k = (static_cast<unsigned long>(pick(order)) << 31 | pick(order)) % (i + 1);
        all[i] = all[k];
        all[k] = i;
    }
    return all;
}

bool ready(const item &x) {
    return x.state == item::RUNS || (x.state == item::AT_PHASE && x.phase->parity != x.parity);
}

/* The lanes of a warp until all of them wait for others, or have ended: how many times one ran. */
unsigned run_warp(unsigned begin, unsigned lanes, unsigned long &order) {
    for (unsigned ran = 0;;) {
        unsigned first = pick(order), forward = first >> 16 & 1, before = ran, at_warp = 0;
        for (unsigned k = 0; k < lanes; k++) {
            running = begin + (first % lanes + (forward ? k : lanes - k)) % lanes;
            threadIdx.x = running;
            if (!ready(items[running])) continue;
            items[running].state = item::RUNS;
            resume();
            ran++;
        }
        for (unsigned k = 0; k < lanes; k++) at_warp += items[begin + k].state == item::AT_WARP;
        if (at_warp == 32)
            for (unsigned k = 0; k < lanes; k++) items[begin + k].state = item::RUNS;
        else if (ran == before)
            return ran;
    }
}

void passes(emulated_phase *p) {
    if (p->pending || p->bytes) return;
    p->parity ^= 1;
    p->pending = p->count;
}

/* One of the bulk copies under way, any. */
void finish_bulk(unsigned long &order) {
    size_t which = pick(order) % bulks.size();
    bulk c = bulks[which];
    bulks.erase(bulks.begin() + static_cast<long>(which));
    emulated_fill(c.map, c.to, c.at);
    c.phase->bytes -= c.map.box_bytes();
    passes(c.phase);
}

/* All items up to their end; false when some wait for what others never do. */
bool run_group(unsigned n, unsigned long &order) {
    const unsigned warps = (n + 31) / 32;
    group_items = n;
    for (unsigned i = 0; i < n; i++) {
        items[i].state = item::RUNS;
        items[i].turn = 0;
        items[i].fenced = false;
        copies[i].clear();
        products[i].clear();
        under_way[i].clear();
    }
    for (auto &b : barriers) b = {0, 0};
    for (auto &b : batches) b.clear();
    bulks.clear();
    for (unsigned finished = 0; finished < n && !trouble;) {
        unsigned first = pick(order), forward = first >> 16 & 1, ran = 0;
        for (unsigned k = 0; k < warps; k++) {
            unsigned w = (first % warps + (forward ? k : warps - k)) % warps, begin = w * 32;
            ran += run_warp(begin, n - begin < 32 ? n - begin : 32, order);
        }
        finished = 0;
        for (unsigned i = 0; i < n; i++) finished += items[i].state == item::DONE;
        if (finished < n && !ran && bulks.empty()) fault("items part at a barrier, or wait for ever");
        while (!bulks.empty() && (!ran || (pick(order) & 1))) finish_bulk(order), ran = 1;
    }
    for (auto &b : barriers)
        if (b.here) fault("an arrival that no barrier waits for");
    if (!bulks.empty()) fault("a bulk copy that nobody waits for");
    for (unsigned i = 0; i < n; i++)
        if (!under_way[i].empty()) fault("products that nobody waits for");
    if (trouble)
        for (unsigned i = 0; i < n; i++) items[i].begun = false; /* what waits is abandoned */
    return !trouble;
}
} // namespace

const emulated_words *emulated_warp(const emulated_words &mine) {
    static emulated_words all[most_items / 32][2][32];
    item &x = items[running];
    unsigned warp = running / 32, turn = x.turn++ & 1;
    all[warp][turn][running % 32] = mine;
    x.state = item::AT_WARP;
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

/* Counts this item in; true when it was the last one, and the others go on. */
static bool comes(unsigned id, unsigned n) {
    barrier &b = barriers[id % 16];
    if (id > 15 || n % 32 || n > group_items || (b.here && b.need != n))
        fault("a barrier that does not exist, or for another number of items");
    b.need = n;
    if (++b.here < n) return false;
    b.here = 0;
    for (unsigned i = 0; i < group_items; i++) {
        if (items[i].state != item::AT_BARRIER || items[i].barrier != id) continue;
        for (unsigned k = i / 32 * 32; k < i / 32 * 32 + 32 && k < group_items; k++)
            if (items[k].state != item::RUNS && items[k].state != item::AT_BARRIER)
                fault("a warp of which not all lanes come to a barrier");
    }
    for (unsigned i = 0; i < group_items; i++)
        if (items[i].state == item::AT_BARRIER && items[i].barrier == id) items[i].state = item::RUNS;
    return true;
}

void emulated_barrier_of(unsigned id, unsigned n) {
    items[running].state = item::AT_BARRIER;
    items[running].barrier = id;
    comes(id, n);
    leave();
}

void emulated_arrive_of(unsigned id, unsigned n) {
    comes(id, n);
}

void emulated_barrier() {
    item &x = items[running];
    x.state = item::AT_BARRIER;
    x.barrier = 0;
    if (++barriers[0].here == group_items) {
        barriers[0].here = 0;
        for (unsigned i = 0; i < group_items; i++)
            if (items[i].state == item::AT_BARRIER && items[i].barrier == 0) items[i].state = item::RUNS;
    }
    leave();
}

void emulated_phase_arrive(emulated_phase *p, int bytes) {
    if (!p->pending) fault("an arrival too many");
    p->bytes += bytes;
    p->pending--;
    passes(p);
}

void emulated_phase_wait(const emulated_phase *p, unsigned parity) {
    item &x = items[running];
    x.state = item::AT_PHASE;
    x.phase = p;
    x.parity = parity;
    leave();
}

void emulated_fill(const emulated_map &m, unsigned char *to, const int at[4]) {
    for (unsigned i = 0; i < m.box[0] * m.box[1] * m.box[2] * m.box[3]; i++) {
        unsigned left = i;
        bool there = true;
        const unsigned char *from = m.base;
        for (int axis = 0; axis < 4; axis++) {
            long long c = static_cast<long long>(left % m.box[axis]) + at[axis];
            left /= m.box[axis];
            there = there && c >= 0 && c < static_cast<long long>(m.dims[axis]);
            from += c * static_cast<long long>(axis ? m.strides[axis - 1] : m.bytes);
        }
        size_t byte = i * m.bytes;
        if (m.swizzle) byte ^= (byte >> 7 & (m.swizzle / 16 - 1)) << 4;
        if (there)
            memcpy(to + byte, from, m.bytes);
        else
            memset(to + byte, 0, m.bytes);
    }
}

void emulated_bulk(void *to, const void *map, const int at[4], emulated_phase *phase) {
    bulk c;
    memcpy(&c.map, map, sizeof c.map);
    c.to = static_cast<unsigned char *>(to);
    memcpy(c.at, at, sizeof c.at);
    c.phase = phase;
    if (c.map.magic != emulated_map_magic) return fault("a tensor map that is none");
    if ((c.to - emulated_shared) % (c.map.swizzle == 128 ? 1024 : 128) || c.to < emulated_shared ||
        c.to + c.map.box_bytes() > emulated_shared + group_shared)
        return fault("a bulk copy to a place that is not aligned, or outside of shared memory");
    memset(to, 0xff, static_cast<size_t>(c.map.box_bytes()));
    bulks.push_back(c);
}

/* ---- sums of tensor cores ---- */

struct summing {
    int terms = 4, bits = 0; /* of a step; kept below F32's last one */
    summing() {
        const char *text = getenv("EMULATED_CUDA_SUMS");
        if (text && sscanf(text, "%d,%d", &terms, &bits) < 1) abort();
        if (terms < 0 || terms > 16 || (terms && 16 % terms) || bits < 0 || bits > 8) abort();
    }
};

/* Towards zero. */
static float cut_off(double d) {
    float f = static_cast<float>(d);
    if (std::fabs(d) < 0x1p128 && std::fabs(static_cast<double>(f)) > std::fabs(d)) f = std::nextafter(f, 0.0f);
    return f;
}

float emulated_sum(float c, const emulated_factors &a, const emulated_factors &b) {
    static const summing how;
    for (int first = 0; first < 16;) {
        const int end = how.terms ? first + how.terms : 16;
        double sum = static_cast<double>(c);
        int most = sum != 0 ? std::max(-126, std::ilogb(sum)) : -4096;
        for (int k = first; k < end; k++) most = std::max(most, a.exponent[k] + b.exponent[k]);
        if (!how.terms || most >= 1024 || !std::isfinite(sum)) {
            for (int k = first; k < end; k++) sum += static_cast<double>(a.value[k]) * static_cast<double>(b.value[k]);
            c = static_cast<float>(sum);
        } else if (most > -2048) { /* else there are zeros alone */
            const double up = std::ldexp(1.0, 23 + how.bits - most), down = std::ldexp(1.0, most - 23 - how.bits);
            long long all = static_cast<long long>(sum * up);
            for (int k = first; k < end; k++)
                all += static_cast<long long>(static_cast<double>(a.value[k]) * static_cast<double>(b.value[k]) * up);
            c = cut_off(static_cast<double>(all) * down);
        }
        first = end;
    }
    return c;
}

/* The same of c and n products of halves in memory, for libraries of tests. */
extern "C" __attribute__((visibility("default"))) float emulated_cuda_sum(float c, int f16, unsigned long n, const float *a,
                                                                          const float *b) {
    for (unsigned long first = 0; first < n; first += 16) {
        emulated_factors fa, fb;
        for (int k = 0; k < 16; k++) {
            const bool there = first + static_cast<unsigned long>(k) < n;
            emulated_factor(fa, k, f16, there ? a[first + static_cast<unsigned long>(k)] : 0.0f);
            emulated_factor(fb, k, f16, there ? b[first + static_cast<unsigned long>(k)] : 0.0f);
        }
        c = emulated_sum(c, fa, fb);
    }
    return c;
}

/* ---- products of warp groups ---- */

void emulated_products_begin() {
    emulated_warp({{}, nullptr});
    items[running].fenced = true;
}

/* A half of a matrix in shared memory by its descriptor. i: row (of A) or column (of B). */
static float element(unsigned long long at, bool n_major, bool f16, int i, int k) {
    const int leading = static_cast<int>(at >> 16 & 0x3fff) * 16, stride = static_cast<int>(at >> 32 & 0x3fff) * 16,
              mode = static_cast<int>(at >> 62),
              wide = mode == 1   ? 128
                     : mode == 2 ? 64
                     : mode == 3 ? 32
                                 : 16;
    int byte = static_cast<int>(at & 0x3fff) * 16;
    if (n_major && mode)
        byte += i % (wide / 2) * 2 + i / (wide / 2) * leading + k % 8 * wide + k / 8 * stride;
    else if (n_major)
        byte += i % 8 * 2 + i / 8 * stride + k % 8 * 16 + k / 8 * leading;
    else
        byte += i % 8 * wide + i / 8 * stride + k % 8 * 2 + k / 8 * (mode ? 16 : leading);
    byte ^= (byte >> 7 & (wide / 16 - 1)) << 4;
    if (byte < 0 || byte + 2 > static_cast<int>(group_shared)) {
        fault("a product of what is outside of shared memory");
        return 0;
    }
    half_word h;
    memcpy(&h, emulated_shared + byte, 2);
    return emulated_half(f16, h);
}

static sums &sums_of(float *c) {
    for (sums &s : under_way[running])
        if (s.c == c) return s;
    under_way[running].push_back({c, {}, 0});
    return under_way[running].back();
}

static const float rubbish = __uint_as_float(0x7fc0beefu);

void emulated_product(float *c, int n, bool f16, bool add, const unsigned *a, unsigned long long a_at, unsigned long long b_at,
                      bool n_major) {
    product p = {c, n, f16, add, a == nullptr, a_at, b_at, a, {}, {}, n_major};
    emulated_words mine = {};
    if (a) memcpy(mine.u, a, sizeof p.a_was), memcpy(p.a_was, a, sizeof p.a_was);
    const emulated_words *all = emulated_warp(mine);
    const int lane = static_cast<int>(running % 32);
    for (int i = 0; i < 2 && a; i++)
        for (int k = 0; k < 16; k++) p.rows[i][k] = emulated_a(f16, all, lane / 4 + 8 * i, k);
    item &x = items[running];
    if (!x.fenced) fault("a product without a fence before it");
    if (lane == 0) batches[running / 32].push_back(b_at ^ (a ? 0 : a_at * 3));
    sums &s = sums_of(c);
    if (!s.left) {
        s.now.assign(c, c + n / 2);
        for (int i = 0; i < n / 2; i++) c[i] = rubbish;
    }
    s.left++;
    auto &all_mine = products[running];
    if (all_mine.empty()) all_mine.emplace_back();
    all_mine.back().push_back(p);
}

void emulated_products_commit() {
    emulated_warp({{}, nullptr});
    if (products[running].empty()) products[running].emplace_back();
    products[running].emplace_back();
    items[running].fenced = false;
}

static void multiply(const product &p) {
    const int lane = static_cast<int>(running % 32), first = static_cast<int>(running / 32 % 4) * 16;
    sums &s = sums_of(p.c);
    if (p.a && memcmp(p.a, p.a_was, sizeof p.a_was)) fault("registers that changed while they were multiplied");
    emulated_factors rows[2], column;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 16; k++)
            emulated_factor(rows[i], k, p.f16,
                            p.a_shared ? element(p.a_at, false, p.f16, first + lane / 4 + 8 * i, k) : p.rows[i][k]);
    for (int i = 0; i < p.n / 4; i++) {
        for (int k = 0; k < 16; k++)
            emulated_factor(column, k, p.f16, element(p.b_at, p.n_major, p.f16, i / 2 * 8 + lane % 4 * 2 + i % 2, k));
        for (int r = 0; r < 2; r++) {
            float &to = s.now[static_cast<size_t>(i / 2 * 4 + 2 * r + i % 2)];
            to = emulated_sum(p.add ? to : 0.0f, rows[r], column);
        }
    }
    if (--s.left) return;
    for (int i = 0; i < p.n / 2; i++)
        if (__float_as_uint(p.c[i]) != __float_as_uint(rubbish))
            fault("sums that were written while products were added to them");
    memcpy(p.c, s.now.data(), sizeof(float) * s.now.size());
    under_way[running].erase(under_way[running].begin() + (&s - under_way[running].data()));
}

void emulated_products_wait(int left) {
    emulated_warp({{}, nullptr});
    auto &mine = products[running];
    while (static_cast<int>(mine.size()) - 1 > left) {
        for (const product &p : mine.front()) multiply(p);
        mine.erase(mine.begin());
    }
    items[running].fenced = false;
    /* The warps of a group multiply the same. */
    const auto &theirs = batches[running / 128 * 4], &ours = batches[running / 32];
    for (size_t i = 0; i < theirs.size() && i < ours.size(); i++)
        if (theirs[i] != ours[i]) fault("warps of a warp group that multiply different things");
}

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
    memset(emulated_shared, rubbish_byte, sizeof emulated_shared);
    trouble = nullptr;
    group_shared = shared;
    arguments = args;
    gridDim = {grid[0], grid[1], grid[2]};
    for (unsigned long which : shuffled(static_cast<unsigned long>(grid[0]) * grid[1] * grid[2], *order)) {
        blockIdx.x = static_cast<unsigned>(which % grid[0]);
        blockIdx.y = static_cast<unsigned>(which / grid[0] % grid[1]);
        blockIdx.z = static_cast<unsigned>(which / grid[0] / grid[1]);
        memset(emulated_shared, rubbish_byte, shared);
        if (!run_group(group, *order)) return false;
    }
    for (unsigned i = shared; i < sizeof emulated_shared; i++)
        if (emulated_shared[i] != rubbish_byte) return false;
    return true;
}

const size_t *emulated_arguments(const char *name) {
    for (emulated_kernel *k = emulated_kernels; k; k = k->next)
        if (!std::strcmp(k->name, name)) return k->sizes;
    return nullptr;
}

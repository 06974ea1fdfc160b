/* test_plan.c - the memory planner, as a property of random block sets: the proof holds, the peak lies between the lower bound
 * and the sum, the result depends on nothing but the input. And the proof itself: it must see an overlap when there is one. */
#include "support.h"

#include "plan.h"

#define MOST  60
#define STEPS 40

typedef struct set {
    plan_block blocks[MOST];
    size_t n;
    uint32_t steps;
    uint64_t page; /* 0: none */
} set;

static void make(randoms *r, set *s) {
    s->steps = 1 + (uint32_t)random_below(r, STEPS);
    s->n = (size_t)random_below(r, MOST + 1);
    int shape = (int)random_below(r, 4);
    uint64_t most = 1;
    for (size_t i = 0; i < s->n; i++) {
        plan_block *b = &s->blocks[i];
        b->bytes = (uint64_t)(shape == 0   ? random_below(r, 10)
                              : shape == 1 ? 64 * random_below(r, 20)
                              : shape == 2 ? (int64_t)1 << random_below(r, 40)
                                           : 1000);
        b->align = (uint64_t)1 << random_below(r, shape == 3 ? 1 : 8);
        if (b->bytes > most) most = b->bytes;
        b->first = (uint32_t)random_below(r, s->steps);
        b->last = b->first + (uint32_t)random_below(r, s->steps - b->first);
    }
    s->page = (uint64_t)random_below(r, 3) * ((most + 127) / 128 * 128 + 128 * (uint64_t)random_below(r, 9));
}

/* The bound from its definition, not from the planner. */
static uint64_t most_alive(const set *s, uint32_t *step) {
    uint64_t most = 0;
    *step = 0;
    for (uint32_t t = 0; t < s->steps; t++) {
        uint64_t alive = 0;
        for (size_t i = 0; i < s->n; i++)
            if (s->blocks[i].first <= t && t <= s->blocks[i].last) alive += s->blocks[i].bytes;
        if (alive > most) {
            most = alive;
            *step = t;
        }
    }
    return most;
}

static bool plan(const set *s, uint64_t *offsets, plan_result *result) {
    size_t bytes = plan_work_bytes(s->n, s->steps);
    unsigned char *work = malloc(bytes + 16);
    memset(work, 0xcd, bytes + 16);
    bool good = plan_offsets(s->blocks, s->n, s->steps, s->page, work, offsets, result);
    for (int i = 0; i < 16; i++) assert_int_equal(work[bytes + (size_t)i], 0xcd); /* it needs no more than it said */
    free(work);
    return good;
}

static void check(const set *s, uint64_t seed, int round) {
    uint64_t offsets[MOST + 1], again[MOST + 1], sum = 0;
    plan_result r, r2;
    size_t a, b;
    uint32_t step;
    if (!plan(s, offsets, &r)) fail_msg("seed %llu round %d: no plan", (unsigned long long)seed, round);
    if (!plan_verify(s->blocks, s->n, s->page, offsets, r.peak, &a, &b))
        fail_msg("seed %llu round %d: blocks %zu and %zu overlap", (unsigned long long)seed, round, a, b);
    for (size_t i = 0; i < s->n && s->page; i++) /* in one page, from its definition */
        assert_true(!s->blocks[i].bytes || offsets[i] % s->page + s->blocks[i].bytes <= s->page);
    for (size_t i = 0; i < s->n; i++) sum += s->blocks[i].bytes + s->blocks[i].align - 1;
    uint64_t bound = most_alive(s, &step);
    if (r.lower_bound != bound || r.peak_step != step || r.peak < bound || (!s->page && r.peak > sum))
        fail_msg("seed %llu round %d: peak %llu, bound %llu (%llu), sum %llu", (unsigned long long)seed, round,
                 (unsigned long long)r.peak, (unsigned long long)r.lower_bound, (unsigned long long)bound,
                 (unsigned long long)sum);
    assert_true(plan(s, again, &r2));
    assert_true(r.peak == r2.peak && r.lower_bound == r2.lower_bound && r.peak_step == r2.peak_step);
    if (s->n) assert_memory_equal(offsets, again, s->n * sizeof *offsets);
}

static void random_sets(void **state) {
    (void)state;
    uint64_t seed = random_seed("plan", 2024);
    for (int round = 0; round < 6000; round++) {
        randoms r = {seed + (uint64_t)round};
        set s;
        make(&r, &s);
        check(&s, seed, round);
    }
}

/* Independent of plan_verify: paints every step's bytes and finds two painters of one byte. */
static void verifier_agrees_with_paint(void **state) {
    (void)state;
    uint64_t seed = random_seed("paint", 77);
    int overlaps = 0, clean = 0;
    for (int round = 0; round < 4000; round++) {
        randoms r = {seed + (uint64_t)round};
        set s = {.n = 1 + (size_t)random_below(&r, 7), .steps = 6};
        uint64_t offsets[8], peak = 0;
        size_t a, b;
        for (size_t i = 0; i < s.n; i++) {
            s.blocks[i] = (plan_block){(uint64_t)random_below(&r, 12), 1, (uint32_t)random_below(&r, 6), 5};
            s.blocks[i].last = s.blocks[i].first + (uint32_t)random_below(&r, 6 - s.blocks[i].first);
            offsets[i] = (uint64_t)random_below(&r, 40);
            if (offsets[i] + s.blocks[i].bytes > peak) peak = offsets[i] + s.blocks[i].bytes;
        }
        bool painted_twice = false;
        for (uint32_t t = 0; t < s.steps; t++) {
            unsigned char paint[64] = {0};
            for (size_t i = 0; i < s.n; i++)
                for (uint64_t k = 0; s.blocks[i].first <= t && t <= s.blocks[i].last && k < s.blocks[i].bytes; k++)
                    painted_twice = paint[offsets[i] + k]++ || painted_twice;
        }
        if (plan_verify(s.blocks, s.n, s.page, offsets, peak, &a, &b) == painted_twice)
            fail_msg("seed %llu round %d: the proof is wrong", (unsigned long long)seed, round);
        painted_twice ? overlaps++ : clean++;
    }
    assert_true(overlaps > 500 && clean > 500);
}

static void verifier_catches_injected_faults(void **state) {
    (void)state;
    int moved = 0;
    for (int round = 0; round < 500; round++) {
        randoms r = {random_next(&(randoms){(uint64_t)round})};
        set s;
        uint64_t offsets[MOST + 1];
        plan_result result;
        size_t a, b;
        make(&r, &s);
        for (size_t i = 0; i < s.n; i++) s.blocks[i].align = 1;
        assert_true(plan(&s, offsets, &result));
        for (size_t i = 0; i < s.n; i++)
            for (size_t j = 0; j < i; j++) {
                const plan_block *x = &s.blocks[i], *y = &s.blocks[j];
                if (x->first > y->last || y->first > x->last || !x->bytes || !y->bytes) continue;
                uint64_t keep = offsets[i];
                offsets[i] = offsets[j] + y->bytes - 1; /* its first byte over the other's last */
                assert_false(plan_verify(s.blocks, s.n, s.page, offsets, UINT64_MAX, &a, &b));
                offsets[i] = keep;
                moved++;
            }
        for (size_t i = 0; i < s.n; i++) {
            if (!s.blocks[i].bytes || offsets[i] + s.blocks[i].bytes != result.peak) continue;
            assert_false(plan_verify(s.blocks, s.n, s.page, offsets, result.peak - 1, &a, &b)); /* sticks out of the arena */
            break;
        }
    }
    assert_true(moved > 5000);
    uint64_t odd[] = {8, 0};
    plan_block aligned[] = {{4, 16, 0, 0}, {4, 4, 0, 0}};
    size_t a, b;
    assert_false(plan_verify(aligned, 2, 0, odd, 100, &a, &b));
    assert_int_equal(a, 0);
}

static void degenerate_sets(void **state) {
    (void)state;
    set none = {.n = 0, .steps = 1};
    uint64_t offsets[MOST];
    plan_result r;
    assert_true(plan(&none, offsets, &r));
    assert_true(r.peak == 0 && r.lower_bound == 0);
    set chain = {.n = 30, .steps = 31}; /* each block meets the next only: two places are enough */
    for (uint32_t i = 0; i < 30; i++) chain.blocks[i] = (plan_block){4096, 64, i, i + 1};
    assert_true(plan(&chain, offsets, &r));
    assert_int_equal(r.peak, 8192);
    set together = {.n = 10, .steps = 2};
    for (uint32_t i = 0; i < 10; i++) together.blocks[i] = (plan_block){64 * (i + 1), 64, 0, 1};
    assert_true(plan(&together, offsets, &r));
    assert_int_equal(r.peak, 64 * 55);
    set empty = {.n = 5, .steps = 3};
    for (uint32_t i = 0; i < 5; i++) empty.blocks[i] = (plan_block){0, 64, 0, 2};
    assert_true(plan(&empty, offsets, &r));
    assert_int_equal(r.peak, 0);
    set huge = {.n = 3, .steps = 1};
    for (uint32_t i = 0; i < 3; i++) huge.blocks[i] = (plan_block){(uint64_t)1 << 63, 64, 0, 0};
    assert_false(plan(&huge, offsets, &r)); /* the sum does not fit 64 bits */
    set apart = {.n = 3, .steps = 3};
    for (uint32_t i = 0; i < 3; i++) apart.blocks[i] = (plan_block){(uint64_t)1 << 63, 64, i, i};
    assert_true(plan(&apart, offsets, &r));
    assert_true(r.peak == (uint64_t)1 << 63);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sets),
        cmocka_unit_test(verifier_agrees_with_paint),
        cmocka_unit_test(verifier_catches_injected_faults),
        cmocka_unit_test(degenerate_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

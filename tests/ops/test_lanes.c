/* test_lanes.c - LANES_JOIN of the GPU kernels (backends/gpu/kernels/math.k) in subgroups of every size that a device may have,
 * 1 to 128, of which the devices at hand have one or two: the macro itself, compiled as C, each work item of a group a thread.
 *
 * Whatever the subgroups' size, every item has the bytes that the tree gives: items whose numbers differ by the step are joined,
 * the largest step first. Items come to barriers and to shuffles all together, and a shuffle stays in its subgroup. The joins
 * commute, NaN included, or the bytes would depend on who joins whom. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS 128

typedef unsigned int uint;
static _Thread_local int own_number;
static int subgroup;
static float shared_tile[ITEMS], box[ITEMS];

static void all_come(int where);
static float from_item(float x, int mask);

static inline uint bits_of(float x) {
    uint u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float from_bits(uint u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* As much of the dialect as math.k needs. */
#define FN                 static inline
#define PRECISE            volatile
#define LOCAL              own_number
#define SUBGROUP           subgroup
#define FROM_ITEM(x, mask) from_item(x, mask)
#define BARRIER            all_come(0);
#define INT(x)             ((int)(x))
#define UINT(x)            ((uint)(x))
#define FLOAT(x)           ((float)(x))
#define BITS_OF(x)         bits_of(x)
#define FROM_BITS(x)       from_bits(x)
#define FABS(x)            fabsf(x)
#define FMIN(a, b)         fminf(a, b)
#define FMAX(a, b)         fmaxf(a, b)
#define IMIN(a, b)         ((a) < (b) ? (a) : (b))
#define IMAX(a, b)         ((a) > (b) ? (a) : (b))
#define FMA(a, b, c)       fmaf(a, b, c)
#define FLOOR(x)           floorf(x)
#define SQRT(x)            sqrtf(x)
#define IS_NAN(x)          ((bits_of(x) & 0x7fffffffu) > 0x7f800000u)
#define SELECT(yes, a, b)  ((yes) ? (a) : (b))
#include "math.k"

static void wrong(const char *what, int a, int b) {
    printf("LANES_JOIN: %s (%d, %d; subgroups of %d)\n", what, a, b, subgroup);
    fflush(stdout);
    _Exit(1);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t passed = PTHREAD_COND_INITIALIZER;

/* A barrier at a place: 0 for one of the macro's; all items must come to the same. */
static void all_come(int where) {
    static int here, place;
    static unsigned turn;
    pthread_mutex_lock(&lock);
    if (here && place != where) wrong("items are at different barriers or shuffles", place, where);
    place = where;
    unsigned mine = turn;
    if (++here == ITEMS) {
        here = 0;
        turn++;
        pthread_cond_broadcast(&passed);
    }
    while (turn == mine) pthread_cond_wait(&passed, &lock);
    pthread_mutex_unlock(&lock);
}

static float from_item(float x, int mask) {
    box[LOCAL] = x;
    all_come(2 * mask);
    if ((LOCAL ^ mask) / subgroup != LOCAL / subgroup) wrong("a shuffle leaves its subgroup", LOCAL, mask);
    float y = box[LOCAL ^ mask];
    all_come(2 * mask + 1);
    return y;
}

static const uint special[] = {0x7fc00000u, 0x7f800000u, 0xff800000u, 0x3f800000u, 0xbf800000u, 0x7f7fffffu, 1};
enum { SUM, MAX, PEAK, JOINS, N_SPECIAL = sizeof special / sizeof *special };

static float join(int kind, float a, float b) {
    return kind == SUM ? JOIN_SUM(a, b) : kind == MAX ? JOIN_MAX(a, b) : JOIN_PEAK(a, b);
}

static float lanes_join(int kind, int lanes, int lane, int unit, float v) {
    if (kind == SUM) LANES_JOIN(shared_tile, lanes, lane, unit, v, JOIN_SUM)
    if (kind == MAX) LANES_JOIN(shared_tile, lanes, lane, unit, v, JOIN_MAX)
    if (kind == PEAK) LANES_JOIN(shared_tile, lanes, lane, unit, v, JOIN_PEAK)
    return v;
}

/* What an item brings: numbers whose sums are rounded, and what is special among them where nothing is added. */
static float brought(int kind, int item) {
    uint r = ((uint)item + 1) * 2654435761u;
    if (kind != SUM && r >> 29 == 0) return from_bits(special[(r >> 8) % N_SPECIAL]);
    return (float)(int)r * 1e-7f;
}

static void expect(int kind, int lanes, int unit, float *v) {
    float was[ITEMS];
    for (int step = lanes / 2 * unit; step >= unit; step /= 2) {
        memcpy(was, v, sizeof was);
        for (int i = 0; i < ITEMS; i++) v[i] = join(kind, was[i], was[i ^ step]);
    }
}

static void *work_item(void *number) {
    own_number = (int)(intptr_t)number;
    for (int kind = 0; kind < JOINS; kind++)
        for (int lanes = 1; lanes <= ITEMS; lanes *= 2)
            for (int unit = 1; lanes * unit <= ITEMS; unit *= 2) {
                if (kind != SUM && lanes * unit != ITEMS) continue;
                float want[ITEMS];
                for (int i = 0; i < ITEMS; i++) want[i] = brought(kind, i);
                expect(kind, lanes, unit, want);
                for (int size = 1; size <= ITEMS; size *= 2) {
                    all_come(-1);
                    if (!LOCAL) subgroup = size;
                    all_come(-2);
                    float got = lanes_join(kind, lanes, LOCAL / unit % lanes, unit, brought(kind, LOCAL));
                    if (bits_of(got) != bits_of(want[LOCAL])) wrong("other bytes than the tree's, lanes and unit", lanes, unit);
                }
            }
    return NULL;
}

static void joins_commute(void) {
    for (int i = 0; i < N_SPECIAL; i++)
        for (int j = 0; j < N_SPECIAL; j++)
            for (int kind = MAX; kind <= PEAK; kind++) {
                const float a = from_bits(special[i]), b = from_bits(special[j]), c = join(kind, a, b);
                if (bits_of(c) != bits_of(join(kind, b, a))) wrong("a join does not commute", i, j);
                if (IS_NAN(c) != (kind == MAX ? IS_NAN(a) && IS_NAN(b) : IS_NAN(a) || IS_NAN(b))) wrong("NaN in a join", i, j);
            }
}

int main(void) {
    pthread_t threads[ITEMS];
    pthread_attr_t small;
    joins_commute();
    if (pthread_attr_init(&small) || pthread_attr_setstacksize(&small, 256 << 10)) return 1;
    for (int i = 0; i < ITEMS; i++)
        if (pthread_create(&threads[i], &small, work_item, (void *)(intptr_t)i)) return 1;
    for (int i = 0; i < ITEMS; i++) pthread_join(threads[i], NULL);
    printf("LANES_JOIN: the same bytes in subgroups of 1 to %d\n", ITEMS);
    return 0;
}

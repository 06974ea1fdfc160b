/* sample.c - draws of tokens. See sample.h. The random numbers are the program's own, so that a seed gives the same text on
 * every machine whose logits are the same. A rule (a grammar) is asked about the token that was drawn, and about all of them
 * only when that one is refused: most steps cost one question. */
#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    int64_t id;
    double logit, weight;
} candidate;

void sample_rule_init(sample_rule *r) {
    *r = (sample_rule){.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repeat = 1, .last = 64};
}

const char *sample_rule_wrong(const sample_rule *r) {
    if (!(r->temperature >= 0 && r->temperature <= 100)) return "the temperature must be from 0 to 100";
    if (r->top_k < 0) return "top-k must be 0 or more";
    if (!(r->top_p > 0 && r->top_p <= 1)) return "top-p must be above 0 and at most 1";
    if (!(r->min_p >= 0 && r->min_p <= 1)) return "min-p must be from 0 to 1";
    if (!(r->repeat > 0 && r->repeat <= 100)) return "the repetition penalty must be above 0 and at most 100";
    if (!(fabs(r->presence) <= 100 && fabs(r->frequency) <= 100))
        return "presence and frequency penalties must be from -100 to 100";
    if (r->last < -1) return "the number of recent tokens must be -1 or more";
    return NULL;
}

void sampler_init(sampler *s, const sample_rule *rule) {
    *s = (sampler){.rule = *rule, .random = rule->seed};
}

void sampler_free(sampler *s) {
    free(s->list);
    free(s->weights);
    s->list = NULL;
    s->weights = NULL;
    s->room = 0;
}

/* splitmix64 (Vigna, public domain). */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int compare_ids(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int penalise(const sample_rule *r, candidate *list, int64_t n, const int64_t *recent, int64_t count) {
    if (r->repeat == 1 && r->presence == 0 && r->frequency == 0) return 0;
    if (r->last >= 0 && count > r->last) recent += count - r->last, count = r->last;
    if (count <= 0) return 0;
    int64_t *sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted) return -1;
    memcpy(sorted, recent, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_ids);
    for (int64_t i = 0, times; i < count; i += times) {
        for (times = 1; i + times < count && sorted[i + times] == sorted[i];) times++;
        if (sorted[i] < 0 || sorted[i] >= n) continue;
        double *x = &list[sorted[i]].logit;
        *x = *x > 0 ? *x / r->repeat : *x * r->repeat;
        *x -= r->presence + r->frequency * (double)times;
    }
    free(sorted);
    return 0;
}

/* Higher logits first, lower ids first among equals. */
static int compare(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The k first of the order come to the front, in any order among themselves (quickselect). */
static void select_top(candidate *list, int64_t n, int64_t k) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        candidate pivot = list[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (compare(&list[i], &pivot) < 0) i++;
            while (compare(&list[j], &pivot) > 0) j--;
            if (i > j) break;
            candidate swap = list[i];
            list[i++] = list[j];
            list[j--] = swap;
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
}

static int64_t likeliest(const candidate *list, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (compare(&list[i], &list[best]) < 0) best = i;
    return list[best].id;
}

/* Weights and a draw in the order of the list, of which `most` is the highest logit. */
static int64_t draw_in_order(sampler *s, candidate *list, int64_t n, double most) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += list[i].weight = exp((list[i].logit - most) / s->rule.temperature);
    double at = uniform(&s->random) * sum;
    for (int64_t i = 0; i < n - 1; i++)
        if ((at -= list[i].weight) < 0) return list[i].id;
    return list[n - 1].id;
}

static int64_t draw(sampler *s, candidate *list, int64_t n) {
    const sample_rule *r = &s->rule;
    if (r->temperature == 0) return likeliest(list, n);
    if ((!r->top_k || r->top_k >= n) && r->top_p >= 1 && !(r->min_p > 0)) { /* nothing is cut off, nothing need be sorted */
        double most = list[0].logit;
        for (int64_t i = 1; i < n; i++) most = list[i].logit > most ? list[i].logit : most;
        return draw_in_order(s, list, n, most);
    }
    int64_t k = r->top_k && r->top_k < n ? r->top_k : n;
    if (k < n) select_top(list, n, k);
    qsort(list, (size_t)k, sizeof *list, compare);
    double sum = 0;
    for (int64_t i = 0; i < k; i++) sum += list[i].weight = exp(list[i].logit - list[0].logit);
    double seen = 0;
    int64_t kept = k;
    for (int64_t i = 0; i < k && kept == k; i++)
        if ((seen += list[i].weight) >= r->top_p * sum && r->top_p < 1) kept = i + 1;
    for (int64_t i = 1; i < kept; i++)
        if (list[i].weight < r->min_p) kept = i; /* the first has weight 1 */
    return draw_in_order(s, list, kept, list[0].logit);
}

static int64_t fill(sampler *s, const float *logits, int64_t n, const int64_t *recent, int64_t n_recent, sample_allow allow,
                    void *user) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) s->list[i] = (candidate){i, logits[i] == logits[i] ? (double)logits[i] : -INFINITY, 0};
    if (penalise(&s->rule, s->list, n, recent, n_recent)) return -1;
    for (int64_t i = 0; i < n; i++)
        if (s->list[i].logit > -INFINITY && (!allow || allow(user, i))) s->list[kept++] = s->list[i];
    return kept;
}

/* ---- without penalties: straight from the logits, for with a large vocabulary a list of all takes longer than the model ---- */

static int plain(const sample_rule *r) {
    return r->repeat == 1 && r->presence == 0 && r->frequency == 0;
}

/* Nothing is cut off: one draw in the order of the ids. -2: every logit is NaN or minus infinity. */
static int64_t draw_from_all(sampler *s, const float *logits, int64_t n) {
    float most = -INFINITY, scale = (float)(1 / s->rule.temperature);
    for (int64_t i = 0; i < n; i++) most = logits[i] > most ? logits[i] : most;
    if (most == -INFINITY) return -2;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float x = (logits[i] - most) * scale;
        sum += (double)(s->weights[i] = x > -80 ? expf(x) : logits[i] == most ? 1 : 0); /* NaN compares with nothing */
    }
    double at = uniform(&s->random) * sum;
    int64_t last = 0; /* where rounding leaves a rest, the last that can come */
    for (int64_t i = 0; i < n; i++) {
        if (s->weights[i] > 0) last = i;
        if ((at -= (double)s->weights[i]) < 0) return i;
    }
    return last;
}

/* Puts a candidate at the root of a heap whose root comes last in the order. */
static void sift(candidate *heap, int64_t n, candidate c) {
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && compare(&heap[child + 1], &heap[child]) > 0) child++;
        if (compare(&c, &heap[child]) > 0) break;
        heap[at] = heap[child];
    }
    heap[at] = c;
}

/* The k first of the order into the list; how many there are. */
static int64_t shortlist(sampler *s, const float *logits, int64_t n, int64_t k) {
    int64_t i = 0, kept = 0;
    for (; i < n && kept < k; i++)
        if (logits[i] > -INFINITY) s->list[kept++] = (candidate){i, (double)logits[i], 0};
    if (kept < k) return kept;
    qsort(s->list, (size_t)k, sizeof *s->list, compare);
    for (int64_t j = 0; j < k / 2; j++) {
        candidate swap = s->list[j];
        s->list[j] = s->list[k - 1 - j];
        s->list[k - 1 - j] = swap;
    }
    for (; i < n; i++)
        if ((double)logits[i] > s->list[0].logit) sift(s->list, k, (candidate){i, (double)logits[i], 0});
    return k;
}

/* The draw before a rule was asked. */
static int64_t first_draw(sampler *s, const float *logits, int64_t n, const int64_t *recent, int64_t n_recent) {
    const sample_rule *r = &s->rule;
    int64_t k = r->temperature == 0 ? 1 : r->top_k && r->top_k < n ? r->top_k : n, kept;
    if (plain(r) && k == n && r->top_p >= 1 && !(r->min_p > 0)) return draw_from_all(s, logits, n);
    kept = plain(r) && k < n ? shortlist(s, logits, n, k) : fill(s, logits, n, recent, n_recent, NULL, NULL);
    return kept > 0 ? draw(s, s->list, kept) : kept ? -1 : -2;
}

int64_t sampler_next(sampler *s, const float *logits, int64_t n, const int64_t *recent, int64_t n_recent, sample_allow allow,
                     void *user) {
    if (n > s->room) {
        candidate *more = realloc(s->list, (size_t)n * sizeof *more);
        if (more) s->list = more;
        float *weights = realloc(s->weights, (size_t)n * sizeof *weights);
        if (weights) s->weights = weights;
        if (!more || !weights) return -1;
        s->room = n;
    }
    uint64_t before = s->random;
    int64_t id = first_draw(s, logits, n, recent, n_recent);
    if (id < 0 || !allow || allow(user, id)) return id;
    s->random = before; /* one draw a token, whatever the rule refused */
    int64_t kept = fill(s, logits, n, recent, n_recent, allow, user);
    if (kept <= 0) return kept ? -1 : -2;
    return draw(s, s->list, kept);
}

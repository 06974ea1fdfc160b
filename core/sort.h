/* sort.h - heap sort over an array of pointers.
 *
 * In place, without allocation, and n log n whatever the input: names come from files that may be hostile, so neither a hash
 * that can be made to collide nor a quicksort that can be made quadratic will do. Not stable: give `compare` a tie-breaker. */
#ifndef STRAND_CORE_SORT_H
#define STRAND_CORE_SORT_H

#include <stddef.h>

typedef int (*sort_compare)(const void *a, const void *b);

/* Moves items[root] down until neither child in [0, count) is greater. */
static inline void sort_sift(const void **items, size_t root, size_t count, sort_compare compare) {
    const void *item = items[root];
    for (size_t child; root < count / 2; root = child) {
        child = 2 * root + 1;
        if (child + 1 < count && compare(items[child], items[child + 1]) < 0) child++;
        if (compare(item, items[child]) >= 0) break;
        items[root] = items[child];
    }
    items[root] = item;
}

static inline void sort_pointers(const void **items, size_t count, sort_compare compare) {
    for (size_t i = count / 2; i > 0; i--) sort_sift(items, i - 1, count, compare);
    for (size_t end = count; end > 1; end--) {
        const void *largest = items[0];
        items[0] = items[end - 1];
        items[end - 1] = largest;
        sort_sift(items, 0, end - 1, compare);
    }
}

#endif

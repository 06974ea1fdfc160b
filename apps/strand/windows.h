/* windows.h - the one rule by which long sequences are cut.
 *
 * Windows start every (window - overlap) bases and are `window` long, the last one shorter. Each position belongs to the first
 * window that covers it: that one has the longest left context for it, and nothing that follows can change its value.
 */
#ifndef STRAND_APP_WINDOWS_H
#define STRAND_APP_WINDOWS_H

#include "runtime.h"

typedef struct window_rule {
    int64_t window, overlap;
} window_rule;

/* By --window and --overlap (negative: half a window). Returns 0 or an exit code, after a message. */
int windows_init(window_rule *rule, const runtime *rt);
/* Windows that a sequence of `length` is cut into; 0 for an empty one. */
int64_t windows_count(const window_rule *rule, int64_t length);

typedef struct window_place {
    int64_t from, to; /* the window is [from, to) */
    int64_t keep;     /* and [keep, to) belongs to it */
} window_place;

window_place windows_place(const window_rule *rule, int64_t length, int64_t index);

#endif

/* windows.c - the one rule by which long sequences are cut. See windows.h.
 */
#include "windows.h"

#include <inttypes.h>

int windows_init(window_rule *rule, const runtime *rt) {
    const options *settings = rt->settings;
    rule->window = settings->window ? settings->window : rt->info.window;
    if (rule->window > rt->info.max_length) {
        complain("--window %" PRId64 " is more than %s allows; its limit is %" PRId64, rule->window, rt->info.name,
                 rt->info.max_length);
        return EXIT_USAGE;
    }
    rule->overlap = settings->overlap < 0 ? rule->window / 2 : settings->overlap;
    if (rule->overlap >= rule->window) {
        complain("--overlap %" PRId64 " must be less than the window, %" PRId64, rule->overlap, rule->window);
        return EXIT_USAGE;
    }
    return 0;
}

int64_t windows_count(const window_rule *rule, int64_t length) {
    if (length <= rule->window) return length > 0;
    const int64_t step = rule->window - rule->overlap;
    return 1 + (length - rule->window + step - 1) / step;
}

window_place windows_place(const window_rule *rule, int64_t length, int64_t index) {
    const int64_t step = rule->window - rule->overlap;
    window_place place;
    place.from = index * step;
    place.to = place.from + rule->window < length ? place.from + rule->window : length;
    place.keep = index ? (index - 1) * step + rule->window : 0;
    return place;
}

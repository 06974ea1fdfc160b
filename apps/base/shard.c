/* shard.c - reading and applying --shard. See shard.h.
 */
#include "shard.h"

#include "say.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int shard_parse(const char *text, shard *part) {
    char *end;
    errno = 0;
    const long long index = isdigit((unsigned char)*text) ? strtoll(text, &end, 10) : (end = NULL, 0);
    if (index > 0 && !errno) {
        const char *rest = *end == '/' ? end + 1 : strncmp(end, "-of-", 4) == 0 ? end + 4 : "";
        const long long count = isdigit((unsigned char)*rest) ? strtoll(rest, &end, 10) : 0;
        if (count >= index && count <= 1000000000 && !errno && !*end) {
            part->index = index;
            part->count = count;
            return 0;
        }
    }
    complain("--shard: '%s' is no shard; write 1/8 or 1-of-8, counted from 1", text);
    return EXIT_USAGE;
}

void shard_range(shard part, int64_t total, int64_t *from, int64_t *to) {
    if (part.count < 1) part.index = part.count = 1;
    const int64_t size = total / part.count, rest = total % part.count, before = part.index - 1;
    *from = before * size + (before < rest ? before : rest);
    *to = *from + size + (before < rest ? 1 : 0);
}

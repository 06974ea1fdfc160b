/* sample.h - which token comes next: penalties, then top-k, top-p, min-p, temperature, then a draw; or the likeliest. */
#ifndef STRAND_APP_SAMPLE_H
#define STRAND_APP_SAMPLE_H

#include <stdint.h>

typedef struct sample_rule {
    double temperature;         /* 0: the likeliest */
    int64_t top_k;              /* 0: all */
    double top_p;               /* 1: all */
    double min_p;               /* 0: all */
    double repeat;              /* logits of recent tokens are divided (multiplied where negative) by it; 1: not */
    double presence, frequency; /* taken from logits of recent tokens, once and for each time; 0: not */
    int64_t last;               /* how many tokens are recent; -1: all */
    uint64_t seed;
} sample_rule;

/* May this token come? NULL: every one. */
typedef int (*sample_allow)(void *user, int64_t id);

typedef struct sampler {
    sample_rule rule;
    uint64_t random;
    struct candidate *list;
    float *weights;
    int64_t room;
} sampler;

void sample_rule_init(sample_rule *rule);
/* NULL, or one line that says which value is out of its range. */
const char *sample_rule_wrong(const sample_rule *rule);
void sampler_init(sampler *s, const sample_rule *rule);
void sampler_free(sampler *s);
/* The next id; -1: out of memory, -2: none is allowed. `recent` are the tokens so far. */
int64_t sampler_next(sampler *s, const float *logits, int64_t n, const int64_t *recent, int64_t n_recent, sample_allow allow,
                     void *user);

#endif

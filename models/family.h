/* family.h - what a model family offers to load.c: to recognise a checkpoint, and to build its graph. */
#ifndef STRAND_MODELS_FAMILY_H
#define STRAND_MODELS_FAMILY_H

#include "json.h"
#include "model.h"

/* The settings of one load: the caller's "key=value" first, then config.json. */
typedef struct model_config {
    const json *root;  /* config.json, or NULL */
    const char *const *given;
    int32_t n_given;
} model_config;

typedef struct family {
    const char *name;
    bool (*recognise)(const weights *w, const json *config);
    /* Fills m->graph, tokenizer, lengths and settings. On failure the text does not need to name the file. */
    strand_status (*build)(strand_model *m, const model_config *config, error *e);
    const char *const *setting_keys; /* ended by NULL: what "key=value" may name */
} family;

extern const family family_hyenadna;
extern const family family_llama;
extern const family family_mamba;
extern const family family_spacetime;
extern const family family_ssm_stack;
extern const family family_rwkv7;
extern const family family_rwkv6;
extern const family family_rwkv5;
extern const family family_rwkv4;
extern const family family_mamba2;
extern const family family_dcrnn;
extern const family family_sleepnet;
extern const family family_graphs4mer;
extern const family family_brain_csm;
extern const family family_gpt_neox;
extern const family family_gpt2;
extern const family family_retnet;
extern const family family_griffin;
extern const family family_based;
extern const family family_h3;
extern const family family_stripedhyena;
extern const family family_gss;
extern const family family_hyena;

/* Hyena models with a vocabulary of up to so many rows read characters (DNA), others words: two families with one layout. */
#define HYENA_CHARACTERS 64

/* A given setting's text, or NULL. */
const char *config_given(const model_config *c, const char *key);
/* Parses a whole decimal number; false when there is anything else. */
bool config_parse_number(const char *text, double *out);
bool config_parse_integer(const char *text, int64_t *out);
/* Remembers a setting in force for strand_model_setting. */
strand_status config_record(strand_model *m, const char *key, const char *value, error *e);

#endif

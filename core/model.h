/* model.h - an immutable loaded model: its weights, its graph, its tokenizer and the facts about it. Built by models/. */
#ifndef STRAND_CORE_MODEL_H
#define STRAND_CORE_MODEL_H

#include "context.h"
#include "graph.h"
#include "tokenizer/tokenizer.h"
#include "weights/weights.h"

typedef struct model_setting {
    const char *key, *value;
} model_setting;

#define MODEL_MAX_SETTINGS 32

struct strand_model {
    strand_context *context;
    arena arena;
    weights *weights;
    graph graph;
    bool byte_level; /* set by a family: where no tokenizer is found, ids are bytes */
    tokenizer tokenizer;
    const char *no_tokenizer; /* why there is none, or NULL */
    const char *name, *family, *precision;
    int64_t max_length, window, parameters;
    model_setting settings[MODEL_MAX_SETTINGS];
    int32_t n_settings;
    const weights_tensor **used; /* the weights that the graph was built from, in graph order */
    int64_t n_used;
};

#endif

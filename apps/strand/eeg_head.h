/* eeg_head.h - the small detection head that stands on the encoder of a pretrained predictor.
 *
 * logit of a channel = weight . max(h, 0) + bias, h being the last layer's state at the end of a window; a window's logit is
 * the mean over its channels. In the file: fc.weight [1, hidden], fc.bias [1], and threshold [1] where it brings its own.
 */
#ifndef STRAND_APP_EEG_HEAD_H
#define STRAND_APP_EEG_HEAD_H

#include "runtime.h"

#define DEFAULT_HEAD "eeg-seizure-head"
/* The encoder that it was trained on: the published pretrained_distance_graph_12s.pth.tar. */
#define DEFAULT_HEAD_ENCODER "683f4173e1c3512d2dcf182e95099c2d566006b271011f005986e428adf9b8f9"

typedef struct eeg_head {
    char path[1024];
    int64_t hidden;
    float *weight;
    float bias;
    double threshold; /* 0.5 when the file has none */
} eeg_head;

/* `path`: a file, or NULL for the built-in head. 0 or an exit code, after a message. */
int eeg_head_open(eeg_head *head, strand_context *context, const char *path, int64_t hidden);
void eeg_head_close(eeg_head *head);
/* h [nodes][hidden]; `channels` gets a probability for each. Returns the window's. */
double eeg_head_run(const eeg_head *head, const float *h, int64_t nodes, double *channels);

#endif

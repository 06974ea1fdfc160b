/* eeg_head.c - see eeg_head.h. The built-in head lies beside the built-in models: ../models/weights of the program in the build
 * tree, share/strand/models where it is installed.
 */
#include "eeg_head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int find_builtin(char *path, size_t size) {
    char own[700];
    const ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n > 0) {
        own[n] = 0;
        char *slash = strrchr(own, '/');
        if (slash) *slash = 0;
        static const char *const places[] = {"../models/weights", "../share/strand/models"};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            snprintf(path, size, "%s/%s/" DEFAULT_HEAD "/head.safetensors", own, places[i]);
            if (!access(path, R_OK)) return 0;
        }
    }
    snprintf(path, size, "%s/models/" DEFAULT_HEAD "/head.safetensors", STRAND_DATA_DIR);
    return access(path, R_OK)
               ? (complain("the built-in detection head is not installed (%s); give one with --head FILE", path), -1)
               : 0;
}

static int take(eeg_head *head, const strand_tensor *t) {
    const int64_t n = (int64_t)(t->bytes / 4);
    if (t->dtype != STRAND_F32) return 0;
    if (!strcmp(t->name, "fc.weight") && n == head->hidden) {
        head->weight = malloc((size_t)n * sizeof *head->weight);
        if (!head->weight) return complain("out of memory"), -1;
        memcpy(head->weight, t->data, (size_t)n * sizeof *head->weight);
    }
    float value;
    if (n != 1) return 0;
    memcpy(&value, t->data, sizeof value);
    if (!strcmp(t->name, "fc.bias")) head->bias = value;
    if (!strcmp(t->name, "threshold")) head->threshold = value;
    return 0;
}

int eeg_head_open(eeg_head *head, strand_context *context, const char *path, int64_t hidden) {
    *head = (eeg_head){.hidden = hidden, .bias = NAN, .threshold = 0.5};
    if (path)
        snprintf(head->path, sizeof head->path, "%s", path);
    else if (find_builtin(head->path, sizeof head->path))
        return EXIT_FAILED;
    strand_file *file;
    if (strand_file_open(context, head->path, &file) != STRAND_OK) return complain("%s", strand_error(context)), EXIT_FAILED;
    strand_tensor t;
    int bad = 0;
    for (int64_t i = 0; !bad && strand_file_get(file, i, &t) == STRAND_OK; i++) bad = take(head, &t);
    strand_file_close(file);
    if (bad) return EXIT_FAILED;
    int finite = isfinite(head->bias) && head->weight;
    for (int64_t i = 0; finite && i < hidden; i++) finite = isfinite(head->weight[i]);
    if (!finite || !(head->threshold > 0 && head->threshold <= 1))
        return complain("%s: is no head for this encoder: it needs finite F32 tensors fc.weight [1, %lld] and fc.bias [1]",
                        head->path, (long long)hidden),
               EXIT_FAILED;
    return 0;
}

void eeg_head_close(eeg_head *head) {
    free(head->weight);
    head->weight = NULL;
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

double eeg_head_run(const eeg_head *head, const float *h, int64_t nodes, double *channels) {
    double sum = 0;
    for (int64_t n = 0; n < nodes; n++, h += head->hidden) {
        double logit = head->bias;
        for (int64_t i = 0; i < head->hidden; i++)
            if (h[i] > 0) logit += (double)head->weight[i] * h[i];
        channels[n] = sigmoid(logit);
        sum += logit;
    }
    return sigmoid(sum / (double)nodes);
}

/* Scores a DNA sequence with the built-in model: the mean log-likelihood of each base given those before it.
 *   cc score.c $(pkg-config --cflags --libs strand) -lm && ./a.out ACGTTGCA */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strand.h>

int main(int argc, char **argv) {
    const char *dna = argc > 1 ? argv[1] : "GATTACAGATTACAGGGATTACCA";
    strand_context *context;
    strand_model *model;
    strand_plan *plan;
    strand_session *session;
    int64_t ids[1024];
    size_t n;
    if (strand_context_open(NULL, &context)) return puts("no backend: set STRAND_BACKEND_PATH"), 1;
    if (strand_model_open(context, "hyenadna-tiny-strand", NULL, &model) || strand_plan_open(model, NULL, &plan) ||
        strand_session_open(plan, NULL, &session) || strand_tokenize(model, dna, strlen(dna), ids, 1024, &n) || n > 1024)
        return fprintf(stderr, "%s\n", strand_error(context)), 1;
    strand_tensor input = {"input_ids", STRAND_I64, 2, {1, (int64_t)n}, ids, n * sizeof *ids};
    strand_tensor logits = {.name = "logits"};
    if (strand_session_run(session, &input, 1, &logits, 1)) return fprintf(stderr, "%s\n", strand_session_error(session)), 1;
    const float *row = logits.data; /* [1, n, 16]; row t predicts base t + 1; A C G T are ids 7 to 10 */
    double sum = 0;
    for (size_t t = 0; t + 1 < n; t++, row += 16)
        sum += row[ids[t + 1]] - log(exp(row[7]) + exp(row[8]) + exp(row[9]) + exp(row[10]));
    printf("%zu bases, mean log-likelihood %.6f\n", n, sum / (double)(n - 1));
    strand_session_close(session), strand_plan_close(plan), strand_model_close(model), strand_context_close(context);
    return 0;
}

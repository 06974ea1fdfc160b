/* commands.h - the entry of each sub-command: options in, exit code out (EXIT_DONE ... in options.h).
 */
#ifndef STRAND_APP_COMMANDS_H
#define STRAND_APP_COMMANDS_H

#include "options.h"

int run_dna_score(const options *settings);
int run_dna_embed(const options *settings);
int run_dna_classify(const options *settings);
int run_dna_variants(const options *settings);
int run_dna_generate(const options *settings);
int run_forecast(const options *settings);
int run_eeg_info(const options *settings);
int run_eeg_predict(const options *settings);
int run_eeg_detect(const options *settings);
int run_eeg_stage(const options *settings);
int run_eeg_features(const options *settings);
int run_eeg_embed(const options *settings);
int run_eeg_score(const options *settings);
int run_text_generate(const options *settings);
int run_text_chat(const options *settings);
int run_bench_text(const options *settings);
int run_serve(const options *settings);
int run_quantize(const options *settings);
int run_text_score(const options *settings);
int run_text_embed(const options *settings);
int run_text_tokenize(const options *settings);
int run_text_detokenize(const options *settings);
int run_run(const options *settings);
int run_inspect(const options *settings);
int run_backends(const options *settings);
int run_plan(const options *settings);
int run_bench(const options *settings);
int run_merge(const options *settings);

#endif

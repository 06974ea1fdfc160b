/* commands_text.h - the rows of the text commands for the table in commands.c, which this file belongs to: options and
 * manual text.
 */
#ifndef STRAND_APP_COMMANDS_TEXT_H
#define STRAND_APP_COMMANDS_TEXT_H

#include "commands.h"

extern const option_row common_rows[];
extern const option_row text_generate_rows[], text_chat_rows[], text_sampling_rows[], text_score_rows[], text_embed_rows[],
    text_tokens_rows[], quantize_rows[], serve_rows[];
extern const char text_generate_text[], text_chat_text[], text_score_text[], text_embed_text[], text_tokenize_text[],
    text_detokenize_text[], quantize_text[], serve_text[];
void text_defaults(options *settings);
void serve_defaults(options *settings);

#define TEXT_COMMANDS                                                                                                          \
    {"text generate", "", "go on from prompts, with a language model", text_generate_text,                                     \
     {text_generate_rows, text_sampling_rows, common_rows}, 0, 0, text_defaults, run_text_generate},                           \
    {"text chat", "", "a conversation with a language model", text_chat_text,                                                  \
     {text_chat_rows, text_sampling_rows, common_rows}, 0, 0, text_defaults, run_text_chat},                                   \
    {"text score", "[FILE...]", "perplexity and bits per byte of texts, or the likelihood of every token", text_score_text,    \
     {text_score_rows, common_rows}, 0, -1, text_defaults, run_text_score},                                                    \
    {"text embed", "[FILE...]", "vectors of texts", text_embed_text, {text_embed_rows, common_rows}, 0, -1, text_defaults,     \
     run_text_embed},                                                                                                          \
    {"text tokenize", "[FILE]", "text to token ids", text_tokenize_text, {text_tokens_rows, common_rows}, 0, 1,                \
     text_defaults, run_text_tokenize},                                                                                        \
    {"text detokenize", "[FILE]", "token ids to text", text_detokenize_text, {text_tokens_rows, common_rows}, 0, 1,            \
     text_defaults, run_text_detokenize},                                                                                      \
    {"quantize", "MODEL -o FILE.gguf", "a model's matrices as blocks of small numbers, in a GGUF file", quantize_text,         \
     {quantize_rows, common_rows}, 0, 1, NULL, run_quantize},                                                                  \
    {"serve", "", "a language model over HTTP, with the routes of the OpenAI interface", serve_text,                           \
     {serve_rows, common_rows}, 0, 0, serve_defaults, run_serve},

#endif

/* commands_text.c - options and manual text of the text commands. See commands.c.
 */
#include "commands_text.h"

#define AT(field) offsetof(options, field)
#define ROWS_END                                                                                                               \
    { 0, NULL, OPTION_FLAG, NULL, 0, 0, NULL }

#define OUTPUT_ROW                                                                                                             \
    {                                                                                                                          \
        'o', "output", OPTION_FILE, "FILE", AT(output), 0,                                                                     \
            "Write to FILE, which appears when it is complete; the default '-' is the standard output."                        \
    }
#define SPECIAL_ROW                                                                                                            \
    {                                                                                                                          \
        0, "special", OPTION_FLAG, NULL, AT(special), 0,                                                                       \
            "Read the names of special tokens in the text (<|im_start|> and the like) as those tokens; not for text from "     \
            "others."                                                                                                          \
    }

const option_row text_generate_rows[] = {
    {'p', "prompt", OPTION_LIST, "TEXT", AT(prompts), 0,
     "Text to go on from; given several times, the texts run together as one batch."},
    {'i', "prompt-file", OPTION_FILE, "FILE", AT(prompt_file), 0, "The prompt is what FILE holds ('-': the standard input)."},
    {0, "lines", OPTION_FLAG, NULL, AT(lines), 0, "Every line of the prompt file is a prompt of its own."},
    {'n', "tokens", OPTION_INT, "N", AT(count), -1, "Tokens to make at most; -1: until the model ends its text. Default 128."},
    {0, "samples", OPTION_INT, "N", AT(samples), 1,
     "So many texts from each prompt, with seeds that follow each other; default 1."},
    {'f', "format", OPTION_CHOICE, "text|jsonl", AT(text_format), 0,
     "text: the prompt and what was made, as it comes where there is one; jsonl: a line of JSON for each text."},
    {0, "only-new", OPTION_FLAG, NULL, AT(only_new), 0, "Write what was made without the prompt."},
    {0, "ignore-end", OPTION_FLAG, NULL, AT(ignore_end), 0, "Go on after the model has ended its text."},
    SPECIAL_ROW,
    {0, "state-save", OPTION_FILE, "FILE", AT(state_save), 0,
     "Keep the model's state after the text in FILE, to go on later without running it again."},
    {0, "state-load", OPTION_FILE, "FILE", AT(state_load), 0,
     "Go on from a state that was kept; a prompt is added to its text."},
    {0, "store", OPTION_FILE, "FOLDER", AT(store), 0,
     "Keep states of prompts in FOLDER, and begin from the longest prefix of the prompt that is there."},
    {0, "store-limit", OPTION_SIZE, "SIZE", AT(store_limit), 0,
     "The store's size at most: the files used longest ago go first. Default 1G."},
    OUTPUT_ROW,
    ROWS_END};

const option_row text_chat_rows[] = {
    {'p', "prompt", OPTION_LIST, "TEXT", AT(prompts), 0,
     "Say TEXT and end after the answer; given several times, one after the other. Without it lines are read."},
    {0, "system", OPTION_TEXT, "TEXT", AT(system), 0, "What the model is told before the conversation."},
    {0, "chat-template", OPTION_FILE, "FILE", AT(chat_template), 0, "Take this template (Jinja) instead of the model's own."},
    {'n', "tokens", OPTION_INT, "N", AT(count), -1, "Tokens of an answer at most; -1: until the model ends it. Default 128."},
    OUTPUT_ROW,
    ROWS_END};

const option_row text_sampling_rows[] = {
    {'t', "temperature", OPTION_REAL, "T", AT(temperature), 0, "0 takes the likeliest token each time; default 0.8."},
    {'k', "top-k", OPTION_INT, "K", AT(top_k), 0, "Draw from the K likeliest only; 0: from all. Default 40."},
    {0, "top-p", OPTION_REAL, "P", AT(top_p), 0,
     "Draw from the likeliest that have P of the probability together; default 0.95."},
    {0, "min-p", OPTION_REAL, "P", AT(min_p), 0, "Leave out what is less likely than P times the likeliest; default 0.05."},
    {0, "repeat-penalty", OPTION_REAL, "X", AT(repeat_penalty), 0, "Divide the logits of recent tokens by X; default 1: not."},
    {0, "presence-penalty", OPTION_REAL, "X", AT(presence_penalty), -100,
     "Take X from the logits of recent tokens; default 0."},
    {0, "frequency-penalty", OPTION_REAL, "X", AT(frequency_penalty), -100,
     "Take X from them for every time that they came; default 0."},
    {0, "repeat-last", OPTION_INT, "N", AT(repeat_last), -1, "Tokens that are recent; -1: all. Default 64."},
    {'s', "seed", OPTION_INT, "N", AT(seed), 0, "Start of the random numbers; default 0. The generator is the program's own."},
    {0, "stop", OPTION_LIST, "TEXT", AT(stops), 0, "End before TEXT; may be given several times."},
    {0, "grammar", OPTION_FILE, "FILE", AT(grammar), 0, "Make only text that a grammar in GBNF allows."},
    {0, "json-schema", OPTION_FILE, "FILE", AT(json_schema), 0,
     "Make only JSON that this schema allows; an empty schema {}: any JSON."},
    ROWS_END};

const option_row text_score_rows[] = {
    {0, "each", OPTION_FLAG, NULL, AT(token_rows), 0,
     "A row for every token: its place, id, natural logarithm of its probability, and text."},
    {'w', "window", OPTION_INT, "N", AT(window), 2,
     "Cut a text into windows of N tokens that start anew; default: the model's room, for recurrent ones the whole text."},
    {0, "batch", OPTION_INT, "N", AT(batch), 0,
     "Tokens that run at once; 0, the default, chooses. The result does not depend on it beyond rounding."},
    SPECIAL_ROW,
    OUTPUT_ROW,
    ROWS_END};

const option_row text_embed_rows[] = {
    {'p', "pool", OPTION_CHOICE, "mean|last", AT(pool), 0, "The mean of all tokens' vectors, or the vector of the last one."},
    SPECIAL_ROW,
    OUTPUT_ROW,
    ROWS_END};

const option_row text_tokens_rows[] = {
    {'p', "prompt", OPTION_LIST, "TEXT", AT(prompts), 0, "Take TEXT instead of a file; may be given several times."},
    {0, "each", OPTION_FLAG, NULL, AT(token_rows), 0, "A row for every token, with its id and its text."},
    {0, "bounds", OPTION_FLAG, NULL, AT(bounds), 0, "With the tokens that the model wants around a text."},
    {0, "raw", OPTION_FLAG, NULL, AT(raw), 0, "Of detokenize: the tokens' bytes as they are, also where they are no text."},
    SPECIAL_ROW,
    OUTPUT_ROW,
    ROWS_END};

const option_row quantize_rows[] = {
    {'t', "type", OPTION_CHOICE, "q8_0|q4_0|q4_k|q6_k|f16|bf16|f32", AT(quant_type), 0,
     "What matrices become; default q8_0. With q4_k the first and the last matrix become q6_k, with q4_0 q8_0; rows that are "
     "no whole blocks become q8_0 or f16."},
    {'o', "output", OPTION_FILE, "FILE.gguf", AT(output), 0, "Where the result goes (required)."},
    ROWS_END};

const option_row serve_rows[] = {
    {0, "host", OPTION_TEXT, "ADDRESS", AT(host), 0,
     "Address to listen on; default 127.0.0.1, this machine alone. One that others can reach needs a key."},
    {0, "port", OPTION_INT, "N", AT(port), 0, "Port; 0: a free one. Default 8080."},
    {0, "api-key", OPTION_TEXT, "KEY", AT(api_key), 0,
     "Answer only requests that carry this key (Authorization: Bearer KEY). Other users of this machine can see it on the "
     "command line: STRAND_API_KEY is read too."},
    {0, "allow-host", OPTION_LIST, "NAME", AT(hosts), 0,
     "Answer under this name too; local names and --host are answered always."},
    {0, "origin", OPTION_LIST, "URL", AT(origins), 0,
     "Answer to pages of this place; others than the server's own are refused."},
    {0, "sessions", OPTION_INT, "N", AT(sessions), 1, "Texts that step together, 256 at most; default 8."},
    {0, "queue", OPTION_INT, "N", AT(queue), 0, "Texts that may wait; more are refused with 429. Default 64."},
    {0, "cache", OPTION_SIZE, "SIZE", AT(cache), 0,
     "Memory for states of prompts, from which later prompts that begin alike go on; default 256M."},
    {0, "max-body", OPTION_SIZE, "SIZE", AT(max_body), 0, "Longest request; default 1M."},
    {0, "max-prompt", OPTION_INT, "N", AT(max_prompt), 1, "Longest prompt, in tokens; default 131072."},
    {'n', "tokens", OPTION_INT, "N", AT(count), 1, "Tokens that a text may have at most; default 4096."},
    {0, "time-limit", OPTION_INT, "SECONDS", AT(time_limit), 1, "A text that takes longer ends there; default 600."},
    {0, "chat-template", OPTION_FILE, "FILE", AT(chat_template), 0, "Take this template (Jinja) instead of the model's own."},
    ROWS_END};

void serve_defaults(options *s) {
    s->port = 8080;
    s->sessions = 8;
    s->queue = 64;
    s->cache = (uint64_t)256 << 20;
    s->max_body = (uint64_t)1 << 20;
    s->max_prompt = 131072;
    s->count = 4096;
    s->time_limit = 600;
}

void text_defaults(options *s) {
    s->count = 128;
    s->samples = 1;
    s->store_limit = (uint64_t)1 << 30;
    s->temperature = 0.8;
    s->top_k = 40;
    s->top_p = 0.95;
    s->min_p = 0.05;
    s->repeat_penalty = 1;
    s->repeat_last = 64;
}

#define MODELS_TEXT                                                                                                            \
    "The default model is mamba-bytes-strand, a small model of bytes. The tokenizer comes from the model's own files (GGUF "   \
    "metadata, tokenizer.json, tokenizer.model, RWKV's vocabulary); --set tokenizer=FILE names another, --set "                \
    "tokenizer=bytes takes bytes.\n\n"

const char text_generate_text[] =
    "Writes the prompt and what the model makes of it, token by token. Text never ends within a character. One text streams; "
    "several (--samples, several prompts, --lines) are stepped as one batch and written in their order, a line ---- between "
    "them.\n\n"
    "The order of what is done to the model's logits: penalties, grammar, top-k, top-p, min-p, temperature.\n\n" MODELS_TEXT;
const char serve_text[] =
    "Answers /v1/models, /v1/completions, /v1/chat/completions and /v1/embeddings as the OpenAI interface does (streams too), "
    "/health, /metrics (Prometheus), and / with a small page to talk to the model. Writes its address to the standard output "
    "and runs until Ctrl-C. Nothing that is asked or answered is written anywhere.\n\n"
    "Texts of all clients step together as one batch; prompts are fed in pieces between the steps; of those that wait, the "
    "client with the fewest texts is next. States of prompts and texts are kept: a chat's next turn costs its own tokens only. "
    "When a client leaves, its text ends. A member of a request that would change the answer and is not supported is refused "
    "by its name. Beyond the interface, requests may have top_k, min_p, repetition_penalty, ignore_eos and grammar (GBNF); "
    "response_format takes json_object and json_schema.\n\n" MODELS_TEXT;
const char quantize_text[] =
    "Reads any model that Strand opens and writes a GGUF file. The metadata of a GGUF source stays as it is, so that other "
    "programs read the result too; from other sources the tensors keep their names, and config.json and tokenizer.json travel "
    "inside: Strand opens such a file without them.\n\n"
    "What is fragile stays F32: norms, biases, convolutions, and the parameters of recurrences (A, dt, decays, small "
    "projections). The result is opened and planned before it appears.\n\n";
const char text_chat_text[] =
    "Reads lines and answers each. The model's chat template makes the prompt (from tokenizer_config.json or GGUF metadata); a "
    "model without one gets the conversation in paragraphs that begin with User: and Assistant:. The state of the conversation "
    "is kept: a turn runs only its own tokens.\n\n" MODELS_TEXT;
const char text_score_text[] =
    "Writes for each FILE ('-' or nothing: standard input) its bytes and tokens, mean_loglik (natural logarithm, a token), "
    "perplexity and bits_per_byte. The first token has no value unless the model has a token that begins "
    "texts.\n\n" MODELS_TEXT;
const char text_embed_text[] =
    "Writes a row for each FILE: its name and the vector of the model's last hidden layer, after its final "
    "norm.\n\n" MODELS_TEXT;
const char text_tokenize_text[] = "Writes the ids of a text ('-' or nothing: standard input).\n\n" MODELS_TEXT;
const char text_detokenize_text[] =
    "Writes the text of ids, which stand with blanks or commas between them in FILE ('-' or nothing: standard "
    "input).\n\n" MODELS_TEXT;

/* strand.h - the public interface of Strand, a portable runtime for long sequences.
 *
 * Read it from top to bottom: open a context, load a published checkpoint, plan the memory, open a session in it, run.
 *
 *     strand_context *ctx;  strand_model *model;  strand_plan *plan;  strand_session *session;
 *     strand_context_open(NULL, &ctx);
 *     strand_model_open(ctx, "hyenadna-tiny-1k", NULL, &model);
 *     strand_plan_open(model, NULL, &plan);                 // nothing large is allocated yet
 *     strand_session_open(plan, NULL, &session);            // now it is: strand_plan_info says how much
 *     strand_session_run(session, inputs, 1, outputs, 1);
 *
 * Conventions, once for all functions.
 *  - Status: every function that can fail returns a strand_status; STRAND_OK is 0. On failure the outputs are untouched and
 *    a one-line text that names the file, the place and the cure is kept: strand_error for the context and its models and
 *    plans, strand_session_error for a session. Nothing here prints, exits or aborts.
 *  - Ownership: what you get through a pointer-to-pointer is yours, close it; what you get by value or as a const pointer is
 *    borrowed from the object you asked and lives as long as it does. Close in the reverse order of opening.
 *  - Parameter structs begin with `size`, which you set to sizeof the struct (strand_..._params_init does it). NULL means
 *    all defaults.
 *  - Threads: a context, a model and a plan may be read from several threads. Calls that open something on one context must
 *    not overlap. A session belongs to one thread at a time.
 *  - Shapes are row-major, the last axis contiguous, written [batch, length, channels]. Sizes in bytes are named so.
 *  - Strings are UTF-8 and zero-terminated. No function keeps a pointer to a caller's string after it returns.
 */
#ifndef STRAND_H
#define STRAND_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define STRAND_API
#elif defined(__GNUC__)
#define STRAND_API __attribute__((visibility("default")))
#else
#define STRAND_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define STRAND_VERSION_MAJOR 0
#define STRAND_VERSION_MINOR 1
#define STRAND_VERSION_PATCH 0
#define STRAND_VERSION_STRING "0.1.0"

/* ---- status, types ------------------------------------------------------------------------------------------------- */

typedef enum strand_status {
    STRAND_OK = 0,
    STRAND_ERR_ARGUMENT = 1,    /* the caller asked for something that makes no sense */
    STRAND_ERR_MEMORY = 2,      /* the allocator or the given block has not enough */
    STRAND_ERR_IO = 3,          /* a file cannot be opened, read or mapped */
    STRAND_ERR_FORMAT = 4,      /* a file is damaged, hostile or of another kind */
    STRAND_ERR_UNSUPPORTED = 5, /* well-formed, but no model family or backend takes it */
    STRAND_ERR_LIMIT = 6,       /* longer than the model allows, or does not fit the memory limit */
    STRAND_ERR_BACKEND = 7,     /* a device or plugin failed */
    STRAND_ERR_CANCELLED = 8,   /* the progress callback asked to stop */
    STRAND_ERR_NUMERIC = 9      /* a result holds NaN or infinity */
} strand_status;

/* Element types. The numbers are stable: they are part of the plugin ABI too. */
typedef enum strand_dtype {
    STRAND_NONE = 0,
    STRAND_F32 = 1,
    STRAND_F16 = 2,
    STRAND_BF16 = 3,
    STRAND_F64 = 4,
    STRAND_I8 = 5,
    STRAND_U8 = 6,
    STRAND_I16 = 7,
    STRAND_U16 = 8,
    STRAND_I32 = 9,
    STRAND_U32 = 10,
    STRAND_I64 = 11,
    STRAND_U64 = 12,
    STRAND_BOOL = 13,
    /* Quantised weights: blocks along the last axis, whose extent is a whole number of blocks, laid out as in GGUF files
     * (strand_ops.h says how). */
    STRAND_Q8_0 = 32, /* 32 elements in 34 bytes */
    STRAND_Q4_0 = 33, /* 32 in 18 */
    STRAND_Q4_K = 34, /* 256 in 144 */
    STRAND_Q6_K = 35, /* 256 in 210 */
    STRAND_Q4_1 = 36, /* 32 in 20 */
    STRAND_Q5_0 = 37, /* 32 in 22 */
    STRAND_Q5_1 = 38, /* 32 in 24 */
    STRAND_Q5_K = 39  /* 256 in 176 */
} strand_dtype;

#define STRAND_MAX_RANK 8

/* In the shape of a model's input or output: an axis whose extent the caller chooses at run time. */
#define STRAND_DIM_BATCH (-1)
#define STRAND_DIM_LENGTH (-2)

/* A named array. `data` holds `bytes` bytes, contiguous, row-major. */
typedef struct strand_tensor {
    const char *name;
    strand_dtype dtype;
    int32_t rank;
    int64_t dims[STRAND_MAX_RANK];
    void *data;
    uint64_t bytes;
} strand_tensor;

typedef struct strand_context strand_context;
typedef struct strand_model strand_model;
typedef struct strand_plan strand_plan;
typedef struct strand_session strand_session;
typedef struct strand_file strand_file;

/* The library's version, "0.1.0". Before 1.0 structures may change from one minor version to the next: build with the header
 * of the library that runs. */
STRAND_API const char *strand_version(void);
/* A short lower-case name: "ok", "format", "limit" ... */
STRAND_API const char *strand_status_name(strand_status status);
/* "F32", "BF16" ... as safetensors spells them; "?" for an unknown value. */
STRAND_API const char *strand_dtype_name(strand_dtype dtype);
/* Bytes an element takes; 0 for an unknown value, and for the quantised types, whose elements have no bytes of their own. */
STRAND_API size_t strand_dtype_size(strand_dtype dtype);

/* ---- context: allocator, threads, plugins ---------------------------------------------------------------------------- */

/* alloc returns `size` bytes aligned to `align` (a power of two, at most 4096) or NULL; free gets the same size back. */
typedef struct strand_allocator {
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *block, size_t size);
    void *user;
} strand_allocator;

typedef enum strand_log_level {
    STRAND_LOG_ERROR = 0,
    STRAND_LOG_WARNING = 1,
    STRAND_LOG_INFO = 2,
    STRAND_LOG_DEBUG = 3
} strand_log_level;
/* Called from the thread that called the library; `text` is one line without a newline. */
typedef void (*strand_log_fn)(void *user, strand_log_level level, const char *text);

/* The embedder's own parallel loop: call body(arg, i, worker) for every i in [0, n), worker in [0, workers), and return when
 * all are done. No two bodies may run with the same worker at once. */
typedef struct strand_parallel {
    void (*run)(void *user, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg);
    int32_t workers;
    void *user;
} strand_parallel;

typedef struct strand_context_params {
    uint32_t size;
    int32_t threads;                   /* 0: as many as affinity and cgroup allow; 1: no thread is ever started */
    const strand_allocator *allocator; /* NULL: malloc and free */
    const strand_parallel *parallel;   /* NULL: an own pool of `threads` */
    strand_log_fn log;                 /* NULL: silent */
    void *log_user;
    const char *plugin_path;           /* explicit plugin directories or files, ':' between them; searched first */
    int32_t no_plugins;                /* nonzero: dlopen nothing (plugins linked in statically stay) */
    uint32_t cpu_mask;                 /* nonzero: hide these CPU features (STRAND_CPU_...), to test every variant on one
                                          machine */
} strand_context_params;

#define STRAND_CPU_HIDE_V3 1u /* AVX2, FMA, F16C */
#define STRAND_CPU_HIDE_V4 2u /* AVX-512 */
#define STRAND_CPU_HIDE_AVX512_DOT 4u /* AVX512-BF16 and AVX512-VNNI, which AVX-512 may have or not */

STRAND_API void strand_context_params_init(strand_context_params *params);
/* Opens the library: finds and checks the plugins (docs/plugins.md gives the search order). */
STRAND_API strand_status strand_context_open(const strand_context_params *params, strand_context **context);
/* Everything opened on it must be closed before. NULL is allowed. */
STRAND_API void strand_context_close(strand_context *context);
/* The text of the last failure on this context, its models, files and plans; "" when there was none. */
STRAND_API const char *strand_error(const strand_context *context);

/* A device that a loaded plugin offers. Strings live as long as the context. */
typedef struct strand_backend_info {
    const char *name;        /* "cpu", "vulkan:0": what --backend and plan params take */
    const char *plugin;      /* file, or "built-in" */
    const char *version;
    const char *description; /* the device; more of it from strand_backend_feature */
    uint64_t memory;         /* bytes of device memory, 0 when it is the host's */
    int32_t host_memory;     /* nonzero: computes in host memory */
    int32_t score;           /* among plugins of one name the highest score was taken */
} strand_backend_info;

/* Listing starts the plugins that otherwise wait to be named (software devices), which takes a moment. */
STRAND_API int32_t strand_backend_count(const strand_context *context);
STRAND_API strand_status strand_backend_get(const strand_context *context, int32_t index, strand_backend_info *info);
/* What a device is and what its plugin uses of it, as pairs: feature 0, 1 ... until STRAND_ERR_ARGUMENT. "type" ("discrete
 * GPU", "software device") and "driver" come first where the plugin says them. Strings live as long as the context. */
STRAND_API strand_status strand_backend_feature(const strand_context *context, int32_t index, int32_t feature,
                                                const char **name, const char **value);
/* Plugin files that were found and refused, each with one line that says why. */
STRAND_API int32_t strand_refused_count(const strand_context *context);
STRAND_API strand_status strand_refused_get(const strand_context *context, int32_t index, const char **file, const char **why);

/* ---- tensor files ---------------------------------------------------------------------------------------------------- */

/* Opens a weights file of any known format (safetensors, GGUF, PyTorch zip or legacy pickle, sharded index.json, or a directory
 * that holds one), memory-mapped. Pickles are read as data: no code in them is ever run. */
STRAND_API strand_status strand_file_open(strand_context *context, const char *path, strand_file **file);
STRAND_API void strand_file_close(strand_file *file);
STRAND_API int64_t strand_file_count(const strand_file *file);
/* Tensor `index` in file order. `data` points into the mapping (read-only), or to a copy where the file held it strided. */
STRAND_API strand_status strand_file_get(const strand_file *file, int64_t index, strand_tensor *tensor);
/* "safetensors", "pytorch-zip", "pytorch-legacy", "sharded safetensors" ... */
STRAND_API const char *strand_file_format(const strand_file *file);

/* ---- models ---------------------------------------------------------------------------------------------------------- */

typedef struct strand_model_params {
    uint32_t size;
    int32_t n_settings;
    const char *config;          /* path of a config.json; NULL: the one beside the weights, if any */
    const char *const *settings; /* "key=value": override the config, e.g. "shift=0.0" */
    int32_t hold;                /* nonzero: read the weights into memory, in large pages where the system has them, in place
                                    of mapping their files: slower to open, faster where a run reads more weights than caches
                                    hold */
} strand_model_params;

/* Facts of a loaded model. Strings live as long as the model. */
typedef struct strand_model_info {
    const char *name;      /* folder, file or built-in name */
    const char *family;    /* "hyenadna" */
    const char *path;      /* of the weights */
    const char *format;
    const char *precision; /* of the weights: "F32", "F16", "mixed" */
    int64_t parameters;    /* distinct weights */
    int64_t max_length;    /* the longest sequence it was made for */
    int64_t window;        /* the length that long inputs are cut into: max_length less special tokens */
    uint64_t weight_bytes; /* mapped */
    int32_t stateful;      /* nonzero: sessions keep a state from run to run (strand_session_reset) */
} strand_model_info;

STRAND_API void strand_model_params_init(strand_model_params *params);
/* Loads a published checkpoint. `path` is a weights file, a directory (docs/models.md gives the order in which files are
 * looked for), or the name of a built-in model ("hyenadna-tiny-strand"). The weights stay mapped (or held) until the model
 * is closed. */
STRAND_API strand_status strand_model_open(strand_context *context, const char *path, const strand_model_params *params,
                                           strand_model **model);
/* The same from memory: `data` holds a safetensors file and `config` the text of its config.json (may be NULL). Both must
 * stay there until the model is closed. `data` must be aligned to 8 bytes. Opens no file. */
STRAND_API strand_status strand_model_open_memory(strand_context *context, const void *data, size_t bytes, const char *config,
                                                  const strand_model_params *params, strand_model **model);
STRAND_API void strand_model_close(strand_model *model);
STRAND_API strand_status strand_model_get(const strand_model *model, strand_model_info *info);
/* SHA-256 of the weights file, 64 hex digits (all shards in order). The first call reads all of it. "" without a model. */
STRAND_API const char *strand_model_sha256(const strand_model *model);
/* Reads the mapped weights into memory, as the parameter `hold` does, at the addresses where they are. Not while a session
 * of the model runs. Weights that are not mapped from a file, and systems that cannot do it, stay as they are. */
STRAND_API strand_status strand_model_hold(strand_model *model);
/* Inputs and outputs by index: name, type and shape, with STRAND_DIM_BATCH and STRAND_DIM_LENGTH where the caller chooses;
 * `data` is NULL. STRAND_ERR_ARGUMENT past the last one. */
STRAND_API strand_status strand_model_input(const strand_model *model, int32_t index, strand_tensor *tensor);
STRAND_API strand_status strand_model_output(const strand_model *model, int32_t index, strand_tensor *tensor);
/* The outputs before this index are made unless others are asked for by name; those from it on (a Hyena layer's filter in time,
 * "layers.0.filter") only when named. */
STRAND_API int32_t strand_model_default_outputs(const strand_model *model);
/* The settings in force, with their values as text: "shift" "0.05". STRAND_ERR_ARGUMENT past the last one. */
STRAND_API strand_status strand_model_setting(const strand_model *model, int32_t index, const char **key, const char **value);
/* The weights that the model uses, by their names in the file. STRAND_ERR_ARGUMENT past the last one. */
STRAND_API strand_status strand_model_weight(const strand_model *model, int64_t index, strand_tensor *tensor);

/* Text to token ids and back. Tokenizers come from the checkpoint's own files (docs/text.md); where one cannot be read,
 * strand_tokenize says why with STRAND_ERR_UNSUPPORTED and the model runs on ids all the same. `count` gets the number of
 * ids that the text has; at most `capacity` are written. Special tokens are never added. For DNA models one byte is one id;
 * bytes outside the alphabet become the model's unknown id. */
STRAND_API strand_status strand_tokenize(const strand_model *model, const char *text, size_t bytes, int64_t *ids,
                                         size_t capacity, size_t *count);
/* The text of one id, "" for an id without text ("[CLS]" and the like have names, see strand_special_token). */
STRAND_API const char *strand_token_text(const strand_model *model, int64_t id);
/* The id of a special token by its name ("[CLS]", "[SEP]", "[UNK]" ...), or -1. */
STRAND_API int64_t strand_special_token(const strand_model *model, const char *name);

/* The same with a choice: the names of special tokens in the text become their ids (for prompts that a chat template made,
 * never for text from others), and the tokens that the model wants around a text are added. */
#define STRAND_ENCODE_SPECIAL 1u
#define STRAND_ENCODE_BEGIN   2u /* the one before it */
#define STRAND_ENCODE_END     4u /* the one after it */
#define STRAND_ENCODE_BOUNDS  (STRAND_ENCODE_BEGIN | STRAND_ENCODE_END)
STRAND_API strand_status strand_encode(const strand_model *model, const char *text, size_t bytes, uint32_t flags, int64_t *ids,
                                       size_t capacity, size_t *count);
/* The bytes of one id, which may hold zeros and need not be whole characters; `length` gets how many. */
STRAND_API const char *strand_token_bytes(const strand_model *model, int64_t id, size_t *length);
/* The name of a special id, NULL for the others. */
STRAND_API const char *strand_token_name(const strand_model *model, int64_t id);
#define STRAND_TOKEN_SPECIAL 1u
#define STRAND_TOKEN_END     2u /* a model that gives it has finished its text */
#define STRAND_TOKEN_UNKNOWN 4u
STRAND_API uint32_t strand_token_flags(const strand_model *model, int64_t id);
/* How many ids the tokenizer has; 0: none. */
STRAND_API int64_t strand_token_count(const strand_model *model);
/* What the tokenizer's files say: "chat_template", "model" (its kind), "path", "add_bos" ("true" or "false"). NULL: nothing. */
STRAND_API const char *strand_tokenizer_fact(const strand_model *model, const char *key);

/* Ids to text as they come, never half a character: bytes that may still become one wait in the decoder. Begin with zeros;
 * `started` nonzero keeps a space that the text begins with (some tokenizers put one before every text). */
typedef struct strand_decoder {
    uint32_t started, n_pending;
    unsigned char pending[16];
} strand_decoder;
/* Writes what is complete after this id (not zero-terminated), at most `capacity` bytes; returns how many. A room of 3 times
 * the id's bytes and 64 is enough. id -1 ends the text: what waits and is no character becomes U+FFFD, as bytes that are
 * none do. */
STRAND_API size_t strand_decode(const strand_model *model, strand_decoder *decoder, int64_t id, char *text, size_t capacity);

/* ---- plans: what would run where, in how much memory ------------------------------------------------------------------ */

typedef struct strand_plan_params {
    uint32_t size;
    int32_t no_tiling;      /* nonzero: never cut an operator into tiles (for tests) */
    int64_t max_batch;      /* 0: 1 */
    int64_t max_length;     /* 0: the model's window */
    uint64_t memory_limit;  /* bytes for the whole session without weights; 0: no limit */
    /* names in order of preference, ',' between them; NULL: best first. "cpu" is always last. "vulkan:1" is a device by its
     * index, "vulkan:radeon" the first whose description mentions that. */
    const char *backends;
    const char *outputs;    /* names of the wanted outputs, ',' between them; NULL: the default ones. Work for others is left
                               out. */
} strand_plan_params;

typedef struct strand_plan_info {
    uint64_t block_bytes;     /* what strand_session_open needs: state, constants, arena and bookkeeping */
    uint64_t arena_bytes;     /* of that: the planned offsets, all host tensors together */
    uint64_t device_bytes;    /* planned on devices that have their own memory */
    uint64_t constant_bytes;  /* of the arena: kept from run to run (prepared constants, weights-only tensors) */
    uint64_t lower_bound;     /* the most bytes alive at one step: no plan of these steps can be smaller */
    uint64_t unlimited_bytes; /* what the arena would be without a memory limit */
    int64_t max_batch, max_length;
    int32_t nodes, steps, regions;
    const char *peak_node;    /* name of the node at the peak */
    uint64_t state_bytes;     /* of the arena: the states of all sequences, kept from run to run */
} strand_plan_info;

/* One operator of the plan, in execution order. */
typedef struct strand_plan_node_info {
    const char *name;
    const char *op;
    const char *backend;
    const char *why;     /* why it is not on the first backend of the list; "" when it is */
    int32_t group;       /* nodes of one claimed group share a number >= 0; -1: alone */
    int32_t region;      /* nodes tiled together share a number >= 0; -1: not tiled */
    int64_t tiles;       /* how many tiles the region is cut into at the maximum length */
    const char *axis;    /* "channels", "length" ... of the tiles; "" when not tiled */
    int32_t weights_only;/* depends on no input */
    int32_t kept;        /* weights-only: 1 computed once a length and kept, 0 recomputed in every run */
    uint64_t prepared_bytes; /* of its prepared constant (a kept one, or a tile of a recomputed one) */
    uint64_t output_bytes;   /* of its result in the arena (a tile's where it is tiled, 0 inside a group) */
    uint64_t scratch_bytes;
} strand_plan_node_info;

STRAND_API void strand_plan_params_init(strand_plan_params *params);
/* Places every operator on a backend and every tensor at an offset. Fails with STRAND_ERR_LIMIT, naming the least that would
 * do, when the memory limit cannot be met, or when max_length is beyond the model's. */
STRAND_API strand_status strand_plan_open(strand_model *model, const strand_plan_params *params, strand_plan **plan);
STRAND_API void strand_plan_close(strand_plan *plan);
STRAND_API strand_status strand_plan_get(const strand_plan *plan, strand_plan_info *info);
/* STRAND_ERR_ARGUMENT past the last node. */
STRAND_API strand_status strand_plan_node(const strand_plan *plan, int32_t index, strand_plan_node_info *info);

/* ---- sessions -------------------------------------------------------------------------------------------------------- */

/* Called between steps with the fraction done (0 to 1). Return nonzero to cancel: the run ends with STRAND_ERR_CANCELLED. */
typedef int (*strand_progress_fn)(void *user, double done);

/* One step of a run, when it is done: an operator, or several that ran as one, or a tensor moved. */
typedef struct strand_step_info {
    uint32_t size;       /* of this struct, as the library knows it: it grows at its end */
    int32_t node;        /* its (first) operator, by its index for strand_plan_node; -1 where no operator ran */
    int32_t nodes;       /* operators that ran as one; 0: none */
    const char *kind;    /* "launch"; "prepare": makes a constant that an operator wants; "input", "copy": moves a tensor */
    const char *name;    /* of the operator, or of the tensor; lives as long as the plan */
    const char *op;      /* "" where no operator ran */
    const char *backend;
    int64_t tile, tiles; /* which tile of its region, and how many this run has; 0 of 1 where nothing is cut */
    int32_t kept;        /* nonzero: made once a length and kept, not in every run */
    double begin;        /* seconds since the run began */
    double seconds;      /* that it took */
    double work;         /* rough floating-point operations, those of this tile; 0 for what only moves or prepares */
} strand_step_info;
typedef void (*strand_trace_fn)(void *user, const strand_step_info *step);

typedef struct strand_session_params {
    uint32_t size;
    int32_t check_finite;  /* nonzero: a NaN or infinity in an output is STRAND_ERR_NUMERIC */
    void *block;           /* NULL: from the context's allocator. Else at least block_bytes, aligned to 64 bytes: the session
                              lives there and nothing is allocated until it is closed (devices with own memory excepted) */
    size_t block_bytes;
    strand_progress_fn progress;
    void *progress_user;
    strand_trace_fn trace; /* NULL: nothing is timed. Called after every step, which waits for the device's queue meanwhile */
    void *trace_user;
} strand_session_params;

STRAND_API void strand_session_params_init(strand_session_params *params);
/* The plan must outlive the session. Several sessions may share one plan. */
STRAND_API strand_status strand_session_open(strand_plan *plan, const strand_session_params *params, strand_session **session);
STRAND_API void strand_session_close(strand_session *session);
/* Runs the model once. Each input is found by name; an input whose name the model does not know is an error. Batch and length
 * are read from the inputs' shapes and may be anything up to the plan's maximum. For each output give its name, and either
 * data == NULL: it is set to the session's own memory, good until the next run, or a buffer of `bytes` bytes, to which the
 * result is copied. dtype, rank, dims and bytes are filled in. The result for a sequence has the same bytes whatever the
 * plan's maximum, the other sequences in the batch, and the number of threads. */
STRAND_API strand_status strand_session_run(strand_session *session, const strand_tensor *inputs, int32_t n_inputs,
                                            strand_tensor *outputs, int32_t n_outputs);
/* State. A model with states (strand_model_info.stateful) goes on where the last run ended: a sequence may come whole, in
 * pieces or token by token, with the same result. `row` is the index of a sequence in the batch, below the plan's max_batch;
 * a run of batch B moves rows 0 to B-1. After a run that failed or was cancelled the states of its rows are lost: reset or
 * load them first. On a model without states reset does nothing, the position is 0, and save and load are
 * STRAND_ERR_UNSUPPORTED. */

/* Begins again: the row's states are what they were when the session was opened. row -1: all rows. */
STRAND_API strand_status strand_session_reset(strand_session *session, int64_t row);
/* Tokens that the row has seen; -1 when its state is lost, or there is no such row. */
STRAND_API int64_t strand_session_position(const strand_session *session, int64_t row);
/* Writes the row's states to `data`, at most `capacity` bytes; *bytes gets the number that they take, also when data is NULL
 * (to ask how many) or too small (STRAND_ERR_MEMORY). What is written can be kept in a file, loaded into any row of any
 * session of the same model (a fork), or into the same one (a roll-back). It is bound to the model's weights and does not
 * depend on the backend, the batch or the plan. */
STRAND_API strand_status strand_session_save(strand_session *session, int64_t row, void *data, size_t capacity, size_t *bytes);
/* Refuses, changing nothing, what is damaged or of another model. Where a device fails meanwhile (here or in reset) the row's
 * states are lost. */
STRAND_API strand_status strand_session_load(strand_session *session, int64_t row, const void *data, size_t bytes);
/* Gives the states of a row of `from` to a row of `to`: a fork without the saved form. Sessions of one model; they may be
 * the same one. */
STRAND_API strand_status strand_session_copy(strand_session *from, int64_t row, strand_session *to, int64_t to_row);
/* The text of the last failure of the session; "" when there was none. */
STRAND_API const char *strand_session_error(const strand_session *session);

#ifdef __cplusplus
}
#endif
#endif

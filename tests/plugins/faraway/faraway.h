/* faraway.h - the test plugin `faraway`: a device as far from the host as the ABI allows, without hardware.
 *
 * Its memory has addresses that nobody may touch: a buffer's handle points into pages without any access, as long as the
 * buffer, and the bytes stand elsewhere. Its queue runs nothing before `wait` asks for it, or runs late on a thread of its own.
 * It supports an odd subset of operators, claims chains, prepares filters, fails on demand, and checks every description that
 * the host gives it: a host that breaks the ABI gets an error that begins with "ABI violation".
 *
 * Environment, read when the plugin is opened:
 *   STRAND_FARAWAY_QUEUE    "deferred" (default): work runs inside wait; "thread": a worker runs it, late
 *   STRAND_FARAWAY_DELAY_US how long the worker sleeps before each command (default 20)
 *   STRAND_FARAWAY_SUBSET   a number: every node is taken or not by a hash of it and the node's name
 *   STRAND_FARAWAY_PREPARE  0: prepares nothing;  STRAND_FARAWAY_CLAIM  0: claims nothing;  STRAND_FARAWAY_RECORD  0: no
 *   segments STRAND_FARAWAY_BUFFER   bytes of the largest buffer; without it there is no limit STRAND_FARAWAY_FAIL
 *   "kind:n:status" or "kind:n:status:lost": the n-th call of that kind fails (open, device, buffer,
 *                           upload, download, prepare, launch, late, wait, copy, record, replay; late: a launch that fails when
 *                           it runs; record: segment_create and segment_launch); with lost every later call fails too */
#ifndef STRAND_TEST_FARAWAY_H
#define STRAND_TEST_FARAWAY_H

#include "strand_plugin.h"

#include <pthread.h>
#include <stdbool.h>

#define FAR_ALIGNMENT 256u
#define FAR_MAX_GROUP 3
#define FAR_TEXT      240

typedef enum far_call {
    FAR_OPEN,
    FAR_DEVICE,
    FAR_BUFFER,
    FAR_UPLOAD,
    FAR_DOWNLOAD,
    FAR_PREPARE,
    FAR_LAUNCH,
    FAR_LATE,
    FAR_WAIT,
    FAR_COPY,
    FAR_RECORD,
    FAR_REPLAY,
    FAR_CALLS
} far_call;

typedef struct far_settings {
    bool thread, prepare, claim, record, subset, lost_after;
    uint64_t seed;
    long delay_us;
    uint64_t buffer; /* largest; 0: any */
    far_call fail_call;
    long fail_at; /* 0: never */
    strand_plugin_status fail_status;
} far_settings;

struct strand_plugin_instance {
    const strand_host *host;
    far_settings set;
    long calls[FAR_CALLS];
    bool lost;
};

/* A live buffer. Its handle is `reserved`, which nobody can read or write. */
typedef struct far_buffer far_buffer;
struct far_buffer {
    far_buffer *next;
    unsigned char *reserved, *bytes;
    uint64_t size, mapped;
};

/* What a command keeps of a node: nothing that belongs to the host but memory that the ABI promises to keep. */
typedef struct far_node {
    strand_plugin_node node;
    strand_plugin_tensor inputs[STRAND_PLUGIN_MAX_INPUTS], output;
    _Alignas(8) unsigned char params[STRAND_PLUGIN_PARAMS];
    char name[96];
} far_node;

/* launch, prepare, upload, download, copy */
typedef enum far_kind { FAR_RUN, FAR_MAKE, FAR_TAKE, FAR_GIVE, FAR_MOVE } far_kind;

typedef struct far_command far_command;
struct far_command {
    far_command *next;
    uint64_t bytes; /* of this allocation */
    uint64_t point;
    far_kind kind;
    bool fails;
    unsigned char *device_bytes;
    const void *from;
    void *to;
    uint64_t length;
    strand_plugin_memory scratch;
    uint32_t n;
    far_node nodes[];
};

/* What was recorded: commands that are copied into the queue by each run. */
struct strand_plugin_segment {
    far_command *first, *last;
    bool closed; /* has been run */
};

struct strand_plugin_device {
    strand_plugin_instance *instance;
    int segments; /* live */
    far_buffer *buffers;
    pthread_mutex_t memory; /* guards the list */
    /* The queue: commands in order; `done` of them have run and wait to be freed by the host's thread. */
    pthread_mutex_t lock;
    pthread_cond_t more, finished;
    pthread_t worker;
    bool stop;
    far_command *first, *last, *ran;
    uint64_t given, done;
    strand_plugin_status failure;
    char text[FAR_TEXT];
};

/* plugin.c */
/* Counts a call; the status to fail with when it is this one's turn or the device is lost. */
strand_plugin_status far_turn(strand_plugin_device *d, far_call call);
/* Leaves text with the host and returns the status. */
strand_plugin_status far_fail(strand_plugin_device *d, strand_plugin_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* memory.c */
strand_plugin_status far_buffer_create(strand_plugin_device *d, uint64_t bytes, strand_plugin_buffer **buffer);
void far_buffer_destroy(strand_plugin_device *d, strand_plugin_buffer *buffer);
strand_plugin_status far_upload(strand_plugin_device *d, strand_plugin_buffer *b, uint64_t offset, const void *from,
                                uint64_t bytes);
strand_plugin_status far_download(strand_plugin_device *d, strand_plugin_buffer *b, uint64_t offset, void *to, uint64_t bytes);
strand_plugin_status far_copy(strand_plugin_device *d, strand_plugin_buffer *from, uint64_t from_offset,
                              strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes);
/* The bytes behind a range, or NULL when it is not inside a live buffer. */
unsigned char *far_bytes(strand_plugin_device *d, const strand_plugin_buffer *buffer, uint64_t offset, uint64_t bytes);

/* queue.c */
strand_plugin_status far_queue_open(strand_plugin_device *d);
void far_queue_close(strand_plugin_device *d);
far_command *far_command_new(strand_plugin_device *d, far_kind kind, uint32_t n);
void far_push(strand_plugin_device *d, far_command *c);
void far_free_commands(strand_plugin_device *d, far_command *first);
bool far_idle(strand_plugin_device *d);
strand_plugin_status far_submit(strand_plugin_device *d, uint64_t *point);
strand_plugin_status far_wait(strand_plugin_device *d, uint64_t point);

/* supports.c */
bool far_supports(const strand_plugin_device *d, const strand_plugin_node *node, char *why, size_t why_bytes);
/* Can the kernels run it at all? The predicate of launch, whatever subset was offered. */
bool far_capable(const strand_plugin_node *node, char *why, size_t why_bytes);
uint64_t far_scratch_size(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n);
uint64_t far_prepare_size(strand_plugin_device *d, const strand_plugin_node *node);
uint32_t far_claim(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed);
uint64_t far_view_bytes(const strand_plugin_tensor *t); /* of a contiguous tensor of these extents */

/* check.c: does a call keep the ABI? One line in `why` when not. */
bool far_check_launch(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n, const strand_plugin_memory *scratch,
                      char *why, size_t why_bytes);
bool far_check_prepare(strand_plugin_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch, char *why,
                       size_t why_bytes);

/* kernels.c: runs when the queue comes to it. */
void far_run(strand_plugin_device *d, far_command *c);
void far_prepare_filter(strand_plugin_device *d, const strand_plugin_node *node);
void far_kernel(strand_plugin_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch);

#endif

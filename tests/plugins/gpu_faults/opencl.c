/* opencl.c - the functions of the OpenCL loader that the plugin calls and that may fail, and those that make and release. As in
 * vulkan.c, a wait that is told to fail has been done. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "faults.h"

#define LOADER "libOpenCL.so.1"

#define REAL(name, result, parameters)                              \
    static result(CL_API_CALL *real) parameters;                    \
    if (!real) *(void **)&real = fault_real(LOADER, #name)

/* Those that return an error. */
#define MAY_FAIL(name, parameters, arguments)                       \
    CL_API_ENTRY cl_int CL_API_CALL name parameters {               \
        int code;                                                   \
        REAL(name, cl_int, parameters);                             \
        return fault_now(#name, &code) ? code : real arguments;     \
    }

#define WAITS(name, parameters, arguments)                          \
    CL_API_ENTRY cl_int CL_API_CALL name parameters {               \
        int code;                                                   \
        REAL(name, cl_int, parameters);                             \
        bool fails = fault_now(#name, &code);                       \
        cl_int result = real arguments;                             \
        return fails ? code : result;                               \
    }

/* Those that return an object and leave the error in *e. */
#define MAKES(name, type, parameters, arguments)                    \
    CL_API_ENTRY type CL_API_CALL name parameters {                 \
        int code;                                                   \
        REAL(name, type, parameters);                               \
        if (fault_now(#name, &code)) {                              \
            if (e) *e = code;                                       \
            return NULL;                                            \
        }                                                           \
        type made = real arguments;                                 \
        if (made) fault_count(1);                                   \
        return made;                                                \
    }

#define RELEASES(name, type)                                        \
    CL_API_ENTRY cl_int CL_API_CALL name(type x) {                  \
        REAL(name, cl_int, (type));                                 \
        fault_count(-1);                                            \
        return real(x);                                             \
    }

typedef void(CL_CALLBACK *context_notice)(const char *, const void *, size_t, void *);
typedef void(CL_CALLBACK *program_notice)(cl_program, void *);

MAY_FAIL(clGetPlatformIDs, (cl_uint n, cl_platform_id *p, cl_uint *have), (n, p, have))
MAKES(clCreateContext, cl_context,
      (const cl_context_properties *p, cl_uint n, const cl_device_id *d, context_notice f, void *u, cl_int *e),
      (p, n, d, f, u, e))
MAKES(clCreateCommandQueue, cl_command_queue, (cl_context c, cl_device_id d, cl_command_queue_properties p, cl_int *e),
      (c, d, p, e))
MAKES(clCreateBuffer, cl_mem, (cl_context c, cl_mem_flags f, size_t n, void *h, cl_int *e), (c, f, n, h, e))
MAKES(clCreateProgramWithSource, cl_program, (cl_context c, cl_uint n, const char **s, const size_t *l, cl_int *e),
      (c, n, s, l, e))
MAKES(clCreateProgramWithBinary, cl_program,
      (cl_context c, cl_uint n, const cl_device_id *d, const size_t *l, const unsigned char **b, cl_int *s, cl_int *e),
      (c, n, d, l, b, s, e))
MAKES(clCreateKernel, cl_kernel, (cl_program p, const char *n, cl_int *e), (p, n, e))
MAY_FAIL(clBuildProgram, (cl_program p, cl_uint n, const cl_device_id *d, const char *o, program_notice f, void *u),
         (p, n, d, o, f, u))
MAY_FAIL(clGetProgramInfo, (cl_program p, cl_program_info i, size_t n, void *v, size_t *have), (p, i, n, v, have))
MAY_FAIL(clSetKernelArg, (cl_kernel k, cl_uint i, size_t n, const void *v), (k, i, n, v))
MAY_FAIL(clEnqueueNDRangeKernel,
         (cl_command_queue q, cl_kernel k, cl_uint n, const size_t *o, const size_t *g, const size_t *l, cl_uint w,
          const cl_event *ws, cl_event *e),
         (q, k, n, o, g, l, w, ws, e))
MAY_FAIL(clEnqueueReadBuffer,
         (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n, void *p, cl_uint w, const cl_event *ws, cl_event *e),
         (q, m, b, o, n, p, w, ws, e))
MAY_FAIL(clEnqueueWriteBuffer,
         (cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n, const void *p, cl_uint w, const cl_event *ws,
          cl_event *e),
         (q, m, b, o, n, p, w, ws, e))
MAY_FAIL(clEnqueueCopyBuffer,
         (cl_command_queue q, cl_mem a, cl_mem b, size_t x, size_t y, size_t n, cl_uint w, const cl_event *ws, cl_event *e),
         (q, a, b, x, y, n, w, ws, e))

CL_API_ENTRY cl_int CL_API_CALL clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t n, void *value, size_t *have) {
    REAL(clGetDeviceInfo, cl_int, (cl_device_id, cl_device_info, size_t, void *, size_t *));
    cl_int e = real(d, what, n, value, have);
    if (fault_largest && what == CL_DEVICE_MAX_MEM_ALLOC_SIZE && value && n == sizeof(cl_ulong))
        *(cl_ulong *)value = fault_largest;
    if (fault_memory && what == CL_DEVICE_GLOBAL_MEM_SIZE && value && n == sizeof(cl_ulong)) *(cl_ulong *)value = fault_memory;
    return e;
}

CL_API_ENTRY cl_int CL_API_CALL clGetDeviceIDs(cl_platform_id p, cl_device_type t, cl_uint n, cl_device_id *d, cl_uint *have) {
    int code;
    REAL(clGetDeviceIDs, cl_int, (cl_platform_id, cl_device_type, cl_uint, cl_device_id *, cl_uint *));
    if (fault_now("clGetDeviceIDs", &code)) return code;
    return fault_no_device ? CL_DEVICE_NOT_FOUND : real(p, t, n, d, have);
}

WAITS(clFlush, (cl_command_queue q), (q))
WAITS(clFinish, (cl_command_queue q), (q))

RELEASES(clReleaseContext, cl_context)
RELEASES(clReleaseCommandQueue, cl_command_queue)
RELEASES(clReleaseMemObject, cl_mem)
RELEASES(clReleaseProgram, cl_program)
RELEASES(clReleaseKernel, cl_kernel)

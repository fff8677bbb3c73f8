/* CUDA's libraries as far as ONNX Runtime's provider calls them, for a machine without a GPU.

   Memory is the host's and is filled with zeros, copies copy, and kernels compute nothing: what is drawn is black.
   Every call, and every kernel by its name, is taken down. The functions that have to answer something are here;
   cuda_libraries.py adds all others that the provider wants, which take anything and succeed. The declarations are
   those of CUDA 13 and cuDNN 9. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST (1 << 22)
#define GIB (1ul << 30)

static const char *calls[MOST];
static long count;

static int took(const char *name) {
    long mine = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    if (mine < MOST) calls[mine] = name;
    return 0;
}

/* What the test reads. */
long calls_count(void) { return count < MOST ? count : MOST; }
const char *call_name(long number) { return calls[number]; }
void calls_forget(void) { count = 0; }

/* Memory and copies */

static int allocate(void **out, size_t size) {
    size_t whole = (size + 511) / 512 * 512;
    *out = aligned_alloc(512, whole ? whole : 512);
    if (!*out) return 2; /* cudaErrorMemoryAllocation */
    memset(*out, 0, whole);
    return 0;
}

int cudaMalloc(void **out, size_t size) { took(__func__); return allocate(out, size); }
int cudaMallocHost(void **out, size_t size) { took(__func__); return allocate(out, size); }
int cudaHostAlloc(void **out, size_t size, unsigned flags) { took(__func__); return allocate(out, size); }
int cudaMallocFromPoolAsync(void **out, size_t size, void *pool, void *stream) {
    took(__func__);
    return allocate(out, size);
}
int cudaFree(void *memory) { free(memory); return took(__func__); }
int cudaFreeHost(void *memory) { free(memory); return took(__func__); }
int cudaFreeAsync(void *memory, void *stream) { free(memory); return took(__func__); }
int cudaMemset(void *memory, int value, size_t size) { memset(memory, value, size); return took(__func__); }
int cudaMemsetAsync(void *memory, int value, size_t size, void *stream) {
    memset(memory, value, size);
    return took(__func__);
}
int cudaMemGetInfo(size_t *available, size_t *total) {
    *available = 70 * GIB;
    *total = 80 * GIB;
    return took(__func__);
}
int cudaPointerGetAttributes(int *found, void *memory) {
    memset(found, 0, 32);
    found[0] = 2; /* cudaMemoryTypeDevice */
    return took(__func__);
}

/* Graphs: what is copied from the host's memory while one is recorded is copied again whenever it is launched */

typedef struct { void *source, *then; size_t size; } Copy;
typedef struct { Copy copies[4096]; int count; } Graph;

static Graph *recording;
static int capture_mode = -1, changed;

int recorded_mode(void) { return capture_mode; }
int recorded_changed(void) { return changed; }

int cudaMemcpy(void *target, void *source, size_t size, int kind) {
    memcpy(target, source, size);
    return took("copy and wait");
}
int cudaMemcpyAsync(void *target, void *source, size_t size, int kind, void *stream) {
    static const char *names[] = {"copy on the host", "copy to the device", "copy to the host", "copy on the device"};
    memcpy(target, source, size);
    if (recording && kind == 1 && recording->count < 4096) {
        Copy *copy = recording->copies + recording->count++;
        copy->source = source;
        copy->size = size;
        copy->then = memcpy(malloc(size), source, size);
    }
    return took(kind >= 0 && kind < 4 ? names[kind] : __func__);
}
int cudaStreamBeginCapture(void *stream, int mode) {
    recording = calloc(1, sizeof *recording);
    capture_mode = mode;
    return took(__func__);
}
int cudaStreamEndCapture(void *stream, void **graph) {
    *graph = recording;
    recording = NULL;
    return took(__func__);
}
int cudaStreamIsCapturing(void *stream, int *status) { *status = recording != NULL; return took(__func__); }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long flags) {
    *executable = graph;
    return took(__func__);
}
int cudaGraphLaunch(void *executable, void *stream) {
    Graph *graph = executable;
    for (Copy *copy = graph->copies; copy < graph->copies + graph->count; copy++)
        changed += memcmp(copy->source, copy->then, copy->size) != 0;
    return took(__func__);
}

/* Devices: one of compute capability 9.0 with 132 multiprocessors */

int cudaGetDevice(int *device) { *device = 0; return took(__func__); }
int cudaGetDeviceCount(int *found) { *found = 1; return took(__func__); }
int cudaDriverGetVersion(int *version) { *version = 13000; return took(__func__); }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return took(__func__); }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 1: *value = 1024; break; /* threads of a block */
        case 8: *value = 49152; break; /* shared memory of a block */
        case 10: *value = 32; break; /* threads of a warp */
        case 16: *value = 132; break; /* multiprocessors */
        case 75: *value = 9; break; /* compute capability, major */
        case 76: *value = 0; break; /* and minor */
        case 97: *value = 232448; break; /* shared memory of a block that asks for more */
        default: *value = 1;
    }
    return took(__func__);
}
int cudaGetDeviceProperties(char *found, int device) { /* the fields' offsets in cudaDeviceProp */
    memset(found, 0, 1008);
    strcpy(found, "Stand-in");
    *(size_t *)(found + 288) = 80 * GIB; /* totalGlobalMem */
    *(size_t *)(found + 296) = 49152; /* sharedMemPerBlock */
    *(int *)(found + 304) = 65536; /* regsPerBlock */
    *(int *)(found + 308) = 32; /* warpSize */
    *(int *)(found + 320) = 1024; /* maxThreadsPerBlock */
    for (int i = 0; i < 3; i++) {
        *(int *)(found + 324 + 4 * i) = 1024; /* maxThreadsDim */
        *(int *)(found + 336 + 4 * i) = 65535; /* maxGridSize */
    }
    *(int *)(found + 360) = 9; /* major */
    *(int *)(found + 384) = 132; /* multiProcessorCount */
    return took(__func__);
}
int cudaFuncGetAttributes(void *found, void *kernel) { memset(found, 0, 128); return took(__func__); }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, void *kernel, int size, size_t shared,
                                                           unsigned flags) {
    *blocks = 1;
    return took(__func__);
}
int cudaEventElapsedTime(float *milliseconds, void *start, void *end) { *milliseconds = 1; return took(__func__); }

/* Kernels, called by the names that the compiler registered them with */

static struct { void *function; const char *name; } kernels[1 << 19];
static int kernel_count;

void **__cudaRegisterFatBinary(void *binary) { static void *handle[4]; return handle; }
int __cudaRegisterFunction(void **handle, void *function, char *there, const char *name) {
    if (kernel_count < 1 << 19) {
        kernels[kernel_count].function = function;
        kernels[kernel_count++].name = name;
    }
    return 0;
}
static int launched(void *function) {
    for (int i = 0; i < kernel_count; i++)
        if (kernels[i].function == function) return took(kernels[i].name);
    return took("a kernel without a name");
}
int __cudaGetKernel(void **kernel, void *function) { *kernel = function; return 0; }
int __cudaLaunchKernel(void *function) { return launched(function); }
int cudaLaunchKernel(void *function) { return launched(function); }
int cudaLaunchKernelExC(void *configuration, void *function) { return launched(function); }
int cudaLaunchCooperativeKernel(void *function) { return launched(function); }

/* Names and versions */

const char *cudaGetErrorName(int error) { return "a stand-in's error"; }
const char *cudaGetErrorString(int error) { return "a stand-in's error"; }
const char *cublasGetStatusName(int status) { return "a stand-in's error"; }
const char *cublasGetStatusString(int status) { return "a stand-in's error"; }
const char *cudnnGetErrorString(int status) { return "a stand-in's error"; }
void cudnnGetLastErrorString(char *message, size_t size) { if (size) message[0] = 0; }
size_t cudnnGetVersion(void) { return 92000; }

/* cuDNN's descriptions of convolutions: one engine is found for each, without knobs or notes */

int cudnnBackendCreateDescriptor(int kind, void **out) { *out = calloc(1, 4096); return 0; }
int cudnnBackendDestroyDescriptor(void *descriptor) { free(descriptor); return 0; }
int cudnnBackendGetAttribute(void *descriptor, int attribute, int type, long most, long *found, void *values) {
    int lists = (attribute >= 302 && attribute <= 304) || (attribute >= 1302 && attribute <= 1305);
    if (found) *found = !lists;
    /* 15: descriptors, which are there already; 3: numbers of 64 bits, the others have 32 at least */
    if (values && most > 0 && type != 15) memset(values, 0, type == 3 ? 8 : 4);
    return 0;
}

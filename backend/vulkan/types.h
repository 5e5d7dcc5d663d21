// The structures, enumerations and function types of Vulkan that shim.c uses, declared
// from the public specification (Vulkan 1.3 with VK_KHR_cooperative_matrix,
// VK_EXT_debug_utils and VK_EXT_validation_features) under names of our own. Handles that
// the specification calls non-dispatchable are 64-bit integers, dispatchable ones pointers.
#ifndef SIFT_VULKAN_TYPES_H
#define SIFT_VULKAN_TYPES_H
#include <stddef.h>
#include <stdint.h>

// VkStructureType
enum {
	SUBMIT_INFO = 4,
	STAGE_INFO = 18,     // PIPELINE_SHADER_STAGE_CREATE_INFO
	PIPELINE_INFO = 29,  // COMPUTE_PIPELINE_CREATE_INFO
	WRITE_SET = 35,      // WRITE_DESCRIPTOR_SET
	BEGIN_INFO = 42,     // COMMAND_BUFFER_BEGIN_INFO
	MEMORY_BARRIER = 46,
	FEATURES_2 = 1000059000,
	PROPERTIES_2 = 1000059001,
	STORAGE_16_FEATURES = 1000083000,
	SUBGROUP_PROPERTIES = 1000094000,
	MESSENGER_INFO = 1000128004, // DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT
	MAINTENANCE_3_PROPERTIES = 1000168000,
	DRIVER_PROPERTIES = 1000196000,
	MEMORY_MODEL_FEATURES = 1000211000,
	FLOAT16_FEATURES = 1000082000, // SHADER_FLOAT16_INT8_FEATURES
	VALIDATION_FEATURES = 1000247000,
	COOPERATIVE_FEATURES = 1000506000,
	COOPERATIVE_PROPERTIES = 1000506001,
};
enum {
	API_1_2 = 1 << 22 | 2 << 12,
	STAGE_COMPUTE = 0x20, // VK_SHADER_STAGE_COMPUTE_BIT
	BIND_COMPUTE = 1,     // VK_PIPELINE_BIND_POINT_COMPUTE
	STORAGE_BUFFER = 7,   // VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
	ONE_TIME_SUBMIT = 1,
	QUERY_64 = 1, QUERY_WAIT = 2,
	ENABLE_SYNCHRONIZATION_VALIDATION = 4,
};
enum { // VkPipelineStageFlagBits
	PIPELINE_TOP = 0x1, PIPELINE_COMPUTE = 0x800, PIPELINE_TRANSFER = 0x1000, PIPELINE_BOTTOM = 0x2000, PIPELINE_HOST = 0x4000,
};
enum { // VkAccessFlagBits
	SHADER_READ = 0x20, SHADER_WRITE = 0x40, TRANSFER_READ = 0x800, TRANSFER_WRITE = 0x1000, HOST_READ = 0x2000,
};

// What Vulkan fills in: VkPhysicalDeviceProperties2 and VkPhysicalDeviceFeatures2 hold a
// large structure that the binding reads for us; here it is space of at least its size.
struct props2 { uint32_t type; void *next; uint64_t properties[128]; };
struct feats2 { uint32_t type; void *next; uint32_t features[55]; };
struct subgroup_props { uint32_t type; void *next; uint32_t size, stages, operations, quad; };
struct maintenance3_props { uint32_t type; void *next; uint32_t max_descriptors; uint64_t max_allocation; };
struct driver_props { uint32_t type; void *next; uint32_t id; char name[256], info[256]; uint8_t conformance[4]; };
struct storage16_feats { uint32_t type; void *next; uint32_t storage, uniform, push, io; };
struct float16_feats { uint32_t type; void *next; uint32_t float16, int8; };
struct memory_model_feats { uint32_t type; void *next; uint32_t model, device_scope, chains; };
struct coop_feats { uint32_t type; void *next; uint32_t matrix, robust; };
struct coop_props { uint32_t type; void *next; uint32_t m, n, k, a, b, c, result, saturating, scope; };

struct validation_feats { uint32_t type; const void *next; uint32_t enabled; const uint32_t *enable; uint32_t disabled; const uint32_t *disable; };
struct message_data { uint32_t type; const void *next; uint32_t flags; const char *id; int32_t number; const char *text; };
typedef uint32_t (*heard_fn)(uint32_t severity, uint32_t kinds, const struct message_data *data, void *user);
struct messenger_info { uint32_t type; const void *next; uint32_t flags, severity, kinds; heard_fn callback; void *user; };

struct spec_entry { uint32_t id, offset; size_t size; };
struct spec_info { uint32_t count; const struct spec_entry *entries; size_t bytes; const void *data; };
struct stage_info { uint32_t type; const void *next; uint32_t flags, stage; uint64_t module; const char *name; const struct spec_info *spec; };
struct pipeline_info { uint32_t type; const void *next; uint32_t flags; struct stage_info stage; uint64_t layout, base; int32_t base_index; };
struct begin_info { uint32_t type; const void *next; uint32_t flags; const void *inheritance; };
struct memory_barrier { uint32_t type; const void *next; uint32_t from, to; };
struct submit_info {
	uint32_t type; const void *next;
	uint32_t waits; const uint64_t *wait; const uint32_t *stages;
	uint32_t commands; void *const *command;
	uint32_t signals; const uint64_t *signal;
};
struct buffer_info { uint64_t buffer, offset, range; };
struct buffer_copy { uint64_t from, to, bytes; };
struct write_set {
	uint32_t type; const void *next; uint64_t set; uint32_t binding, element, count, kind;
	const void *images; const struct buffer_info *buffers; const void *texels;
};

typedef void *(*get_proc_fn)(void *instance, const char *name);
typedef void *(*device_proc_fn)(void *device, const char *name);
typedef void (*physical_fn)(void *physical, void *out);
typedef int (*coop_fn)(void *physical, uint32_t *count, struct coop_props *out);
typedef int (*messenger_fn)(void *instance, const struct messenger_info *info, const void *allocator, uint64_t *out);
typedef void (*messenger_free_fn)(void *instance, uint64_t messenger, const void *allocator);
typedef int (*pipelines_fn)(void *device, uint64_t cache, uint32_t n, const struct pipeline_info *info, const void *allocator, uint64_t *out);
typedef void (*destroy_fn)(void *device, uint64_t handle, const void *allocator);
typedef int (*submit_fn)(void *queue, uint32_t n, const struct submit_info *info, uint64_t fence);
typedef void (*update_sets_fn)(void *device, uint32_t n, const struct write_set *writes, uint32_t copies, const void *copy);
typedef void (*barrier_fn)(void *cmd, uint32_t from, uint32_t to, uint32_t flags, uint32_t n, const struct memory_barrier *barriers,
	uint32_t buffers, const void *buffer, uint32_t images, const void *image);
typedef void (*copy_fn)(void *cmd, uint64_t src, uint64_t dst, uint32_t n, const struct buffer_copy *regions);
typedef void (*fill_fn)(void *cmd, uint64_t buffer, uint64_t at, uint64_t bytes, uint32_t word);
typedef void (*bind_pipeline_fn)(void *cmd, uint32_t point, uint64_t pipeline);
typedef void (*bind_sets_fn)(void *cmd, uint32_t point, uint64_t layout, uint32_t first, uint32_t n, const uint64_t *sets, uint32_t dynamics, const uint32_t *dynamic);
typedef void (*push_fn)(void *cmd, uint64_t layout, uint32_t stages, uint32_t offset, uint32_t bytes, const void *data);
typedef void (*dispatch_fn)(void *cmd, uint32_t x, uint32_t y, uint32_t z);
typedef void (*timestamp_fn)(void *cmd, uint32_t stage, uint64_t pool, uint32_t query);
typedef void (*reset_queries_fn)(void *cmd, uint64_t pool, uint32_t first, uint32_t n);
typedef int (*query_results_fn)(void *device, uint64_t pool, uint32_t first, uint32_t n, size_t bytes, void *out, uint64_t stride, uint32_t flags);
typedef int (*wait_fn)(void *device, uint32_t n, const uint64_t *fences, uint32_t all, uint64_t nanoseconds);
typedef int (*reset_fences_fn)(void *device, uint32_t n, const uint64_t *fences);
typedef int (*begin_fn)(void *cmd, const struct begin_info *info);
typedef int (*end_fn)(void *cmd);
#endif

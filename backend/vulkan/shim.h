// What the Go binding of Vulkan cannot do safely is done here in C: calls that take
// arrays of structures (Go's collector may free the binding's copies while the driver
// reads them), chains of extension structures, and recording, where one call into C per
// dispatch is a third of the cost of five. The few structures of Vulkan that these calls
// need are declared below from the public specification, so that a build needs neither
// headers nor library; the functions are found at run time. Numbers are those of the
// specification's enumerations, named beside them.
#ifndef SIFT_VULKAN_SHIM_H
#define SIFT_VULKAN_SHIM_H
#include <stddef.h>
#include <stdint.h>

enum { SV_BINDINGS = 12, SV_PUSH = 32, SV_SPEC = 16 };

// The functions of one device.
struct sv_device;

// One dispatch.
struct sv_call {
	uint64_t pipeline, layout, set; // handles
	uint64_t buffer[SV_BINDINGS], offset[SV_BINDINGS], range[SV_BINDINGS];
	uint64_t spare;        // a buffer for the bindings that are not used
	uint64_t queries;      // query pool, 0: no timestamps
	uint32_t query;        // the first of two
	uint32_t bindings, pushes;
	uint32_t push[SV_PUSH];
	uint32_t groups[3];
	uint32_t barrier;      // 1: wait for all earlier commands first
};

// What vkGetPhysicalDeviceProperties2 and Features2 say beyond the binding's structures.
struct sv_caps {
	char driver[256], info[256];
	uint32_t subgroup, subgroup_operations, subgroup_stages;
	uint64_t max_allocation;
	uint32_t float16, storage16, memory_model; // features: VkBool32
};

// A type of cooperative matrix product C[M,N] += A[M,K] B[K,N] (VkCooperativeMatrixPropertiesKHR).
struct sv_coop { uint32_t m, n, k, a, b, c, result, saturating, scope; };

// sv_load opens the loader library and returns vkGetInstanceProcAddr, or NULL with the reason in why.
void *sv_load(const char *name, char *why, size_t len);

// sv_instance_info fills caps for a physical device; the device must speak Vulkan 1.1.
int sv_physical(void *instance, void *physical, uint32_t api, struct sv_caps *caps);

// sv_coop_list returns the number of cooperative matrix types, at most n of them in out.
int sv_coop_list(void *instance, void *physical, struct sv_coop *out, int n);

// sv_features returns a chain for VkDeviceCreateInfo.pNext, freed with free().
void *sv_features(int cooperative);

// sv_validation returns a chain for VkInstanceCreateInfo.pNext that turns synchronisation
// validation on, freed with free().
void *sv_validation(void);

// sv_messenger counts the layer's warnings and errors from now on, or returns NULL.
void *sv_messenger(void *instance);
// sv_messages returns how many there were, and the text of the first ones.
int sv_messages(void *messenger, char *text, size_t len);
void sv_messenger_free(void *instance, void *messenger);

struct sv_device *sv_open(void *instance, void *device);
void sv_close(struct sv_device *d);

// Each returns a VkResult.
int sv_pipeline(struct sv_device *d, uint64_t cache, uint64_t layout, uint64_t module,
	const uint32_t *spec, uint32_t n, uint64_t *out);
void sv_pipeline_free(struct sv_device *d, uint64_t pipeline);
int sv_begin(struct sv_device *d, void *cmd, uint64_t queries, uint32_t count);
int sv_submit(struct sv_device *d, void *queue, void *cmd, uint64_t fence);
int sv_wait(struct sv_device *d, uint64_t fence, uint64_t nanoseconds);
int sv_times(struct sv_device *d, uint64_t queries, uint32_t count, uint64_t *out);

void sv_dispatch(struct sv_device *d, void *cmd, const struct sv_call *c);
void sv_copy(struct sv_device *d, void *cmd, int barrier, uint64_t src, uint64_t from, uint64_t dst, uint64_t to, uint64_t bytes);
void sv_fill(struct sv_device *d, void *cmd, int barrier, uint64_t buffer, uint64_t at, uint64_t bytes);
#endif

// A Vulkan layer that counts calls and objects and makes chosen calls fail. Tests build it
// with gcc and turn it on by VK_LAYER_PATH and VK_INSTANCE_LAYERS=VK_LAYER_SIFT_fault.
//
//   SIFT_FAULT=vkAllocateMemory:3:-2     the third call returns VkResult -2, others go through;
//              3+ is the third and all after it; several are divided by commas. After VK_ERROR_DEVICE_LOST (-4) every later call
//              that may say so does, as with a real device. Anything after # is only a name:
//              a value unlike the one before starts counting at zero.
//   SIFT_FAULT_NO_DEVICES=1              the drivers find no device
//   SIFT_FAULT_REPORT=FILE               rewritten when an instance is destroyed: a line
//              "call NAME COUNT" for each function, "made KIND COUNT LEFT" for each kind of object
//
// The interface between loader and layer is the one of version 2 in vulkan/vk_layer.h.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

// The functions that are counted and can fail, and the kinds of objects that are counted.
#define CALLS(X) \
	X(CreateInstance) X(EnumeratePhysicalDevices) X(CreateDevice) X(AllocateMemory) X(MapMemory) X(CreateBuffer) \
	X(BindBufferMemory) X(CreateCommandPool) X(AllocateCommandBuffers) X(CreateDescriptorSetLayout) X(CreatePipelineLayout) \
	X(CreateDescriptorPool) X(AllocateDescriptorSets) X(CreateFence) X(CreateQueryPool) X(CreateShaderModule) \
	X(CreatePipelineCache) X(GetPipelineCacheData) X(CreateComputePipelines) X(BeginCommandBuffer) X(EndCommandBuffer) \
	X(QueueSubmit) X(WaitForFences) X(ResetFences) X(GetQueryPoolResults) X(DeviceWaitIdle)
#define KINDS(X) \
	X(Instance) X(Device) X(Memory) X(Buffer) X(CommandPool) X(DescriptorSetLayout) X(PipelineLayout) X(DescriptorPool) \
	X(Fence) X(QueryPool) X(ShaderModule) X(PipelineCache) X(Pipeline)

#define ENUM_CALL(name) call_##name,
#define ENUM_KIND(name) kind_##name,
#define NAME_CALL(name) "vk" #name,
#define NAME_KIND(name) #name,
enum { CALLS(ENUM_CALL) calls };
enum { KINDS(ENUM_KIND) kinds };
static const char *const call_names[] = {CALLS(NAME_CALL)};
static const char *const kind_names[] = {KINDS(NAME_KIND)};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long called[calls], made[kinds], left[kinds];
static int lost;            // VK_ERROR_DEVICE_LOST was returned
static char configured[512]; // SIFT_FAULT as last read

// Instances and devices, each known by the pointer at its beginning, which all objects
// that a call can go to (queues, command buffers) share with it.
struct known {
	void *key;
	PFN_vkGetInstanceProcAddr instance_proc; // of an instance, with what is found by it at once:
	PFN_vkDestroyInstance destroy;           // once the instance is made, the loader answers
	PFN_vkEnumeratePhysicalDevices physicals; // with the top of the chain, which is above this layer
	PFN_vkCreateDevice create_device;
	PFN_vkGetDeviceProcAddr device_proc; // of a device
	VkDevice device;
	struct known *next;
};
static struct known *all;

static struct known *find(const void *object) {
	void *key = *(void *const *)object;
	pthread_mutex_lock(&lock);
	struct known *k = all;
	while (k && k->key != key)
		k = k->next;
	pthread_mutex_unlock(&lock);
	return k;
}

static void add(struct known known) {
	struct known *k = malloc(sizeof *k);
	if (!k)
		abort();
	*k = known;
	pthread_mutex_lock(&lock);
	k->next = all;
	all = k;
	pthread_mutex_unlock(&lock);
}

static void drop(struct known *known) {
	pthread_mutex_lock(&lock);
	for (struct known **at = &all; *at; at = &(*at)->next)
		if (*at == known) {
			*at = known->next;
			break;
		}
	pthread_mutex_unlock(&lock);
	free(known);
}

static void count(int kind, int by) {
	pthread_mutex_lock(&lock);
	left[kind] += by;
	if (by > 0)
		made[kind] += by;
	pthread_mutex_unlock(&lock);
}

// fails counts a call and returns the result it is to give, VK_SUCCESS to let it happen.
static VkResult fails(int call) {
	VkResult result = VK_SUCCESS;
	pthread_mutex_lock(&lock);
	const char *now = getenv("SIFT_FAULT");
	if (!now)
		now = "";
	if (strncmp(now, configured, sizeof configured - 1)) {
		snprintf(configured, sizeof configured, "%s", now);
		memset(called, 0, sizeof called);
		lost = 0;
	}
	called[call]++;
	for (const char *at = configured; *at && *at != '#';) {
		char name[64];
		long n;
		int r;
		char more[2] = "";
		if ((sscanf(at, "%63[^:]:%ld:%d", name, &n, &r) == 3 || sscanf(at, "%63[^:]:%ld%1[+]:%d", name, &n, more, &r) == 4) &&
				!strcmp(name, call_names[call]) && (n == called[call] || (*more && n < called[call])))
			result = (VkResult)r;
		at += strcspn(at, ",#");
		at += *at == ',';
	}
	if (result == VK_ERROR_DEVICE_LOST)
		lost = 1;
	// The calls that the specification lets report a lost device.
	if (lost && (call == call_QueueSubmit || call == call_WaitForFences || call == call_GetQueryPoolResults || call == call_DeviceWaitIdle))
		result = VK_ERROR_DEVICE_LOST;
	pthread_mutex_unlock(&lock);
	return result;
}

static void report(void) {
	const char *path = getenv("SIFT_FAULT_REPORT");
	FILE *f = path ? fopen(path, "w") : NULL;
	if (!f)
		return;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < calls; i++)
		fprintf(f, "call %s %ld\n", call_names[i], called[i]);
	for (int i = 0; i < kinds; i++)
		fprintf(f, "made %s %ld %ld\n", kind_names[i], made[i], left[i]);
	pthread_mutex_unlock(&lock);
	fclose(f);
}

// NEXT is the function of that name below this layer.
#define NEXT(object, name) ((PFN_vk##name)find(object)->device_proc(find(object)->device, "vk" #name))
#define UNLESS_FAILING(name) \
	VkResult failure = fails(call_##name); \
	if (failure) \
		return failure

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateInstance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *a, VkInstance *out) {
	UNLESS_FAILING(CreateInstance);
	VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)info->pNext;
	while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
		link = (VkLayerInstanceCreateInfo *)link->pNext;
	if (!link)
		return VK_ERROR_INITIALIZATION_FAILED;
	PFN_vkGetInstanceProcAddr proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	VkResult r = ((PFN_vkCreateInstance)proc(NULL, "vkCreateInstance"))(info, a, out);
	if (r == VK_SUCCESS) {
		add((struct known){.key = *(void **)*out, .instance_proc = proc,
			.destroy = (PFN_vkDestroyInstance)proc(*out, "vkDestroyInstance"),
			.physicals = (PFN_vkEnumeratePhysicalDevices)proc(*out, "vkEnumeratePhysicalDevices"),
			.create_device = (PFN_vkCreateDevice)proc(*out, "vkCreateDevice")});
		count(kind_Instance, 1);
	}
	return r;
}

static VKAPI_ATTR void VKAPI_CALL layer_DestroyInstance(VkInstance instance, const VkAllocationCallbacks *a) {
	if (!instance)
		return;
	struct known *k = find(instance);
	k->destroy(instance, a);
	drop(k);
	count(kind_Instance, -1);
	report();
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_EnumeratePhysicalDevices(VkInstance instance, uint32_t *n, VkPhysicalDevice *out) {
	UNLESS_FAILING(EnumeratePhysicalDevices);
	if (getenv("SIFT_FAULT_NO_DEVICES")) {
		*n = 0;
		return VK_SUCCESS;
	}
	return find(instance)->physicals(instance, n, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *a, VkDevice *out) {
	UNLESS_FAILING(CreateDevice);
	VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)info->pNext;
	while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
		link = (VkLayerDeviceCreateInfo *)link->pNext;
	if (!link)
		return VK_ERROR_INITIALIZATION_FAILED;
	PFN_vkGetDeviceProcAddr proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
	link->u.pLayerInfo = link->u.pLayerInfo->pNext;
	VkResult r = find(physical)->create_device(physical, info, a, out);
	if (r == VK_SUCCESS) {
		add((struct known){.key = *(void **)*out, .device_proc = proc, .device = *out});
		count(kind_Device, 1);
	}
	return r;
}

static VKAPI_ATTR void VKAPI_CALL layer_DestroyDevice(VkDevice device, const VkAllocationCallbacks *a) {
	if (!device)
		return;
	struct known *k = find(device);
	((PFN_vkDestroyDevice)k->device_proc(device, "vkDestroyDevice"))(device, a);
	drop(k);
	count(kind_Device, -1);
}

// Objects made one at a time by a call of one form.
#define OBJECT(make, kind, info_type, handle, destroy) \
	static VKAPI_ATTR VkResult VKAPI_CALL layer_##make(VkDevice device, const info_type *info, const VkAllocationCallbacks *a, handle *out) { \
		UNLESS_FAILING(make); \
		VkResult r = NEXT(device, make)(device, info, a, out); \
		if (r == VK_SUCCESS) \
			count(kind_##kind, 1); \
		return r; \
	} \
	static VKAPI_ATTR void VKAPI_CALL layer_##destroy(VkDevice device, handle object, const VkAllocationCallbacks *a) { \
		NEXT(device, destroy)(device, object, a); \
		if (object) \
			count(kind_##kind, -1); \
	}
OBJECT(AllocateMemory, Memory, VkMemoryAllocateInfo, VkDeviceMemory, FreeMemory)
OBJECT(CreateBuffer, Buffer, VkBufferCreateInfo, VkBuffer, DestroyBuffer)
OBJECT(CreateCommandPool, CommandPool, VkCommandPoolCreateInfo, VkCommandPool, DestroyCommandPool)
OBJECT(CreateDescriptorSetLayout, DescriptorSetLayout, VkDescriptorSetLayoutCreateInfo, VkDescriptorSetLayout, DestroyDescriptorSetLayout)
OBJECT(CreatePipelineLayout, PipelineLayout, VkPipelineLayoutCreateInfo, VkPipelineLayout, DestroyPipelineLayout)
OBJECT(CreateDescriptorPool, DescriptorPool, VkDescriptorPoolCreateInfo, VkDescriptorPool, DestroyDescriptorPool)
OBJECT(CreateFence, Fence, VkFenceCreateInfo, VkFence, DestroyFence)
OBJECT(CreateQueryPool, QueryPool, VkQueryPoolCreateInfo, VkQueryPool, DestroyQueryPool)
OBJECT(CreateShaderModule, ShaderModule, VkShaderModuleCreateInfo, VkShaderModule, DestroyShaderModule)
OBJECT(CreatePipelineCache, PipelineCache, VkPipelineCacheCreateInfo, VkPipelineCache, DestroyPipelineCache)

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t n,
		const VkComputePipelineCreateInfo *info, const VkAllocationCallbacks *a, VkPipeline *out) {
	VkResult failure = fails(call_CreateComputePipelines);
	if (failure) { // what is not made is null
		memset(out, 0, n * sizeof *out);
		return failure;
	}
	VkResult r = NEXT(device, CreateComputePipelines)(device, cache, n, info, a, out);
	for (uint32_t i = 0; i < n; i++)
		if (out[i])
			count(kind_Pipeline, 1);
	return r;
}

static VKAPI_ATTR void VKAPI_CALL layer_DestroyPipeline(VkDevice device, VkPipeline pipeline, const VkAllocationCallbacks *a) {
	NEXT(device, DestroyPipeline)(device, pipeline, a);
	if (pipeline)
		count(kind_Pipeline, -1);
}

// Calls that only pass on what they are given.
#define PASS(name, object, parameters, ...) \
	static VKAPI_ATTR VkResult VKAPI_CALL layer_##name parameters { \
		UNLESS_FAILING(name); \
		return NEXT(object, name)(object, __VA_ARGS__); \
	}
PASS(MapMemory, device, (VkDevice device, VkDeviceMemory m, VkDeviceSize at, VkDeviceSize n, VkMemoryMapFlags f, void **out), m, at, n, f, out)
PASS(BindBufferMemory, device, (VkDevice device, VkBuffer b, VkDeviceMemory m, VkDeviceSize at), b, m, at)
PASS(AllocateCommandBuffers, device, (VkDevice device, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *out), i, out)
PASS(AllocateDescriptorSets, device, (VkDevice device, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *out), i, out)
PASS(GetPipelineCacheData, device, (VkDevice device, VkPipelineCache c, size_t *n, void *out), c, n, out)
PASS(BeginCommandBuffer, commands, (VkCommandBuffer commands, const VkCommandBufferBeginInfo *i), i)
PASS(QueueSubmit, queue, (VkQueue queue, uint32_t n, const VkSubmitInfo *s, VkFence f), n, s, f)
PASS(WaitForFences, device, (VkDevice device, uint32_t n, const VkFence *f, VkBool32 every, uint64_t ns), n, f, every, ns)
PASS(ResetFences, device, (VkDevice device, uint32_t n, const VkFence *f), n, f)
PASS(GetQueryPoolResults, device, (VkDevice device, VkQueryPool p, uint32_t first, uint32_t n, size_t bytes, void *out, VkDeviceSize stride, VkQueryResultFlags f),
	p, first, n, bytes, out, stride, f)

static VKAPI_ATTR VkResult VKAPI_CALL layer_EndCommandBuffer(VkCommandBuffer commands) {
	UNLESS_FAILING(EndCommandBuffer);
	return NEXT(commands, EndCommandBuffer)(commands);
}

// The driver below is not really lost: it waits, so that its objects can be destroyed.
static VKAPI_ATTR VkResult VKAPI_CALL layer_DeviceWaitIdle(VkDevice device) {
	VkResult failure = fails(call_DeviceWaitIdle), r = NEXT(device, DeviceWaitIdle)(device);
	return failure ? failure : r;
}

static const struct { const char *name; PFN_vkVoidFunction function; int of_instance; } functions[] = {
#define OF_INSTANCE(name) {"vk" #name, (PFN_vkVoidFunction)layer_##name, 1},
#define OF_DEVICE(name) {"vk" #name, (PFN_vkVoidFunction)layer_##name, 0},
	OF_INSTANCE(CreateInstance) OF_INSTANCE(DestroyInstance) OF_INSTANCE(EnumeratePhysicalDevices) OF_INSTANCE(CreateDevice)
	OF_DEVICE(DestroyDevice) OF_DEVICE(AllocateMemory) OF_DEVICE(FreeMemory) OF_DEVICE(MapMemory) OF_DEVICE(CreateBuffer)
	OF_DEVICE(DestroyBuffer) OF_DEVICE(BindBufferMemory) OF_DEVICE(CreateCommandPool) OF_DEVICE(DestroyCommandPool)
	OF_DEVICE(AllocateCommandBuffers) OF_DEVICE(CreateDescriptorSetLayout) OF_DEVICE(DestroyDescriptorSetLayout)
	OF_DEVICE(CreatePipelineLayout) OF_DEVICE(DestroyPipelineLayout) OF_DEVICE(CreateDescriptorPool) OF_DEVICE(DestroyDescriptorPool)
	OF_DEVICE(AllocateDescriptorSets) OF_DEVICE(CreateFence) OF_DEVICE(DestroyFence) OF_DEVICE(CreateQueryPool) OF_DEVICE(DestroyQueryPool)
	OF_DEVICE(CreateShaderModule) OF_DEVICE(DestroyShaderModule) OF_DEVICE(CreatePipelineCache) OF_DEVICE(DestroyPipelineCache)
	OF_DEVICE(GetPipelineCacheData) OF_DEVICE(CreateComputePipelines) OF_DEVICE(DestroyPipeline) OF_DEVICE(BeginCommandBuffer)
	OF_DEVICE(EndCommandBuffer) OF_DEVICE(QueueSubmit) OF_DEVICE(WaitForFences) OF_DEVICE(ResetFences)
	OF_DEVICE(GetQueryPoolResults) OF_DEVICE(DeviceWaitIdle)
};

static PFN_vkVoidFunction ours(const char *name, int of_instance) {
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
		if (!strcmp(functions[i].name, name) && (of_instance || !functions[i].of_instance))
			return functions[i].function;
	return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetDeviceProcAddr(VkDevice device, const char *name) {
	if (!strcmp(name, "vkGetDeviceProcAddr"))
		return (PFN_vkVoidFunction)layer_GetDeviceProcAddr;
	PFN_vkVoidFunction f = ours(name, 0);
	return f ? f : find(device)->device_proc(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetInstanceProcAddr(VkInstance instance, const char *name) {
	if (!strcmp(name, "vkGetInstanceProcAddr"))
		return (PFN_vkVoidFunction)layer_GetInstanceProcAddr;
	if (!strcmp(name, "vkGetDeviceProcAddr"))
		return (PFN_vkVoidFunction)layer_GetDeviceProcAddr;
	PFN_vkVoidFunction f = ours(name, 1);
	if (f || !instance)
		return f;
	return find(instance)->instance_proc(instance, name);
}

VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *v) {
	if (v->loaderLayerInterfaceVersion < 2)
		return VK_ERROR_INITIALIZATION_FAILED;
	v->loaderLayerInterfaceVersion = 2;
	v->pfnGetInstanceProcAddr = layer_GetInstanceProcAddr;
	v->pfnGetDeviceProcAddr = layer_GetDeviceProcAddr;
	v->pfnGetPhysicalDeviceProcAddr = NULL;
	return VK_SUCCESS;
}

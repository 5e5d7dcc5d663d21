//go:build cgo && (linux || (darwin && moltenvk))

#include "shim.h"
#include "types.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static get_proc_fn instance_proc;

void *sv_load(const char *name, char *why, size_t len) {
	struct stat found;
	if (strchr(name, '/') && !stat(name, &found) && !S_ISREG(found.st_mode)) { // a pipe would be waited for
		snprintf(why, len, "%s: not a regular file", name);
		return NULL;
	}
	void *lib = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(why, len, "%s", dlerror());
		return NULL;
	}
	instance_proc = (get_proc_fn)dlsym(lib, "vkGetInstanceProcAddr");
	if (!instance_proc)
		snprintf(why, len, "%s has no vkGetInstanceProcAddr", name);
	return (void *)instance_proc;
}

int sv_physical(void *instance, void *physical, uint32_t api, struct sv_caps *caps) {
	physical_fn props = (physical_fn)instance_proc(instance, "vkGetPhysicalDeviceProperties2");
	physical_fn feats = (physical_fn)instance_proc(instance, "vkGetPhysicalDeviceFeatures2");
	memset(caps, 0, sizeof *caps);
	if (!props || !feats)
		return -1;
	int v12 = api >= API_1_2;
	struct driver_props driver = {DRIVER_PROPERTIES, NULL};
	struct maintenance3_props m3 = {MAINTENANCE_3_PROPERTIES, v12 ? &driver : NULL};
	struct subgroup_props sub = {SUBGROUP_PROPERTIES, &m3};
	struct props2 p = {PROPERTIES_2, &sub};
	props(physical, &p);
	snprintf(caps->driver, sizeof caps->driver, "%s", driver.name);
	snprintf(caps->info, sizeof caps->info, "%s", driver.info);
	caps->subgroup = sub.size;
	caps->subgroup_operations = sub.operations;
	caps->subgroup_stages = sub.stages;
	caps->max_allocation = m3.max_allocation;
	struct memory_model_feats mm = {MEMORY_MODEL_FEATURES, NULL};
	struct float16_feats f16 = {FLOAT16_FEATURES, &mm};
	struct storage16_feats s16 = {STORAGE_16_FEATURES, v12 ? &f16 : NULL};
	struct feats2 f = {FEATURES_2, &s16};
	feats(physical, &f);
	caps->float16 = f16.float16;
	caps->storage16 = s16.storage;
	caps->memory_model = mm.model;
	return 0;
}

int sv_coop_list(void *instance, void *physical, struct sv_coop *out, int n) {
	coop_fn fn = (coop_fn)instance_proc(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
	uint32_t count = 0;
	if (!fn || fn(physical, &count, NULL) || !count)
		return 0;
	struct coop_props *p = calloc(count, sizeof *p);
	if (!p)
		return 0;
	for (uint32_t i = 0; i < count; i++)
		p[i].type = COOPERATIVE_PROPERTIES;
	if (fn(physical, &count, p))
		count = 0;
	int kept = 0;
	for (uint32_t i = 0; i < count && kept < n; i++)
		out[kept++] = (struct sv_coop){p[i].m, p[i].n, p[i].k, p[i].a, p[i].b, p[i].c, p[i].result, p[i].saturating, p[i].scope};
	free(p);
	return kept;
}

void *sv_features(int cooperative) {
	struct {
		struct feats2 f;
		struct float16_feats f16;
		struct memory_model_feats mm;
		struct coop_feats coop;
	} *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->f.type = FEATURES_2;
	if (cooperative) {
		c->f.next = &c->f16;
		c->f16 = (struct float16_feats){FLOAT16_FEATURES, &c->mm, 1};
		c->mm = (struct memory_model_feats){MEMORY_MODEL_FEATURES, &c->coop, 1};
		c->coop = (struct coop_feats){COOPERATIVE_FEATURES, NULL, 1};
	}
	return c;
}

void *sv_validation(void) {
	struct {
		struct validation_feats v;
		uint32_t enable[1];
	} *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->enable[0] = ENABLE_SYNCHRONIZATION_VALIDATION;
	c->v.type = VALIDATION_FEATURES;
	c->v.enabled = 1;
	c->v.enable = c->enable;
	return c;
}

// messages is what the validation layer has said.
struct messages {
	uint64_t handle;
	int count;
	char text[4096];
};

static uint32_t heard(uint32_t severity, uint32_t kinds, const struct message_data *data, void *user) {
	struct messages *m = user;
	__atomic_add_fetch(&m->count, 1, __ATOMIC_SEQ_CST);
	size_t at = strlen(m->text);
	snprintf(m->text + at, sizeof m->text - at, "%s\n", data->text ? data->text : "?");
	return 0;
}

void *sv_messenger(void *instance) {
	messenger_fn create = (messenger_fn)instance_proc(instance, "vkCreateDebugUtilsMessengerEXT");
	struct messages *m = create ? calloc(1, sizeof *m) : NULL;
	if (!m)
		return NULL;
	// Warnings and errors of every kind.
	struct messenger_info info = {MESSENGER_INFO, NULL, 0, 0x100 | 0x1000, 1 | 2 | 4, heard, m};
	if (create(instance, &info, NULL, &m->handle)) {
		free(m);
		return NULL;
	}
	return m;
}

int sv_messages(void *messenger, char *text, size_t len) {
	struct messages *m = messenger;
	snprintf(text, len, "%s", m->text);
	return __atomic_load_n(&m->count, __ATOMIC_SEQ_CST);
}

void sv_messenger_free(void *instance, void *messenger) {
	struct messages *m = messenger;
	if (!m)
		return;
	messenger_free_fn destroy = (messenger_free_fn)instance_proc(instance, "vkDestroyDebugUtilsMessengerEXT");
	if (destroy)
		destroy(instance, m->handle, NULL);
	free(m);
}

struct sv_device {
	void *handle;
	pipelines_fn create_pipelines;
	destroy_fn destroy_pipeline;
	submit_fn submit;
	update_sets_fn update_sets;
	barrier_fn barrier;
	copy_fn copy;
	fill_fn fill;
	bind_pipeline_fn bind_pipeline;
	bind_sets_fn bind_sets;
	push_fn push;
	dispatch_fn dispatch;
	timestamp_fn timestamp;
	reset_queries_fn reset_queries;
	query_results_fn query_results;
	wait_fn wait;
	reset_fences_fn reset_fences;
	begin_fn begin;
	end_fn end;
};

struct sv_device *sv_open(void *instance, void *device) {
	device_proc_fn get = (device_proc_fn)instance_proc(instance, "vkGetDeviceProcAddr");
	struct sv_device *d = get ? calloc(1, sizeof *d) : NULL;
	if (!d)
		return NULL;
	d->handle = device;
	int missing = 0;
#define FIND(field, name) missing |= !(d->field = (__typeof__(d->field))get(device, name))
	FIND(create_pipelines, "vkCreateComputePipelines");
	FIND(destroy_pipeline, "vkDestroyPipeline");
	FIND(submit, "vkQueueSubmit");
	FIND(update_sets, "vkUpdateDescriptorSets");
	FIND(barrier, "vkCmdPipelineBarrier");
	FIND(copy, "vkCmdCopyBuffer");
	FIND(fill, "vkCmdFillBuffer");
	FIND(bind_pipeline, "vkCmdBindPipeline");
	FIND(bind_sets, "vkCmdBindDescriptorSets");
	FIND(push, "vkCmdPushConstants");
	FIND(dispatch, "vkCmdDispatch");
	FIND(timestamp, "vkCmdWriteTimestamp");
	FIND(reset_queries, "vkCmdResetQueryPool");
	FIND(query_results, "vkGetQueryPoolResults");
	FIND(wait, "vkWaitForFences");
	FIND(reset_fences, "vkResetFences");
	FIND(begin, "vkBeginCommandBuffer");
	FIND(end, "vkEndCommandBuffer");
#undef FIND
	if (missing) {
		free(d);
		return NULL;
	}
	return d;
}

void sv_close(struct sv_device *d) { free(d); }

int sv_pipeline(struct sv_device *d, uint64_t cache, uint64_t layout, uint64_t module,
		const uint32_t *spec, uint32_t n, uint64_t *out) {
	struct spec_entry entries[SV_SPEC];
	for (uint32_t i = 0; i < n; i++)
		entries[i] = (struct spec_entry){i, 4 * i, 4};
	struct spec_info info = {n, entries, 4 * (size_t)n, spec};
	struct pipeline_info p = {PIPELINE_INFO, NULL, 0,
		{STAGE_INFO, NULL, 0, STAGE_COMPUTE, module, "main", n ? &info : NULL}, layout, 0, -1};
	return d->create_pipelines(d->handle, cache, 1, &p, NULL, out);
}

void sv_pipeline_free(struct sv_device *d, uint64_t pipeline) { d->destroy_pipeline(d->handle, pipeline, NULL); }

int sv_begin(struct sv_device *d, void *cmd, uint64_t queries, uint32_t count) {
	struct begin_info info = {BEGIN_INFO, NULL, ONE_TIME_SUBMIT, NULL};
	int r = d->begin(cmd, &info);
	if (!r && queries)
		d->reset_queries(cmd, queries, 0, count);
	return r;
}

// barrier makes every earlier write of a shader or copy visible to later ones and, at the
// end of a command buffer, to the host.
static void barrier(struct sv_device *d, void *cmd, int host) {
	struct memory_barrier b = {MEMORY_BARRIER, NULL, SHADER_WRITE | TRANSFER_WRITE,
		SHADER_READ | SHADER_WRITE | TRANSFER_READ | TRANSFER_WRITE | (host ? HOST_READ : 0)};
	uint32_t device = PIPELINE_COMPUTE | PIPELINE_TRANSFER;
	d->barrier(cmd, device, device | (host ? PIPELINE_HOST : 0), 0, 1, &b, 0, NULL, 0, NULL);
}

int sv_submit(struct sv_device *d, void *queue, void *cmd, uint64_t fence) {
	barrier(d, cmd, 1);
	int r = d->end(cmd);
	if (r)
		return r;
	struct submit_info info = {SUBMIT_INFO, NULL, 0, NULL, NULL, 1, &cmd, 0, NULL};
	return d->submit(queue, 1, &info, fence);
}

int sv_wait(struct sv_device *d, uint64_t fence, uint64_t nanoseconds) {
	int r = d->wait(d->handle, 1, &fence, 1, nanoseconds);
	return r ? r : d->reset_fences(d->handle, 1, &fence);
}

int sv_times(struct sv_device *d, uint64_t queries, uint32_t count, uint64_t *out) {
	return d->query_results(d->handle, queries, 0, count, 8 * (size_t)count, out, 8, QUERY_64 | QUERY_WAIT);
}

void sv_dispatch(struct sv_device *d, void *cmd, const struct sv_call *c) {
	if (c->barrier)
		barrier(d, cmd, 0);
	// One write that runs on over the bindings. Those that the kernel does not use name the
	// spare buffer: a driver may look at all of a set (Mesa 22.3's lavapipe does), and what
	// an earlier dispatch left there may be gone.
	struct buffer_info buffers[SV_BINDINGS];
	for (uint32_t i = 0; i < SV_BINDINGS; i++)
		buffers[i] = i < c->bindings ? (struct buffer_info){c->buffer[i], c->offset[i], c->range[i]}
			: (struct buffer_info){c->spare, 0, 16};
	struct write_set write = {WRITE_SET, NULL, c->set, 0, 0, SV_BINDINGS, STORAGE_BUFFER, NULL, buffers, NULL};
	d->update_sets(d->handle, 1, &write, 0, NULL);
	d->bind_pipeline(cmd, BIND_COMPUTE, c->pipeline);
	d->bind_sets(cmd, BIND_COMPUTE, c->layout, 0, 1, &c->set, 0, NULL);
	d->push(cmd, c->layout, STAGE_COMPUTE, 0, 4 * c->pushes, c->push);
	if (c->queries)
		d->timestamp(cmd, PIPELINE_TOP, c->queries, c->query);
	d->dispatch(cmd, c->groups[0], c->groups[1], c->groups[2]);
	if (c->queries)
		d->timestamp(cmd, PIPELINE_BOTTOM, c->queries, c->query + 1);
}

void sv_copy(struct sv_device *d, void *cmd, int wait, uint64_t src, uint64_t from, uint64_t dst, uint64_t to, uint64_t bytes) {
	if (wait)
		barrier(d, cmd, 0);
	struct buffer_copy region = {from, to, bytes};
	d->copy(cmd, src, dst, 1, &region);
}

void sv_fill(struct sv_device *d, void *cmd, int wait, uint64_t buffer, uint64_t at, uint64_t bytes) {
	if (wait)
		barrier(d, cmd, 0);
	d->fill(cmd, buffer, at, bytes, 0);
}

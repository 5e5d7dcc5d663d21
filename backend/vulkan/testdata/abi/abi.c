// Holds the declarations of types.h against the real header: this file compiles only if
// every structure has the size, and every member the offset and size, that
// <vulkan/vulkan.h> gives it, and every number is the header's. TestHeader compiles it and
// requires each declaration of types.h to be named here.
#include <vulkan/vulkan.h>
#include "../../types.h"

#ifndef OFF
#define OFF 0 // 1 makes every comparison of sizes fail, which shows that they are made
#endif
#define SIZE(ours, theirs) _Static_assert(sizeof(struct ours) == sizeof(theirs) + OFF, #ours " is not " #theirs)
#define AT(ours, member, theirs, name) \
	_Static_assert(offsetof(struct ours, member) == offsetof(theirs, name) && \
		sizeof(((struct ours *)0)->member) == sizeof(((theirs *)0)->name), #ours "." #member " is not " #theirs "." #name)
#define IS(ours, theirs) _Static_assert((long long)(ours) == (long long)(theirs), #ours " is not " #theirs)
#define CHAIN(ours, theirs) AT(ours, type, theirs, sType); AT(ours, next, theirs, pNext)

IS(SUBMIT_INFO, VK_STRUCTURE_TYPE_SUBMIT_INFO);
IS(STAGE_INFO, VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO);
IS(PIPELINE_INFO, VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO);
IS(WRITE_SET, VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET);
IS(BEGIN_INFO, VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO);
IS(MEMORY_BARRIER, VK_STRUCTURE_TYPE_MEMORY_BARRIER);
IS(FEATURES_2, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2);
IS(PROPERTIES_2, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
IS(STORAGE_16_FEATURES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
IS(SUBGROUP_PROPERTIES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
IS(MESSENGER_INFO, VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT);
IS(MAINTENANCE_3_PROPERTIES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
IS(DRIVER_PROPERTIES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
IS(MEMORY_MODEL_FEATURES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES);
IS(FLOAT16_FEATURES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
IS(VALIDATION_FEATURES, VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT);
IS(API_1_2, VK_API_VERSION_1_2);
IS(STAGE_COMPUTE, VK_SHADER_STAGE_COMPUTE_BIT);
IS(BIND_COMPUTE, VK_PIPELINE_BIND_POINT_COMPUTE);
IS(STORAGE_BUFFER, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER);
IS(ONE_TIME_SUBMIT, VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT);
IS(QUERY_64, VK_QUERY_RESULT_64_BIT);
IS(QUERY_WAIT, VK_QUERY_RESULT_WAIT_BIT);
IS(ENABLE_SYNCHRONIZATION_VALIDATION, VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT);
IS(PIPELINE_TOP, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT);
IS(PIPELINE_COMPUTE, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT);
IS(PIPELINE_TRANSFER, VK_PIPELINE_STAGE_TRANSFER_BIT);
IS(PIPELINE_BOTTOM, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT);
IS(PIPELINE_HOST, VK_PIPELINE_STAGE_HOST_BIT);
IS(SHADER_READ, VK_ACCESS_SHADER_READ_BIT);
IS(SHADER_WRITE, VK_ACCESS_SHADER_WRITE_BIT);
IS(TRANSFER_READ, VK_ACCESS_TRANSFER_READ_BIT);
IS(TRANSFER_WRITE, VK_ACCESS_TRANSFER_WRITE_BIT);
IS(HOST_READ, VK_ACCESS_HOST_READ_BIT);
// The masks that the messenger is made with, and the size of every handle in types.h.
IS(0x100, VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT);
IS(0x1000, VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT);
IS(1 | 2 | 4, VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT);
IS(sizeof(uint64_t), sizeof(VkBuffer));
IS(sizeof(void *), sizeof(VkDevice));

// Space that a driver fills in: at least as large, and at the same place.
CHAIN(props2, VkPhysicalDeviceProperties2);
IS(offsetof(struct props2, properties), offsetof(VkPhysicalDeviceProperties2, properties));
_Static_assert(sizeof(struct props2) >= sizeof(VkPhysicalDeviceProperties2), "props2 is too small");
SIZE(feats2, VkPhysicalDeviceFeatures2);
CHAIN(feats2, VkPhysicalDeviceFeatures2);
AT(feats2, features, VkPhysicalDeviceFeatures2, features);

SIZE(subgroup_props, VkPhysicalDeviceSubgroupProperties);
CHAIN(subgroup_props, VkPhysicalDeviceSubgroupProperties);
AT(subgroup_props, size, VkPhysicalDeviceSubgroupProperties, subgroupSize);
AT(subgroup_props, stages, VkPhysicalDeviceSubgroupProperties, supportedStages);
AT(subgroup_props, operations, VkPhysicalDeviceSubgroupProperties, supportedOperations);
AT(subgroup_props, quad, VkPhysicalDeviceSubgroupProperties, quadOperationsInAllStages);

SIZE(maintenance3_props, VkPhysicalDeviceMaintenance3Properties);
CHAIN(maintenance3_props, VkPhysicalDeviceMaintenance3Properties);
AT(maintenance3_props, max_descriptors, VkPhysicalDeviceMaintenance3Properties, maxPerSetDescriptors);
AT(maintenance3_props, max_allocation, VkPhysicalDeviceMaintenance3Properties, maxMemoryAllocationSize);

SIZE(driver_props, VkPhysicalDeviceDriverProperties);
CHAIN(driver_props, VkPhysicalDeviceDriverProperties);
AT(driver_props, id, VkPhysicalDeviceDriverProperties, driverID);
AT(driver_props, name, VkPhysicalDeviceDriverProperties, driverName);
AT(driver_props, info, VkPhysicalDeviceDriverProperties, driverInfo);
AT(driver_props, conformance, VkPhysicalDeviceDriverProperties, conformanceVersion);

SIZE(storage16_feats, VkPhysicalDevice16BitStorageFeatures);
CHAIN(storage16_feats, VkPhysicalDevice16BitStorageFeatures);
AT(storage16_feats, storage, VkPhysicalDevice16BitStorageFeatures, storageBuffer16BitAccess);
AT(storage16_feats, uniform, VkPhysicalDevice16BitStorageFeatures, uniformAndStorageBuffer16BitAccess);
AT(storage16_feats, push, VkPhysicalDevice16BitStorageFeatures, storagePushConstant16);
AT(storage16_feats, io, VkPhysicalDevice16BitStorageFeatures, storageInputOutput16);

SIZE(float16_feats, VkPhysicalDeviceShaderFloat16Int8Features);
CHAIN(float16_feats, VkPhysicalDeviceShaderFloat16Int8Features);
AT(float16_feats, float16, VkPhysicalDeviceShaderFloat16Int8Features, shaderFloat16);
AT(float16_feats, int8, VkPhysicalDeviceShaderFloat16Int8Features, shaderInt8);

SIZE(memory_model_feats, VkPhysicalDeviceVulkanMemoryModelFeatures);
CHAIN(memory_model_feats, VkPhysicalDeviceVulkanMemoryModelFeatures);
AT(memory_model_feats, model, VkPhysicalDeviceVulkanMemoryModelFeatures, vulkanMemoryModel);
AT(memory_model_feats, device_scope, VkPhysicalDeviceVulkanMemoryModelFeatures, vulkanMemoryModelDeviceScope);
AT(memory_model_feats, chains, VkPhysicalDeviceVulkanMemoryModelFeatures, vulkanMemoryModelAvailabilityVisibilityChains);

#ifdef VK_KHR_cooperative_matrix // a header of 1.3.255 or later
IS(COOPERATIVE_FEATURES, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
IS(COOPERATIVE_PROPERTIES, VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR);
SIZE(coop_feats, VkPhysicalDeviceCooperativeMatrixFeaturesKHR);
CHAIN(coop_feats, VkPhysicalDeviceCooperativeMatrixFeaturesKHR);
AT(coop_feats, matrix, VkPhysicalDeviceCooperativeMatrixFeaturesKHR, cooperativeMatrix);
AT(coop_feats, robust, VkPhysicalDeviceCooperativeMatrixFeaturesKHR, cooperativeMatrixRobustBufferAccess);
SIZE(coop_props, VkCooperativeMatrixPropertiesKHR);
CHAIN(coop_props, VkCooperativeMatrixPropertiesKHR);
AT(coop_props, m, VkCooperativeMatrixPropertiesKHR, MSize);
AT(coop_props, n, VkCooperativeMatrixPropertiesKHR, NSize);
AT(coop_props, k, VkCooperativeMatrixPropertiesKHR, KSize);
AT(coop_props, a, VkCooperativeMatrixPropertiesKHR, AType);
AT(coop_props, b, VkCooperativeMatrixPropertiesKHR, BType);
AT(coop_props, c, VkCooperativeMatrixPropertiesKHR, CType);
AT(coop_props, result, VkCooperativeMatrixPropertiesKHR, ResultType);
AT(coop_props, saturating, VkCooperativeMatrixPropertiesKHR, saturatingAccumulation);
AT(coop_props, scope, VkCooperativeMatrixPropertiesKHR, scope);
#endif

SIZE(validation_feats, VkValidationFeaturesEXT);
CHAIN(validation_feats, VkValidationFeaturesEXT);
AT(validation_feats, enabled, VkValidationFeaturesEXT, enabledValidationFeatureCount);
AT(validation_feats, enable, VkValidationFeaturesEXT, pEnabledValidationFeatures);
AT(validation_feats, disabled, VkValidationFeaturesEXT, disabledValidationFeatureCount);
AT(validation_feats, disable, VkValidationFeaturesEXT, pDisabledValidationFeatures);

// message_data is the head of a longer structure, which the layer hands out by pointer.
CHAIN(message_data, VkDebugUtilsMessengerCallbackDataEXT);
AT(message_data, flags, VkDebugUtilsMessengerCallbackDataEXT, flags);
AT(message_data, id, VkDebugUtilsMessengerCallbackDataEXT, pMessageIdName);
AT(message_data, number, VkDebugUtilsMessengerCallbackDataEXT, messageIdNumber);
AT(message_data, text, VkDebugUtilsMessengerCallbackDataEXT, pMessage);

SIZE(messenger_info, VkDebugUtilsMessengerCreateInfoEXT);
CHAIN(messenger_info, VkDebugUtilsMessengerCreateInfoEXT);
AT(messenger_info, flags, VkDebugUtilsMessengerCreateInfoEXT, flags);
AT(messenger_info, severity, VkDebugUtilsMessengerCreateInfoEXT, messageSeverity);
AT(messenger_info, kinds, VkDebugUtilsMessengerCreateInfoEXT, messageType);
AT(messenger_info, callback, VkDebugUtilsMessengerCreateInfoEXT, pfnUserCallback);
AT(messenger_info, user, VkDebugUtilsMessengerCreateInfoEXT, pUserData);

SIZE(spec_entry, VkSpecializationMapEntry);
AT(spec_entry, id, VkSpecializationMapEntry, constantID);
AT(spec_entry, offset, VkSpecializationMapEntry, offset);
AT(spec_entry, size, VkSpecializationMapEntry, size);

SIZE(spec_info, VkSpecializationInfo);
AT(spec_info, count, VkSpecializationInfo, mapEntryCount);
AT(spec_info, entries, VkSpecializationInfo, pMapEntries);
AT(spec_info, bytes, VkSpecializationInfo, dataSize);
AT(spec_info, data, VkSpecializationInfo, pData);

SIZE(stage_info, VkPipelineShaderStageCreateInfo);
CHAIN(stage_info, VkPipelineShaderStageCreateInfo);
AT(stage_info, flags, VkPipelineShaderStageCreateInfo, flags);
AT(stage_info, stage, VkPipelineShaderStageCreateInfo, stage);
AT(stage_info, module, VkPipelineShaderStageCreateInfo, module);
AT(stage_info, name, VkPipelineShaderStageCreateInfo, pName);
AT(stage_info, spec, VkPipelineShaderStageCreateInfo, pSpecializationInfo);

SIZE(pipeline_info, VkComputePipelineCreateInfo);
CHAIN(pipeline_info, VkComputePipelineCreateInfo);
AT(pipeline_info, flags, VkComputePipelineCreateInfo, flags);
AT(pipeline_info, stage, VkComputePipelineCreateInfo, stage);
AT(pipeline_info, layout, VkComputePipelineCreateInfo, layout);
AT(pipeline_info, base, VkComputePipelineCreateInfo, basePipelineHandle);
AT(pipeline_info, base_index, VkComputePipelineCreateInfo, basePipelineIndex);

SIZE(begin_info, VkCommandBufferBeginInfo);
CHAIN(begin_info, VkCommandBufferBeginInfo);
AT(begin_info, flags, VkCommandBufferBeginInfo, flags);
AT(begin_info, inheritance, VkCommandBufferBeginInfo, pInheritanceInfo);

SIZE(memory_barrier, VkMemoryBarrier);
CHAIN(memory_barrier, VkMemoryBarrier);
AT(memory_barrier, from, VkMemoryBarrier, srcAccessMask);
AT(memory_barrier, to, VkMemoryBarrier, dstAccessMask);

SIZE(submit_info, VkSubmitInfo);
CHAIN(submit_info, VkSubmitInfo);
AT(submit_info, waits, VkSubmitInfo, waitSemaphoreCount);
AT(submit_info, wait, VkSubmitInfo, pWaitSemaphores);
AT(submit_info, stages, VkSubmitInfo, pWaitDstStageMask);
AT(submit_info, commands, VkSubmitInfo, commandBufferCount);
AT(submit_info, command, VkSubmitInfo, pCommandBuffers);
AT(submit_info, signals, VkSubmitInfo, signalSemaphoreCount);
AT(submit_info, signal, VkSubmitInfo, pSignalSemaphores);

SIZE(buffer_info, VkDescriptorBufferInfo);
AT(buffer_info, buffer, VkDescriptorBufferInfo, buffer);
AT(buffer_info, offset, VkDescriptorBufferInfo, offset);
AT(buffer_info, range, VkDescriptorBufferInfo, range);

SIZE(buffer_copy, VkBufferCopy);
AT(buffer_copy, from, VkBufferCopy, srcOffset);
AT(buffer_copy, to, VkBufferCopy, dstOffset);
AT(buffer_copy, bytes, VkBufferCopy, size);

SIZE(write_set, VkWriteDescriptorSet);
CHAIN(write_set, VkWriteDescriptorSet);
AT(write_set, set, VkWriteDescriptorSet, dstSet);
AT(write_set, binding, VkWriteDescriptorSet, dstBinding);
AT(write_set, element, VkWriteDescriptorSet, dstArrayElement);
AT(write_set, count, VkWriteDescriptorSet, descriptorCount);
AT(write_set, kind, VkWriteDescriptorSet, descriptorType);
AT(write_set, images, VkWriteDescriptorSet, pImageInfo);
AT(write_set, buffers, VkWriteDescriptorSet, pBufferInfo);
AT(write_set, texels, VkWriteDescriptorSet, pTexelBufferView);

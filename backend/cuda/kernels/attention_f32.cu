// Attention and its gradients in float32.
#include "attention_simt.h"

ATTENTION_KERNELS(32, f32, f32)
ATTENTION_KERNELS(64, f32, f32)
ATTENTION_KERNELS(128, f32, f32)
ATTENTION_KERNELS(256, f32, f32)

// Attention and its gradients between bf16 matrices for sizes of heads that attention_bf16.cu has no kernels for.
#include "attention_simt.h"

ATTENTION_KERNELS(32, bf16, any_bf16)
ATTENTION_KERNELS(64, bf16, any_bf16)
ATTENTION_KERNELS(128, bf16, any_bf16)
ATTENTION_KERNELS(256, bf16, any_bf16)

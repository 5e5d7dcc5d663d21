// What package cuda asks of the forwarders in cudashim.c beside the driver API.
#ifndef SIFT_CUDASHIM_H
#define SIFT_CUDASHIM_H

#ifdef __cplusplus
extern "C" {
#endif

// sift_cuda_status loads the driver at the first call. It returns 0 if the driver is there and
// initialised; otherwise why receives one line of at most n bytes that says what is wrong.
int sift_cuda_status(char *why, int n);

// sift_cuda_symbol is a function of the driver's library by its name there, 0 if there is none.
void *sift_cuda_symbol(const char *name);

#ifdef __cplusplus
}
#endif

#endif

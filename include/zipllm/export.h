/// \file
/// Which symbols libzipllm shows to those who link it; all others are hidden.
#ifndef ZIPLLM_EXPORT_H_
#define ZIPLLM_EXPORT_H_

#if defined(__GNUC__)
#define ZIPLLM_EXPORT __attribute__((visibility("default")))
#else
#define ZIPLLM_EXPORT
#endif

#endif  // ZIPLLM_EXPORT_H_

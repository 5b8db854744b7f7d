#ifndef ZIPLLM_FUZZ_CHECK_H_
#define ZIPLLM_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>

/// Ends the run with a finding unless `condition` holds.
#define FUZZ_CHECK(condition)                                         \
  do {                                                                \
    if (!(condition)) {                                               \
      std::fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, \
                   #condition);                                       \
      std::abort();                                                   \
    }                                                                 \
  } while (false)

#endif  // ZIPLLM_FUZZ_CHECK_H_

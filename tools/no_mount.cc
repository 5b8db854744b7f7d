// zipllm mount, where it was built without libfuse3.
#include "base/status.h"
#include "tools/command.h"

namespace zipllm::tools {

void RunMount(const CommandOptions& options, Console& console) {
  console.Fail(options.inputs.front(),
               Unimplemented("this zipllm was built without libfuse3 and "
                             "cannot mount; install libfuse3-dev (3.12 or "
                             "newer) and build it again with "
                             "-DZIPLLM_MOUNT=ON"));
}

}  // namespace zipllm::tools

// The zipllm command; everything is in the library zipllm_command.
#include "tools/command.h"
#include "tools/interrupt.h"

int main(int argc, char** argv) {
  zipllm::tools::InstallInterruptHandlers();
  return zipllm::tools::RunCommand({argv + 1, argv + argc});
}

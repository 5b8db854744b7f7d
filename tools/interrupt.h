// SIGINT, SIGTERM and SIGHUP ask for a clean stop: long operations look here
// and cancel themselves, so that the library removes its temporary files. A
// second signal kills.
#ifndef ZIPLLM_TOOLS_INTERRUPT_H_
#define ZIPLLM_TOOLS_INTERRUPT_H_

namespace zipllm::tools {

/// Installs the handlers and ignores SIGPIPE (a write then fails with EPIPE,
/// and temporary files are removed). For `main` alone, before threads are
/// started.
void InstallInterruptHandlers();

/// The signal that asked to stop; 0 while none did. Thread-safe.
int InterruptSignal();

/// A descriptor that polls as readable once a signal came; -1 where no handlers
/// are installed.
int InterruptDescriptor();

/// What the handlers do; 0 takes a stop back. For tests.
void SetInterrupt(int signal_number);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_INTERRUPT_H_
